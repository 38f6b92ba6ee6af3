"""The connections of the differential test: what is sent on each, and in which pieces. The same seed, number and
destination make the same bytes.

A connection carries a few good requests, one that was damaged on purpose (in half of them), and good ones behind it: if
anybody reads the damaged one in another way, what follows it is read wrongly too. Bodies look like requests for a path
that the policy denies, so that a body which is taken for a request shows at once.
"""

import dataclasses
import random
import re

METHODS = [b"GET"] * 8 + [b"POST"] * 8 + [b"PUT", b"DELETE", b"HEAD", b"HEAD", b"OPTIONS", b"PATCH"]
ODD_METHODS = [
    b"get",
    b"PURGE",
    b"M-SEARCH",
    b"A!#$%&'*+-.^_`|~9",
    b"TRACE",
    b"PROPFIND",
    b"CONNECT",
    b"PRI",
    b"X" * 70,
]
SUFFIXES = [
    b"", b"", b"", b"?a=b&c=%20d", b"?", b"??", b"?%7e=%c3%bc", b"/%7Euser/%41", b"/%c3%bc", b"/./x", b"/../{id}", b"/x/../y/.",
    b"//x", b"/x;y=z", b"/a=b,c@d:e!$&'()*+", b"?q=/../x", b"?%0d%0aX:%20y", b"/|{}^`<>\"", b"?|{}^`<>\"", b"/%252e",
    b"?a=http://x/", b"/" + b"d" * 900, b"/%2520", b"?a=%00", b"/.x/..x/x..",
]  # fmt: skip
BAD_SUFFIXES = [
    b"?x#y", b"#y", b"/%2F", b"/%5c", b"/%00", b"/%0d%0aX:%20y", b"/%", b"/%zz", b"/\\x", b"/%2e%2e/%2e%2e/%2e%2e/%2e%2e/x",
    b"/..;/x", b"/../../../../x", b"/%2f..", b"/%7f", b"/..%3bx/y",
]  # fmt: skip
EXTRA_LINES = [
    b"Accept: */*", b"User-Agent: tested/1.0", b"X-Empty:", b"X-Tab:\ta\tb\t", b"X-High: b\xc3\xbc\xff", b"Cookie: a=b; c=d",
    b"Content-Type: application/json", b"TE: trailers", b"Connection: keep-alive", b"Connection: keep-alive, x-hop", b"X-Hop: 1",
    b"Keep-Alive: timeout=5", b"Expect: 100-continue", b"Trailer: X-Sum", b"Accept-Encoding: gzip", b"X-Long: " + b"v" * 3000,
    b"Via: 1.0 x", b"Forwarded: for=192.0.2.1", b"X_Under: 1", b"Upgrade: h2c",
    b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\nUpgrade: h2c", b"Max-Forwards: 0",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"X-HTTP-Method-Override: DELETE", b"X-Original-URL: /smuggled/o", b"X-Forwarded-Host: denied.example.com",
]  # fmt: skip
VERSIONS = [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/01.1", b"HTTP/1.10", b"",
            b"HTTP/1,1", b"HTTP /1.1", b"HTTP/1.1\t", b"HTTPS/1.1", b"HTTP/3"]  # fmt: skip
LENGTHS = [
    b"%d", b"+%d", b"-%d", b"0%d", b"0000000000000000000000%d", b"%d,", b",%d", b"%d, %d", b"0x%x", b"%d.0", b"\t%d \t",
    b"%d\x0b", b"\x0b%d", b"\x0c%d", b"%d\x00", b"\x85%d", b"\xa0%d", b"", b"%d %d", b"%d;a", b"%de0", b"'%d'", b'"%d"',
    b"1844674407370955161%d", b"9223372036854775807", b"9223372036854775808", b"%d_0", b"0b1", b"0o7", b"\xd9\xa5", b"%d\r",
    b"%d #", b"0", b"1", b"-0", b"(%d)", b"%d\\", b"%d%%00", b"Infinity", b"NaN", b"nil", b"%d\r\n %d",
]  # fmt: skip
LENGTH_LINES = [
    b"Content-Length: %s", b"content-length:%s", b"CONTENT-LENGTH: %s", b"Content-Length : %s", b"Content-Length\t: %s",
    b" Content-Length: %s", b"Content_Length: %s", b"Content-Length:\x0b%s", b"\x00Content-Length: %s", b"X: y\nContent-Length: %s",
    b"X: y\rContent-Length: %s", b"X: y\r\n Content-Length: %s", b"Content-Length\x00: %s", b"Content-Length\xff: %s",
    b"Content\xadLength: %s", b"Content Length: %s", b"Content-Length:\r\n %s", b"Content-Length\r\n : %s", b"\xefContent-Length: %s",
    b"Content-Length= %s", b"Content-Length %s", b"Content-Length:: %s", b"X-Content-Length: %s", b"Content-Lengt\xe8: %s",
    b"Content.Length: %s", b"(Content-Length: %s", b"Content-Length: %s\nX: y", b"Content-Length: %s\rX: y",
    b"Connection: content-length\r\nContent-Length: %s", b"Content-Len\xc4\xb1gth: %s", b"\x0bContent-Length: %s",
]  # fmt: skip
CODINGS = [
    b"chunked", b"chunked", b"Chunked", b"CHUNKED", b"xchunked", b"chunkedx", b"identity", b"chunked, identity",
    b"identity, chunked", b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"gzip", b"chunked;q=1", b"chunked;", b'"chunked"',
    b"'chunked'", b",chunked", b"chunked,", b",", b"", b"\x0bchunked", b"chunked\x0b", b"\x0cchunked", b"chunked\x00",
    b"\x00chunked", b"chun\x00ked", b"chun ked", b"chun\x00", b"\xa0chunked", b"chunked\xa0", b"c\xc5\xa5unked", b"\tchunked\t",
    b"\x85chunked", b"chunk", b"cow", b"chunked\r\n ", b"chunked\n", b"chunked\r", b"{chunked}", b"chunked HTTP/1.1",
    b"chunked-false", b"chun\xc4\xb7ed", b"chunked\x1f", b"deflate;x=\",chunked\"", b"trailers, chunked", b"\xffchunked",
]  # fmt: skip
CODING_LINES = [
    b"Transfer-Encoding: %s", b"Transfer-Encoding: %s", b"transfer-encoding:%s", b"TRANSFER-ENCODING: %s", b"Transfer-Encoding : %s",
    b"Transfer-Encoding\t: %s", b" Transfer-Encoding: %s", b"\tTransfer-Encoding: %s", b"Transfer_Encoding: %s",
    b"Transfer-Encoding:\x0b%s", b"\x00Transfer-Encoding: %s", b"X: y\nTransfer-Encoding: %s", b"X: y\rTransfer-Encoding: %s",
    b"X: y\r\n Transfer-Encoding: %s", b"Transfer-Encoding:\r\n %s", b"Transfer-Encoding\r\n : %s", b"Transfer\xadEncoding: %s",
    b"Transfer-Encoding\x00: %s", b"Transfer-Encoding: %s\nX: y", b"Transfer-Encoding: x\r\nTransfer-Encoding: %s",
    b"Transfer-Encoding: %s\r\nTransfer-Encoding: x", b"Connection: transfer-encoding\r\nTransfer-Encoding: %s",
    b"Transfer-Encoding:\xa0%s", b"Transfer-Encoding:: %s", b"Transfer Encoding: %s", b"Transfer-Encodin\xc7\xb5: %s",
    b"Tran\x00sfer-Encoding: %s", b"Transfer-Encoding;: %s", b"Transfer.Encoding: %s", b"X-Transfer-Encoding: %s",
    b"Tra\xc5\xbffer-Encoding: %s", b"\x0bTransfer-Encoding: %s", b"Transfer-Encoding\x0b: %s", b"Content-Encoding: %s",
    b"Transfer-Encoding:\n %s", b"Transfer-Encoding: %s\r\n  ", b"\xe2\x80\x8bTransfer-Encoding: %s",
]  # fmt: skip
HOST_LINES = [
    b"Host: {host}\r\nHost: {host}", b"Host: {host}\r\nHost: denied.example.com", b"Host: denied.example.com\r\nHost: {host}",
    b"Host: denied.example.com", b"Host:", b"Host: {host}:80", b"Host: {host}:443", b"Host: {host}:8080", b"Host: {HOST}",
    b"Host: {host}.", b"Host: {host}..", b"Host: u@{host}", b"Host: {host}@denied.example.com", b"Host: {host}, {host}", b"Host: {host}/x",
    b"Host: {host}#x", b"Host: {host}?x", b"Host: {host} denied.example.com", b"Host: {host}\x0b", b"Host: {host}\xff", b"HOST: {host}",
    b"Host : {host}", b" Host: {host}", b"Host: {host}\r\n x", b"Host: {host}:", b"Host: {host}:0", b"Host: {host}:080",
    b"Host: {host}:65616", b"Host: [::1]", b"Host: 127.0.0.1", b"Host:{host}\t", b"Host: {host}\x00", b"X-Host: {host}",
    b"Host: {other}", b"Host: {other}",
]  # fmt: skip
EXPECTS = [
    b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: 100-continue, x", b"Expect: y 100-continue", b"Expect:", b"Expect: z",
    b"Expect: 100-continue\r\nExpect: 100-continue", b"Expect: 100-continue;q=1", b"Expect : 100-continue", b"Expect:\t100-continue",
    b"Expect: 100-continue\x0b", b"Expect: 200-ok", b'Expect: "100-continue"', b"Expect: x=y\r\nExpect: 100-continue",
    b"X: y\n\x20Expect: 100-continue", b"Expect:\r\n 100-continue", b"Expect: 100", b"Connection: expect\r\nExpect: 100-continue",
]  # fmt: skip
SIZES = [
    b"0x%x", b"+%x", b"-%x", b" %x", b"\t%x", b"%x ", b"%x\t", b"000%x", b"00000000000000000%x", b"1000000000000000%x",
    b"ffffffffffffffff%x", b"%x\x0b", b"\x0b%x", b"%xg", b"g%x", b"%x_0", b"%x,", b"", b"%x %x", b"%x\x00", b"\x00%x", b"%x.0",
    b"1%x", b"%x\xff", b"\\x%x", b'"%x"', b"%xh", b"ffffffff0000000%x", b"80000000000000%x", b"7fffffffffffffff", b"%x\r", b"%x\n",
    b"%x=", b"%x:", b"(%x)", b"\r\n%x", b"\n%x", b"1000000000000000", b"fffffffffffffff",
]  # fmt: skip
EXTENSIONS = [
    b";a", b";a=b", b';a="b;c"', b" ; a = b", b";a=\"\\\"\"", b";", b";;", b";a=", b";a=\"", b";a\n", b";\n", b";a\r", b";a=b\nx",
    b';a="\n"', b';a="\r\n"', b";a=\x00", b";" + b"e" * 300, b" a", b",a", b";\xff", b';a="\xc3\xbc"', b";a b", b"\n", b";=b",
    b";\r\n5", b";a=b;c=d;e", b";\t\x0b", b"#", b"//",
]  # fmt: skip
ENDS = [
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\n",
    b"",
    b"\r\n\r\n",
    b"\r\n ",
    b" \r\n",
    b"\x0b\r\n",
    b"\x00\r\n",
    b"\n\r",
    b"\x85",
    b"\xe2\x80\xa8",
]
TRAILERS = [
    b"X-Sum: 1\r\n", b"X-Sum: 1\r\nX-Two: 2\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n",
    b"X: 1\n", b"X: 1\r", b"X\r\n", b" X: 1\r\n", b"X: 1\r\n 2\r\n", b"X : 1\r\n", b": 1\r\n", b"Authorization: x\r\n", b"X: \x00\r\n",
    b"\n", b"GET /smuggled/t HTTP/1.1\r\nHost: x\r\n", b"Connection: close\r\n", b"X: " + b"t" * 9000 + b"\r\n", b"Content_Length: 5\r\n",
    b"Expect: 100-continue\r\n", b"X: 1\r\nGET /smuggled/t HTTP/1.1\r\n", b"\r", b"X",
]  # fmt: skip
NASTY = [b"\r", b"\n", b"\r\n", b"\x00", b" ", b"\t", b"\x0b", b"\x0c", b":", b";", b",", b"\xff", b"\x80", b"\x7f", b"0", b"1", b"a",
         b"\r\n ", b"\r\n\r\n", b"\\", b'"', b"%", b"/", b"\x1c", b"\x85", b"-", b"_", b"A"]  # fmt: skip


@dataclasses.dataclass
class Case:
    number: int
    scheme: str
    host: str
    segments: list  # of bytes
    ending: str  # "shut": the sending side is closed behind them. "wait": nothing is. "cut": all is, at once
    requests: int  # that were written into it, damaged ones with them

    def data(self):
        return b"".join(self.segments)


class _Message:
    """A request in the making: lines with their ends, and the bytes of the body."""

    def __init__(self, method, target, version, lines, payload):
        self.method, self.target, self.version = method, target, version
        self.lines = list(lines)
        self.payload = payload
        self.body = payload
        self.line_end = b"\r\n"
        self.head_end = b"\r\n"
        self.start = b""

    def text(self):
        first = self.start + self.method + b" " + self.target + (b" " + self.version if self.version else b"")
        return self.line_end.join([first, *self.lines]) + self.line_end + self.head_end + self.body

    def drop(self, name):
        self.lines = [line for line in self.lines if not line.lower().startswith(name)]


class Generator:
    """`hosts` are the names that stand for the servers, `at` the index of the one that the connection goes to."""

    def __init__(self, seed, number, hosts, at, scheme):
        self.r = random.Random(f"{seed}/{number}")
        self.number, self.at, self.scheme = number, at, scheme
        self.host = hosts[at]
        self.other = hosts[(at + 1 + self.r.randrange(len(hosts) - 1)) % len(hosts)]
        self.count = 0

    def pick(self, of):
        return of[self.r.randrange(len(of))]

    def chance(self, percent):
        return self.r.randrange(100) < percent

    def identity(self):
        self.count += 1
        return b"%x%07x%x" % (self.at, self.number, self.count)

    def filled(self, template, number):
        """A template of the tables above with its numbers filled in."""
        count = template.replace(b"%%", b"").count(b"%")
        return template % ((number,) * count) if count else template.replace(b"%%", b"%")

    # Good requests.

    def smuggled(self):
        method = self.pick([b"GET", b"GET", b"HEAD", b"POST"])
        return b"%s /smuggled/%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (method, self.identity(), self.host.encode())

    def payload(self):
        kind = self.r.randrange(10)
        if kind < 4:
            return self.smuggled()
        if kind < 5:
            return b"0\r\n\r\n" + self.smuggled()
        if kind < 6:
            return b"5\r\nhello\r\n0\r\n\r\n" + self.smuggled() + b"x=" * self.r.randrange(9)
        if kind < 8:
            return self.r.randbytes(self.r.randrange(200))
        if kind < 9:
            return b""
        return self.r.randbytes(1 << self.r.randrange(8, 16)) if self.chance(30) else b"HTTP/1.1 200 OK\r\n\r\n"

    def chunked(self, payload):
        parts, at = [], 0
        while at < len(payload):
            size = min(self.r.randrange(1, 40) if self.chance(50) else len(payload), len(payload) - at)
            line = self.pick([b"%x", b"%X", b"0%x"]) % size
            if self.chance(10):
                line += self.pick(EXTENSIONS[:5])
            parts.append(line + b"\r\n" + payload[at : at + size] + b"\r\n")
            at += size
        return b"".join(parts) + b"0\r\n" + (TRAILERS[0] if self.chance(10) else b"") + b"\r\n"

    def target(self):
        form = self.pick(b"lllcccn")
        path = b"/t/%c/%s" % (form, self.identity())
        suffix = self.pick(BAD_SUFFIXES if self.chance(4) else SUFFIXES)
        return path + suffix.replace(b"{id}", path.rpartition(b"/")[2])

    def good(self, last=False):
        lines = [b"Host: " + self.host.encode()]
        for _ in range(self.pick([0, 0, 1, 1, 2, 4])):
            lines.append(self.pick(EXTRA_LINES))
        method, target = self.pick(METHODS), self.target()
        if last:  # plain: what comes behind a damaged request must be good, so that it is told from it
            lines, target = lines[:1], target.partition(b"?")[0][:16]
        message = _Message(method, target, b"HTTP/1.1", lines, b"")
        if method not in (b"GET", b"HEAD", b"OPTIONS") or self.chance(10):
            message.payload = message.body = self.payload()
            if self.chance(40):
                message.lines.append(b"Transfer-Encoding: chunked")
                message.body = self.chunked(message.payload)
            elif message.payload or self.chance(70):
                message.lines.append(b"Content-Length: %d" % len(message.payload))
        if last:
            message.lines.append(b"Connection: close")
        if self.chance(30):
            self.r.shuffle(message.lines)
        return message

    # What is done to them.

    def damage_length(self, m):
        m.drop(b"content-length")
        value = self.filled(self.pick(LENGTHS), self.pick([len(m.body), len(m.body), len(m.payload), 0, 5, 4]))
        line = self.pick(LENGTH_LINES) if self.chance(50) else LENGTH_LINES[0]
        m.lines.insert(self.r.randrange(len(m.lines) + 1), line % value)

    def damage_length_twice(self, m):
        m.lines.append(b"Content-Length: %d" % self.pick([0, len(m.body), len(m.payload), 1]))
        if self.chance(50):
            self.damage_coding(m)

    def shift_length(self, m):
        """A good head that lies: part of the body is the next request, or the next request is part of the body."""
        m.drop(b"content-length")
        shift = self.pick([-1, 1, -2, 2, 40, -40, 300, -10_000])
        inner = re.search(rb"[A-Z]+ /smuggled", m.body)
        if inner and self.chance(50):
            shift = inner.start() - len(m.body)
        m.lines.append(b"Content-Length: %d" % max(0, len(m.body) + shift))

    def damage_coding(self, m):
        if self.chance(70):
            m.drop(b"transfer-encoding")
        if self.chance(50) and m.body == m.payload:
            m.body = self.chunked(m.payload)
        line = self.pick(CODING_LINES) if self.chance(60) else CODING_LINES[0]
        value = self.pick(CODINGS) if line is CODING_LINES[0] or self.chance(30) else b"chunked"
        m.lines.insert(self.r.randrange(len(m.lines) + 1), line % value)

    def damage_host(self, m):
        m.drop(b"host")
        line = self.pick(HOST_LINES)
        for name, text in ((b"{host}", self.host), (b"{HOST}", self.host.upper()), (b"{other}", self.other)):
            line = line.replace(name, text.encode())
        m.lines.insert(self.pick([0, len(m.lines)]), line)

    def damage_target(self, m):
        path, host = m.target, self.host.encode()
        m.target = self.pick(
            [
                b"%s://%s%s" % (self.scheme.encode(), host, path),
                b"%s://%s:%d%s" % (self.scheme.encode(), host, 443 if self.scheme == "https" else 80, path),
                b"HTTP://%s%s" % (host.upper(), path), b"ftp://%s%s" % (host, path), b"http://denied.example.com" + path,
                b"http://%s" % host, b"http://%s?x" % host, b"http://u@%s%s" % (host, path), b"//%s%s" % (host, path), b"*", host + b":443",
                b"http:/" + path, b"http://" + path, path + b" ", path + b" x", b" " + path, path + b"\t", b"?x", path[1:], b"",
                path + b"\xff", path + b"\x00", path.replace(b"/", b"\\"), path + b" HTTP/1.1 x", b"/\\" + host + path,
            ]
        )  # fmt: skip
        if m.target == b"*" and self.chance(50):
            m.method = b"OPTIONS"

    def damage_request_line(self, m):
        what = self.r.randrange(4)
        if what == 0:
            m.version = self.pick(VERSIONS)
        elif what == 1:
            m.method = self.pick(ODD_METHODS)
        elif what == 2:
            m.start = self.pick(
                [b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\t", b"\r", b"\x00", b"\xef\xbb\xbf", b"0\r\n\r\n", b"\x0b", b"X"]
            )
        else:
            m.method += self.pick([b" ", b"\t", b"\x00", b"(", b"\x0b", b"\xff", b"\r\n"])

    def damage_line(self, m):
        if not m.lines:
            return
        at = self.r.randrange(len(m.lines))
        m.lines[at : at + 1] = self.pick(
            [
                [b" " + m.lines[at]], [b"\t" + m.lines[at]], [m.lines[at], b" folded"], [m.lines[at], b"\tfolded: x"],
                [m.lines[at]] * 2, [m.lines[at].replace(b":", b" :", 1)], [m.lines[at].replace(b":", b"\t:", 1)], [b":" + m.lines[at]],
                [b"no colon", m.lines[at]], [b": no name", m.lines[at]], [m.lines[at] + b"\r"], [m.lines[at] + b"\nX: y"],
                [m.lines[at] + b"\rX: y"], [m.lines[at] + b"\x00"], [m.lines[at].replace(b"-", b"_")],
                [m.lines[at].replace(b"e", b"\x00", 1)],
                [b"", m.lines[at]], [b"Connection: host, content-length, transfer-encoding, x-a"], [b"Connection: close, te"], [],
            ]
        )  # fmt: skip

    def damage_ends(self, m):
        if self.chance(30):
            m.line_end = self.pick(ENDS)
        else:
            m.head_end = self.pick(ENDS + [b"\r\n" + m.line_end])

    def damage_expect(self, m):
        m.drop(b"expect")
        m.lines.append(self.pick(EXPECTS))

    def damage_chunks(self, m):
        """One thing of a chunked body is not as it should be."""
        m.drop(b"content-length")
        m.drop(b"transfer-encoding")
        m.lines.append(b"Transfer-Encoding: chunked")
        data = m.payload or b"hello"
        size, line_end, data_end, last = b"%x" % len(data), b"\r\n", b"\r\n", b"0\r\n\r\n"
        what = self.r.randrange(6)
        if what == 0:
            size = self.filled(self.pick(SIZES), len(data))
        elif what == 1:
            size += self.pick(EXTENSIONS)
        elif what == 2:
            line_end = self.pick(ENDS)
        elif what == 3:
            data_end = self.pick(ENDS + [b"x\r\n"])
        elif what == 4:
            last = b"0\r\n" + self.pick(TRAILERS) + b"\r\n"
        else:
            last = self.pick([b"0" + end + b"\r\n" for end in ENDS] + [b"0\r\n" + end for end in ENDS] + [b"00\r\n\r\n", b"-0\r\n\r\n",
                             b"0x0\r\n\r\n", b"0;a\r\n\r\n", b"0;\n\r\n\r\n", b"0 \r\n\r\n", b"\r\n\r\n", b""])  # fmt: skip
        m.body = size + line_end + data + data_end + last

    def damage_bytes(self, m):
        """Bytes of the whole are changed, put in or taken out, mostly of the head."""
        text = m.text()
        reach = len(text) if self.chance(30) else len(text) - len(m.body)
        for _ in range(self.pick([1, 1, 2, 3])):
            at, what = self.r.randrange(max(reach, 1)), self.r.randrange(4)
            new = self.pick(NASTY) if what < 3 else bytes([self.r.randrange(256)])
            text = text[:at] + (new if what else b"") + text[at + (what != 1) :]
            reach = min(reach, len(text))
        m.text = lambda: text

    def damaged(self):
        m = self.good()
        steps = [self.damage_length, self.damage_length_twice, self.shift_length, self.damage_coding, self.damage_coding, self.damage_host,
                 self.damage_target, self.damage_request_line, self.damage_line, self.damage_ends, self.damage_expect, self.damage_chunks,
                 self.damage_chunks, self.damage_bytes, self.damage_bytes]  # fmt: skip
        chosen = [self.pick(steps) for _ in range(self.pick([1, 1, 1, 2, 3]))]
        for step in sorted(chosen, key=lambda step: step == self.damage_bytes):  # it works on the finished text
            step(m)
        return m

    # A whole connection.

    def segments(self, data):
        kind = self.r.randrange(10)
        if kind < 4:
            cuts = []
        elif kind < 8:
            cuts = [self.r.randrange(len(data) + 1) for _ in range(self.r.randrange(1, 6))]
        elif kind < 9:
            cuts = [at for at in range(1, min(len(data), 400)) if data[at - 1 : at] in (b"\r", b"\n")]
        else:
            cuts = range(1, min(len(data), 60))
        cuts = [0, *sorted(cuts), len(data)]
        return [data[a:b] for a, b in zip(cuts, cuts[1:]) if a < b]

    def case(self):
        messages = [self.good() for _ in range(self.pick([0, 0, 1, 1, 2, 3]))]
        if self.chance(60):
            messages.append(self.damaged())
        messages += [self.good() for _ in range(self.pick([0, 1, 1]))]
        messages.append(self.good(last=True))
        data = b"".join(m.text() for m in messages)
        ending = self.pick(["shut"] * 6 + ["wait"] * 5 + ["cut"])
        if ending == "cut":
            data = data[: self.r.randrange(1, len(data))]
        return Case(self.number, self.scheme, self.host, self.segments(data), ending, len(messages))


def make(seed, number, hosts, at, scheme):
    return Generator(seed, number, hosts, at, scheme).case()
