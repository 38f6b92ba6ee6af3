"""More connections than the guard has places for, all of them with something under way: who comes then is told 503 at
once instead of being kept waiting, and is served again as soon as there is a place."""

import json
import time

import pytest

import few_places
import guard
import tcp_services
from few_places import HOST, PLACES, RESERVE

DATABASE_V4 = "127.0.0.46"
POLICY = guard.policy(
    guard.endpoint(HOST),
    guard.endpoint(HOST, scheme="http", name="plain"),
    guard.endpoint("other.example.com", methods=["GET"], path="/open"),
    guard.endpoint("db.example.com", protocol="tcp", ports=[7001], rules=None),
)


def fill(number):
    """So many exchanges under way: uploads that wait for their client. Held until finish()."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    os.held = []
    for _ in range(number):
        stream = dial("v4.example.com", 80, timeout=60)
        stream.sendall(b"POST /sink HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 10\r\n\r\nhalf ")
        os.held.append(stream)


def finish():
    """Ends them, and closes their connections: the statuses."""
    statuses = []
    for stream in os.held:
        stream.sendall(b"whole")
        statuses.append(Reader(stream).response()["status"])
    [stream.close() for stream in os.held]
    return statuses


def timed(how, host="v4.example.com", path="/echo"):
    """One request on a connection of its own: the answer, and the seconds that it took."""
    began = time.monotonic()
    if how.startswith("h2"):
        import http2_frames

        reply = http2_frames.get(host, path, tls=how == "h2")
    else:
        reply = get(host, path, **({} if how == "https" else {"tls": False, "port": 80}))
    return reply, time.monotonic() - began


@pytest.fixture
def guarded(world):
    made = few_places.Guarded(world, POLICY)
    yield made
    made.close()


@pytest.fixture
def full(guarded):
    """Every place has an exchange under way."""
    guarded.session.do(fill, PLACES)
    guarded.wait_for_open(lambda count: count == PLACES)
    yield guarded


def served_again(full):
    assert full.session.do(finish) == [200] * PLACES, "who has a place is served to the end"
    full.wait_for_open(lambda count: count == 0)
    assert full.session.get(HOST)["status"] == 200


@pytest.mark.parametrize("how", ["http", "https", "h2c", "h2"])
def test_who_finds_no_place_is_told_at_once(full, how):
    reply, took = full.session.do(timed, how)
    assert reply["status"] == 503 and took < 1, (reply, took)
    assert reply["headers"]["sallyport-denied"] == "overloaded" and reply["headers"]["retry-after"] == "1"
    told = json.loads(reply["body"])
    assert told["reason"] == "overloaded" and "places" in told["text"], told
    if how.startswith("h2"):
        assert reply["ended"] and reply["reset"] is None
    else:
        assert reply["complete"] and reply["headers"]["connection"] == "close"
    found = lambda records: [r for r in guard.exchanges(records) if r.get("reason") == "overloaded"]
    (record,) = found(full.session.wait_for_records(found))
    assert (record["decision"], record["status"], record["path"]) == ("error", 503, "/echo"), record
    served_again(full)


def test_a_connection_of_http2_that_was_turned_away_ends(full):
    def ask_and_wait():
        import http2_frames as h2

        client = h2.Client("v4.example.com")
        client.ask(1, h2.request("v4.example.com"))
        client.until_over(1)
        client.run(timeout=5)
        return client.of(1)["status"], client.goaway, client.ended

    assert full.session.do(ask_and_wait) == (503, 0, "end")
    served_again(full)


def test_what_the_policy_denies_is_denied_as_ever(full):
    reply, took = full.session.do(timed, "https", "other.example.com", "/shut")
    assert (reply["status"], reply["headers"]["sallyport-denied"]) == (403, "path-not-allowed") and took < 1
    served_again(full)


def test_a_websocket_is_told_too(full):
    upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

    def ask_for_one(upgrade):
        head = f"GET /websocket HTTP/1.1\r\nHost: v4.example.com\r\nConnection: Upgrade\r\n{upgrade}\r\n"
        return ask("v4.example.com", head.encode())["status"]

    assert full.session.do(ask_for_one, upgrade) == 503
    served_again(full)


def test_bytes_that_nothing_can_be_said_to_are_closed_and_reported_once_a_second(full, world):
    server = tcp_services.Server(DATABASE_V4, 7001, tcp_services.greeting)
    world.dns.table["db.example.com"] = [DATABASE_V4]

    def try_them(number):
        began, ends = time.monotonic(), []
        for _ in range(number):
            with dial("db.example.com", 7001) as stream:
                ends.append(read_all(stream)[0])
        return ends, time.monotonic() - began

    ends, took = full.session.do(try_them, 20)
    assert ends == [b""] * 20 and took < 5
    told = lambda records: [r for r in records if r["kind"] == "connection" and r.get("reason") == "overloaded"]
    assert 1 <= len(told(full.session.wait_for_records(told))) <= took + 1
    served_again(full)
    assert full.session.do(try_them, 1)[0] != [b""], "with a place it is relayed"
    server.close()


def test_a_place_becomes_free_for_who_asks_again(full):
    """As a client does that obeys Retry-After."""

    def ask_until_served():
        statuses = []
        for _ in range(50):
            statuses.append(get("v4.example.com")["status"])
            if statuses[-1] == 200:
                return statuses
            time.sleep(0.1)
            if len(statuses) == 3:
                stream = os.held.pop()
                stream.sendall(b"whole")
                assert Reader(stream).response()["status"] == 200
                stream.close()

    statuses = full.session.do(ask_until_served)
    assert statuses[:3] == [503] * 3 and statuses[-1] == 200 and len(statuses) < 10, statuses


def test_the_guard_does_not_spin_and_evicts_nobody_who_is_busy(full):
    used = few_places.processor_seconds(full.pid)
    time.sleep(2)
    assert few_places.processor_seconds(full.pid) - used < 0.5
    assert full.metric("sallyport_connections_open") == PLACES
    served_again(full)
    assert full.metric("sallyport_connections_evicted_total") == 0


def test_places_of_the_silent_are_given_to_who_asks(guarded):
    """The same as before there was a reserve: no 503 while anybody holds a place for nothing."""

    def hold_silent(number):
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        os.held = [dial("v4.example.com", 443, timeout=60) for _ in range(number)]

    guarded.session.do(hold_silent, PLACES)
    guarded.wait_for_open(lambda count: count == PLACES)
    for _ in range(5):
        reply, took = guarded.session.do(timed, "https")
        assert reply["status"] == 200 and took < 2, (reply, took)
    assert guarded.metric("sallyport_connections_evicted_total") == 1, "the next four have the same place"


def hold_the_reserve(kind, number):
    """Connections that get no place and mean to stay."""

    def silence():
        return dial("v4.example.com", 443, timeout=60)

    def half_a_head():
        stream = dial("v4.example.com", 80, timeout=60)
        stream.sendall(b"GET /echo HTTP/1.1\r\nHost: v4.exa")
        return stream

    def an_upload_that_never_comes():
        stream = dial("v4.example.com", 80, timeout=60)
        stream.sendall(b"POST /sink HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 1000000\r\n\r\n")
        return stream

    def an_answer_that_is_not_taken():
        import http2_frames as h2

        client = h2.Client("v4.example.com", settings=[(4, 0)], credit=False)  # no window for any body
        client.ask(1, h2.request("v4.example.com"))
        return client

    openers = {"silence": silence, "half a head": half_a_head, "an upload that never comes": an_upload_that_never_comes,
               "an answer that is not taken": an_answer_that_is_not_taken}
    os.more = []
    for _ in range(number):
        try:
            os.more.append(openers[kind]())
        except OSError:
            pass  # made room already, within its handshake


@pytest.mark.parametrize("kind", ["silence", "half a head", "an upload that never comes", "an answer that is not taken"])
def test_who_holds_the_reserve_gains_nothing(full, kind):
    """Twice as many as fit: each has a second, whatever it does, and then goes for the next who comes."""
    full.session.do(hold_the_reserve, kind, 2 * RESERVE)
    reply, took = full.session.do(timed, "https")
    assert reply["status"] == 503 and took < 5, (reply, took)
    assert full.metric("sallyport_connections_open") <= PLACES + RESERVE
    served_again_beside = full.session.do(finish)
    assert served_again_beside == [200] * PLACES
    reply, took = full.session.do(timed, "https")
    assert reply["status"] == 200 and took < 1, "the reserve stands in nobody's way"


def test_refused_streams_leave_the_others_alone(full):
    """A connection that has a place may ask for more at one time than there are places: those streams can be tried again."""

    def many():
        import http2_frames as h2

        stream = os.held.pop()
        stream.sendall(b"whole")
        assert Reader(stream).response()["status"] == 200
        stream.close()
        client = h2.Client("v4.example.com")
        client.ask(1, h2.request("v4.example.com", "/slow?ms=500"))
        client.run(timeout=0.2)
        client.ask(3, h2.request("v4.example.com"))
        first, second = client.until_over(1, 3)
        client.ask(5, h2.request("v4.example.com"))
        return first["status"], second["reset"], client.until_over(5)[0]["status"]

    assert full.session.do(many) == (200, 7, 200)
