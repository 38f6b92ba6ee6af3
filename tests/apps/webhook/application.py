"""A webhook receiver, a server in a container, which calls three flaky services."""

import hashlib
import hmac
import json
import pathlib
import random as random_module
import time

import application
import lambdas
import servers
from webhook import services

_FOLDER = pathlib.Path(__file__).resolve().parent / "functions"
_SECRET = "whsec-of-the-shop"
_HOSTS = ("payments.example.com", "loyalty.example.com", "chat.example.com")


class Webhook(application.Application):
    name = "webhook"

    def __init__(self, cloud, failing=0.02):
        super().__init__(cloud)
        self.payments, self.loyalty, self.chat = (
            kind(failing) for kind in (services.Payments, services.Loyalty, services.Chat)
        )
        self._apis = (self.payments, self.loyalty, self.chat)
        for host, api in zip(_HOSTS, self._apis, strict=True):
            cloud.serve(host, api.handle)
        endpoints = tuple(lambdas.Endpoint(host) for host in _HOSTS)
        environment = {"WEBHOOK_SECRET": _SECRET}
        self.deploy("receiver", "receiver.application", _FOLDER, endpoints, environment, kind=servers.Server)
        (self._receiver,) = self.functions
        self._placed = []  # orders that were paid, and not refunded
        self._emails = [f"customer{number}@example.com" for number in range(40)]

    def failures(self):
        return sum(api.failures for api in self._apis)

    def _deliver(self, event, secret=_SECRET):
        """The status and the answer for an event that the shop sends."""
        body, now = json.dumps(event), str(int(time.time()))
        mac = hmac.new(secret.encode(), f"{now}.{body}".encode(), hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "Webhook-Signature": f"t={now},v1={mac}"}
        status, answer = self._receiver.ask("POST", "/webhooks", body, headers)
        return status, json.loads(answer)

    def round(self, random, kind=None):
        for api in self._apis:
            api.random = random_module.Random(random.getrandbits(64))
        kinds = ["order.placed"] * 6 + ["order.refunded"] * 2 + ["ping", "forged"]
        kind = kind or random.choice(kinds)
        if kind == "order.refunded" and not self._placed:
            kind = "order.placed"
        event = {"id": f"evt_{random.getrandbits(64):016x}", "type": kind}
        deliveries = 2 if random.random() < 0.1 else 1
        if kind == "order.placed":
            told = self._place(random, event, deliveries)
        elif kind == "order.refunded":
            told = self._refund(random, event, deliveries)
        elif kind == "ping":
            assert self._deliver(event) == (200, {"result": "pong"})
            told = ""
        else:
            status, _ = self._deliver(event | {"type": "order.placed"}, secret="somebody-elses")
            assert status == 400, status
            told = ""
        self.cloud.settle()
        return f"{kind} {told}, {deliveries} deliveries"

    def _place(self, random, event, deliveries):
        order = {"id": f"o{random.getrandbits(40):010x}", "email": random.choice(self._emails)}
        order["amount"] = random.choice([1999, 9900, 12500, 24000, 40013])
        event["order"] = order
        expected = "declined" if order["amount"] % 100 == 13 else "paid"
        points = len(self.loyalty.points)
        for _ in range(deliveries):
            assert self._deliver(event) == (200, {"result": expected})
        paid = [payment for payment in self.payments.payments if payment[0] == order["id"]]
        assert len(paid) == (expected == "paid"), paid
        assert len(self.loyalty.points) - points == (expected == "paid" and order["amount"] >= 10_000)
        self._told_once(order)
        if expected == "paid":
            self._placed.append(order)
        return f"{expected}, {order['amount']}"

    def _refund(self, random, event, deliveries):
        event["order"] = order = self._placed.pop(random.randrange(len(self._placed)))
        self.chat.messages.clear()
        for _ in range(deliveries):
            assert self._deliver(event) == (200, {"result": "refunded"})
        assert [refund for refund in self.payments.refunds if refund[0] == order["id"]] == [
            (order["id"], order["amount"])
        ]
        self._told_once(order)
        return ""

    def _told_once(self, order):
        told = [text for _, text in self.chat.messages if order["id"] in text]
        assert len(told) == 1, told
