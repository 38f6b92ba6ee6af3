"""Requests that two parsers could read in two ways are refused, not repaired; what is forwarded has one reading."""

import pytest

import guard

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST, methods=["GET", "POST"], path="/allowed"))
INNER = b"GET /smuggled HTTP/1.1\r\nHost: v4.example.com\r\n\r\n"


def post(*headers, body=b"", version=b"HTTP/1.1"):
    return (
        b"POST /allowed "
        + version
        + b"\r\nHost: v4.example.com\r\n"
        + b"".join(h + b"\r\n" for h in headers)
        + b"\r\n"
        + body
    )


CHUNKED = b"Transfer-Encoding: chunked"
END = b"0\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(END + INNER)

REFUSED = {
    "length and chunked": post(LENGTH, CHUNKED, body=END + INNER),
    "chunked and length": post(CHUNKED, LENGTH, body=END + INNER),
    "two lengths that differ": post(b"Content-Length: 0", LENGTH, body=INNER),
    "two lengths in one": post(b"Content-Length: 0, %d" % len(INNER), body=INNER),
    "length with a sign": post(b"Content-Length: +0", body=INNER),
    "length in hex": post(b"Content-Length: 0x0", body=INNER),
    "length with a blank": post(b"Content-Length: 0 0", body=INNER),
    "length empty": post(b"Content-Length: ", body=INNER),
    "length negative": post(b"Content-Length: -1", body=INNER),
    "length over 64 bits": post(b"Content-Length: 18446744073709551616", body=INNER),
    "length with an underscore": post(b"Content-Length: 1_0", body=INNER),
    "encoding unknown": post(b"Transfer-Encoding: xchunked", body=END + INNER),
    "encoding identity": post(b"Transfer-Encoding: identity", body=END + INNER),
    "encoding twice": post(CHUNKED, CHUNKED, body=END + INNER),
    "encoding twice, different": post(CHUNKED, b"Transfer-Encoding: identity", body=END + INNER),
    "encoding list": post(b"Transfer-Encoding: chunked, identity", body=END + INNER),
    "encoding chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=END + INNER),
    "encoding gzip, chunked": post(b"Transfer-Encoding: gzip, chunked", body=END + INNER),
    "encoding quoted": post(b'Transfer-Encoding: "chunked"', body=END + INNER),
    "encoding with a parameter": post(b"Transfer-Encoding: chunked;q=1", body=END + INNER),
    "encoding with a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=END + INNER),
    "encoding with a blank before the colon": post(b"Transfer-Encoding : chunked", body=END + INNER),
    "encoding after a folded line": post(b"X-A: 1", b" Transfer-Encoding: chunked", body=END + INNER),
    "encoding folded": post(b"Transfer-Encoding:", b" chunked", body=END + INNER),
    "encoding with a tab before": post(b"X: 1", b"\tTransfer-Encoding: chunked", body=END + INNER),
    "encoding empty": post(b"Transfer-Encoding:", body=END + INNER),
    "encoding in HTTP/1.0": post(CHUNKED, body=END + INNER, version=b"HTTP/1.0"),
    "bare line feeds": post(CHUNKED, body=END + INNER).replace(b"\r\n", b"\n"),
    "one bare line feed": b"POST /allowed HTTP/1.1\r\nHost: v4.example.com\r\nX-A: 1\nContent-Length: 0\r\n\r\n"
    + INNER,
    "bare carriage return": b"POST /allowed HTTP/1.1\r\nHost: v4.example.com\r\n"
    b"X-A: 1\rContent-Length: 5\r\nContent-Length: 0\r\n\r\n" + INNER,
    "carriage return twice": b"POST /allowed HTTP/1.1\r\nHost: v4.example.com\r\r\nContent-Length: 0\r\n\r\n" + INNER,
    "null in a value": post(b"X-A: a\x00b", b"Content-Length: 0", body=INNER),
    "null in a name": post(b"X\x00A: b", b"Content-Length: 0", body=INNER),
    "name empty": post(b": b", b"Content-Length: 0", body=INNER),
    "name with a blank": post(b"X A: b", b"Content-Length: 0", body=INNER),
    "line without a colon": post(b"nothing", b"Content-Length: 0", body=INNER),
    "first line folded": b"GET /allowed HTTP/1.1\r\n Host: denied.example.com\r\nHost: v4.example.com\r\n\r\n" + INNER,
    "two blanks in the request line": b"GET  /allowed HTTP/1.1\r\nHost: v4.example.com\r\n\r\n" + INNER,
    "a tab in the request line": b"GET\t/allowed HTTP/1.1\r\nHost: v4.example.com\r\n\r\n" + INNER,
    "a blank in the target": b"GET /allowed /x HTTP/1.1\r\nHost: v4.example.com\r\n\r\n" + INNER,
    "no version": b"GET /allowed\r\nHost: v4.example.com\r\n\r\n" + INNER,
    "HTTP/0.9": b"GET /allowed\r\n",
    "HTTP/1.2": b"GET /allowed HTTP/1.2\r\nHost: v4.example.com\r\n\r\n" + INNER,
    "HTTP/2.0": b"GET /allowed HTTP/2.0\r\nHost: v4.example.com\r\n\r\n" + INNER,
    "version in small letters": b"GET /allowed http/1.1\r\nHost: v4.example.com\r\n\r\n" + INNER,
    "bytes above ASCII in the target": b"GET /allowed\xff HTTP/1.1\r\nHost: v4.example.com\r\n\r\n" + INNER,
    "method with odd bytes": b"G\x01T /allowed HTTP/1.1\r\nHost: v4.example.com\r\n\r\n" + INNER,
    "too many headers": post(*[b"X-%d: 1" % n for n in range(400)], body=INNER),
}


def talk(request):
    """Sends everything, then reads until the end; returns the responses there are."""
    stream = connect("v4.example.com", timeout=3)
    try:
        stream.sendall(request)
    except OSError:
        pass
    reader, replies = Reader(stream), []
    while len(replies) < 5:
        reply = reader.response()
        if reply["status"] is None:
            replies.append(reply.get("error"))
            break
        replies.append((reply["status"], reply["headers"].get("sallyport-denied"), reply["complete"]))
    stream.close()
    return replies


def nothing_was_smuggled(world):
    assert not [r for r in world.requests() if "smuggled" in r.target], [r.raw_head for r in world.requests()]


@pytest.mark.parametrize("what", REFUSED)
def test_ambiguous_requests_are_refused_and_the_connection_ends(session, world, what):
    before = len(guard.exchanges(session.bench.records()))
    replies = session.do(talk, REFUSED[what])
    assert not world.requests(), [r.raw_head for r in world.requests()]
    status, reason, complete = replies[0]
    assert (
        status in (400, 431, 501, 505)
        and reason in ("malformed-http", "head-too-large", "malformed-target")
        and complete
    ), replies
    assert len(replies) == 2 and replies[1] not in ("timeout", "TimeoutError"), "nothing after it is read: " + repr(
        replies
    )
    records = session.wait_for_records(lambda r: len(guard.exchanges(r)) > before)
    assert len(guard.exchanges(records)) == before + 1
    assert records[-1]["decision"] == "deny" and records[-1]["reason"] == reason


BAD_CHUNKS = {
    "size not hex": b"zz\r\nab\r\n" + END,
    "size empty": b"\r\nab\r\n" + END,
    "size negative": b"-1\r\nab\r\n" + END,
    "size with 0x": b"0x2\r\nab\r\n" + END,
    "size with a plus": b"+2\r\nab\r\n" + END,
    "size over 64 bits": b"10000000000000002\r\nab\r\n" + END,
    "size with a blank before": b" 2\r\nab\r\n" + END,
    "size ended by a bare line feed": b"2\nab\r\n" + END,
    "extension with a line feed": b"2;a\nxx\r\nab\r\n" + END,
    "extension with a bare carriage return": b"2;a\rb\r\nab\r\n" + END,
    "extension without end": b"2;" + b"a" * 70000,
    "data longer than its size": b"2\r\nabc\r\n" + END,
    "data ended by a bare line feed": b"2\r\nab\n" + END,
    "data not ended": b"2\r\nab0\r\n\r\n",
    "trailer folded": b"2\r\nab\r\n0\r\nX: 1\r\n 2\r\n\r\n",
    "trailer without a colon": b"2\r\nab\r\n0\r\nnothing\r\n\r\n",
    "trailer with a bare line feed": b"2\r\nab\r\n0\r\nX: 1\n\r\n",
    "trailers too large": b"2\r\nab\r\n0\r\n" + b"X: %s\r\n" % (b"a" * 1000) * 20 + b"\r\n",
    "last chunk with junk": b"2\r\nab\r\n0x\r\n\r\n",
}


@pytest.mark.parametrize("what", BAD_CHUNKS)
def test_bad_chunks_never_make_a_whole_request(session, world, what):
    replies = session.do(talk, post(CHUNKED, body=BAD_CHUNKS[what] + INNER))
    assert not [r for r in world.requests() if r.complete], "the upstream must not take it for whole"
    nothing_was_smuggled(world)
    assert replies[0] is None or isinstance(replies[0], str) or replies[0][0] == 400, replies


@pytest.mark.parametrize(
    "field",
    [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: denied.example.com",
        "Authorization: x",
        "Connection: close",
    ],
)
def test_trailers_cannot_carry_what_belongs_in_the_head(session, world, field):
    session.do(talk, post(CHUNKED, b"Connection: close", body=b"2\r\nab\r\n0\r\n" + field.encode() + b"\r\n\r\n"))
    for request in world.requests():
        assert not [name for name, _ in request.trailers if name.lower() == field.split(":")[0].lower()]


def test_two_equal_lengths_are_one_or_refused(session, world):
    session.do(talk, post(b"Content-Length: 2", b"Content-Length: 2", b"Connection: close", body=b"ab"))
    assert all([name.lower() for name, _ in r.headers].count("content-length") == 1 for r in world.requests())


def test_a_get_with_a_body_hides_no_request(session, world):
    body = INNER
    replies = session.do(
        talk,
        b"GET /allowed HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
        + b"GET /allowed/after HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n",
    )
    nothing_was_smuggled(world)
    assert [r[0] for r in replies if isinstance(r, tuple)] == [200, 200]
    assert [r.target for r in world.requests()] == ["/allowed", "/allowed/after"]


def test_a_second_request_behind_a_good_one_is_decided_by_itself(session, world):
    replies = session.do(talk, b"GET /allowed HTTP/1.1\r\nHost: v4.example.com\r\n\r\n" + INNER)
    assert [r[0] for r in replies if isinstance(r, tuple)] == [200, 403]
    nothing_was_smuggled(world)


def test_connection_cannot_name_headers_that_matter(session, world):
    """Hop-by-hop abuse: naming Host, Authorization or Content-Length in Connection must not remove them on the
    way."""
    session.do(
        talk,
        post(
            b"Content-Length: 2",
            b"Authorization: Bearer mine",
            b"Connection: close, host, content-length, authorization",
            body=b"ab",
        ),
    )
    for request in world.requests():
        assert request.header("host") == HOST and request.body == b"ab"


def test_an_upgrade_to_h2c_is_not_forwarded(session, world):
    session.do(
        talk,
        b"GET /allowed HTTP/1.1\r\nHost: v4.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n" + INNER,
    )
    nothing_was_smuggled(world)
    assert all(r.header("upgrade") is None for r in world.requests())


def test_after_all_that_the_guard_serves_as_before(session, world):
    assert session.get(HOST, "/allowed/echo")["status"] == 200
