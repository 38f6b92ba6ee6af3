"""What the Python clients share: the steps come in on standard input, and each is answered by one line of JSON. The
contract is in tests/support/clients.py."""

import json
import os
import sys


def body():
    return open(os.environ["BODY"], "rb")


def why(error):
    """The error as a developer sees it at the end of a traceback."""
    return f"{type(error).__name__}: {error}"


def serve(ask):
    """`ask(method, url)` returns (status, text)."""
    for line in sys.stdin:
        step, method, *urls = line.split()
        try:
            for url in urls:
                status, text = ask(method, url)
        except Exception as error:
            status, text = None, why(error)
        print(json.dumps({"step": step, "status": status, "text": text}), flush=True)
