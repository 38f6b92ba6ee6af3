"""The cases that Autobahn's test suite has for WebSockets, by its groups, and a client that plays them: frames by hand,
over HTTP/1 or HTTP/2. Runs inside the guarded command, and beside it. Only the standard library, and hpack for HTTP/2.

A case is what is sent, piece by piece, and the frames that are to come. A number among the pieces waits until so many
frames have come: servers may drop what they have not said yet when a close frame or something wrong is there."""

import collections
import concurrent.futures
import functools
import hashlib
import select
import socket
import ssl
import struct
import time

import inside
from origin import frame

TEXT, BINARY, CLOSE, PING, PONG, FIN = 1, 2, 8, 9, 10, 0x80
MASK = b"\x37\xfa\x21\x3d"
HALF_A_FRAME = None  # among the pieces: waits until a part of a frame has come
TIMEOUT = 30
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@functools.cache
def _context(verify):
    return inside.context(verify)  # reads every root there is: too slow for each of hundreds of connections


class Peer:
    """What comes is kept as the first byte and the payload of each frame, or the digest of a long payload."""

    def __init__(self):
        self.bytes, self.frames, self.end = bytearray(), [], None

    def arrived(self, data):
        self.bytes += data
        while (taken := self._frame()) is not None:
            self.frames.append(taken)

    def _frame(self):
        if len(self.bytes) < 2:
            return None
        first, size = self.bytes[:2]
        more = {126: 2, 127: 8}.get(size, 0)
        if len(self.bytes) < 2 + more:
            return None
        size = int.from_bytes(self.bytes[2 : 2 + more], "big") if more else size
        if len(self.bytes) < 2 + more + size:
            return None
        payload = bytes(self.bytes[2 + more : 2 + more + size])
        del self.bytes[: 2 + more + size]
        return first, short(payload)

    def play(self, pieces):
        """The frames that came, and how it ended; bytes of half a frame go with the end."""
        for piece in pieces:
            if piece is HALF_A_FRAME:
                self.run(lambda: self.bytes)
            elif isinstance(piece, int):
                self.run(lambda: len(self.frames) >= piece)
            else:
                self.say(piece)
        self.run(lambda: False)
        return self.frames, self.end or "nothing more came" if not self.bytes else f"{self.end} within a frame"


class OverHttp1(Peer):
    """One thread reads and writes: both ends may be full at one time."""

    def __init__(self, host, address=None):
        super().__init__()
        raw = inside.dial(host, address=address)
        self.stream = _context(address is None).wrap_socket(raw, server_hostname=host, suppress_ragged_eofs=False)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream.sendall(UPGRADE.format(host).encode())
        reader = inside.Reader(self.stream)
        assert reader.response()["status"] == 101
        self.stream.setblocking(False)
        self.out = collections.deque()
        self.arrived(reader.buffer)

    def say(self, piece):
        self.out.append(memoryview(piece))  # each by a call of its own, so in a TLS record of its own

    def run(self, until):
        deadline = time.monotonic() + TIMEOUT
        while not self.end and not (until() and not self.out) and time.monotonic() < deadline:
            if not self._read() and not self._write():
                writers = [self.stream] if self.out else []
                select.select([self.stream], writers, [], 1)

    def _read(self):
        try:
            data = self.stream.recv(1 << 17)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            self.end = type(error).__name__
            return True
        self.end = None if data else "end"
        self.arrived(data)
        return True

    def _write(self):
        if not self.out:
            return False
        try:
            sent = self.stream.send(self.out[0][: 1 << 17])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            self.out.clear()  # the other end has heard enough; what it said can still be read
            return True
        self.out[0] = self.out[0][sent:]
        if not self.out[0]:
            self.out.popleft()
        return True

    def close(self):
        self.stream.close()


class OverHttp2(Peer):
    def __init__(self, host, address=None):
        import http2_frames

        super().__init__()
        self.client = http2_frames.Client(host)
        self.client.run(lambda c: 8 in c.settings, TIMEOUT)
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", host), (":path", "/")]
        self.client.ask(1, pseudo + [("sec-websocket-version", "13")], end=False)
        self.stream, self.sent = self.client.of(1), 0
        self.client.run(lambda c: self.stream["status"], TIMEOUT)
        assert self.stream["status"] == 200, self.stream

    def _room(self):
        granted, initial = self.client.granted, self.client.settings.get(4, 65535)
        return min(65535 + granted.get(0, 0), initial + granted.get(1, 0)) - self.sent

    def say(self, piece):
        piece = memoryview(piece)
        while piece and not self.end:
            self.run(lambda: self._room() > 0)
            part = piece[: min(16384, max(self._room(), 0))]
            self.client.data(1, bytes(part))
            self.sent += len(part)
            piece = piece[len(part) :]

    def run(self, until):
        def over(_):
            data, self.stream["body"] = self.stream["body"], b""
            self.arrived(data)
            if self.stream["reset"] is not None:
                self.end = f"reset with {self.stream['reset']}"
            elif self.stream["ended"]:
                self.end = "end"
            return self.end or until()

        self.client.run(over, TIMEOUT)
        self.end = self.end or self.client.ended

    def close(self):
        self.client.close()


def converse(host, address, pieces, version):
    peer = (OverHttp2 if version == 2 else OverHttp1)(host, address)
    outcome = peer.play(pieces)
    peer.close()
    return outcome


def outcomes(group, host, address=None, version=1):
    """Of each case of a group; some are played at one time. With an address: at that server, and not through the guard."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        begun = {
            case.name: pool.submit(converse, host, address, case.pieces, version)
            for case in GROUPS[group]()
            if version == 1 or case.bytes < 100_000  # more of them would say nothing that the others don't
        }
        return {name: conversation.result() for name, conversation in begun.items()}


def short(payload):
    return bytes(payload) if len(payload) < 1000 else hashlib.sha256(payload).digest()


def masked(first, payload=b"", long=0):
    whole = frame(first, payload, None, long)
    head = bytearray(whole[: len(whole) - len(payload)])
    head[1] |= 0x80
    repeated = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return bytes(head) + MASK + hidden.to_bytes(len(payload), "big")


def close(code=1000, reason=b""):
    return masked(FIN | CLOSE, struct.pack(">H", code) + reason)


def chopped(data, size=1):
    return [data[at : at + size] for at in range(0, len(data), size)]


def in_fragments(opcode, payload, size):
    parts = chopped(payload, size) or [b""]
    last = len(parts) - 1
    return [masked((0 if n else opcode) | (FIN if n == last else 0), part) for n, part in enumerate(parts)]


class Case:
    """`closed` is the payload of the close frame that ends it, or its code where the reason is the server's own."""

    def __init__(self, name, pieces, frames, closed):
        self.name, self.pieces, self.closed = name, pieces, closed
        self.frames = [(first, short(payload)) for first, payload in frames]
        self.bytes = sum(len(piece) for piece in pieces if isinstance(piece, bytes))


def good(name, pieces, *frames):
    """Is answered by these frames; then the client closes."""
    return Case(name, [*pieces, len(frames), close(1000, b"done")], frames, b"\x03\xe8done")


def bad(name, pieces, code=1002, frames=()):
    """What breaks a rule is last among the pieces; a close frame behind it is in vain."""
    return Case(name, [*pieces, close()], frames, code)


def echo(opcode, payload):
    return FIN | opcode, payload


HELLO = b"Hello, world!"
HEARD = [masked(FIN | TEXT, HELLO), 1]  # and the server's word for it has come
KOSME = "\u03ba\u1f79\u03c3\u03bc\u03b5".encode()
NOT_UTF8 = [KOSME + b"\xed\xa0\x80edited", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xff", b"\xce\xba\xe1", b"\xf8\x88\x80\x80\x80"]


def framing():
    for opcode, fill in ((TEXT, b"*"), (BINARY, b"\xfe")):
        for size in (0, 125, 126, 127, 128, 65535, 65536):
            yield good(f"{opcode} of {size}", [masked(FIN | opcode, fill * size)], echo(opcode, fill * size))
        pieces = chopped(masked(FIN | opcode, fill * 65536), 997)
        yield good(f"{opcode} in pieces", pieces, echo(opcode, fill * 65536))
    yield bad("no mask", [frame(FIN | TEXT, HELLO)])
    yield bad("no mask behind a good one", [*HEARD, frame(FIN | TEXT, HELLO)], frames=[echo(TEXT, HELLO)])


def pings():
    for payload in (b"", b"Hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125):
        yield good(f"ping {payload[:8]}", [masked(FIN | PING, payload)], (FIN | PONG, payload))
    yield bad("a ping too long", [masked(FIN | PING, b"\xfe" * 126)])
    yield good("a ping in octets", chopped(masked(FIN | PING, b"\xfe" * 125)), (FIN | PONG, b"\xfe" * 125))
    for payload in (b"", b"unsolicited"):
        pieces = [masked(FIN | PONG, payload), masked(FIN | PING, b"after")]
        yield good(f"pong {payload}", pieces, (FIN | PONG, b"after"))
    many = [b"payload-%d" % n for n in range(10)]
    frames = [masked(FIN | PING, payload) for payload in many]
    yield good("ten pings", frames, *((FIN | PONG, payload) for payload in many))
    yield good("ten pings in octets", chopped(b"".join(frames)), *((FIN | PONG, payload) for payload in many))


def reserved_bits():
    for bits in range(1, 8):
        wrong = masked(FIN | bits << 4 | TEXT, HELLO)
        yield bad(f"bits {bits}", [wrong])
        yield bad(f"bits {bits} behind a good one", [*HEARD, wrong, masked(FIN | PING)], frames=[echo(TEXT, HELLO)])
        yield bad(f"bits {bits} in octets behind a good one", [*HEARD, *chopped(wrong)], frames=[echo(TEXT, HELLO)])
        yield bad(f"bits {bits} of a ping", [masked(FIN | bits << 4 | PING, HELLO)])
        yield bad(f"bits {bits} of a close", [masked(FIN | bits << 4 | CLOSE, b"\x03\xe8")])


def opcodes():
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield bad(f"{opcode}", [masked(FIN | opcode)])
        yield bad(f"{opcode} with payload", [masked(FIN | opcode, b"reserved")])
        behind = [*HEARD, *chopped(masked(FIN | opcode, HELLO)), masked(FIN | PING)]
        yield bad(f"{opcode} behind a good one", behind, frames=[echo(TEXT, HELLO)])


def fragments():
    one, two, both = masked(TEXT, b"fragment1"), masked(FIN, b"fragment2"), echo(TEXT, b"fragment1fragment2")
    yield bad("of a ping", [masked(PING, b"a"), two])
    yield bad("of a pong", [masked(PONG, b"a"), two])
    yield good("two", [one, two], both)
    yield good("two at once", [one + two], both)
    yield good("two in octets", chopped(one + two), both)
    pong = (FIN | PONG, b"ping")
    yield good("with a ping between", [one, masked(FIN | PING, b"ping"), two], pong, both)
    yield good("with a ping between in octets", chopped(one + masked(FIN | PING, b"ping") + two), pong, both)
    yield good("with pongs between", [one, masked(FIN | PONG, b"1"), masked(FIN | PONG), two], both)
    for first in (FIN, 0):
        yield bad(f"going on with nothing {first}", [masked(first, b"x"), masked(FIN | TEXT, HELLO)])
        pieces = [*HEARD, masked(first, b"x"), masked(FIN | TEXT, HELLO)]
        yield bad(f"going on behind a whole one {first}", pieces, frames=[echo(TEXT, HELLO)])
    yield bad("a new message within one", [one, masked(FIN | TEXT, HELLO)])
    five = [masked(TEXT, b"1"), masked(0, b"2"), masked(FIN | PING, b"ping"), masked(0, b"3"), masked(0), masked(FIN, b"5")]
    yield good("five with a ping", five, pong, echo(TEXT, b"1235"))
    yield good("five, and five again", five + [2] + five, pong, echo(TEXT, b"1235"), pong, echo(TEXT, b"1235"))
    yield good("empty ones", [masked(TEXT), masked(0), masked(FIN)], echo(TEXT, b""))


def utf8():
    for text in (KOSME, "\U0010ffff".encode(), b"\x00", "\ufffe".encode(), "\u00e9".encode() * 500):
        yield good(f"valid {text[:4]}", [masked(FIN | TEXT, text)], echo(TEXT, text))
        yield good(f"valid in fragments {text[:4]}", in_fragments(TEXT, text, 1), echo(TEXT, text))
    for text in NOT_UTF8:
        yield bad(f"invalid {text[-4:]}", [masked(FIN | TEXT, text)], 1007)
        yield bad(f"invalid in fragments {text[-4:]}", in_fragments(TEXT, text, 3), 1007)
        yield bad(f"invalid in octets {text[-4:]}", chopped(masked(FIN | TEXT, text)), 1007)
        yield good(f"binary {text[-4:]}", [masked(FIN | BINARY, text)], echo(BINARY, text))
    yield bad("an invalid reason", [close(1000, b"\xce\xba\xed\xa0\x80")], 1007)


def closes():
    def ends(name, pieces, closed, frames=()):
        return Case(name, pieces, frames, closed)

    normal = b"\x03\xe8"
    yield ends("at once", [close()], normal)
    yield ends("twice", [close(), close()], normal)
    yield ends("then a ping", [close(), masked(FIN | PING)], normal)
    yield ends("then a message", [close(), masked(FIN | TEXT, HELLO)], normal)
    yield ends("then a message in one piece with it", [close() + masked(FIN | TEXT, HELLO)], normal)
    yield ends("then what is no frame", [close(), b"\xff" * 200], normal)
    yield ends("then 256 KiB", [close(), masked(FIN | TEXT, b"*" * (1 << 18))], normal)
    yield ends("behind a message", [*HEARD, close()], normal, [echo(TEXT, HELLO)])
    yield ends("within a message", [masked(TEXT, b"1"), close(), masked(FIN, b"2")], 1002)  # so says this server
    yield ends("without a code", [masked(FIN | CLOSE)], b"")
    yield ends("half a code", [masked(FIN | CLOSE, b"\x03")], 1002)
    yield ends("a reason", [close(1000, b"Hello World!")], normal + b"Hello World!")
    yield ends("in octets", chopped(close(1000, b"Hello World!")), normal + b"Hello World!")
    yield ends("a long reason", [close(1000, b"*" * 123)], normal + b"*" * 123)
    yield ends("a reason too long", [close(1000, b"*" * 124)], 1002)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999):
        yield ends(f"code {code}", [close(code)], struct.pack(">H", code))
        yield ends(f"code {code} with a reason", [close(code, b"why")], struct.pack(">H", code) + b"why")
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield ends(f"code {code}", [close(code)], 1002)
        yield ends(f"code {code} with a reason", [close(code, b"why")], 1002)


def sizes():
    for opcode in (TEXT, BINARY):
        for size in (1 << 16, 1 << 18, 1 << 20, 4 << 20):
            yield good(f"{opcode} of {size}", [masked(FIN | opcode, b"*" * size)], echo(opcode, b"*" * size))
        text = b"*" * (1 << 18)
        for size in (64, 256, 4096, 65536):
            pieces = [b"".join(in_fragments(opcode, text, size))]
            yield good(f"{opcode} in fragments of {size}", pieces, echo(opcode, text))
        for size in (64, 512, 2048):
            yield good(f"{opcode} in pieces of {size}", chopped(masked(FIN | opcode, text), size), echo(opcode, text))
    yield good("in fragments of 1300", in_fragments(TEXT, b"*" * 65536, 1300), echo(TEXT, b"*" * 65536))
    many = [masked(FIN | BINARY, bytes([n]) * 100_000) for n in range(60)]
    large, wrong = b"*" * (12 << 20), masked(FIN | 3, HELLO)
    pieces = [masked(FIN | BINARY, large), HALF_A_FRAME, wrong]
    yield bad("something wrong while a message comes back", pieces, frames=[echo(BINARY, large)])
    # What comes back fills every buffer, as the client writes on.
    yield good("sixty at one time", many, *(echo(BINARY, bytes([n]) * 100_000) for n in range(60)))


def stricter():
    """What this server lets pass, as most do, and the guard does not: RFC 6455 section 5.2 wants the shortest form of a
    length, as what can be written in two ways may be read in two. The frames are those of the server alone."""
    for opcode in (TEXT, BINARY, PING):
        answer = (FIN | (PONG if opcode == PING else opcode), HELLO)
        for long in (2, 8):
            yield good(f"{opcode} with a length of {long} bytes", [masked(FIN | opcode, HELLO, long)], answer)


def not_waited_for():
    """Something wrong right behind messages: the client has been told of it before all, some or none of them were said back,
    as RFC 6455 section 7.1.7 allows; never half of one."""
    wrong = masked(FIN | 4 << 4 | TEXT, HELLO)
    for count in (1, 20):
        pieces = [*([masked(FIN | TEXT, HELLO)] * count), wrong]
        yield bad(f"{count} messages", pieces, frames=[echo(TEXT, HELLO)] * count)
        yield bad(f"{count} messages in one piece", [b"".join(pieces)], frames=[echo(TEXT, HELLO)] * count)
    large = b"*" * (4 << 20)
    yield bad("a large message", [masked(FIN | BINARY, large), wrong], frames=[echo(BINARY, large)])


GROUPS = {
    "1 framing": framing,
    "2 pings and pongs": pings,
    "3 reserved bits": reserved_bits,
    "4 opcodes": opcodes,
    "5 fragmentation": fragments,
    "6 UTF-8": utf8,
    "7 closing": closes,
    "9 and 10 sizes": sizes,
    "stricter": stricter,
    "not waited for": not_waited_for,
}

