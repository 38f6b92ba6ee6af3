#!/usr/bin/env python3
"""Writes the inputs of the targets that read frames and HPACK, which nobody can write by hand: `tests/fuzz/seeds.py`
makes the files in corpus/ again that are named here, and touches no others."""

import pathlib

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIES = 0x1, 0x1, 0x4, 0x8, 0x20
RAW, LARGE, PAUSE, TOGGLE, SIGNAL = range(10, 15)  # the other steps of tests/fuzz/http2_wire.h


def hpack(*fields):
    """Literals that are not indexed; names and values of less than 127 bytes."""
    out = b""
    for name, value in fields:
        name, value = name.encode("latin-1"), value.encode("latin-1")
        out += bytes([0, len(name)]) + name + bytes([len(value)]) + value
    return out


def request(path="/", method="GET", *more, scheme="https"):
    return hpack((":method", method), (":scheme", scheme), (":authority", "a.example"), (":path", path), *more)


def response(status="200", *more):
    return hpack((":status", status), *more)


def step(kind, flags=0, stream=0, payload=b"", length=None):
    return bytes([kind, flags, stream, len(payload) if length is None else length]) + payload


def headers(stream, block, end=True):
    return step(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


def data(stream, payload=b"", end=False):
    return step(DATA, END_STREAM if end else 0, stream, payload)


def window(stream, count):
    return step(WINDOW_UPDATE, 0, stream, count.to_bytes(4, "big"))


def setting(number, value):
    return step(SETTINGS, 0, 0, number.to_bytes(2, "big") + value.to_bytes(4, "big"))


def reset(stream, code=8):
    return step(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last, code=0):
    return step(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


def ways(*nibbles):
    """Four bytes: eight ways to serve, or to ask, the first in the lower half of its byte."""
    padded = [*nibbles, *([0] * (8 - len(nibbles)))]
    return bytes(padded[i] | padded[i + 1] << 4 for i in range(0, 8, 2))


def server_seeds():
    """The names of Way in http2_server_fuzz.cc by number."""
    post = request("/p", "POST")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])
    for way in range(16):
        body = headers(1, post, False) + data(1, b"one") + step(PAUSE) + data(1, b"two", True) + step(PAUSE)
        yield f"way_{way:02}", b"\0" + ways(way, way) + body + headers(3, request("/q"))
    yield "half_close", b"\2" + ways(0) + headers(1, request())
    yield "own_preface", b"\1" + ways(1) + step(RAW, payload=preface) + headers(1, request())
    yield "http1_instead", b"\1" + ways(1) + step(RAW, payload=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    yield "head", b"\0" + ways(6, 2, 10, 4) + b"".join(headers(n, request(f"/{n}", "HEAD")) for n in (1, 3, 5, 7))
    yield "refused", b"\0" + ways(1) + headers(1, request("/", "get")) + headers(3, hpack((":method", "GET")))
    yield "lying_length", b"\0" + ways(0) + headers(1, request("/", "POST", ("content-length", "3")), False) + data(1, b"four", True)
    yield "trailers", b"\0" + ways(8) + headers(1, post, False) + data(1, b"x") + headers(1, hpack(("x-sum", "1")))
    yield "bad_trailers", b"\0" + ways(0) + headers(1, post, False) + data(1, b"x") + headers(1, hpack(("host", "b")))
    yield "reset", b"\0" + ways(7, 6) + headers(1, request()) + step(PAUSE) + reset(1) + headers(3, request()) + reset(3)
    yield "drain", b"\2" + ways(1) + headers(1, request()) + step(SIGNAL) + step(PAUSE) + headers(3, request())
    yield "small_window", b"\0" + ways(6) + setting(4, 10) + headers(1, request()) + step(PAUSE) + window(1, 100) + step(PAUSE)
    yield "not_reading", b"\0" + ways(6, 6, 6, 6) + step(TOGGLE) + b"".join(headers(n, request()) for n in (1, 3, 5, 7))
    yield "large", b"\0" + ways(8) + headers(1, post, False) + step(LARGE, 0, 1, length=255) * 8 + step(LARGE, 1, 1, length=9)
    yield "padded", b"\0" + ways(0) + headers(1, post, False) + step(DATA, PADDED | END_STREAM, 1, b"\4body\0\0\0\0")
    cut = request("/", "GET", ("x-a", "b"))
    yield "continuation", b"\0" + ways(1) + step(HEADERS, END_STREAM, 1, cut[:20]) + step(CONTINUATION, END_HEADERS, 1, cut[20:])
    rest = step(CONTINUATION, END_HEADERS, 1, cut[20:])
    yield "interleaved", b"\0" + ways(1) + step(HEADERS, END_STREAM, 1, cut[:20]) + data(1, b"x") + rest
    yield "priority", b"\0" + ways(1) + step(HEADERS, END_HEADERS | END_STREAM | PRIORITIES, 1, b"\0\0\0\3\xff" + request())
    yield "ping", b"\0" + ways(1) + step(PING, 0, 0, b"12345678") + step(PING, 0, 0, b"abcdefgh") + step(PAUSE)
    yield "goaway", b"\0" + ways(7) + headers(1, request()) + goaway(0) + headers(3, request())
    yield "push", b"\0" + ways(1) + step(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + request())
    yield "even_stream", b"\0" + ways(1) + headers(2, request())
    yield "data_on_idle", b"\0" + ways(1) + data(5, b"x")
    yield "window_overflow", b"\0" + ways(6) + headers(1, request()) + window(1, 0x7FFFFFFF) + window(0, 0x7FFFFFFF)
    indexed = b"\x82\x87\x84\x41\x09a.example"
    yield "indexed", b"\0" + ways(1, 1) + headers(1, indexed) + headers(3, b"\x82\x87\x84\xbe") + headers(5, b"\xff\xff\xff\x0f")


def client_seeds():
    """The names of Way in http2_client_fuzz.cc by number."""
    begun = setting(4, 65535) + step(PAUSE)
    for way in range(8):
        answer = headers(1, response(), False) + data(1, b"one") + step(PAUSE) + data(1, b"two", True) + step(PAUSE)
        yield f"way_{way:02}", b"\0" + ways(way) + begun + answer
    both = step(SIGNAL) + step(PAUSE) + headers(3, response(), False) + headers(1, response(), False)
    yield "two_mixed", b"\0" + ways(0, 0) + begun + both + data(1, b"a") + data(3, b"b", True) + data(1, b"c", True)
    yield "informational", b"\0" + ways(0) + begun + headers(1, response("103"), False) + headers(1, response("204"))
    yield "endless_100", b"\0" + ways(0) + begun + headers(1, response("100"), False) * 20
    yield "informational_end", b"\0" + ways(0) + begun + headers(1, response("103"))
    yield "lying_length", b"\0" + ways(0) + begun + headers(1, response("200", ("content-length", "2")), False) + data(1, b"xyz", True)
    yield "short_body", b"\0" + ways(0) + begun + headers(1, response("200", ("content-length", "9")), False) + data(1, b"xyz", True)
    yield "trailers", b"\0" + ways(0) + begun + headers(1, response(), False) + data(1, b"x") + headers(1, hpack(("grpc-status", "0")))
    yield "trailers_only", b"\0" + ways(2) + begun + headers(1, response("200", ("grpc-status", "0")))
    yield "reset_in_body", b"\0" + ways(0) + begun + headers(1, response(), False) + data(1, b"x") + step(PAUSE) + reset(1)
    yield "refused", b"\0" + ways(0) + begun + reset(1, 7)
    yield "goaway", b"\0" + ways(0, 0) + begun + step(SIGNAL) + step(PAUSE) + goaway(1) + headers(1, response())
    yield "early_answer", b"\0" + ways(5) + begun + headers(1, response("413"), True) + reset(1, 0)
    yield "windows", b"\0" + ways(5) + begun + (window(1, 30000) + window(0, 30000) + step(PAUSE)) * 6 + headers(1, response("200"))
    yield "window_shrinks", b"\0" + ways(5) + begun + setting(4, 0) + step(PAUSE) + setting(4, 100) + window(1, 5)
    yield "push", b"\0" + ways(0) + begun + step(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + request())
    yield "unasked", b"\0" + ways(0) + begun + headers(3, response())
    yield "no_status", b"\0" + ways(0) + begun + headers(1, hpack(("x", "y")))
    yield "status_101", b"\0" + ways(0) + begun + headers(1, response("101"), False)
    yield "http1_field", b"\0" + ways(0) + begun + headers(1, response("200", ("connection", "close")))
    again = step(PAUSE) + step(SIGNAL)
    yield "one_stream", b"\0" + ways(0, 0) + setting(3, 1) + again + headers(1, response()) + again
    yield "body_for_head", b"\0" + ways(3) + begun + headers(1, response(), False) + data(1, b"x", True)
    yield "half_close", b"\1" + ways(0) + begun + headers(1, response(), False) + data(1, b"x")


def translation_seeds():
    """The first byte is the way (0 to 5), and six times the options of that way."""
    for number, block in enumerate(
        [
            request("/x?y", "GET", ("accept", "*/*")),
            request("/x", "POST", ("content-length", "5"), ("expect", "100-continue"), ("te", "trailers")),
            request("/", "GET", ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")),
            request("/", "GET", ("host", "A.example")),
            request("/", "GET", ("host", "b.example")),
            request("/", "GET", ("transfer-encoding", "chunked")),
            request("/", "GET", ("content_length", "5")),
            request("/", "GET", ("x", "a\r\nb: c")),
            request("/a b", "GET"),
            request("*", "OPTIONS"),
            b"\x82\x87\x84\x41\x09a.example",
        ]
    ):
        yield f"http2_request_{number:02}", bytes([0 + 6 * (number % 2 * 2 + 1)]) + block
    for number, block in enumerate(
        [
            response("200", ("content-type", "text/plain"), ("content-length", "5")),
            response("204"),
            response("304", ("content-length", "5")),
            response("101"),
            response("103", ("link", "</x>")),
            response("200", ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("cookie", "x"), ("cookie", "y")),
        ]
    ):
        yield f"http2_response_{number:02}", b"\1" + block
    yield "http2_trailers", b"\2" + hpack(("grpc-status", "0"), ("x", " y "), ("etag", "z"))
    yield "http2_trailers_host", b"\2" + hpack(("host", "x"))
    yield "http1_request", b"\3GET /x HTTP/1.1\r\nHost: a\r\nX-A: b \r\nConnection: close, x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n\r\n"
    more = b"Cookie: a\r\nCookie: b\r\nExpect: 100-continue\r\n\r\n"
    yield "http1_request_length", b"\3POST /x HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n" + more
    yield "http1_response", b"\4HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX: \xff\r\nKeep-Alive: x\r\n\r\n"
    yield "http1_response_head", b"\x0aHTTP/1.1 304 \r\nContent-Length: 7\r\n\r\n"
    yield "http1_response_close", b"\4HTTP/1.0 404 No\r\nServer: x\r\n\r\n"
    yield "http1_trailers", b"\0051\r\nx\r\n0\r\nX-Sum: 1\r\nETag: y\r\n\r\n"


def websocket_frame(first, payload=b"", mask=None, long=0, size=None):
    """`long`: bytes of the length behind the second; `size`: what the length says, if that is not true."""
    size = len(payload) if size is None else size
    bit = 0x80 if mask else 0
    length = bytes([bit | {0: size, 2: 126, 8: 127}[long]]) + (size.to_bytes(long, "big") if long else b"")
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if mask else payload
    return bytes([first]) + length + (mask or b"") + masked


def websocket_seeds():
    """The first byte: 1 a client sends, 2 compression, then three bits for the largest message; the second cuts."""
    frame, mask = websocket_frame, b"\1\2\3\4"
    large = 7 << 2
    yield "server_text", bytes([large, 3]) + frame(0x81, b"hello") + frame(0x89, b"ping") + frame(0x88, b"\x03\xe8bye")
    yield "client_text", bytes([large | 1, 3]) + frame(0x81, b"hello", mask) + frame(0x88, b"\x03\xe8bye", mask)
    yield "fragments", bytes([large, 1]) + frame(0x01, b"a") + frame(0x89) + frame(0x00, b"b") + frame(0x80, b"c")
    yield "deflate", bytes([large | 2, 1]) + frame(0xC1, b"a") + frame(0x41, b"a") + frame(0x80, b"c")
    yield "medium", bytes([large, 9]) + frame(0x82, b"m" * 200, long=2)
    yield "wide", bytes([large, 9]) + frame(0x82, b"w" * 99, long=8, size=65536)
    yield "long_form", bytes([large, 1]) + frame(0x82, b"short", long=2)
    yield "long_form_8", bytes([large, 1]) + frame(0x82, b"short", long=8)
    yield "too_large", bytes([1 << 2, 5]) + frame(0x01, b"12345678") + frame(0x80, b"9ab")
    yield "half_code", bytes([large, 1]) + frame(0x88, b"\x03")
    yield "bad_code", bytes([large, 1]) + frame(0x88, b"\x03\xed")
    yield "behind_close", bytes([large, 1]) + frame(0x88) + frame(0x81, b"x")
    yield "unmasked_client", bytes([large | 1, 1]) + frame(0x81, b"x")
    yield "fragmented_ping", bytes([large, 1]) + frame(0x09, b"x")
    yield "huge", bytes([large, 1]) + b"\x82\x7f" + b"\x7f" + b"\xff" * 7 + b"some"
    yield "negative", bytes([large, 1]) + b"\x82\x7f" + b"\xff" * 8


def connect_seeds():
    """The lowest bit of the first byte: 0 a client speaks, 1 a proxy answers. The others cut."""
    yield "connect", b"\0CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Authorization: Basic eA==\r\n\r\n"
    yield "connect_port_left_out", b"\0CONNECT A.example.:8443 HTTP/1.1\r\nHost: a.example\r\n\r\n"
    yield "connect_1_0", b"\0CONNECT [2001:db8::1]:443 HTTP/1.0\r\n\r\n"
    yield "connect_self", b"\0CONNECT 127.0.0.1:3128 HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n"
    yield "connect_mismatch", b"\0CONNECT a.example:443 HTTP/1.1\r\nHost: b.example\r\n\r\n"
    yield "connect_content", b"\0CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
    yield "connect_path", b"\0CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "absolute", b"\0GET http://A.example:8080/x?y HTTP/1.1\r\nHost: a.example:8080\r\n\r\n"
    yield "absolute_https", b"\0GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n"
    yield "absolute_self", b"\0GET http://[::1]:3128/ HTTP/1.1\r\nHost: [::1]:3128\r\n\r\n"
    yield "answer", b"\1HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n\x16\x03\x03server speaks"
    yield "answer_bytewise", b"\3HTTP/1.0 204\r\n\r\n220 mail.example\r\n"
    yield "answer_407", b"\1HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno"
    yield "answer_100", b"\1HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    yield "answer_bare_lf", b"\1HTTP/1.1 200 OK\n\n\r\n\r\n"
    yield "answer_cut", b"\7HTTP/1.1 200 OK\r\nVia: x\r\n"
    yield "answer_http2", b"\1HTTP/2 200\r\n\r\n"
    yield "answer_long", b"\1HTTP/1.1 200 OK\r\nX: " + b"x" * 17000 + b"\r\n\r\n"


def main():
    targets = {
        "connect_fuzz": connect_seeds,
        "http2_client_fuzz": client_seeds,
        "http2_server_fuzz": server_seeds,
        "http2_translation_fuzz": translation_seeds,
        "websocket_frames_fuzz": websocket_seeds,
    }
    for target, seeds in targets.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, seed in seeds():
            (folder / name).write_bytes(seed)


main()
