"""Extended CONNECT (RFC 8441) from a hostile function, and its answers from a hostile server."""

import pytest

import guard
import http2_origin

HOST, ADDRESS = "hostile-frames.example.com", "127.0.0.51"
# What the guard learns of these would change how it meets them in other tests.
PLAIN, PLAIN_ADDRESS = "no-frames.example.com", "127.0.0.54"
FICKLE, FICKLE_ADDRESS = "fickle-frames.example.com", "127.0.0.55"
TIGHT, TIGHT_ADDRESS = "tight-frames.example.com", "127.0.0.56"
POLICY = guard.policy(*(guard.endpoint(host, methods=["GET"]) for host in (HOST, PLAIN, FICKLE, TIGHT)))


@pytest.fixture(scope="module")
def server(world):
    return http2_origin.Origin(world, ADDRESS, HOST)


def connect_fields(path="/chat", more=(), host=HOST, **changed):
    pseudo = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":authority": host, ":path": path}
    pseudo.update({":" + name: value for name, value in changed.items()})
    return [(name, value) for name, value in pseudo.items() if value is not None] + list(more)


# What is no WebSocket's handshake: (fields, whether the stream ends with them).
REFUSED = {
    "CONNECT of old": (connect_fields(protocol=None, scheme=None, path=None), False),
    "CONNECT of old with a path": (connect_fields(protocol=None), False),
    "a protocol with GET": (connect_fields(method="GET"), False),
    "a protocol with POST": (connect_fields(method="POST"), False),
    "another protocol": (connect_fields(protocol="connect-udp"), False),
    "a protocol in other letters": (connect_fields(protocol="WebSocket"), False),
    "two protocols in one": (connect_fields(protocol="websocket, connect-udp"), False),
    "an empty protocol": (connect_fields(protocol=""), False),
    "the protocol twice": ([(":protocol", "websocket")] + connect_fields(), False),
    "no path": (connect_fields(path=None), False),
    "no scheme": (connect_fields(scheme=None), False),
    "no authority": (connect_fields(authority=None), False),
    "another scheme": (connect_fields(scheme="wss"), False),
    "another host": (connect_fields(authority="denied.example.com"), False),
    "content-length": (connect_fields(more=[("content-length", "10")]), False),
    "content-length 0": (connect_fields(more=[("content-length", "0")]), False),
    "expect": (connect_fields(more=[("expect", "100-continue")]), False),
    "transfer-encoding": (connect_fields(more=[("transfer-encoding", "chunked")]), False),
    "upgrade beside it": (connect_fields(more=[("upgrade", "websocket")]), False),
    "connection beside it": (connect_fields(more=[("connection", "upgrade")]), False),
    "the end with the head": (connect_fields(), True),
    "a path that is denied": (connect_fields(path="https://denied.example.com/"), False),
}


def ask(fields, data, end):
    import http2_frames as h2

    host = dict(fields).get(":authority")
    if host is None or not host.endswith("-frames.example.com"):
        host = "hostile-frames.example.com"
    client = h2.Client(host, timeout=5)
    client.ask(1, fields, end=end)
    if not end:
        client.data(1, data)
    first = client.until_over(1, timeout=3)[0]
    client.ask(3, h2.request(host, "/honest"))
    second = client.until_over(3, timeout=5)[0]
    client.close()
    return first, second["status"], client.goaway


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_handshake_opens_nothing(session, server, what):
    fields, end = REFUSED[what]
    server.reset()
    before = len(guard.exchanges(session.bench.records()))
    first, second, goaway = session.do(ask, fields, b"\x82\x82\0\0\0\0ok", end)
    assert first["status"] in (400, 403, 421, 501, None) and (first["status"] or first["reset"] is not None)
    assert second == 200 and goaway is None
    assert [path for _, path, _ in server.requests] == ["/honest"]
    records = session.wait_for_records(lambda r: len(guard.exchanges(r)) >= before + 2)
    made = [r for r in guard.exchanges(records)[before:] if r.get("path") != "/honest"]
    assert len(made) == 1 and made[0]["decision"] == "deny", made


def test_an_unknown_protocol_is_told_so(session, server):
    first = session.do(ask, connect_fields(protocol="connect-ip"), b"", False)[0]
    assert (first["status"], first["headers"]["sallyport-denied"]) == (501, "unsupported-method")


def last(session, path):
    records = session.wait_for_records(lambda r: any(x.get("path") == path for x in guard.exchanges(r)))
    return next(r for r in guard.exchanges(records) if r.get("path") == path)


@pytest.mark.parametrize("path", ["/ended", "/status/204", "/status/206", "/status/299"])
@pytest.mark.parametrize("function", ["http1", "http2"])
def test_a_success_that_opens_nothing(session, server, function, path):
    server.reset()
    path += "?" + function
    if function == "http2":
        reply = session.do(ask, connect_fields(path), b"", False)[0]
        assert reply["status"] == 502
    else:
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        assert session.get(HOST, path, headers=upgrade + key)["status"] == 502
    record = last(session, path.split("?")[0])
    assert (record["decision"], record["reason"], record["status"]) == ("error", "upstream-malformed", 502)
    session.bench.record.write_text("")


def test_success_of_http1_is_not_told_as_the_opening_of_a_websocket(session, world):
    """What a server answers that ignores the upgrade would be read as frames, and what follows as another request."""
    server = http2_origin.Origin(world, PLAIN_ADDRESS, PLAIN)
    server.reset(settings=())
    reply = session.do(ask, connect_fields("/plain", host=PLAIN), b"", False)[0]
    assert reply["status"] == 502 and server.requests[0][0] == "http/1.1"


def test_a_server_that_withdraws_the_setting(session, world):
    """RFC 8441 section 3 forbids it: the connection ends, and with it what is on it."""
    http2_origin.Origin(world, FICKLE_ADDRESS, FICKLE)

    def talk(fields):
        import http2_frames as h2

        client = h2.Client("fickle-frames.example.com", timeout=5)
        client.ask(1, fields, end=False)
        reply = client.until_over(1, timeout=10)[0]
        return reply["status"], reply["body"], reply["ended"], reply["reset"]

    status, body, ended, reset = session.do(talk, connect_fields("/withdraws", host=FICKLE))
    assert status == 200 and body in (b"", b"\x82\x02hi") and not ended and reset == 8
    chat = connect_fields("/chat", host=FICKLE)
    assert session.do(ask, chat, b"\x88\x80\0\0\0\0", False)[0]["body"] == b"\x88\x00", "over HTTP/1 now"


def test_frames_before_the_answer_wait_for_it(session, server):
    """As the bytes behind an upgrade's head do; where it is refused nobody sees them."""
    server.reset()

    def early(path, data):
        import http2_frames as h2

        host = "hostile-frames.example.com"
        client = h2.Client(host, timeout=5)
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", host), (":path", path)]
        head = h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.block(pseudo))
        client.send(head + h2.frame(h2.DATA, 0, 1, data))
        return client.until_over(1, timeout=5)[0]

    frames = b"\x82\x82\0\0\0\0ok\x88\x80\0\0\0\0"
    reply = session.do(early, "/chat/early", frames)
    assert (reply["status"], reply["body"]) == (200, b"\x82\x02ok\x88\x00")
    reply = session.do(early, "/status/403", frames)
    assert reply["status"] == 403 and server.received["/status/403"] == b""


def test_no_more_than_the_window_waits_for_a_server_that_takes_nothing(session, world):
    """What is sent over it ends the stream; within it the guard holds no more than a window."""
    server = http2_origin.Origin(world, TIGHT_ADDRESS, TIGHT)
    server.reset(settings=((8, 1), (4, 1000)))

    def flood():
        import http2_frames as h2

        host = "tight-frames.example.com"
        client = h2.Client(host, timeout=5)
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", host), (":path", "/deaf")]
        client.ask(1, pseudo, end=False)
        client.run(lambda c: c.of(1)["status"])
        client.data(1, b"\x82\xff" + (1 << 24).to_bytes(8, "big") + bytes(4))
        sent = 14
        while sent < 1 << 20:
            room = 65535 + client.granted.get(1, 0) - sent
            if room < 1000:
                client.run(lambda c: 65535 + c.granted.get(1, 0) - sent >= 1000, 1)
                if 65535 + client.granted.get(1, 0) - sent < 1000:
                    break
                continue
            part = min(room, 16000)
            client.data(1, b"x" * part)
            sent += part
        client.data(1, b"x" * 16000)
        client.data(1, b"x" * 16000)
        client.run(lambda c: c.goaway is not None or c.of(1)["reset"] is not None, 5)
        return sent, client.of(1)["reset"], client.goaway

    sent, reset, goaway = session.do(flood)
    assert sent < 100_000, "a window of the guard's, and what the server's of 1000 bytes lets through"
    assert reset == 3 or goaway == 3
    assert session.do(ask, connect_fields("/chat", host=TIGHT), b"\x88\x80\0\0\0\0", False)[0]["body"] == b"\x88\x00"


@pytest.mark.parametrize("what", ["no mask", "a reserved bit", "half a close code", "an HTTP request"])
def test_a_frame_that_is_none(session, server, what):
    server.reset()
    wrong = {
        "no mask": b"\x82\x02no",
        "a reserved bit": b"\xa2\x82\0\0\0\0no",
        "half a close code": b"\x88\x81\0\0\0\0n",
        "an HTTP request": b"GET / HTTP/1.1\r\nHost: denied.example.com\r\n\r\n",
    }[what]
    reply = session.do(ask, connect_fields("/quiet"), wrong, False)[0]
    assert (reply["status"], reply["body"], reply["ended"]) == (200, b"\x88\x02\x03\xea", True)
    [heard] = server.received.values()
    assert heard[:2] == b"\x88\x82" and len(heard) == 8, "a close frame in the function's place, and nothing of it"
    record = last(session, "/quiet")
    assert (record["decision"], record["reason"]) == ("deny", "malformed-websocket")
    session.bench.record.write_text("")


@pytest.mark.parametrize("what, sent", [("a mask", b"\x82\x82\0\0\0\0no"), ("a reserved bit", b"\xb2\x02no"), ("text", b"HTTP/1.1 200 OK")])
def test_a_frame_of_the_server_that_is_none(session, server, what, sent):
    server.reset()
    reply = session.do(ask, connect_fields("/says?" + (b"\x81\x02hi" + sent).hex()), b"", False)[0]
    assert (reply["status"], reply["body"], reply["ended"]) == (200, b"\x81\x02hi\x88\x02\x03\xea", True)
    record = last(session, "/says")
    assert (record["decision"], record["reason"]) == ("error", "upstream-malformed")
    session.bench.record.write_text("")
