"""Receives a shop's webhooks: takes payments and refunds, and tells the team. A WSGI application.

An event may come more than once, and any call may have to be made again: each has an idempotency key that is made of
the event's id, so nothing is paid twice.
"""

import hashlib
import hmac
import json
import os

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

PAYMENTS = "https://payments.example.com/v1"
LOYALTY = "https://loyalty.example.com/v1"
CHAT = "https://chat.example.com/api"
SECRET = os.environ["WEBHOOK_SECRET"].encode()

session = requests.Session()
session.headers["Authorization"] = f"Bearer {os.environ['API_TOKEN']}"
again = Retry(total=5, backoff_factor=0.02, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None)
session.mount("https://", HTTPAdapter(max_retries=again))


def post(url, event, **fields):
    key = f"{event['id']}-{url.rsplit('/', 1)[1]}"
    answer = session.post(url, json=fields, headers={"Idempotency-Key": key}, timeout=30)
    if answer.status_code != 402:  # a declined card is an answer
        answer.raise_for_status()
    return answer.json()


def tell(event, channel, text):
    post(f"{CHAT}/chat.postMessage", event, channel=channel, text=text)


def customer_of(event):
    email = event["order"]["email"]
    identity = "cus_" + hashlib.sha256(email.encode()).hexdigest()[:14]
    found = session.get(f"{PAYMENTS}/customers/{identity}", timeout=30)
    if found.status_code == 404:
        return post(f"{PAYMENTS}/customers", event, id=identity, email=email)
    found.raise_for_status()
    return found.json()


def order_placed(event):
    order = event["order"]
    customer = customer_of(event)
    payment = post(
        f"{PAYMENTS}/payment_intents", event, customer=customer["id"], amount=order["amount"], order=order["id"]
    )
    if payment["status"] == "declined":
        tell(event, "#payments", f"order {order['id']}: the card was declined")
        return "declined"
    if order["amount"] >= 10_000:
        post(f"{LOYALTY}/points", event, customer=customer["id"], points=order["amount"] // 1000)
    tell(event, "#orders", f"order {order['id']}: {order['amount'] / 100:.2f} paid")
    return "paid"


def order_refunded(event):
    order = event["order"]
    post(f"{PAYMENTS}/refunds", event, order=order["id"], amount=order["amount"])
    tell(event, "#orders", f"order {order['id']}: refunded")
    return "refunded"


EVENTS = {"order.placed": order_placed, "order.refunded": order_refunded, "ping": lambda event: "pong"}


def is_signed(signature, body):
    fields = dict(part.partition("=")[::2] for part in signature.split(","))
    signed = fields.get("t", "").encode() + b"." + body
    return hmac.compare_digest(hmac.new(SECRET, signed, hashlib.sha256).hexdigest(), fields.get("v1", ""))


def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ["REQUEST_METHOD"] != "POST" or not is_signed(environ.get("HTTP_WEBHOOK_SIGNATURE", ""), body):
        status, told = "400 Bad Request", {"error": "this is not from the shop"}
    else:
        event = json.loads(body)
        status, told = "200 OK", {"result": EVENTS[event["type"]](event)}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
