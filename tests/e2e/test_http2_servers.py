"""What servers of HTTP/2 do to the guard: connections are shared from the first one on, and who wants HTTP/1 gets it."""

import pytest

import guard
import http2_origin

NEW, NEW_V4 = "speaks-h2.example.com", "127.0.0.52"
OLD, OLD_V4 = "speaks-h1.example.com", "127.0.0.53"
POLICY = guard.policy(guard.endpoint(NEW), guard.endpoint(OLD), guard.endpoint("down.example.com"))
SHARES_TRAFFIC = True


@pytest.fixture(scope="module")
def new(world):
    return http2_origin.Origin(world, NEW_V4, NEW)


@pytest.fixture(scope="module")
def old(world):
    return http2_origin.Origin(world, OLD_V4, OLD, protocols=("http/1.1",))


def crowd(host, count):
    """So many streams at once: their statuses, the set of their bodies and denials, and the seconds it took."""
    import time

    import http2_frames as h2

    client = h2.Client(host, timeout=20)
    begun = time.monotonic()
    streams = list(range(1, 2 * count, 2))
    heads = b"".join(
        h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, s, h2.block(h2.request(host, f"/n/{s}"))) for s in streams
    )
    client.send(heads)
    replies = client.until_over(*streams, timeout=20)
    told = {reply["headers"].get("sallyport-denied", reply["body"]) for reply in replies}
    return [reply["status"] for reply in replies], told, time.monotonic() - begun


def test_a_hundred_streams_on_a_cold_server_make_one_connection(bench, new):
    new.reset(hello_delay=0.3)
    with bench.session(policy=POLICY) as session:
        statuses, told, _ = session.do(crowd, NEW, 100)
    assert statuses == [200] * 100 and told == {b"http2"}
    assert new.agreed == ["h2"] and len(new.requests) == 100


def test_servers_of_http1_are_connected_to_side_by_side(bench, old):
    """The first finds out what the server speaks; the others do not wait for each other."""
    old.reset(hello_delay=0.3)
    with bench.session(policy=POLICY) as session:
        statuses, told, seconds = session.do(crowd, OLD, 40)
        assert statuses == [200] * 40 and told == {b"http1"} and seconds < 6, "one after the other would take 12"
        made = len(old.agreed)
        assert 20 < made <= 40 and set(old.agreed) == {"http/1.1"}
        # It is known now: nobody waits for the first.
        assert session.do(crowd, OLD, 10)[0] == [200] * 10


def test_a_failure_to_connect_is_one_for_all_that_wait(bench):
    with bench.session(policy=POLICY) as session:
        statuses, told, _ = session.do(crowd, "down.example.com", 30)
    assert statuses == [502] * 30
    assert told == {"unreachable"}, "attempts of their own would have opened the circuit: upstream-failing"


def post(host, path, body):
    import http2_frames as h2

    client = h2.Client(host)
    head = h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.block(h2.request(host, path, "POST", ("content-length", str(len(body))))))
    client.send(head + h2.frame(h2.DATA, h2.END_STREAM, 1, body))
    reply = client.until_over(1)[0]
    return reply["status"], reply["body"]


def agreed(host, *offered):
    stream = connect(host, alpn=list(offered))
    chosen = stream.selected_alpn_protocol()
    stream.close()
    return chosen


@pytest.mark.parametrize("how", ["/required", "/required-goaway"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_requires_http1_gets_it(bench, new, how, method):
    """RFC 9113 section 7: also what may not be repeated otherwise is, as the server has not looked at it."""
    new.reset()
    with bench.session(policy=POLICY) as session:
        assert session.do(agreed, NEW, "h2", "http/1.1") == "h2"
        if method == "GET":
            assert session.get(NEW, how)["body"] == b"http1"
        else:
            assert session.do(post, NEW, how, b"body") == (200, b"http1body")
        assert session.get(NEW, "/next")["body"] == b"http1"
        # Towards the function HTTP/2 would only be translated: it is left to those who speak nothing else.
        assert session.do(agreed, NEW, "h2", "http/1.1") == "http/1.1"
        assert session.do(agreed, NEW, "h2") == "h2"
        assert session.do(agreed, OLD, "h2", "http/1.1") == "h2"
        records = session.wait_for_records(lambda r: len(guard.exchanges(r)) == 2)
    assert [r["decision"] for r in guard.exchanges(records)] == ["allow", "allow"]
    assert new.agreed == ["h2", "http/1.1"]
    assert [(version, path) for version, path, _ in new.requests] == [("h2", how), ("http/1.1", how), ("http/1.1", "/next")]


BROKEN = {
    "HTTP/1 instead of SETTINGS": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "another frame before SETTINGS": b"\0\0\x08\x06\0\0\0\0\0" + bytes(8),
    "SETTINGS that can't be": b"\0\0\x05\x04\0\0\0\0\0" + bytes(5),
    "a window that can't be": b"\0\0\x06\x04\0\0\0\0\0\0\4\xff\xff\xff\xff",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_server_that_agrees_on_http2_and_does_not_speak_it(bench, new, what):
    """What may be repeated is, over HTTP/1; the next requests go there at once."""
    new.reset(greeting=BROKEN[what])
    with bench.session(policy=POLICY) as session:
        assert session.get(NEW, "/first")["body"] == b"http1"
        assert session.get(NEW, "/second")["body"] == b"http1"
    assert new.agreed == ["h2", "http/1.1"]


def test_a_request_that_may_have_been_processed_is_not_repeated(bench, new):
    new.reset(greeting=BROKEN["another frame before SETTINGS"])
    with bench.session(policy=POLICY) as session:
        assert session.do(post, NEW, "/once", b"body")[0] == 502
        assert session.do(post, NEW, "/then", b"body") == (200, b"http1body")
    assert [path for version, path, _ in new.requests if version == "http/1.1"] == ["/then"]


def test_a_server_that_sends_no_settings(bench, new, fast_clock):
    new.reset(settings=None)
    with bench.session(policy=POLICY, env=fast_clock(10)) as session:
        assert session.get(NEW, "/first")["body"] == b"http1"
    assert new.agreed == ["h2", "http/1.1"]


def test_a_server_that_breaks_the_rules_later_is_not_believed_again_at_once(bench, new):
    new.reset()
    with bench.session(policy=POLICY) as session:
        assert session.get(NEW, "/good")["body"] == b"http2"
        assert session.get(NEW, "/break")["body"] == b"http1"
        assert session.get(NEW, "/good")["body"] == b"http1"
    assert new.agreed == ["h2", "http/1.1"]
