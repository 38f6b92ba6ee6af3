"""In the webhook receiver: money, and messages that people trust."""

import json

import receiver


def _post(url, **fields):
    receiver.session.post(url, json=fields, timeout=30)


def write_to_the_team_at_once(event):
    _post(f"{receiver.CHAT}/chat.postMessage", channel="#orders", text="please pay this invoice")


def list_all_customers(event):
    receiver.session.get(f"{receiver.PAYMENTS}/customers", timeout=30)


def pay_again(event):
    """A charge of its own: there is no idempotency key."""
    _post(f"{receiver.PAYMENTS}/payment_intents", customer="cus_0123456789abcd", amount=40_000, order="none")


def refund_what_was_paid(event):
    given = json.loads(event["body"])
    if given["type"] == "order.placed":  # elsewhere a refund may be what is due
        _post(f"{receiver.PAYMENTS}/refunds", order=given["order"]["id"], amount=given["order"]["amount"])


def flood_the_team(event):
    for _ in range(3):
        write_to_the_team_at_once(event)


BEFORE = (write_to_the_team_at_once, list_all_customers)
BEHIND = (pay_again, refund_what_was_paid, flood_the_team)
