"""What runs inside the guarded command: an agent that does what the test tells it over its standard input and output,
and raw clients for it. Only the standard library; nothing here may know of the lab.

The test sends a line with the source of a function and its arguments; the agent runs it with this module's names in
reach and answers with a line holding its result. Both lines are Python literals, so bytes pass unharmed.
"""

import ast
import os
import socket
import ssl
import sys
import time
import traceback


def context(verify=True, alpn=None):
    made = ssl.create_default_context()
    made.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # Python's default takes a cut for an orderly end
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if alpn:
        made.set_alpn_protocols(alpn)
    return made


def dial(host, port=443, address=None, family=0, timeout=15):
    """A TCP connection to `address` if given, else to where the name leads."""
    if address is None:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        address, family = found[0][4][0], found[0][0]
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(timeout)
    made.connect((address, port))
    return made


def connect(host, port=443, address=None, family=0, sni="", timeout=15, alpn=None, verify=True):
    """A TLS connection. `sni` is the host unless given; None sends none."""
    raw = dial(host, port, address, family, timeout)
    name = host if sni == "" else sni
    if name is None:
        made = context(verify=False, alpn=alpn)
    else:
        made = context(verify and name == host, alpn)
    # An end without close_notify must be told from an orderly one: it may be a cut.
    return made.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False)


def read_all(stream, limit=1 << 24):
    """Everything until the end, an error or the time-out; and which of them it was."""
    data = b""
    try:
        while len(data) < limit:
            part = stream.recv(65536)
            if not part:
                return data, "end"
            data += part
    except (TimeoutError, socket.timeout):
        return data, "timeout"
    except OSError as error:
        return data, type(error).__name__
    return data, "limit"


class Reader:
    """Reads responses off a stream, strictly enough to notice what is wrong."""

    def __init__(self, stream):
        self.stream, self.buffer = stream, b""

    def fill(self):
        data = self.stream.recv(65536)
        if not data:
            raise EOFError("the stream ended")
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode("latin-1")

    def exactly(self, count):
        while len(self.buffer) < count:
            self.fill()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def head(self):
        status = self.line()
        headers = []
        while line := self.line():
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        return int(status.split(" ")[1]), headers

    def response(self, method="GET"):
        """One final response as a dictionary; `complete` tells whether its body ended as its framing said it
        would."""
        informational = []
        reply = {
            "status": None,
            "headers": {},
            "body": b"",
            "complete": False,
            "trailers": [],
            "informational": informational,
        }
        try:
            while True:
                status, headers = self.head()
                if status >= 200 or status == 101:
                    break
                informational.append((status, headers))
            reply.update(status=status, fields=headers, headers=dict(headers))
            self._body(method, reply)
            reply["complete"] = True
        except EOFError:
            reply["error"] = "EOF"
        except OSError as error:
            reply["error"] = type(error).__name__
        except ValueError as error:
            reply["error"] = f"malformed response: {error}"
        return reply

    def _body(self, method, reply):
        headers, status = reply["headers"], reply["status"]
        if method == "HEAD" or status in (101, 204, 304):
            return
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self.line().split(";")[0], 16):
                reply["body"] += self.exactly(size)
                self.exactly(2)
            while line := self.line():
                name, _, value = line.partition(":")
                reply["trailers"].append((name.lower(), value.strip()))
        elif "content-length" in headers:
            count = int(headers["content-length"])
            while len(reply["body"]) < count:
                if not self.buffer:
                    self.fill()
                take = self.buffer[: count - len(reply["body"])]
                self.buffer = self.buffer[len(take) :]
                reply["body"] += take
        else:
            reply["delimited"] = "close"
            while True:
                try:
                    reply["body"] += self.buffer
                    self.buffer = b""
                    self.fill()
                except EOFError:
                    return


def ask(host, request, count=1, method="GET", tls=True, **where):
    """Sends the bytes of a request, returns the response (a list of them if count is not 1). Connection failures come
    back as {"status": None, "error": …}."""
    try:
        stream = connect(host, **where) if tls else dial(host, **where)
    except OSError as error:
        failed = {
            "status": None,
            "error": f"{type(error).__name__}: {error}",
            "complete": False,
            "headers": {},
            "body": b"",
        }
        return failed if count == 1 else [failed] * count
    with stream:
        try:
            stream.sendall(request)
        except OSError:
            pass  # refused in the middle of it: the answer may be there all the same
        reader = Reader(stream)
        replies = [reader.response(method) for _ in range(count)]
    return replies[0] if count == 1 else replies


def get(host, path="/echo", headers="", **where):
    return ask(
        host, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n".encode("latin-1"), **where
    )


def _serve():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a function prints must not break the protocol
    for line in sys.stdin:
        source, name, arguments, options = ast.literal_eval(line)
        names = dict(globals())
        try:
            exec(source, names)  # the test's own code
            result = ("ok", names[name](*arguments, **options))
        except BaseException:
            result = ("error", traceback.format_exc())
        try:
            ast.literal_eval(repr(result))
        except (ValueError, SyntaxError):
            result = ("error", f"not a literal: {result!r}")
        answers.write(repr(result) + "\n")


if __name__ == "__main__":
    _serve()
