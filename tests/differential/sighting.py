"""What each server of the differential test says of a request: one line in its log, and a name for it that goes back
with the response. tests/differential/node_server.js does the same."""

import hashlib
import json


def line(method, target, host, body):
    """A line of the log: what tests/differential/reading.py calls Request.seen()."""
    seen = (method, target, host, len(body), hashlib.sha256(body).hexdigest())
    return json.dumps(seen).encode() + b"\n"


def name(line):
    """The short name of a log line."""
    return hashlib.sha256(line).hexdigest()[:16]


def answer(method, target, name):
    """(status, body, chunked) of the response: its form is the request's to say. The body looks like a response."""
    form = target[3:4]
    body = f"HTTP/1.1 200 OK\r\nSeen: 0000000000000000\r\n\r\n{name}".encode()
    if form == "n":
        return 204, b"", False
    return 200, b"" if method == "HEAD" else body, form == "c"
