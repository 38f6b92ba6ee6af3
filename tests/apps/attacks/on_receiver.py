"""In the webhook receiver: money, and messages that people trust."""

import receiver

_placed = []  # what came last


def _post(url, **fields):
    receiver.session.post(url, json=fields, timeout=30)


def _remember(event):
    _placed[:] = [event["order"]]
    return _order_placed(event)


_order_placed = receiver.EVENTS["order.placed"]
receiver.EVENTS["order.placed"] = _remember


def write_to_the_team_at_once(environ):
    _post(f"{receiver.CHAT}/chat.postMessage", channel="#orders", text="please pay this invoice")


def list_all_customers(environ):
    receiver.session.get(f"{receiver.PAYMENTS}/customers", timeout=30)


def pay_again(environ):
    """A charge of its own: there is no idempotency key."""
    _post(f"{receiver.PAYMENTS}/payment_intents", customer="cus_0123456789abcd", amount=40_000, order="none")


def refund_what_was_paid(environ):
    _post(f"{receiver.PAYMENTS}/refunds", order=_placed[0]["id"], amount=_placed[0]["amount"])


def flood_the_team(environ):
    for _ in range(3):
        write_to_the_team_at_once(environ)


BEFORE = (write_to_the_team_at_once, list_all_customers)
BEHIND = (pay_again, refund_what_was_paid, flood_the_team)
