"""Services that fail now and then, as those of others do, and take nothing twice that comes with an idempotency key."""

import json
import random as random_module
import threading


class Api:
    """A JSON API with bearer tokens. `share` of the requests fails: refused at once (429, 503), or worse, after it was
    acted on (500, or no answer at all)."""

    def __init__(self, share):
        self.share = share
        self.failures = 0
        self.random = random_module.Random(0)
        self._done = {}  # answers by idempotency key
        self._lock = threading.Lock()

    def handle(self, c, request):
        """A handler for Cloud.serve."""
        if not (request.header("authorization") or "").startswith("Bearer "):
            c.answer({"error": "no token"}, "401 Unauthorized")
            return
        fault = self._fault(request)
        if fault in ("429 Too Many Requests", "503 Service Unavailable"):
            c.answer({"error": "try again"}, fault, [("Retry-After", "0")])
            return
        status, told = self._once(request)
        if fault == "cut":
            c.cut()
        elif fault is not None:
            c.answer({"error": "something went wrong"}, fault)
        else:
            c.answer(told, status)

    def _fault(self, request):
        kinds = ["429 Too Many Requests", "503 Service Unavailable", "500 Internal Server Error"]
        if request.method == "POST":  # a GET without an answer may be sent again by whoever is on the way
            kinds.append("cut")
        with self._lock:
            if self.random.random() >= self.share:
                return None
            self.failures += 1
            return self.random.choice(kinds)

    def _once(self, request):
        key = request.header("idempotency-key")
        with self._lock:
            if key is None:
                return self.answer(request)
            place = request.method, request.path, key
            if place not in self._done:
                self._done[place] = self.answer(request)
            return self._done[place]

    def answer(self, request):
        """(status line, what is told) of a request. Nothing else of this API runs at the same time."""
        raise NotImplementedError


def read(request):
    return json.loads(request.body) if request.body else {}
