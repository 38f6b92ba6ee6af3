"""The connections of the differential test over HTTP/2: frames of a few streams each, one of them damaged in six of ten.
The same seed, number and destination make the same bytes.

Bodies look like requests of HTTP/1 for a path that the policy denies, and so do many of the values that are not allowed:
what ends a line in a head that is written anew shows at once.
"""

import dataclasses
import struct

import cases
import http2_frames as h2
import http2_reading

# {path} and {host} are those of the request.
_PSEUDO = [
    ("drop", ":method"), ("drop", ":scheme"), ("drop", ":path"), ("drop", ":authority"), ("again", ":method"), ("again", ":path"),
    ("again", ":authority"), ("again", ":scheme"), ("late", ":path"), ("late", ":authority"), ("late", ":method"),
    ("add", (b":status", b"200")), ("add", (b":protocol", b"websocket")), ("add", (b":foo", b"bar")), ("add", (b":", b"")),
    ("add", (b":path", b"/smuggled/p")), ("add", (b":authority", b"denied.example.com")), ("add", (b":Path", b"/smuggled/p")),
    ("add", (b":host", b"denied.example.com")), ("last", (b":path", b"/smuggled/p")), ("last", (b":method", b"DELETE")),
]  # fmt: skip
_FORBIDDEN = [
    (b"connection", b"close"), (b"connection", b"transfer-encoding"), (b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"),
    (b"transfer-encoding", b"identity"), (b"keep-alive", b"timeout=5"), (b"proxy-connection", b"keep-alive"), (b"te", b"gzip"),
    (b"te", b"trailers, chunked"), (b"te", b"trailers"), (b"http2-settings", b"AAMAAABkAAQ"), (b"Transfer-Encoding", b"chunked"),
    (b"transfer_encoding", b"chunked"), (b"content_length", b"5"), (b"content.length", b"5"), (b"transfer-encoding ", b"chunked"),
    (b"proxy-authorization", b"x"), (b"expect", b"100-continue"), (b"expect", b"x"), (b"trailer", b"content-length"),
]  # fmt: skip
_BREAKS = [b"\r\n", b"\n", b"\r", b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x1f", b"\x85", b"\xe2\x80\xa8"]
_VALUES = [b" x", b"x ", b"\tx", b"x\t", b"a\tb", b"", b"\xff\xfe", b"b\xc3\xbc", b" ", b"\x01", b"x" * 20_000]
_NAMES = [
    b"X-A", b"x a", b"x:a", b":x", b"x\r\na", b"x\x00", b"", b"x-\xc3\xbc", b"x(y)", b"x_y", b"x/y", b"x\t", b" x", b"x\x7f", b"a" * 300,
    b"transfer-encoding: chunked\r\nx",
]  # fmt: skip
_LENGTHS = [b"+%d", b"-%d", b"0%d", b"%d, %d", b"%d,", b"0x%x", b"%d.0", b"", b" %d", b"%d ", b"%d;a", b"18446744073709551616", b"NaN",
            b"9223372036854775808", b"%d\r\nx: y", b"%de0", b"1_0"]  # fmt: skip
_AUTHORITIES = [
    b"{HOST}", b"{host}.", b"u@{host}", b"{host}:443", b"{host}:80", b"{host}:8443", b"{host}:", b"denied.example.com", b"",
    b"{host}, denied.example.com", b"{host}@denied.example.com", b"{host}/x", b"{host}#x", b"{host} ", b"{host}\r\nx: y", b"[::1]",
    b"127.0.0.1", b"{host}\x00", b"{host}:0443", b"{other}",
]  # fmt: skip
_PATHS = [
    b"*", b"", b"{bare}", b"?x", b"//{host}{path}", b"https://{host}{path}", b"http://denied.example.com{path}", b"{path} ",
    b"{path} HTTP/1.1\r\nhost: denied.example.com\r\n\r\nGET /smuggled/x", b"{path}\r\nx: y", b"{path}\x00", b"{path}\t", b"{path}\xff",
    b"{path}#x", b"{path}\\x", b"\\{path}", b"{path}\x7f", b" {path}", b"/\\{host}{path}", b"{path} x", b"{path}\n",
    b"{path}/../../smuggled/p", b"/smuggled/..{path}", b"{path}?a=b c",
]  # fmt: skip
_METHODS = [
    b"get", b"PURGE", b"A!#$%&'*+-.^_`|~9", b"CONNECT", b"PRI", b"", b"GET ", b" GET", b"G ET", b"GET\r\n", b"GET /smuggled/m HTTP/1.1\r\n",
    b"GET\x00", b"\xff", b"TRACE", b"X" * 70, b"Get",
]  # fmt: skip
_SCHEMES = [b"http", b"https", b"HTTPS", b"ftp", b"", b"https://", b"https, http", b"wss"]
_TRAILERS = [
    (b"x-sum", b"1"), (b"content-length", b"5"), (b"transfer-encoding", b"chunked"), (b"host", b"denied.example.com"),
    (b":path", b"/smuggled/t"), (b":status", b"200"), (b"X-Sum", b"1"), (b"x", b"1\r\ny: z"), (b"authorization", b"x"),
    (b"te", b"trailers"), (b"x ", b"1"), (b"content_length", b"5"),
    (b"connection", b"close"), (b"x", b"1\r\n\r\nGET /smuggled/t HTTP/1.1\r\nhost: x\r\n\r\n"),
    (b"trailer", b"x"), (b"", b"x"), (b"x", b"\x00"), (b"expect", b"100-continue"), (b"cookie", b"a=b"), (b"x" * 9000, b"y"),
]  # fmt: skip
_EXTRA = [
    (b"accept", b"*/*"), (b"user-agent", b"tested/1.0"), (b"x-empty", b""), (b"x-high", b"b\xc3\xbc\xff"), (b"cookie", b"a=b"),
    (b"cookie", b"c=d; e=f"), (b"content-type", b"application/json"), (b"te", b"trailers"), (b"accept-encoding", b"gzip"),
    (b"x-long", b"v" * 3000), (b"via", b"1.0 x"), (b"x_under", b"1"), (b"max-forwards", b"0"), (b"x-original-url", b"/smuggled/o"),
    (b"x-http-method-override", b"DELETE"), (b"x-forwarded-host", b"denied.example.com"), (b"priority", b"u=1"), (b"cookie", b"crumb"),
]  # fmt: skip


@dataclasses.dataclass
class Stream:
    """One request as it stands in the frames."""

    number: int
    fields: list
    parts: list  # payloads of DATA
    trailers: list | None = None
    finished: bool = True  # it ends with END_STREAM
    padded: bool = False
    behind: bytes = b""  # frames that come when it has ended
    given_up: bool = False  # with a reset: nobody owes it an answer

    def body(self):
        return b"".join(self.parts)

    def frames(self):
        end_with_head = self.finished and not self.parts and self.trailers is None
        block = h2.block(self.fields)
        made = []
        for at in range(0, max(len(block), 1), 16_000):
            flags = h2.END_HEADERS if at + 16_000 >= len(block) else 0
            flags |= h2.END_STREAM if end_with_head and at == 0 else 0
            kind = h2.HEADERS if at == 0 else h2.CONTINUATION
            made.append(h2.frame(kind, flags, self.number, block[at : at + 16_000]))
        for at, part in enumerate(self.parts):
            last = self.finished and self.trailers is None and at == len(self.parts) - 1
            flags = (h2.END_STREAM if last else 0) | (h2.PADDED if self.padded else 0)
            payload = b"\x05" + part + b"GET /" if self.padded else part
            made.append(h2.frame(h2.DATA, flags, self.number, payload))
        if self.trailers is not None:
            flags = h2.END_HEADERS | (h2.END_STREAM if self.finished else 0)
            made.append(h2.frame(h2.HEADERS, flags, self.number, h2.block(self.trailers)))
        return made + ([self.behind] if self.behind else [])


@dataclasses.dataclass
class Case:
    number: int
    scheme: str
    host: str
    streams: list
    segments: list  # of bytes, behind the preface
    ending: str  # "wait": until all is answered. "cut": at once

    def data(self):
        return b"".join(self.segments)


class Generator(cases.Generator):
    def smuggled(self):
        return b"GET /smuggled/%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (self.identity(), self.host.encode())

    def stream(self, number):
        method, path, host = self.pick(cases.METHODS), self.target(), self.host.encode()
        fields = [(b":method", method), (b":scheme", self.scheme.encode()), (b":authority", host), (b":path", path)]
        if self.chance(20):
            self.r.shuffle(fields)
        more = [self.pick(_EXTRA) for _ in range(self.pick([0, 0, 1, 2, 4]))]
        if self.chance(10):
            more.append((b"host", host))
        made = Stream(number, fields, [])
        if method not in (b"GET", b"HEAD", b"OPTIONS") or self.chance(10):
            self.give_body(made, more)
        made.fields += more
        return made

    def give_body(self, made, more):
        payload = self.payload()
        cuts = sorted(self.r.randrange(len(payload) + 1) for _ in range(self.pick([0, 0, 1, 3])))
        made.parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)])]
        made.parts = [part[at : at + 16_000] for part in made.parts for at in range(0, max(1, len(part)), 16_000)]
        made.padded = self.chance(10)
        if self.chance(40):
            more.append((b"content-length", b"%d" % len(payload)))
        if self.chance(15):
            made.trailers = [(b"x-sum", b"1")]

    # What is done to them.

    def at_random(self, s, field):
        first = sum(name.startswith(b":") for name, _ in s.fields)
        s.fields.insert(self.r.randrange(first, len(s.fields) + 1), field)

    def replace(self, s, name, value):
        s.fields = [(n, value if n == name else v) for n, v in s.fields]

    def filled_in(self, s, template):
        path = dict(s.fields)[b":path"]
        host, other = self.host.encode(), self.other.encode()
        known = {b"{path}": path, b"{bare}": path[1:], b"{host}": host, b"{HOST}": host.upper(), b"{other}": other}
        for name, value in known.items():
            template = template.replace(name, value)
        return template

    def damage_pseudo(self, s):
        how, what = self.pick(_PSEUDO)
        if how == "add":
            s.fields.insert(self.r.randrange(5), what)
        elif how == "last":
            s.fields.append(what)
        else:
            field = (what.encode(), dict(s.fields)[what.encode()])
            if how in ("drop", "late"):
                s.fields.remove(field)
            if how in ("again", "late"):
                s.fields.insert(self.r.randrange(4) if how == "again" else len(s.fields), field)
            if how == "late" and self.chance(50):
                s.fields.append((b"x", b"y"))

    def damage_field(self, s):
        self.at_random(s, self.pick(_FORBIDDEN))

    def damage_value(self, s):
        value = self.pick(_VALUES)
        if self.chance(70):
            value = b"x" + self.pick(_BREAKS) + self.pick([b"y", b"transfer-encoding: chunked", b"\r\n" + self.smuggled()])
        self.at_random(s, (self.pick([b"x", b"cookie", b"user-agent", b"content-type"]), value))

    def damage_name(self, s):
        self.at_random(s, (self.pick(_NAMES), b"y"))

    def damage_length(self, s):
        s.fields = [field for field in s.fields if field[0] != b"content-length"]
        size = len(s.body())
        kind = self.r.randrange(3)
        if kind == 0:
            lengths = [b"%d" % max(0, size + self.pick([-1, 1, -2, 40, -40, 300, -10_000]))]
        elif kind == 1:
            lengths = [b"%d" % size, b"%d" % self.pick([size, size, 0, size + 1])]
        else:
            lengths = [self.filled(self.pick(_LENGTHS), size)]
        for length in lengths:
            self.at_random(s, (b"content-length", length))

    def damage_host(self, s):
        value = self.filled_in(s, self.pick(_AUTHORITIES))
        kind = self.r.randrange(4)
        if kind == 0:
            self.replace(s, b":authority", value)
        elif kind == 1:
            self.at_random(s, (b"host", value))
        elif kind == 2:
            s.fields = [field for field in s.fields if field[0] != b":authority"]
            self.at_random(s, (b"host", value))
        else:
            self.at_random(s, (b"host", self.host.encode()))
            self.at_random(s, (b"host", value))

    def damage_path(self, s):
        self.replace(s, b":path", self.filled_in(s, self.pick(_PATHS)))
        if dict(s.fields)[b":path"] == b"*" and self.chance(50):
            self.replace(s, b":method", b"OPTIONS")

    def damage_method(self, s):
        self.replace(s, b":method", self.pick(_METHODS))

    def damage_scheme(self, s):
        self.replace(s, b":scheme", self.pick(_SCHEMES))

    def damage_trailers(self, s):
        s.parts = s.parts or [b"x"]
        s.fields = [field for field in s.fields if field[0] != b"content-length"]
        s.trailers = [self.pick(_TRAILERS) for _ in range(self.pick([1, 1, 2]))]
        s.finished = not self.chance(10)

    def damage_end(self, s):
        """What comes behind the end, or instead of it."""
        kind = self.r.randrange(4)
        if kind == 0:
            s.behind = h2.frame(h2.DATA, self.pick([0, h2.END_STREAM]), s.number, b"GET /smuggled/e HTTP/1.1\r\n\r\n")
        elif kind == 1:
            s.behind = h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, s.number, h2.block(s.fields))
        elif kind == 2:
            s.finished, s.given_up = False, True
            s.behind = h2.frame(h2.RST_STREAM, 0, s.number, struct.pack(">I", self.pick([0, 1, 8])))
        else:
            s.parts += [b""] * self.pick([1, 3, 20])
            s.finished = True

    def damage(self, s):
        self.pick(
            [self.damage_pseudo, self.damage_field, self.damage_value, self.damage_value, self.damage_name, self.damage_length]
            + [self.damage_length, self.damage_host, self.damage_path, self.damage_path, self.damage_method, self.damage_scheme]
            + [self.damage_trailers, self.damage_end]
        )(s)

    def case(self):
        streams = [self.stream(1 + 2 * at) for at in range(self.pick([1, 1, 2, 3, 5]))]
        if self.chance(60):
            self.damage(self.pick(streams))
        for stream in streams:
            # nginx 1.22 ends the whole connection where a request has trailers, and others with it that would be sent again.
            if self.host.startswith("nginx2.") and stream.trailers and http2_reading.read(stream, self.scheme)[0]:
                stream.trailers = None
        frames = [stream.frames() for stream in streams]
        order, opened = [], 0
        while any(frames):
            # Streams are opened in their order; what follows is mixed.
            at = self.r.randrange(len(frames)) if self.chance(50) else next(i for i, left in enumerate(frames) if left)
            if at > opened or not frames[at]:
                continue
            opened = max(opened, at + 1)
            taken = frames[at].pop(0)
            while not taken[4] & h2.END_HEADERS and taken[3] in (h2.HEADERS, h2.CONTINUATION):
                order.append(taken)
                taken = frames[at].pop(0)
            order.append(taken)
        ending = "cut" if self.chance(5) else "wait"
        data = b"".join(order)
        if ending == "cut":
            data = data[: self.r.randrange(1, len(data))]
        return Case(self.number, self.scheme, self.host, streams, self.segments(data), ending)


def make(seed, number, hosts, at, scheme):
    return Generator(f"h2/{seed}", number, hosts, at, scheme).case()
