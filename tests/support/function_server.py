"""A function that serves HTTP, for the tests: what runs inside the guarded command. It does what each request asks of it,
and sends what it has to send as any code would. Only the standard library; nothing here may know of the lab.

    function_server.py PORT [ADDRESS]
"""

import base64
import hashlib
import http.server
import json
import os
import signal
import socket
import sys
import threading
import time

from inside import get

HOST = os.environ.get("FUNCTION_SENDS_TO", "v4.example.com")
seen = []  # the lines of all requests, and their fields
together = {}  # by name: the barrier at which requests wait for each other
lock = threading.Lock()


def barrier(name, count):
    with lock:
        return together.setdefault(name, threading.Barrier(count, timeout=20))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        pass  # clients of these tests leave as they like


class Function(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/seen":
            return self.answer(json.dumps(seen).encode())
        self.note()
        if path == "/ws":
            return self.echo_frames()
        if path == "/never":
            return time.sleep(3600)
        if path == "/slow":
            time.sleep(float(self.path.split("=")[1]))
            return self.answer(b"slow")
        if path == "/break":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly so much")
            self.wfile.flush()
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_WR)
        if path == "/chunks":
            return self.answer_in_pieces()
        if path == "/tagged":
            return self.answer(b"{}", {"Sallyport-Tag": "v1.forged", "Alt-Svc": 'h3=":443"', "X-Fine": "yes"})
        if path == "/trickle":  # for ever
            return self.answer_in_pieces(10**9)
        if path == "/early":  # answers, and goes on
            self.answer(b"early")
            self.wfile.flush()
            time.sleep(0.5)
            return get(HOST, "/after-the-answer")
        return self.answer(json.dumps({"line": self.requestline, "fields": self.headers.items()}).encode())

    do_HEAD = do_GET

    def do_POST(self):
        self.note()
        if self.path == "/unread":  # for ever
            return time.sleep(3600)
        if self.path == "/echo":
            return self.echo()
        body = self.read_body()
        if self.path != "/run":
            return self.answer(json.dumps({"line": self.requestline, "body": len(body)}).encode())
        return self.answer(json.dumps(self.run(json.loads(body))).encode())

    def run(self, task):
        """`paths`: what it sends, one after the other. `propagate`: with the trace of what it was asked. `meet`: name and
        number of requests that wait for each other before and behind that."""
        fields = "".join(f"traceparent: {v}\r\n" for v in self.headers.get_all("traceparent", []) if task.get("propagate"))
        meet = barrier(*task["meet"]) if "meet" in task else None
        if meet:
            meet.wait()
        statuses = [get(task.get("host", HOST), path, fields, tls=task.get("tls", True), port=task.get("port", 443))["status"]
                    for path in task["paths"]]
        if meet:
            meet.wait()
        return {"statuses": statuses, "fields": self.headers.items()}

    def other(self):
        self.note()
        self.answer(b"other")

    do_PUT = do_DELETE = do_OPTIONS = do_PATCH = other

    def read_body(self):
        if self.headers.get("Transfer-Encoding"):
            return b"".join(self.chunks())
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def chunks(self):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def echo(self):
        """Each chunk goes back before the next is read."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in self.chunks():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def note(self):
        seen.append((self.requestline, self.headers.items()))

    def answer_in_pieces(self, count=3):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(count):
            self.wfile.write(b"6\r\npiece%d\r\n" % (i % 10))
            self.wfile.flush()
            time.sleep(0.2)
        self.wfile.write(b"0\r\n\r\n")

    def echo_frames(self):
        accept = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept.digest()).decode())
        self.end_headers()
        self.close_connection = True
        while head := self.rfile.read(2):
            mask, data = self.rfile.read(4), self.rfile.read(head[1] & 127)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
            if head[0] == 0x81:
                get(HOST, "/" + data.decode())
            self.wfile.write(bytes([head[0], len(data)]) + data)
            self.wfile.flush()
            if head[0] == 0x88:
                return

    def answer(self, body, fields=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    Server.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
    Server((address, int(sys.argv[1])), Function).serve_forever()
