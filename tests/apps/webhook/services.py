"""What the receiver calls: an API for payments, one for loyalty points, one for messages."""

import re

import flaky


class Payments(flaky.Api):
    def __init__(self, share):
        super().__init__(share)
        self.customers, self.payments, self.refunds = {}, [], []

    def answer(self, request):
        given = flaky.read(request)
        if match := re.fullmatch(r"/v1/customers/(cus_[0-9a-f]+)", request.path):
            found = self.customers.get(match.group(1))
            return ("200 OK", found) if found else ("404 Not Found", {"error": "no such customer"})
        if request.path == "/v1/customers" and request.method == "GET":
            return "200 OK", {"data": list(self.customers.values())}
        if request.path == "/v1/customers":
            self.customers[given["id"]] = given
            return "200 OK", given
        if request.path == "/v1/payment_intents":
            if given["amount"] % 100 == 13:
                return "402 Payment Required", {"status": "declined"}
            self.payments.append((given["order"], given["customer"], given["amount"]))
            return "200 OK", {"id": f"pi_{len(self.payments)}", "status": "succeeded"}
        if request.path == "/v1/refunds":
            self.refunds.append((given["order"], given["amount"]))
            return "200 OK", {"id": f"re_{len(self.refunds)}"}
        return "404 Not Found", {"error": "no such resource"}


class Loyalty(flaky.Api):
    def __init__(self, share):
        super().__init__(share)
        self.points = []

    def answer(self, request):
        given = flaky.read(request)
        self.points.append((given["customer"], given["points"]))
        return "200 OK", {"ok": True}


class Chat(flaky.Api):
    def __init__(self, share):
        super().__init__(share)
        self.messages = []

    def answer(self, request):
        given = flaky.read(request)
        self.messages.append((given["channel"], given["text"]))
        return "200 OK", {"ok": True}
