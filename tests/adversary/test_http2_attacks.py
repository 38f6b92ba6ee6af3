"""HTTP/2 from a hostile function: what would be another request in HTTP/1, other hosts on one connection, and floods.
The servers behind the guard speak HTTP/1."""

import textwrap
import time

import pytest

import guard

HOST = "v4.example.com"
POLICY = guard.policy(
    guard.endpoint(HOST, methods=["GET", "POST"], path="/allowed"),
    guard.endpoint("other.example.com"),
    guard.endpoint(HOST, scheme="http", name="plain"),
)
INNER = b"GET /smuggled HTTP/1.1\r\nHost: v4.example.com\r\n\r\n"


def fields(method="POST", path="/allowed", scheme="https", authority=HOST, more=()):
    pseudo = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]
    return [(name, value) for name, value in pseudo if value is not None] + list(more)


def more(*added, **changed):
    return fields(more=added, **changed)


# What no request may be: (fields, body, trailers).
SMUGGLED = {
    "line feed in a value": (more(("x-a", b"1\r\ntransfer-encoding: chunked")), INNER, None),
    "bare line feed in a value": (more(("x-a", b"1\ncontent-length: 0")), INNER, None),
    "carriage return in a value": (more(("x-a", b"1\rx")), b"", None),
    "null in a value": (more(("x-a", b"a\x00b")), b"", None),
    "whitespace before a value": (more(("x-a", b" 1")), b"", None),
    "line feed in a name": (more((b"x-a: 1\r\nx-b", "1")), b"", None),
    "colon in a name": (more((b"x-a:", "1")), b"", None),
    "blank in a name": (more((b"transfer-encoding ", "chunked")), INNER, None),
    "capitals in a name": (more(("X-A", "1")), b"", None),
    "empty name": (more(("", "1")), b"", None),
    "name above ASCII": (more((b"x-\xc3\xa4", "1")), b"", None),
    "transfer-encoding": (more(("transfer-encoding", "chunked")), b"0\r\n\r\n" + INNER, None),
    "transfer-encoding disguised": (more(("transfer_encoding", "chunked")), b"0\r\n\r\n" + INNER, None),
    "content-length disguised": (more(("content_length", "0")), INNER, None),
    "connection": (more(("connection", "content-length")), INNER, None),
    "connection close": (more(("connection", "close")), b"", None),
    "keep-alive": (more(("keep-alive", "1")), b"", None),
    "proxy-connection": (more(("proxy-connection", "close")), b"", None),
    "upgrade": (more(("upgrade", "websocket")), b"", None),
    "te with more than trailers": (more(("te", "trailers, chunked")), b"", None),
    "expect of another kind": (more(("expect", "100-continue, x")), INNER, None),
    "less content than announced": (more(("content-length", str(len(INNER) + 9))), INNER, None),
    "more content than announced": (more(("content-length", "0")), INNER, None),
    "two lengths": (more(("content-length", "0"), ("content-length", str(len(INNER)))), INNER, None),
    "length with a sign": (more(("content-length", "+0")), INNER, None),
    "length list": (more(("content-length", "0, 0")), INNER, None),
    "length over 64 bits": (more(("content-length", "18446744073709551616")), INNER, None),
    "method with a request line": (more(method=b"GET /smuggled HTTP/1.1\r\nx: "), b"", None),
    "method with a blank": (more(method="GET /smuggled"), b"", None),
    "method in small letters": (more(method="post"), b"", None),
    "method empty": (more(method=""), b"", None),
    "CONNECT": (more(method="CONNECT"), INNER, None),
    "no method": (more(method=None), b"", None),
    "path with a version": (more(path=b"/allowed HTTP/1.1\r\nhost: x\r\n\r\nGET /smuggled"), b"", None),
    "path with a blank": (more(path="/allowed /smuggled"), b"", None),
    "path with a tab": (more(path="/allowed\t/smuggled"), b"", None),
    "path above ASCII": (more(path=b"/allowed\xff"), b"", None),
    "path without a slash": (more(path="allowed"), b"", None),
    "path empty": (more(path=""), b"", None),
    "path as URL": (more(path="https://v4.example.com/smuggled"), b"", None),
    "path as star": (more(path="*"), b"", None),
    "no path": (more(path=None), b"", None),
    "another scheme": (more(scheme="http"), b"", None),
    "scheme with a request": (more(scheme=b"https://v4.example.com/smuggled?"), b"", None),
    "no scheme": (more(scheme=None), b"", None),
    "authority with a line feed": (more(authority=b"v4.example.com\r\nx-a: 1"), b"", None),
    "authority with a user": (more(authority="v4.example.com@denied.example.com"), b"", None),
    "authority empty": (more(authority=""), b"", None),
    "no authority": (more(authority=None), b"", None),
    "host beside it": (more(("host", "denied.example.com")), b"", None),
    "two hosts": (more(("host", HOST), ("host", HOST), authority=None), b"", None),
    "pseudo field twice": (more()[:1] + more(), b"", None),
    "pseudo field twice, differing": ([(":path", "/smuggled")] + more(), b"", None),
    "pseudo field late": (more(("x-a", "1"), (":path", "/smuggled")), b"", None),
    "pseudo field unknown": ([(":verb", "GET")] + more(), b"", None),
    "pseudo field of responses": ([(":status", "200")] + more(), b"", None),
    "extended CONNECT that was not offered": ([(":protocol", "websocket")] + more(method="CONNECT"), b"", None),
    "trailers that frame": (more(), b"x", [("content-length", "0")]),
    "trailers that route": (more(), b"x", [("host", "denied.example.com")]),
    "trailers with transfer-encoding": (more(), b"x", [("transfer-encoding", "chunked")]),
    "trailers with pseudo fields": (more(), b"x", [(":path", "/smuggled")]),
    "trailers with a line feed": (more(), b"x", [("x-a", b"1\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x")]),
}


def send_one(head, body, trailers):
    """One request, and an honest one after it on the same connection if that is still there."""
    import http2_frames as h2

    client = h2.Client("v4.example.com", timeout=5)
    # In one piece: what comes behind an answer is another matter.
    frames = h2.frame(h2.HEADERS, h2.END_HEADERS | (0 if body or trailers is not None else h2.END_STREAM), 1, h2.block(head))
    if body:
        frames += h2.frame(h2.DATA, 0 if trailers is not None else h2.END_STREAM, 1, body)
    if trailers is not None:
        frames += h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, h2.block(trailers))
    client.send(frames)
    first = client.until_over(1, timeout=5)[0]
    client.ask(3, h2.request("v4.example.com", "/allowed/honest"))
    second = client.until_over(3, timeout=5)[0]
    client.close()
    return first, second["status"], client.goaway


@pytest.mark.parametrize("what", SMUGGLED)
def test_nothing_becomes_another_request_in_http1(session, world, what):
    before = len(guard.exchanges(session.bench.records()))
    first, second, goaway = session.do(send_one, *SMUGGLED[what])
    status = first["status"]
    assert status is None or status in (400, 403, 408, 421, 431, 501, 502), first
    assert status is not None or first["reset"] is not None or goaway is not None, first
    # A request that was malformed only behind its head may have begun to arrive: never as a whole.
    whole = [r for r in world.requests() if r.complete and not r.target.endswith("/honest")]
    if what == "more content than announced":  # HTTP/1 is through with it when the announced bytes are
        assert all(r.body_size == 0 for r in whole)
        whole = []
    assert not whole and not world.saw("smuggled HTTP"), [r.raw_head for r in world.requests()]
    assert second == 200 or goaway is not None
    records = session.wait_for_records(lambda r: len(guard.exchanges(r)) >= before + (2 if second == 200 else 1))
    made = [r for r in guard.exchanges(records)[before:] if r.get("path") != "/allowed/honest"]
    assert made and all(r["decision"] in ("deny", "error") for r in made), made


def test_each_stream_is_decided_and_one_connection_speaks_for_one_host(session, world):
    def ask():
        import http2_frames as h2

        client = h2.Client("v4.example.com")
        client.ask(1, h2.request("v4.example.com", "/allowed"))
        client.ask(3, h2.request("other.example.com", "/echo"))
        client.ask(5, h2.request("denied.example.com", "/echo"))
        client.ask(7, h2.request("v4.example.com", "/denied"))
        client.ask(9, h2.request("v4.example.com:8443", "/allowed"))
        return [(r["status"], r["headers"].get("sallyport-denied")) for r in client.until_over(1, 3, 5, 7, 9)]

    assert session.do(ask) == [
        (200, None),
        (421, "host-mismatch"),
        (421, "host-mismatch"),
        (403, "path-not-allowed"),
        (421, "host-mismatch"),
    ]
    assert [r.target for r in world.requests()] == ["/allowed"]


def test_bytes_of_http1_where_http2_was_agreed_on(session, world):
    def send():
        stream = connect("v4.example.com", alpn=["h2"])
        stream.sendall(b"GET /allowed HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
        return read_all(stream)

    data, end = session.do(send)
    assert end != "timeout" and not data.startswith(b"HTTP/1") and not world.requests()
    session.wait_for_records(lambda r: r and r[-1]["decision"] == "deny" and r[-1]["reason"] == "malformed-http")


FLOODS = {
    "rapid reset": """
        head = h2.block(h2.request("v4.example.com", "/allowed"))
        for stream in range(1, 60000, 2):
            both = h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, head)
            yield both + h2.frame(h2.RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
    """,
    "reset by bad frames": """
        head = h2.block(h2.request("v4.example.com", "/allowed"))
        for stream in range(1, 60000, 2):  # a window update of 0 makes the guard reset the stream
            both = h2.frame(h2.HEADERS, h2.END_HEADERS, stream, head)
            yield both + h2.frame(h2.WINDOW_UPDATE, 0, stream, bytes(4))
    """,
    "continuation": """
        yield h2.frame(h2.HEADERS, h2.END_STREAM, 1, h2.block(h2.request("v4.example.com", "/allowed")))
        for number in range(100000):
            yield h2.frame(h2.CONTINUATION, 0, 1, h2.block([(f"x-{number}", "a" * 1000)]))
    """,
    "empty continuation": """
        yield h2.frame(h2.HEADERS, h2.END_STREAM, 1, h2.block(h2.request("v4.example.com", "/allowed")))
        while True:
            yield h2.frame(h2.CONTINUATION, 0, 1) * 100
    """,
    "compressed headers": """
        # One field of 3,900 bytes in the table, and then one byte for each time that it is meant.
        large = b"\\x40" + b"\\x01a" + h2._number(3900, 7, 0) + b"v" * 3900
        again = b"\\xbe" * 16000
        for stream in range(1, 2000, 2):
            yield h2.frame(h2.HEADERS, h2.END_STREAM, stream, h2.block(h2.request("v4.example.com", "/allowed")) + large)
            for _ in range(6):
                yield h2.frame(h2.CONTINUATION, 0, stream, again)
            yield h2.frame(h2.CONTINUATION, h2.END_HEADERS, stream, again)
    """,
    "ping": "yield from (h2.frame(h2.PING, 0, 0, bytes(8)) * 50 for _ in range(20000))",
    "settings": "yield from (h2.frame(h2.SETTINGS) * 50 for _ in range(20000))",
    "priority": "yield from (h2.frame(h2.PRIORITY, 0, 1, bytes(5)) * 50 for _ in range(20000))",
    "priority update": "yield from (h2.frame(16, 0, 0, bytes(4) + b'u=1') * 50 for _ in range(20000))",
    "unknown": "yield from (h2.frame(0xBB, 0xFF, 0, b'x') * 50 for _ in range(20000))",
    "padding": """
        yield h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.block(h2.request("v4.example.com", "/allowed", "POST")))
        while True:
            yield h2.frame(h2.DATA, h2.PADDED, 1, bytes([3, 0, 0, 0])) * 50
    """,
    "window update": "yield from (h2.frame(h2.WINDOW_UPDATE, 0, 0, (1).to_bytes(4, 'big')) * 50 for _ in range(20000))",
    "empty data": """
        yield h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.block(h2.request("v4.example.com", "/allowed", "POST")))
        while True:
            yield h2.frame(h2.DATA, 0, 1) * 50
    """,
    "push": "yield h2.frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, bytes([0, 0, 0, 2]))",
}


def memory_kib(session):
    """What the guard's processes have resident together."""
    total = 0
    for pid in session.guards():
        for line in open(f"/proc/{pid}/status"):
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total


FLOOD = """
def flood():
    import time
    import http2_frames as h2

    client = h2.Client("v4.example.com")
    begun = time.monotonic()
    for part in frames(h2):
        if not client.send(part) or time.monotonic() - begun > 20:
            break
        client.run(lambda c: c.goaway is not None, 0.0001)
        if client.goaway is not None:
            break
        client.stream.settimeout(15)
    if client.ended is None:
        client.run(lambda c: c.ended, 8)
    return client.goaway, client.ended, time.monotonic() - begun
"""


@pytest.mark.parametrize("kind", FLOODS)
def test_floods_end_their_connection_and_nothing_else(session, world, kind):
    source = "def frames(h2):\n" + textwrap.indent(textwrap.dedent(FLOODS[kind]), "    ") + FLOOD
    before = memory_kib(session)
    goaway, ended, seconds = session.do_source(source, "flood")
    assert ended and seconds < 20, (goaway, ended, seconds)
    assert memory_kib(session) - before < 200 << 10, "sanitizers keep what was freed for a while; without them it is less"
    honest = session.do(send_one, more(method="GET"), b"", None)
    assert honest[0]["status"] == 200, honest


def test_a_client_that_takes_nothing_costs_no_more_than_its_windows(session, world):
    def hold():
        import http2_frames as h2

        client = h2.Client("v4.example.com", credit=False, settings=[(4, 0x7FFFFFFF)])
        client.send(h2.frame(h2.WINDOW_UPDATE, 0, 0, (0x7FFF0000).to_bytes(4, "big")))
        for stream in range(1, 41, 2):
            client.ask(stream, h2.request("v4.example.com", "/allowed"))
        time.sleep(1)
        client.close()
        return True

    before = memory_kib(session)
    assert session.do(hold)
    assert memory_kib(session) - before < 64 << 10
    assert session.do(send_one, more(method="GET"), b"", None)[0]["status"] == 200


def test_streams_over_the_bound_are_refused(session, world):
    def crowd():
        import http2_frames as h2

        client = h2.Client("v4.example.com")
        for stream in range(1, 601, 2):
            client.ask(stream, h2.request("v4.example.com", "/allowed", "POST"), end=False)
        client.run(lambda c: sum(1 for s in c.streams.values() if s["reset"] == 7) >= 100, 5)
        return [s["reset"] for s in client.streams.values()].count(7), client.settings.get(3), client.goaway

    refused, told, goaway = session.do(crowd)
    assert told == 128 and (refused >= 100 or goaway is not None)
    assert session.do(send_one, more(method="GET"), b"", None)[0]["status"] == 200
