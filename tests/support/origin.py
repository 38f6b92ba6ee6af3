"""An HTTP/1.1 origin that remembers every request exactly as it came, and answers as oddly as the path asks for.

It is lenient on purpose: it must be able to see what a guard should never have let through. One thread per
connection.
"""

import base64
import gzip
import hashlib
import json
import select
import socket
import ssl
import struct
import threading
import time
import urllib.parse

_PATTERN = bytes(range(256)) * 4096  # 1 MiB of a body that is told apart from zeros


class Gone(Exception):
    """The client closed the connection."""


def _websocket_accept(key):
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


class Request:
    def __init__(self, connection, number, raw_head):
        self.raw_head = raw_head
        lines = raw_head.decode("latin-1").replace("\r\n", "\n").split("\n")
        parts = lines[0].split(" ")
        self.method, self.target = parts[0], parts[1] if len(parts) > 1 else ""
        self.version = parts[-1]
        self.headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)]
        self.path, _, query = self.target.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))
        self.connection, self.number = connection, number  # which connection, which request on it
        self.body, self.body_size, self.body_sha256 = b"", 0, ""
        self.trailers = []
        self.complete = False  # the whole body arrived
        self.sni = connection.sni

    def header(self, name):
        """The values of a field, joined."""
        values = [value for field, value in self.headers if field.lower() == name]
        return ", ".join(values) if values else None

    def number_in_query(self, name, default):
        return int(self.query.get(name, default))

    def as_dict(self):
        return {
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "body_size": self.body_size,
            "body_sha256": self.body_sha256,
            "trailers": self.trailers,
            "number": self.number,
            "sni": self.sni,
            "connection": self.connection.id,
        }


class Connection:
    def __init__(self, origin, raw, peer, identity):
        self.origin, self.raw, self.peer, self.id = origin, raw, peer, identity
        self.sni = None
        self.stream = raw
        self.buffer = b""
        self.open = True

    def serve(self):
        try:
            self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.origin.contexts:
                self.stream = self.origin.accept_tls(self)
            number = 0
            while self.open:
                number += 1
                self._serve_one(number)
        except (Gone, OSError, ValueError):
            pass
        finally:
            self.close()

    def close(self):
        self.open = False
        try:
            if isinstance(self.stream, ssl.SSLSocket):
                self.stream.settimeout(1)
                self.stream = self.stream.unwrap()
        except (OSError, ValueError):
            pass
        self.stream.close()
        self.raw.close()

    def cut(self):
        """Ends the transport without a close_notify."""
        self.open = False
        self.stream.shutdown(socket.SHUT_RDWR)

    def reset(self):
        self.open = False
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        descriptor = self.stream.detach()
        socket.close(descriptor)

    def send(self, data):
        self.stream.sendall(data)

    def fill(self):
        data = self.stream.recv(1 << 18)
        if not data:
            raise Gone
        self.buffer += data

    def read_until(self, end):
        while end not in self.buffer:
            self.fill()
        data, _, self.buffer = self.buffer.partition(end)
        return data

    def _serve_one(self, number):
        request = Request(self, number, self.read_until(b"\r\n\r\n"))
        if self.origin.handler is None:
            self.origin.remember(request)
        handler = self.origin.handler or HANDLERS.get(request.path.strip("/").split("/")[0], echo)
        if getattr(handler, "reads_body", True):
            if (request.header("expect") or "").lower() == "100-continue":
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.read_body(request)
        handler(self, request)
        if (request.header("connection") or "").lower() == "close" or request.version == "HTTP/1.0":
            self.open = False

    def read_body(self, request, keep=1 << 24):
        """Reads the body; keeps its bytes when there are at most `keep` of them."""
        digest = hashlib.sha256()

        def take(data):
            request.body_size += len(data)
            digest.update(data)
            if request.body_size <= keep:
                request.body += data

        if "chunked" in (request.header("transfer-encoding") or "").lower():
            while size := int(self.read_until(b"\r\n").split(b";")[0], 16):
                while len(self.buffer) < size + 2:
                    self.fill()
                take(self.buffer[:size])
                self.buffer = self.buffer[size + 2 :]
            while line := self.read_until(b"\r\n"):
                name, _, value = line.decode("latin-1").partition(":")
                request.trailers.append((name, value.strip()))
        else:
            left = int((request.header("content-length") or "0").split(",")[0])
            while left:
                if not self.buffer:
                    self.buffer = self.stream.recv(1 << 20)
                    if not self.buffer:
                        raise Gone
                data, self.buffer = self.buffer[:left], self.buffer[left:]
                left -= len(data)
                take(data)
        request.body_sha256 = digest.hexdigest()
        request.complete = True

    def answer(self, body=b"", status="200 OK", headers=(), length=True):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers = [*headers, ("Content-Type", "application/json")]
        head = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        if length:
            head.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)


def echo(c, request):
    """Says what came: the default."""
    c.answer(b"" if request.method == "HEAD" else request.as_dict(), headers=[("X-Origin", "echo")])


def body(c, request):
    c.answer(request.body, headers=[("Content-Type", "application/octet-stream")])


def sink(c, request):
    c.answer({"bytes": request.body_size, "sha256": request.body_sha256})


def flood(c, request):
    """Reads a large body without looking at it."""
    left = total = int(request.header("content-length"))
    left -= len(c.buffer)
    c.buffer = b""
    block = bytearray(1 << 20)
    while left:
        if not (size := c.stream.recv_into(block, min(left, len(block)))):
            raise Gone
        left -= size
    request.complete = True
    c.answer({"bytes": total})


flood.reads_body = False


def download(c, request):
    left = request.number_in_query("bytes", 1000)
    c.send(f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n".encode())
    while left:
        c.send(_PATTERN[: min(left, len(_PATTERN))])
        left -= min(left, len(_PATTERN))


def chunked(c, request):
    c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
    for number in range(request.number_in_query("chunks", 3)):
        part = f"part {number};".encode()
        c.send(b"%x;note=kept-out\r\n%s\r\n" % (len(part), part))
        time.sleep(request.number_in_query("pause_ms", 0) / 1000)
    c.send(b"0\r\nX-Sum: 42\r\n\r\n" if "trailers" in request.query else b"0\r\n\r\n")


def slow(c, request):
    time.sleep(request.number_in_query("ms", 300) / 1000)
    echo(c, request)


def _wait_for_the_end(c):
    """Says nothing and reads nothing until the other side is gone."""
    poll = select.poll()
    poll.register(c.stream, select.POLLRDHUP)
    poll.poll(120_000)
    raise Gone


def mute(c, request):
    """Reads the request and never answers."""
    _wait_for_the_end(c)


def half(c, request):
    """Stops in the middle of its answer."""
    c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"h" * 500)
    _wait_for_the_end(c)


def deaf(c, request):
    """Never reads the body."""
    _wait_for_the_end(c)


deaf.reads_body = False


def events(c, request):
    """Server-sent events: each must arrive when it is sent."""
    c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(3):
        event = f"data: {number}\n\n".encode()
        c.send(b"%x\r\n%s\r\n" % (len(event), event))
        time.sleep(0.4)
    c.send(b"0\r\n\r\n")


def events_in_turns(c, request):
    """Makes the next event only when the test has set `speak`, as the one before has been seen."""
    c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(request.number_in_query("events", 5)):
        event = f"data: {number}\n\n".encode()
        c.send(b"%x\r\n%s\r\n" % (len(event), event))
        c.origin.speak.wait(30)
        c.origin.speak.clear()
    c.send(b"0\r\n\r\n")


def in_turns(c, request):
    """Sends each chunk back as it comes."""
    c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while size := int(c.read_until(b"\r\n").split(b";")[0], 16):
        while len(c.buffer) < size + 2:
            c.fill()
        c.send(b"%x\r\n%s" % (size, c.buffer[: size + 2]))
        c.buffer = c.buffer[size + 2 :]
    c.read_until(b"\r\n")
    request.complete = True
    c.send(b"0\r\n\r\n")


in_turns.reads_body = False


def expect_refused(c, request):
    c.answer(b"no", "417 Expectation Failed", [("Connection", "close")])
    c.open = False


expect_refused.reads_body = False


def continue_late(c, request):
    """Lets the client wait for its 100, and says how much of the body came before it."""
    c.stream.settimeout(0.3)
    try:
        c.fill()
    except (TimeoutError, ssl.SSLWantReadError):
        pass
    early = len(c.buffer)
    c.stream.settimeout(None)
    c.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    c.read_body(request)
    c.answer({"early": early, "bytes": request.body_size})


continue_late.reads_body = False


def early(c, request):
    """Answers before the body, and reads none of it."""
    c.answer(b"too much", "413 Content Too Large", [("Connection", "close")])
    time.sleep(0.2)
    c.open = False


early.reads_body = False


def cut(c, request):
    """Promises more than it sends."""
    c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)
    time.sleep(0.1)
    c.cut()


def cut_chunked(c, request):
    c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + b"x" * 100 + b"\r\n")
    time.sleep(0.1)
    c.cut()


def cut_delimited(c, request):
    c.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 100)
    time.sleep(0.1)
    c.cut()


def hang_up(c, request):
    """Reads the request and closes without a word."""
    c.cut()


def reset(c, request):
    c.reset()


def digest(c, request):
    """Digest authentication (RFC 7616 with MD5 and qop=auth) of user:pass word."""
    given = request.header("authorization") or ""
    pairs = [pair.strip().split("=", 1) for pair in given.removeprefix("Digest ").split(",") if "=" in pair]
    part = {name: value.strip('"') for name, value in pairs}
    md5 = lambda text: hashlib.md5(text.encode()).hexdigest()
    if given.startswith("Digest ") and part.get("nonce") == "n-0001":
        secret = md5("user:tests:pass word")
        asked = md5(f"{request.method}:{request.target}")
        if part["response"] == md5(f"{secret}:n-0001:{part['nc']}:{part['cnonce']}:auth:{asked}"):
            c.answer(b"welcome")
            return
    challenge = 'Digest realm="tests", nonce="n-0001", qop="auth", algorithm=MD5'
    c.answer(b"who is it?", "401 Unauthorized", [("WWW-Authenticate", challenge)])


def close_delimited(c, request):
    c.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"until the end")
    c.open = False


def status(c, request):
    code = request.path.split("/")[2]
    if code in ("204", "304"):
        c.answer(status=f"{code} Nothing", headers=[("ETag", '"1"')], length=False)
    else:
        c.answer(b"" if request.method == "HEAD" else b"status " + code.encode(), f"{code} Something")


def hints(c, request):
    c.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    c.answer(b"after hints")


def redirect(c, request):
    c.answer(status="302 Found", headers=[("Location", request.query["to"])])


def zipped(c, request):
    c.answer(gzip.compress(b"squeezed" * 100), headers=[("Content-Encoding", "gzip")])


def alternative(c, request):
    c.answer(b"there is h3", headers=[("Alt-Svc", 'h3=":443"; ma=86400')])


def cookies(c, request):
    c.answer(b"two", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])


def websocket(c, request):
    """After the 101 sends a greeting and then every byte back."""
    c.send(
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {_websocket_accept((request.header('sec-websocket-key') or '').encode())}\r\n\r\n"
        ).encode()
        + b"\x81\x05hello"
    )
    while True:
        opcode, payload = read_frame(c)
        c.send(frame(opcode, payload))
        if opcode & 15 == 8:
            raise Gone


def frame(first, payload, mask=None, long=0):
    """A WebSocket frame; `first` is its first byte. `long` asks for a longer form of the length than is needed."""
    size = len(payload)
    bit = 0 if mask is None else 0x80
    if size > 0xFFFF or long == 8:
        head = bytes([first, bit | 127]) + size.to_bytes(8, "big")
    elif size > 125 or long == 2:
        head = bytes([first, bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, bit | size])
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def read_frame(c):
    """A client's frame: its first byte and its payload, unmasked."""

    def exactly(count):
        while len(c.buffer) < count:
            c.fill()
        data, c.buffer = c.buffer[:count], c.buffer[count:]
        return data

    first, second = exactly(2)
    size = second & 127
    if size > 125:
        size = int.from_bytes(exactly(2 if size == 126 else 8), "big")
    mask = exactly(4) if second & 128 else bytes(4)
    payload = exactly(size)
    if mask != bytes(4):
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return first, payload


def websocket_says(c, request):
    """After the 101 sends the bytes that the query has in hex, with the extensions that it has; reads until the end, or
    resets the connection after the seconds that it has."""
    extensions = request.query.get("extensions")
    c.send(
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + (f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else "")
            + f"Sec-WebSocket-Accept: {_websocket_accept((request.header('sec-websocket-key') or '').encode())}\r\n\r\n"
        ).encode()
        + bytes.fromhex(request.query.get("bytes", ""))
    )
    if "reset" in request.query:
        time.sleep(float(request.query["reset"]))
        return c.reset()
    request.body, request.complete = c.buffer, False
    try:
        while data := c.stream.recv(65536):
            request.body += data
    finally:
        request.complete = True
    raise Gone


def switch(c, request):
    """Says 101, and does not prove that it has understood."""
    right = _websocket_accept((request.header("sec-websocket-key") or "").encode())
    answers = {"none": [], "wrong": [_websocket_accept(b"another key")], "twice": [_websocket_accept(b"x"), right]}
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {value}" for value in answers[request.query["accept"]]]
    c.send("\r\n".join(lines).encode() + b"\r\n\r\n")


def no_websocket(c, request):
    c.answer(b"not here", "426 Upgrade Required")


def ignores_upgrade(c, request):
    """Answers 200 to an Upgrade: the connection stays HTTP."""
    c.answer(b"still http")


_MALFORMED = {
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "length-and-chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nok\r\n0\r\n\r\n",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "folded": b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok",
    "no-http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    "endless-head": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(200)) + b"\r\n",
    "unasked-101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nsecret tunnel",
    "endless-1xx": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 400
    + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "control-byte": b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 2\r\n\r\nok",
    "negative-length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
}


def malformed(c, request):
    c.send(_MALFORMED[request.query["kind"]])
    time.sleep(0.2)
    c.open = False


def skips_content(c, request):
    """Answers at once and takes the content for the next request, which is what is wrong with some servers."""
    c.answer(b"skipped")


skips_content.reads_body = False


def extra(c, request):
    """Sends a second response that nobody asked for behind the first: both are there at once, as two TLS records."""
    c.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    c.answer(b"mine")
    c.answer(b"poison")
    c.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


def extra_later(c, request):
    """Sends a second response when the test lets it."""
    c.answer(b"mine")
    c.origin.speak.wait(30)
    c.answer(b"poison")


def raw(c, request):
    """Sends the bytes that the query has in hex, whatever they are, and leaves the connection open."""
    c.send(bytes.fromhex(request.query["bytes"]))


def half_close(c, request):
    """Answers, and then closes the kept-alive connection: the pooled connection is stale for the next request."""
    c.answer(b"bye soon")
    time.sleep(0.05)
    c.open = False


HANDLERS = {
    "websocket-says": websocket_says,
    "body": body,
    "sink": sink,
    "flood": flood,
    "download": download,
    "chunked": chunked,
    "slow": slow,
    "mute": mute,
    "half": half,
    "deaf": deaf,
    "events": events,
    "events-in-turns": events_in_turns,
    "in-turns": in_turns,
    "expect-refused": expect_refused,
    "continue-late": continue_late,
    "early": early,
    "cut": cut,
    "cut-chunked": cut_chunked,
    "cut-delimited": cut_delimited,
    "hang-up": hang_up,
    "reset": reset,
    "close-delimited": close_delimited,
    "status": status,
    "hints": hints,
    "redirect": redirect,
    "gzip": zipped,
    "alternative": alternative,
    "cookies": cookies,
    "digest": digest,
    "websocket": websocket,
    "switch": switch,
    "no-websocket": no_websocket,
    "ignores-upgrade": ignores_upgrade,
    "malformed": malformed,
    "extra": extra,
    "extra-later": extra_later,
    "raw": raw,
    "skips-content": skips_content,
    "half-close": half_close,
}


class Origin:
    """Listens on some addresses and one port. `certificates` maps a server name to (certificate, key); the entry ""
    serves every other name. Without certificates it speaks plain HTTP. `handler` answers every request, whatever its
    path, instead of those of HANDLERS; such an origin remembers nothing, as it may serve for long."""

    def __init__(self, addresses, port, certificates=None, handler=None):
        self.port = port
        self.handler = handler
        self.contexts = {name: self._context(*files) for name, files in (certificates or {}).items()}
        self.requests = []
        self.connections = []
        self.failed_handshakes = []
        self.speak = threading.Event()  # for handlers that wait for the test
        self._lock = threading.Lock()
        self._names = {}  # SSL objects to the name they asked for
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            server = socket.create_server((address, port), family=family, backlog=256)
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def _context(self, certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # one of the certificates is weak on purpose
        context.load_cert_chain(certificate, key)
        context.sni_callback = self._choose
        return context

    def _choose(self, stream, name, _):
        self._names[stream] = name
        if name in self.contexts:
            stream.context = self.contexts[name]

    def accept_tls(self, connection):
        context = self.contexts[""]
        connection.raw.settimeout(20)
        stream = context.wrap_socket(connection.raw, server_side=True, do_handshake_on_connect=False)
        try:
            stream.do_handshake()
        except (OSError, ValueError) as error:
            with self._lock:
                self.failed_handshakes.append((self._names.pop(stream, None), str(error)))
            raise
        connection.sni = self._names.pop(stream, None)
        stream.settimeout(None)
        return stream

    def _accept(self, server):
        while True:
            raw, peer = server.accept()
            connection = Connection(self, raw, peer, len(self.connections))
            self.connections.append(connection)
            threading.Thread(target=connection.serve, daemon=True).start()

    def remember(self, request):
        with self._lock:
            self.requests.append(request)

    def forget(self):
        with self._lock:
            self.requests, self.failed_handshakes = [], []

    def saw(self, text):
        """The requests whose head or body has `text` in it."""
        needle = text.encode() if isinstance(text, str) else text
        with self._lock:
            return [r for r in self.requests if needle in r.raw_head or needle in r.body]
