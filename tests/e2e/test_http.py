"""HTTP/1.1 through the guard, to the byte: framing both ways, 1xx, trailers, early answers, pipelining. One guard for
all."""

import json
import os
import time

import pytest

import guard

SHARES_TRAFFIC = True
HOST = "v4.example.com"
HEAD = f"Host: {HOST}\r\n"


@pytest.fixture(scope="module")
def session(world):
    bench = guard.Bench(world)
    with bench.session(policy=guard.policy(guard.endpoint(HOST))) as made:
        yield made
    bench.close()


@pytest.fixture(autouse=True)
def clean(world):
    world.forget()


def count(session):
    """The number of exchange records, once none has come for a while."""
    last, found = -1, 0
    while found != last:
        last = found
        time.sleep(0.25)
        found = len(guard.exchanges(session.bench.records()))
    return found


def request(line, *headers, body=b"", close=True):
    lines = [line, f"Host: {HOST}", *headers] + (["Connection: close"] if close else [])
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def seen(reply):
    """What the origin's echo says of the request."""
    assert reply["status"] == 200, reply
    return json.loads(reply["body"])


def test_a_body_with_a_length(session):
    reply = session.ask(HOST, request("POST /body HTTP/1.1", "Content-Length: 5", body=b"hello"))
    assert (reply["status"], reply["body"], reply["complete"]) == (200, b"hello", True)


def test_a_chunked_request_reaches_the_origin_with_its_trailers(session, world):
    body = b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Checksum: abc\r\n\r\n"
    reply = session.ask(
        HOST, request("POST /echo HTTP/1.1", "Transfer-Encoding: chunked", "Trailer: X-Checksum", body=body)
    )
    told = seen(reply)
    assert told["body_size"] == 11
    assert [name.lower() for name, _ in told["trailers"]] == ["x-checksum"]
    headers = {name.lower(): value for name, value in told["headers"]}
    assert headers["transfer-encoding"] == "chunked" and "content-length" not in headers


def test_chunk_extensions_are_not_forwarded(session, world):
    reply = session.ask(HOST, request("GET /chunked?chunks=3 HTTP/1.1"))
    assert reply["body"] == b"part 0;part 1;part 2;" and reply["complete"]

    def raw():
        stream = connect("v4.example.com")
        stream.sendall(b"GET /chunked HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n")
        return read_all(stream)[0]

    assert b"kept-out" not in session.do(raw)


def test_a_chunked_response_with_trailers(session):
    reply = session.ask(HOST, request("GET /chunked?trailers=1 HTTP/1.1", "TE: trailers"))
    assert reply["complete"] and ("x-sum", "42") in reply["trailers"]


def test_a_chunked_response_to_an_http_1_0_client_has_no_chunks(session):
    reply = session.ask(HOST, f"GET /chunked HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
    assert reply["status"] == 200 and "transfer-encoding" not in reply["headers"]
    assert reply["body"] == b"part 0;part 1;part 2;" and reply.get("delimited") == "close"


def test_100_continue_is_the_origins_and_not_the_guards(session):
    """The client waits for its 100; the origin says it late, and had nothing of the body before."""

    def patient():
        stream = connect("v4.example.com")
        stream.sendall(
            b"POST /continue-late HTTP/1.1\r\nHost: v4.example.com\r\nExpect: 100-continue\r\n"
            b"Content-Length: 4\r\nConnection: close\r\n\r\n"
        )
        start = time.monotonic()
        reader = Reader(stream)
        status, _ = reader.head()
        waited = time.monotonic() - start
        stream.sendall(b"body")
        return status, waited, reader.response()

    status, waited, reply = session.do(patient)
    assert status == 100 and waited > 0.2
    assert json.loads(reply["body"]) == {"early": 0, "bytes": 4}


def test_an_expectation_can_be_refused_without_the_body_being_sent(session, world):
    def polite():
        stream = connect("v4.example.com")
        stream.sendall(
            b"POST /expect-refused HTTP/1.1\r\nHost: v4.example.com\r\nExpect: 100-continue\r\n"
            b"Content-Length: 400\r\n\r\n"
        )
        reply = Reader(stream).response()
        return reply, read_all(stream)[1]

    reply, end = session.do(polite)
    assert reply["status"] == 417 and reply["informational"] == []
    assert end != "timeout", "the body is still owed: the connection cannot be kept"


def test_early_hints_are_forwarded(session):
    reply = session.ask(HOST, request("GET /hints HTTP/1.1"))
    assert [status for status, _ in reply["informational"]] == [103]
    assert reply["body"] == b"after hints"


def test_early_hints_are_kept_from_an_http_1_0_client(session):
    reply = session.ask(HOST, f"GET /hints HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
    assert reply["informational"] == [] and reply["body"] == b"after hints"


def test_head_has_no_body_and_keeps_the_connection(session):
    def twice():
        stream = connect("v4.example.com")
        stream.sendall(b"HEAD /echo HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
        reader = Reader(stream)
        first = reader.response("HEAD")
        stream.sendall(b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
        return first, reader.response()

    head, after = session.do(twice)
    assert head["status"] == 200 and "content-length" in head["headers"]
    assert after["status"] == 200 and after["complete"]


@pytest.mark.parametrize("code", [204, 304])
def test_responses_without_a_body_keep_the_connection(session, code):
    def twice(code):
        stream = connect("v4.example.com")
        reader = Reader(stream)
        stream.sendall(f"GET /status/{code} HTTP/1.1\r\nHost: v4.example.com\r\n\r\n".encode())
        first = reader.response()
        stream.sendall(b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
        return first, reader.response()

    first, after = session.do(twice, code)
    assert first["status"] == code and first["headers"]["etag"] == '"1"'
    assert "transfer-encoding" not in first["headers"]
    assert after["status"] == 200 and after["complete"]


@pytest.mark.parametrize("code", [200, 201, 301, 400, 401, 404, 429, 500, 503, 599])
def test_statuses_pass_as_they_are(session, code):
    reply = session.ask(HOST, request(f"GET /status/{code} HTTP/1.1"))
    assert (reply["status"], reply["body"]) == (code, f"status {code}".encode())
    assert "sallyport-denied" not in reply["headers"]


def test_an_early_answer_reaches_a_client_that_is_still_sending(session, world):
    def big():
        stream = connect("v4.example.com")
        try:
            stream.sendall(b"POST /early HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 50000000\r\n\r\n")
            for _ in range(50):
                stream.sendall(b"x" * 1000000)
        except OSError:
            pass
        return Reader(stream).response()

    reply = session.do(big)
    assert (reply["status"], reply["body"]) == (413, b"too much")


def test_a_close_delimited_body_is_complete_when_the_upstream_ends_well(session):
    reply = session.ask(HOST, request("GET /close-delimited HTTP/1.1", close=False))
    assert reply["status"] == 200 and reply["body"] == b"until the end" and reply["complete"]


def test_http_1_0_with_keep_alive_or_without(session):
    reply = session.ask(HOST, f"GET /echo HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
    assert seen(reply)["target"] == "/echo"


def test_pipelined_requests_are_answered_in_order(session, world):
    wire = b"".join(
        request(f"POST /body HTTP/1.1", "Content-Length: 2", body=b"%02d" % n, close=n == 9) for n in range(10)
    )
    replies = session.ask(HOST, wire, count=10)
    assert [r["body"] for r in replies] == [b"%02d" % n for n in range(10)]
    assert len(world.tls.requests) == 10


def test_requests_split_at_every_byte(session, world):
    def slowly():
        stream = connect("v4.example.com")
        for (
            byte
        ) in b"POST /body HTTP/1.1\r\nHost: v4.example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
            stream.sendall(bytes([byte]))
        return Reader(stream).response()

    reply = session.do(slowly)
    assert (reply["status"], reply["body"]) == (200, b"abc")


def test_an_upstream_connection_serves_many_clients_one_after_the_other(session, world):
    before = count(session)
    for _ in range(12):
        assert session.get(HOST)["status"] == 200
    records = guard.exchanges(session.wait_for_records(lambda r: len(guard.exchanges(r)) == before + 12))
    made = [r for r in records[before:] if not r["reused"]]
    assert len(made) <= os.cpu_count(), "at most one for each worker: " + repr(made)


def test_a_stale_pooled_connection_is_not_the_clients_problem(session, world):
    for _ in range(3):
        assert session.get(HOST, "/half-close")["body"] == b"bye soon"
        session.do(nap, 0.1)
    assert len(world.tls.requests) == 3


def nap(seconds):
    time.sleep(seconds)


def test_events_arrive_when_they_are_sent(session):
    def listen():
        stream = connect("v4.example.com")
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
        reader, moments = Reader(stream), []
        reader.head()
        while size := int(reader.line(), 16):
            reader.exactly(size + 2)
            moments.append(time.monotonic())
        return [later - earlier for earlier, later in zip(moments, moments[1:])]

    gaps = session.do(listen)
    assert len(gaps) == 2 and all(0.2 < gap < 2 for gap in gaps), gaps


def test_repeated_response_headers_stay_apart(session):
    reply = session.get(HOST, "/cookies")
    assert [value for name, value in reply["fields"] if name == "set-cookie"] == ["a=1", "b=2"]


def test_compressed_bodies_pass_untouched(session):
    import gzip

    reply = session.get(HOST, "/gzip", headers="Accept-Encoding: gzip\r\n")
    assert gzip.decompress(reply["body"]) == b"squeezed" * 100


def test_redirects_are_the_clients_to_follow(session, world):
    reply = session.get(HOST, "/redirect?to=https://denied.example.com/x")
    assert reply["status"] == 302 and reply["headers"]["location"] == "https://denied.example.com/x"
    assert len(world.tls.requests) == 1


def test_headers_arrive_as_they_were_sent_but_for_connection_ones(session):
    reply = session.get(
        HOST,
        headers="X-One: 1\r\nx-two:   spaced  \r\nX-One: again\r\nCookie: a=b\r\nX-Hop: 1\r\n"
        "Connection: X-Hop\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n",
    )
    names = [(name, value) for name, value in seen(reply)["headers"]]
    assert ("X-One", "1") in names and ("X-One", "again") in names and ("x-two", "spaced") in names
    assert ("Cookie", "a=b") in names
    lower = {name.lower() for name, _ in names}
    assert not lower & {"x-hop", "keep-alive", "proxy-connection"}, names


def test_options_asterisk_is_answered_by_the_origin_or_refused_in_words(session):
    reply = session.ask(HOST, request("OPTIONS * HTTP/1.1"))
    assert reply["status"] in (200, 400, 403)


def test_an_absolute_form_target_for_the_same_host_is_sent_in_origin_form(session, world):
    reply = session.ask(HOST, request(f"GET https://{HOST}/echo?a=1 HTTP/1.1"))
    assert seen(reply)["target"] == "/echo?a=1"


def test_large_heads_pass_and_larger_ones_are_refused(session):
    assert session.get(HOST, headers=f"X-Large: {'a' * 30000}\r\n")["status"] == 200
    reply = session.get(HOST, headers="".join(f"X-{n}: {'a' * 1000}\r\n" for n in range(80)))
    assert reply["status"] == 431 and reply["headers"]["sallyport-denied"] == "head-too-large"


def test_method_override_headers_do_not_reach_the_origin(session):
    reply = session.get(
        HOST, headers="X-HTTP-Method-Override: DELETE\r\nX-HTTP-Method: PUT\r\nX-Method-Override: PATCH\r\n"
    )
    assert not [name for name, _ in seen(reply)["headers"] if "method" in name.lower()]


def test_alternative_services_do_not_reach_the_client(session):
    reply = session.get(HOST, "/alternative")
    assert reply["status"] == 200 and "alt-svc" not in reply["headers"]


@pytest.mark.parametrize(
    "kind",
    [
        "bare-lf",
        "length-and-chunked",
        "two-lengths",
        "folded",
        "no-http",
        "bad-chunk",
        "endless-head",
        "unasked-101",
        "endless-1xx",
        "control-byte",
        "negative-length",
    ],
)
def test_a_malformed_response_is_not_passed_on(session, kind):
    reply = session.get(HOST, f"/malformed?kind={kind}")
    if kind == "bad-chunk":  # the head had been sent: all that is left is to break off
        assert reply["status"] == 502 or not reply["complete"], reply
    else:
        assert reply["status"] == 502, reply
        assert reply["headers"]["sallyport-denied"] == "upstream-malformed"
    session.wait_for_records(lambda records: guard.exchanges(records)[-1].get("reason") == "upstream-malformed")


def test_a_response_that_nobody_asked_for_reaches_nobody(session, world):
    for _ in range(3):
        assert session.get(HOST, "/extra")["body"] == b"mine"
        assert session.get(HOST)["status"] == 200
        assert b"poison" not in session.get(HOST)["body"]


def test_every_exchange_of_this_file_has_one_record(session, world):
    """The number of heads that the origin saw is the number of records with an upstream answer or failure."""
    before = count(session)
    for _ in range(20):
        session.get(HOST)
    records = session.wait_for_records(lambda r: len(guard.exchanges(r)) >= before + 20)
    assert len(guard.exchanges(records)) == before + 20
    assert len({r["id"] for r in records}) == len(records)
