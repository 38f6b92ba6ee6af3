"""HTTP/2 by hand, for what no client library would send: runs inside the guarded command. Header blocks are written
without compression and without any check; what comes back is read with hpack."""

import socket
import struct
import time

import hpack

import inside

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 7, 8, 11


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _number(value, prefix_bits, first):
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([first | value])
    out, value = bytes([first | limit]), value - limit
    while value >= 128:
        out, value = out + bytes([value % 128 | 128]), value // 128
    return out + bytes([value])


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def block(fields):
    """A header block: each field a literal that is not indexed."""
    out = b""
    for name, value in fields:
        name, value = _bytes(name), _bytes(value)
        out += b"\x00" + _number(len(name), 7, 0) + name + _number(len(value), 7, 0) + value
    return out


def request(host, path="/echo", method="GET", *more, scheme="https"):
    return [(":method", method), (":scheme", scheme), (":authority", host), (":path", path), *more]


class Client:
    """One connection. Nothing is read but in run()."""

    def __init__(self, host="v4.example.com", tls=True, settings=(), credit=True, preface=True, **where):
        self.stream = inside.connect(host, alpn=["h2"], **where) if tls else inside.dial(host, **{"port": 80} | where)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.agreed = self.stream.selected_alpn_protocol() if tls else None
        self.decoder = hpack.Decoder()
        self.decoder.max_allowed_table_size = 65536
        self.buffer, self.streams = b"", {}
        self.goaway, self.ended, self.settings, self.pongs, self.frames = None, None, {}, 0, []
        self.goaways = []  # (last stream, code) of each
        self.granted = {}  # windows that the guard has opened, by stream
        self.owed = {}  # what has come, and no window was opened for yet
        self.credit = credit  # whether windows are opened for what comes
        if preface:
            entries = b"".join(struct.pack(">HI", *entry) for entry in settings)
            self.send(PREFACE + frame(SETTINGS, 0, 0, entries))

    def send(self, data):
        """False once the connection is broken."""
        try:
            self.stream.sendall(data)
            return True
        except OSError as error:
            self.ended = self.ended or type(error).__name__
            return False

    def ask(self, stream, fields, end=True):
        return self.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(fields)))

    def data(self, stream, data=b"", end=False):
        return self.send(frame(DATA, END_STREAM if end else 0, stream, data))

    def of(self, stream):
        return self.streams.setdefault(
            stream,
            {"status": None, "headers": {}, "body": b"", "trailers": [], "informational": [], "ended": False, "reset": None},
        )

    def _take(self, kind, flags, stream, payload):
        self.frames.append((kind, flags, stream, len(payload)))
        if kind == SETTINGS and not flags & ACK:
            self.settings.update(struct.unpack(">HI", payload[at : at + 6]) for at in range(0, len(payload), 6))
            self.send(frame(SETTINGS, ACK))
        elif kind == PING and flags & ACK:
            self.pongs += 1
        elif kind == WINDOW_UPDATE:
            self.granted[stream] = self.granted.get(stream, 0) + struct.unpack(">I", payload)[0]
        elif kind == GOAWAY:
            self.goaways.append(struct.unpack(">II", payload[:8]))
            self.goaway = self.goaways[-1][1]
        elif kind == RST_STREAM:
            self.of(stream)["reset"] = struct.unpack(">I", payload)[0]
        elif kind == HEADERS:
            fields = [(name, value) for name, value in self.decoder.decode(payload)]
            reply = self.of(stream)
            status = int(dict(fields).get(":status", 0))
            if status and status < 200:
                reply["informational"].append(status)
            elif status:
                reply["status"], reply["headers"] = status, dict(fields)
                reply["fields"] = fields
            else:
                reply["trailers"] = fields
        elif kind == DATA:
            self.of(stream)["body"] += payload
            if self.credit and payload:
                # By half windows, or frames would become smaller and smaller.
                self.owed[0] = self.owed.get(0, 0) + len(payload)
                self.owed[stream] = self.owed.get(stream, 0) + len(payload)
                due = [number for number in (0, stream) if self.owed[number] >= 32768]
                grants = [frame(WINDOW_UPDATE, 0, n, struct.pack(">I", self.owed.pop(n))) for n in due]
                if grants:
                    self.send(b"".join(grants))
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self.of(stream)["ended"] = True

    def run(self, until=None, timeout=10):
        """Reads until the condition holds, the connection ends, or the time is up."""
        end = time.monotonic() + timeout
        while not (until and until(self)) and not self.ended:
            if len(self.buffer) >= 9:
                size = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) >= 9 + size:
                    kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
                    payload, self.buffer = self.buffer[9 : 9 + size], self.buffer[9 + size :]
                    self._take(kind, flags, stream, payload)
                    continue
            left = end - time.monotonic()
            if left <= 0:
                break
            self.stream.settimeout(left)
            try:
                data = self.stream.recv(1 << 18)
            except (TimeoutError, socket.timeout):
                break
            except OSError as error:
                self.ended = type(error).__name__
                break
            if not data:
                self.ended = "end"
            self.buffer += data
        return self

    def until_over(self, *streams, timeout=10):
        """Reads until these streams have ended or were reset."""
        over = lambda s: self.of(s)["ended"] or self.of(s)["reset"] is not None
        self.run(lambda _: all(over(s) for s in streams), timeout)
        return [self.of(s) for s in streams]

    def close(self):
        self.stream.close()


def get(host="v4.example.com", path="/echo", method="GET", *more, tls=True, authority=None, body=None, **where):
    """One request on a connection of its own: the reply."""
    client = Client(host, tls, **where)
    fields = request(authority or host, path, method, *more, scheme="https" if tls else "http")
    client.ask(1, fields, end=body is None)
    if body is not None:
        client.data(1, body, end=True)
    reply = client.until_over(1)[0]
    reply["agreed"], reply["goaway"], reply["connection"] = client.agreed, client.goaway, client.ended
    client.close()
    return reply
