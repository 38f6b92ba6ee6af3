"""A server of HTTP/2 by hand, for what no library would do: it answers by the path, and breaks off, refuses or floods as
its tests ask. Where a client agrees on HTTP/1 it answers that, too. Every connection is remembered."""

import re
import socket
import ssl
import struct
import threading
import time
import urllib.parse

import hpack

import origin
from http2_frames import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
)

HTTP_1_1_REQUIRED = 13
ENABLE_CONNECT_PROTOCOL = 8


class Origin:
    """`settings`: entries of the server's SETTINGS; None: it sends none. `greeting`: bytes in their place."""

    def __init__(self, world, address, name, protocols=("h2", "http/1.1")):
        world.dns.table[name] = [address]
        certificate, key = world.authority.issue(name.split(".")[0], [name])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.context.set_alpn_protocols(list(protocols))
        self.name = name
        self.listener = socket.create_server((address, 443), backlog=512)
        self.reset()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self, settings=((ENABLE_CONNECT_PROTOCOL, 1),), greeting=b"", hello_delay=0):
        self.settings, self.greeting, self.hello_delay = settings, greeting, hello_delay
        self.agreed, self.requests, self.received, self.ended = [], [], {}, {}

    def _accept(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, raw):
        try:
            time.sleep(self.hello_delay)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.context.wrap_socket(raw, server_side=True) as stream:
                agreed = stream.selected_alpn_protocol()
                self.agreed.append(agreed)
                (_Http2(self, stream) if agreed == "h2" else _Http1(self, stream)).run()
        except (OSError, EOFError):
            pass  # whoever it was has gone


class _Http1:
    """One connection of HTTP/1: every request is answered with 200, and a WebSocket's handshake with an echo."""

    def __init__(self, server, stream):
        self.server, self.stream, self.buffer = server, stream, b""

    def fill(self):
        data = self.stream.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def run(self):
        while True:
            while b"\r\n\r\n" not in self.buffer:
                self.fill()
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            head = head.decode("latin-1")
            fields = {line.split(":")[0].lower(): line.split(":", 1)[1].strip() for line in head.split("\r\n")[1:]}
            length = int(fields.get("content-length", 0))
            while len(self.buffer) < length:
                self.fill()
            body, self.buffer = self.buffer[:length], self.buffer[length:]
            self.server.requests.append(("http/1.1", head.split(" ")[1], fields))
            if "sec-websocket-key" in fields and not head.split(" ")[1].startswith("/plain"):
                return self.websocket(fields)
            self.stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhttp1" % (5 + len(body)) + body)

    def websocket(self, fields):
        accept = origin._websocket_accept(fields["sec-websocket-key"].encode())
        answer = f"HTTP/1.1 101 On\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        self.stream.sendall(answer.encode())
        while True:
            first, payload = origin.read_frame(self)
            self.stream.sendall(origin.frame(first, payload))
            if first & 15 == 8:
                return


class _Http2:
    """One connection of HTTP/2. What a WebSocket sends is kept in `server.received` by its path."""

    def __init__(self, server, stream):
        self.server, self.stream, self.buffer = server, stream, b""
        self.decoder = hpack.Decoder()
        self.paths = {}
        self.windows = {0: 65535}
        self.initial = 65535
        self.queues = {}  # bytes that wait for a window

    def exactly(self, count):
        while len(self.buffer) < count:
            data = self.stream.recv(1 << 18)
            if not data:
                raise EOFError
            self.buffer += data
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def run(self):
        if self.server.greeting:
            self.stream.sendall(self.server.greeting)
        elif self.server.settings is not None:
            entries = b"".join(struct.pack(">HI", *entry) for entry in self.server.settings)
            self.stream.sendall(frame(SETTINGS, 0, 0, entries))
        assert self.exactly(len(PREFACE)) == PREFACE
        while True:
            head = self.exactly(9)
            stream = int.from_bytes(head[5:9], "big")
            self.take(head[3], head[4], stream, self.exactly(int.from_bytes(head[:3], "big")))

    def take(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                key, value = struct.unpack(">HI", payload[at : at + 6])
                if key == 4:
                    self.initial = value
            self.stream.sendall(frame(SETTINGS, ACK))
        elif kind == WINDOW_UPDATE:
            self.windows[stream] = self.windows.get(stream, self.initial) + struct.unpack(">I", payload)[0]
            self.flush()
        elif kind == HEADERS:
            self.ask(stream, dict(self.decoder.decode(payload)), bool(flags & END_STREAM))
        elif kind == DATA:
            grant = struct.pack(">I", len(payload))
            if payload and not self.paths.get(stream, "").startswith("/deaf"):
                self.stream.sendall(frame(WINDOW_UPDATE, 0, 0, grant) + frame(WINDOW_UPDATE, 0, stream, grant))
            self.heard(stream, payload, bool(flags & END_STREAM))
        elif kind == RST_STREAM:
            self.server.ended[self.paths.get(stream)] = struct.unpack(">I", payload)[0]

    def reply(self, stream, status, end, *more):
        self.stream.sendall(
            frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block([(":status", str(status)), *more]))
        )

    def say(self, stream, data, end=False):
        self.queues.setdefault(stream, []).append((data, end))
        self.flush()

    def flush(self):
        for stream, queue in self.queues.items():
            while queue:
                data, end = queue[0]
                room = min(self.windows[0], self.windows.setdefault(stream, self.initial), 16384)
                if data and room <= 0:
                    break
                part, rest = data[:room], data[room:]
                self.windows[0] -= len(part)
                self.windows[stream] -= len(part)
                self.stream.sendall(frame(DATA, END_STREAM if end and not rest else 0, stream, part))
                queue[0] = (rest, end)
                if not rest:
                    queue.pop(0)

    def ask(self, stream, fields, ended):
        path = fields[":path"]
        self.paths[stream] = path
        self.server.requests.append(("h2", path, fields))
        if fields[":method"] == "CONNECT":
            return self.connect(stream, path)
        if path.startswith("/required-goaway"):
            self.stream.sendall(frame(GOAWAY, 0, 0, struct.pack(">II", 0, HTTP_1_1_REQUIRED)))
        elif path.startswith("/required"):
            self.stream.sendall(frame(RST_STREAM, 0, stream, struct.pack(">I", HTTP_1_1_REQUIRED)))
        elif path.startswith("/break"):  # of a frame size that nobody may send
            self.stream.sendall(struct.pack(">I", 100_000)[1:] + bytes([DATA, 0]) + struct.pack(">I", stream))
        elif path.startswith("/wait"):
            pass
        elif ended:
            self.reply(stream, 200, False)
            self.say(stream, b"http2", True)

    def connect(self, stream, path):
        self.server.received[path] = b""
        if path.startswith("/ended"):
            self.reply(stream, 200, True)
        elif path.startswith("/status/"):
            self.reply(stream, int(path[8:11]), False)
            self.say(stream, b"no", True)
        elif path.startswith("/reset"):
            self.reply(stream, 200, False)
            self.say(stream, b"\x82\x05ab")
            time.sleep(0.3)
            self.stream.sendall(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
        elif path.startswith("/withdraws"):
            self.reply(stream, 200, False)
            self.say(stream, b"\x82\x02hi")
            self.stream.sendall(frame(SETTINGS, 0, 0, struct.pack(">HI", ENABLE_CONNECT_PROTOCOL, 0)))
        elif path.startswith("/says"):
            self.reply(stream, 200, False)
            self.say(stream, bytes.fromhex(urllib.parse.urlsplit(path).query), True)
        elif path.startswith("/deaf"):  # gives no window back
            self.reply(stream, 200, False)
        else:
            answer = [("sec-websocket-accept", "never-looked-at")] if path.startswith("/accept") else []
            self.reply(stream, 200, False, *answer)

    def heard(self, stream, data, ended):
        path = self.paths.get(stream)
        if path not in self.server.received:
            if ended:
                self.reply(stream, 200, False)
                self.say(stream, b"http2", True)
            return
        self.server.received[path] += data
        if ended:
            self.server.ended[path] = "end"
            if not path.startswith("/says"):
                self.say(stream, b"", True)
        elif re.match("/(chat|accept)", path):
            self.echo(stream, path)

    def echo(self, stream, path):
        """Whole frames back, unmasked."""
        c = _Bytes(self.server.received[path])
        while True:
            kept = c.buffer
            try:
                first, payload = origin.read_frame(c)
            except EOFError:
                self.server.received[path] = kept
                return
            self.say(stream, origin.frame(first, payload), first & 15 == 8)


class _Bytes:
    def __init__(self, data):
        self.buffer = data

    def fill(self):
        raise EOFError
