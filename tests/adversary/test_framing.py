"""Known classes of request smuggling and response desynchronisation, through the whole guard: what one could read in
two ways goes nowhere, and what is let through arrives as exactly what it was decided as. The tables of
proxy/http1/smuggling_test.cc have more of each class; test_smuggling.py has the rest of the requests."""

import itertools
import time

import pytest

import guard

HOST = "v4.example.com"
ALLOWED = [
    "/allowed",
    "/echo",
    "/raw",
    "/extra",
    "/extra-later",
    "/ignores-upgrade",
    "/no-websocket",
    "/expect-refused",
    "/skips-content",
]
POLICY = guard.policy(
    guard.endpoint(HOST, rules=[{"methods": ["any"], "path": {"prefix": path}} for path in ALLOWED]),
)
INNER = b"GET /smuggled HTTP/1.1\r\nHost: v4.example.com\r\n\r\n"
LAST = b"GET /allowed/last HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n"
_numbers = itertools.count()
END = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.fixture
def before(session, world):
    """How many records there are once those of the tests before are written: they come in order, and a little late."""
    path = f"/allowed/before-{next(_numbers)}"
    session.get(HOST, path)
    records = session.wait_for_records(lambda r: any(one.get("path") == path for one in r))
    world.forget()
    return len(guard.exchanges(records))


def request(*headers, body=b"", method=b"POST", target=b"/allowed", version=b"HTTP/1.1"):
    lines = [method + b" " + target + b" " + version, b"Host: v4.example.com", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def length(body):
    return b"Content-Length: %d" % len(body)


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def send(data, methods):
    """Sends everything; returns a response for each of `methods`, and what came behind them."""
    stream = connect("v4.example.com", timeout=10)
    try:
        stream.sendall(data)
    except OSError:
        pass  # refused in the middle of it
    reader = Reader(stream)
    replies = []
    for method in methods:
        reply = reader.response(method)
        replies.append((reply["status"], reply["headers"].get("sallyport-denied"), reply["body"], reply["complete"]))
    rest = reader.buffer + read_all(stream)[0] if replies[-1][0] else b""
    stream.close()
    return replies, rest


# What stands before LAST, and what the origin must have seen of it: (method, target, body) of each request.
ACCEPTED = {
    "CL.0: a length with GET": (
        request(length(INNER), body=INNER, method=b"GET"),
        [("GET", "/allowed", INNER)],
    ),
    "CL.0: a length with HEAD": (
        request(length(INNER), body=INNER, method=b"HEAD"),
        [("HEAD", "/allowed", INNER)],
    ),
    "CL.0: a length with OPTIONS": (
        request(length(INNER), body=INNER, method=b"OPTIONS"),
        [("OPTIONS", "/allowed", INNER)],
    ),
    "TE.0: chunks with GET": (
        request(CHUNKED, body=chunk(INNER) + END, method=b"GET"),
        [("GET", "/allowed", INNER)],
    ),
    "an end of chunks in sized content": (
        request(length(END + INNER), body=END + INNER),
        [("POST", "/allowed", END + INNER)],
    ),
    "an end of chunks in a chunk": (
        request(CHUNKED, body=chunk(END + INNER) + END),
        [("POST", "/allowed", END + INNER)],
    ),
    "sizes with zeros and extensions": (
        request(CHUNKED, body=b"0002;a=b;c=\"d;5\"\r\nab\r\n000\r\n\r\n"),
        [("POST", "/allowed", b"ab")],
    ),
    "an expectation and its content at once": (
        request(b"Expect: 100-continue", length(INNER), body=INNER),
        [("POST", "/allowed", INNER)],
    ),
    "an upgrade to h2c with content": (
        request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ", length(INNER), body=INNER),
        [("POST", "/allowed", INNER)],
    ),
    "a WebSocket that is none, as it has content": (
        request(b"Connection: Upgrade", b"Upgrade: websocket", length(INNER), body=INNER, method=b"GET"),
        [("GET", "/allowed", INNER)],
    ),
    "fields that frame nothing": (
        request(b"X-Transfer-Encoding: chunked", b"TE: chunked", b"Content-Encoding: chunked", b"Trailer: Content-Length"),
        [("POST", "/allowed", b"")],
    ),
    "line ends that are only written as escapes": (
        request(b"X-A: b\\r\\nTransfer-Encoding: chunked", b"X-B: %0d%0aContent-Length: 9"),
        [("POST", "/allowed", b"")],
    ),
    "line ends that lose their upper half in some decoders": (
        request("X-A: b\u010d\u010aTransfer-Encoding: chunked".encode()),
        [("POST", "/allowed", b"")],
    ),
    "a URL for a target": (
        request(method=b"GET", target=b"https://v4.example.com:443/allowed/url"),
        [("GET", "/allowed/url", b"")],
    ),
    "an empty line before a request": (
        request(length(b"x"), body=b"x") + b"\r\n",
        [("POST", "/allowed", b"x")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_has_one_reading_arrives_as_exactly_that(session, world, before, what):
    data, wanted = ACCEPTED[what]
    replies, rest = session.do(send, data + LAST, [method for method, _, _ in wanted] + ["GET"])
    assert [status for status, _, _, _ in replies] == [200] * (len(wanted) + 1) and rest == b"", replies
    seen = [(r.method, r.target, r.body) for r in world.requests()]
    assert seen == [*wanted, ("GET", "/allowed/last", b"")]
    for one in world.requests():  # one framing, and none of it the function's
        names = [name.lower() for name, _ in one.headers]
        assert names.count("host") == 1 and names.count("content-length") + names.count("transfer-encoding") <= 1
    records = guard.exchanges(session.wait_for_records(lambda r: len(guard.exchanges(r)) >= before + len(seen)))
    recorded = [(r["decision"], r["method"], r["path"], r["bytes_up"]) for r in records[before:]]
    assert recorded == [("allow", method, target, len(body)) for method, target, body in seen]


# No request. The reason is malformed-http where none is said.
REFUSED = {
    # What Beast's parser lets pass, and this guard must not.
    "an unknown coding": request(b"Transfer-Encoding: xchunked", body=END),
    "identity": request(b"Transfer-Encoding: identity", body=END),
    "chunked, then identity": request(b"Transfer-Encoding: chunked, identity", body=END),
    "chunked twice": request(b"Transfer-Encoding: chunked, chunked", body=END),
    "chunked in HTTP/1.0": request(CHUNKED, body=END, version=b"HTTP/1.0"),
    "gzip, then chunked": request(b"Transfer-Encoding: gzip, chunked", body=END),
    "two equal lengths": request(length(b"x"), length(b"x"), body=b"x"),
    "two equal lengths in a list": request(b"Content-Length: 1, 1", body=b"x"),
    "two hosts": request(b"Host: v4.example.com", method=b"GET"),
    "no host": b"GET /allowed HTTP/1.1\r\nX-A: b\r\n\r\n",
    "a folded line": request(b"X-A: b", b" c", method=b"GET"),
    "a byte above ASCII in the target": request(method=b"GET", target=b"/allowed/\xc3\xbc"),
    # TE.TE, as it has been published since.
    "an underscore": request(b"Transfer_Encoding: chunked", body=END),
    "a dot": request(b"Transfer.Encoding: chunked", body=END),
    "a tab before the colon": request(b"Transfer-Encoding\t: chunked", body=END),
    "a line feed before the field": request(b"X-A: b\nTransfer-Encoding: chunked", body=END),
    "a carriage return before the field": request(b"X-A: b\rTransfer-Encoding: chunked", body=END),
    "a line feed behind the value": request(b"Transfer-Encoding: chunked\nX-A: b", body=END),
    "a null behind the value": request(b"Transfer-Encoding: chunked\x00", body=END),
    "a letter that folds to ASCII": request("Transfer-Encoding: chun\u212aed".encode(), body=END),
    "a byte order mark": request("\ufeffTransfer-Encoding: chunked".encode(), body=END),
    "a soft hyphen": request(b"Transfer\xadEncoding: chunked", body=END),
    "the colon on the next line": request(b"Transfer-Encoding", b" : chunked", body=END),
    "a field of HTTP/2": request(b":authority: denied.example.com", method=b"GET"),
    "a request for a field": request(b"GET /smuggled HTTP/1.1", method=b"GET"),
    # Lengths.
    "a length in another script": request("Content-Length: \u0665".encode(), body=b"xxxxx"),
    "a length that wraps to 5": request(b"Content-Length: 18446744073709551621", body=b"xxxxx"),
    "a length with a no-break space": request(b"Content-Length: \xa05", body=b"xxxxx"),
    "a length in a disguise beside a good one": request(length(b"x"), b"Content_Length: 5", body=b"x"),
    # Expect, which two servers of a row may honour differently.
    "an expectation and another": request(b"Expect: 100-continue, x", length(b"x"), body=b"x"),
    "an expectation behind junk": request(b"Expect: y 100-continue", length(b"x"), body=b"x"),
    "an expectation folded": request(b"Expect:", b" 100-continue", length(b"x"), body=b"x"),
    "an expectation that Connection names": request(
        b"Connection: expect", b"Expect: 100-continue", length(b"x"), body=b"x"
    ),
    "a length that Connection names": request(b"Connection: content-length", length(b"x"), body=b"x"),
    "the coding that Connection names": request(b"Connection: close, transfer-encoding", CHUNKED, body=END),
    # Chunks. The whole of them is there at once.
    "TERM.EXT": request(CHUNKED, body=b"1;\nx\r\n" + END),
    "EXT.TERM": request(CHUNKED, body=b"2;a\nxx\r\n32\r\n" + END),
    "a line end in a quoted extension": request(CHUNKED, body=b'2;a="\r\n"\r\nxx\r\n' + END),
    "two bytes behind the data": request(CHUNKED, body=b"1\r\nxyz\r\n" + END),
    "a line feed behind the data": request(CHUNKED, body=b"1\r\nx\n" + END),
    "no line end of its own behind the data": request(CHUNKED, body=b"2\r\nx\r\n" + END),
    "a size that wraps to 1": request(CHUNKED, body=b"10000000000000001\r\nx\r\n" + END),
    "a size of -1": request(CHUNKED, body=b"ffffffffffffffff\r\nx\r\n" + END),
    "a size with an underscore": request(CHUNKED, body=b"1_0\r\n0123456789abcdef\r\n" + END),
    "a size with a null": request(CHUNKED, body=b"1\x00\r\nx\r\n" + END),
    "a last chunk of line feeds": request(CHUNKED, body=b"1\r\nx\r\n0\n\n"),
    "a length for a trailer": request(CHUNKED, body=b"1\r\nx\r\n0\r\nContent-Length: 9\r\n\r\n"),
    "a host for a trailer": request(CHUNKED, body=b"1\r\nx\r\n0\r\nHost: denied.example.com\r\n\r\n"),
    "a request for a trailer": request(CHUNKED, body=b"1\r\nx\r\n0\r\n" + INNER),
    "a megabyte of trailers": request(CHUNKED, body=b"0\r\n" + b"X-A: %s\r\n" % (b"b" * 1000) * 1000 + b"\r\n"),
}
OTHER_REASONS = {
    "a method in small letters": (request(method=b"get"), "unsupported-method", 501),
    "a tunnel": (b"CONNECT v4.example.com:443 HTTP/1.1\r\nHost: v4.example.com\r\n\r\n", "unsupported-method", 501),
    "a URL for another host": (
        request(length(b"x"), body=b"x", target=b"https://denied.example.com/allowed"),
        "host-mismatch",
        403,
    ),
    "a URL with another scheme": (
        request(length(b"x"), body=b"x", target=b"http://v4.example.com/allowed"),
        "host-mismatch",
        403,
    ),
    "a fragment": (request(length(b"x"), body=b"x", target=b"/allowed#x"), "malformed-target", 400),
    "an address for the host": (request(length(b"x"), body=b"x").replace(b"v4.example.com", b"10.0.0.1"), "host-mismatch", 403),
}  # fmt: skip
REFUSALS = {what: (data, "malformed-http", 400) for what, data in REFUSED.items()} | OTHER_REASONS


@pytest.mark.parametrize("what", REFUSALS)
def test_what_has_two_readings_goes_nowhere_and_ends_the_connection(session, world, before, what):
    data, reason, status = REFUSALS[what]
    replies, rest = session.do(send, data + INNER + LAST, ["GET"])
    if replies[0][0] is None:  # the body was wrong when the head was on its way: the connection ended without an answer
        assert CHUNKED in data, replies
    else:
        assert replies[0][:2] == (status, reason) and replies[0][3] and rest == b"", (replies, rest)
    assert not [r for r in world.requests() if r.complete], [r.raw_head for r in world.requests()]
    records = guard.exchanges(session.wait_for_records(lambda r: len(guard.exchanges(r)) > before))
    assert [r["reason"] for r in records[before:]] == [reason]


def test_no_piece_of_a_refused_request_counts_for_the_next(session, world):
    """The same bytes, once in one piece and once byte by byte."""

    def slowly(data):
        stream = connect("v4.example.com", timeout=10)
        try:
            for at in range(len(data)):
                stream.sendall(data[at : at + 1])
        except OSError:
            pass
        reply = Reader(stream).response()
        return reply["status"], reply["headers"].get("sallyport-denied")

    for what in ("a line feed before the field", "an underscore", "EXT.TERM", "a length that wraps to 5"):
        answer = session.do(slowly, REFUSED[what] + LAST)
        assert answer in [(400, "malformed-http"), (None, None)], (what, answer)
    assert not [r for r in world.requests() if r.complete]


# Responses. What a server sends for one request must never be taken for the response to another.

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

# What the server sends, the method it answers, and what the function sees: a status, or a reason of the guard.
RESPONSES = {
    "one response": (OK, "GET", 200),
    "a second one behind it": (OK + POISON, "GET", 200),
    "more content than announced": (OK + b"ay", "GET", 200),
    "HEAD with content": (OK, "HEAD", 200),
    "HEAD with a whole response for its content": (OK.replace(b"ok", POISON), "HEAD", 200),
    "204 with content": (b"HTTP/1.1 204 X\r\nContent-Length: %d\r\n\r\n" % len(POISON) + POISON, "GET", 204),
    "204 with chunks": (b"HTTP/1.1 204 X\r\n" + CHUNKED + b"\r\n\r\n" + chunk(POISON) + END, "GET", 204),
    "304 with content": (b"HTTP/1.1 304 X\r\nContent-Length: %d\r\n\r\n" % len(POISON) + POISON, "GET", 304),
    "304 with chunks": (b"HTTP/1.1 304 X\r\n" + CHUNKED + b"\r\n\r\n" + chunk(POISON) + END, "GET", 304),
    "early hints": (b"HTTP/1.1 103 X\r\nLink: </a>\r\n\r\n" + OK, "GET", 200),
    "early hints that announce content": (b"HTTP/1.1 103 X\r\nContent-Length: 2\r\n\r\n" + OK, "GET", 200),
    "early hints with content": (b"HTTP/1.1 103 X\r\nContent-Length: 2\r\n\r\nok" + OK, "GET", "upstream-malformed"),
    "a 100 that nobody expects": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, "GET", 200),
    "a 101 that nobody asked for": (b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "GET", "upstream-malformed"),
    "length and chunks": (OK.replace(b"\r\n\r\n", b"\r\n" + CHUNKED + b"\r\n\r\n"), "GET", "upstream-malformed"),
    "two lengths": (OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 40\r\n\r\n"), "GET", "upstream-malformed"),
    "two lengths for HEAD": (OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 40\r\n\r\n"), "HEAD", "upstream-malformed"),
    "a length with a sign": (OK.replace(b"2", b"+2"), "GET", "upstream-malformed"),
    "HTTP/1.0 with chunks": (b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n\r\n" + chunk(POISON) + END, "GET", "upstream-malformed"),
    "an unknown coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\n" + POISON, "GET", "upstream-malformed"),
    "a length in a disguise": (b"HTTP/1.1 200 OK\r\nContent_Length: 2\r\n\r\nok", "GET", "upstream-malformed"),
    "a split one: a line feed": (OK.replace(b"OK\r\n", b"OK\r\nLocation: /\nSet-Cookie: a=b\r\n"), "GET", "upstream-malformed"),
    "a split one: a carriage return": (OK.replace(b"OK\r\n", b"OK\r\nLocation: /\rSet-Cookie: a=b\r\n"), "GET", "upstream-malformed"),
    "a null in a value": (OK.replace(b"OK\r\n", b"OK\r\nX-A: \x00\r\n"), "GET", "upstream-malformed"),
    "a folded line": (OK.replace(b"OK\r\n", b"OK\r\nX-A: b\r\n c\r\n"), "GET", "upstream-malformed"),
    "an empty line before it": (b"\r\n" + OK, "GET", "upstream-malformed"),
    "content of another before it": (b"poison" + OK, "GET", "upstream-malformed"),
}  # fmt: skip


def raw(data):
    return b"/raw?bytes=" + data.hex().encode()


@pytest.mark.parametrize("what", RESPONSES)
def test_a_response_is_read_in_one_way_and_belongs_to_its_request(session, world, what):
    sent, method, wanted = RESPONSES[what]
    data = request(method=method.encode(), target=raw(sent))
    data += request(method=b"GET", target=b"/echo/second") + LAST  # not waiting for the first
    replies, rest = session.do(send, data, [method, "GET", "GET"])
    status, denied, body, complete = replies[0]
    assert complete and (denied or status) == wanted, replies
    assert b"poison" not in body
    for reply, path in zip(replies[1:], (b"/echo/second", b"/allowed/last")):
        assert reply[0] == 200 and path in reply[2] and b"poison" not in reply[2], replies
    assert rest == b""
    spoiled, following = (next(r for r in world.requests() if path in r.target) for path in ("/raw", "/second"))
    if what not in ("one response", "early hints", "a 100 that nobody expects"):
        assert spoiled.connection is not following.connection, "the connection has lost its place"


def test_excess_responses_do_not_reach_a_function_that_sends_its_requests_at_once(session):
    data = b"".join(request(method=b"GET", target=t) for _ in range(10) for t in (b"/extra", b"/echo")) + LAST
    replies, rest = session.do(send, data, ["GET"] * 21)
    assert [reply[2] for reply in replies[0:20:2]] == [b"mine"] * 10
    assert all(b'"/echo"' in reply[2] for reply in replies[1:20:2]) and rest == b"", replies


def test_a_response_that_comes_later_finds_its_connection_closed(session, world):
    world.tls.speak.clear()
    assert session.get(HOST, "/extra-later")["body"] == b"mine"
    connection = next(r.connection for r in world.requests() if r.path == "/extra-later")
    world.tls.speak.set()  # the connection waits in the guard's pool, and the server speaks without having been asked
    end = time.monotonic() + 20
    while connection.open and time.monotonic() < end:
        time.sleep(0.02)
    assert not connection.open, "the guard keeps a connection on which there is a response for nobody"
    assert b"poison" not in session.get(HOST, "/echo/after")["body"]


@pytest.mark.parametrize("method, body", [("POST", b"HEAD"), ("HEAD", b"POST")])
def test_content_that_reads_like_another_method_changes_nothing(session, world, method, body):
    """It arrives when the head has been read, and takes its place in the buffer."""

    def in_two_steps(method, body):
        stream = connect("v4.example.com", timeout=10)
        head = f"{method} /allowed HTTP/1.1\r\nHost: v4.example.com\r\nExpect: 100-continue\r\nConnection: close\r\n"
        stream.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
        reader = Reader(stream)
        assert reader.head()[0] == 100
        stream.sendall(body)
        reply = reader.response(method)
        return reply["status"], reply["complete"], bool(reply["body"]), reader.buffer + read_all(stream)[0]

    assert session.do(in_two_steps, method, body) == (200, True, method == "POST", b"")
    assert [(r.method, r.body) for r in world.requests()] == [(method, body)]


def test_content_that_was_held_back_is_not_sent_behind_a_final_answer(session, world):
    """A server that answers an expectation at once and does not close would take the content for a request."""

    def hold_back(inner):
        stream = connect("v4.example.com", timeout=10)
        head = b"POST /expect-refused HTTP/1.1\r\nHost: v4.example.com\r\nExpect: 100-continue\r\n"
        stream.sendall(head + b"Content-Length: %d\r\n\r\n" % len(inner))
        reader = Reader(stream)
        reply = reader.response()
        try:
            stream.sendall(inner)
        except OSError:
            pass
        return reply["status"], reply["headers"].get("connection"), read_all(stream)[0]

    assert session.do(hold_back, INNER) == (417, "close", b"")
    assert [r.target for r in world.requests()] == ["/expect-refused"]
    assert not world.saw("smuggled")


def test_a_server_that_skips_expected_content_answers_nobody_with_what_it_made_of_it(session, world):
    """The content is a request to such a server, and that cannot be undone; the response to it must reach nobody."""
    data = request(b"Expect: 100-continue", length(INNER), body=INNER, target=b"/skips-content")
    echoes = [request(method=b"GET", target=b"/echo/%d" % n) for n in range(5)]
    replies, rest = session.do(send, data + b"".join(echoes) + LAST, ["POST"] + ["GET"] * 6)
    assert replies[0][2] == b"skipped"
    assert all(b'"/echo/%d"' % n in reply[2] for n, reply in enumerate(replies[1:6])) and rest == b"", replies
    skipping = [r.connection for r in world.requests() if r.path == "/skips-content"]
    assert not [r for r in world.requests() if r.path.startswith("/echo") and r.connection in skipping]


@pytest.mark.parametrize("path", ["/ignores-upgrade", "/no-websocket"])
def test_what_follows_an_upgrade_that_is_refused_is_a_request(session, world, path):
    upgrade = [b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAA"]
    data = request(*upgrade, method=b"GET", target=path.encode()) + INNER + LAST
    replies, rest = session.do(send, data, ["GET"] * 3)
    assert [reply[0] for reply in replies] == [200 if path == "/ignores-upgrade" else 426, 403, 200] and rest == b""
    assert [r.target for r in world.requests()] == [path, "/allowed/last"]
