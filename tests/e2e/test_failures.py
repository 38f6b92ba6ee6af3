"""Upstreams that fail, functions that leave, limits that are reached: each with an answer, a record and a way on."""

import json
import resource
import socket
import time

import pytest

import guard
import lab

NAMES = [
    "v4.example.com",
    "down.example.com",
    "half-down.example.com",
    "servfail.example.com",
    "no-address.example.com",
    "nowhere.example.com",
]


@pytest.fixture(scope="module")
def session(world):
    bench = guard.Bench(world)
    with bench.session(policy=guard.policy(*[guard.endpoint(name) for name in NAMES])) as made:
        yield made
    bench.close()


def new_exchange(session, before):
    return guard.exchanges(session.wait_for_records(lambda r: len(guard.exchanges(r)) > before))[before]


def count(session):
    """The number of exchange records, once none has come for a while."""
    last, found = -1, 0
    while found != last:
        last = found
        time.sleep(0.25)
        found = len(guard.exchanges(session.bench.records()))
    return found


@pytest.mark.parametrize(
    "host, reason",
    [
        ("down.example.com", "unreachable"),
        ("servfail.example.com", "unresolvable"),
        ("nowhere.example.com", "unresolvable"),
        ("no-address.example.com", "unresolvable"),
    ],
)
def test_an_upstream_that_cannot_be_reached(session, world, host, reason):
    before = count(session)
    reply = session.get(host)
    assert reply["status"] == 502 and reply["headers"]["sallyport-denied"] == reason
    assert host in json.loads(reply["body"])["text"]
    record = new_exchange(session, before)
    assert (record["decision"], record["reason"]) == ("error", reason)


def test_a_name_server_that_is_silent_is_given_up_in_time(bench, world):
    with bench.session(policy=guard.policy(guard.endpoint("silent.example.com"))) as session:
        start = time.monotonic()
        reply = session.get("silent.example.com", timeout=30)
        assert reply["status"] in (502, 504) and time.monotonic() - start < 15
        assert reply["headers"]["sallyport-denied"] in ("unresolvable", "upstream-timeout")


def test_the_second_address_is_tried_when_the_first_refuses(session, world):
    assert session.get("half-down.example.com")["status"] == 200


@pytest.mark.parametrize("path", ["/hang-up", "/reset"])
def test_an_upstream_that_closes_without_an_answer(session, world, path):
    before = count(session)
    reply = session.get("v4.example.com", path)
    assert reply["status"] == 502 and reply["headers"]["sallyport-denied"] == "upstream-closed"
    assert new_exchange(session, before)["reason"] == "upstream-closed"


def test_a_post_is_not_sent_twice_when_the_upstream_closes(session, world):
    """RFC 9110 section 9.2.2: what is not idempotent must not be repeated by a middleman that cannot know."""
    session.get("v4.example.com")  # leaves a connection in the pool
    reply = session.ask(
        "v4.example.com",
        b"POST /hang-up HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 4\r\n" b"Connection: close\r\n\r\npaid",
    )
    assert reply["status"] == 502
    assert len(world.saw("POST /hang-up")) == 1


@pytest.mark.parametrize("path", ["/cut", "/cut-chunked", "/cut-delimited"])
def test_a_body_cut_short_never_looks_complete(session, world, path):
    before = count(session)
    reply = session.get("v4.example.com", path)
    assert reply["status"] == 200 and reply["body"] == b"x" * 100
    assert not reply["complete"], "the client must see that something is missing"
    record = new_exchange(session, before)
    assert (record["decision"], record["reason"], record["bytes_down"]) == ("error", "upstream-closed", 100)


def test_a_cut_body_without_a_length_does_not_look_complete_either(session, world):
    """HTTP/1.0 knows no chunks: only how the connection ends tells. TLS has its close_notify."""

    def old(path):
        stream = connect("v4.example.com")
        stream.sendall(f"GET {path} HTTP/1.0\r\nHost: v4.example.com\r\n\r\n".encode())
        data, end = read_all(stream)
        return data.partition(b"\r\n\r\n")[2], end

    assert session.do(old, "/close-delimited") == (b"until the end", "end")
    for path in ("/cut-chunked", "/cut-delimited"):
        body, end = session.do(old, path)
        assert body == b"x" * 100 and end in ("SSLEOFError", "SSLError"), (body, end)


def test_a_cut_body_without_a_length_ends_with_a_reset_where_there_is_no_tls(bench, world):
    def old(path):
        stream = dial("v4.example.com", 80)
        stream.sendall(f"GET {path} HTTP/1.0\r\nHost: v4.example.com\r\n\r\n".encode())
        data, end = read_all(stream)
        return data.partition(b"\r\n\r\n")[2], end

    policy = guard.policy(guard.endpoint("v4.example.com", scheme="http"))
    with bench.session(policy=policy) as session:
        assert session.do(old, "/close-delimited") == (b"until the end", "end")
        body, end = session.do(old, "/cut-chunked")
        assert (body, end) == (b"x" * 100, "ConnectionResetError")


def test_curl_notices_the_cut(bench, world):
    outcome = bench.run(
        ["curl", "-sS", "https://v4.example.com/cut-chunked"], policy=guard.policy(guard.endpoint("v4.example.com"))
    )
    assert outcome.code in (18, 56, 92), outcome.err


def test_a_function_that_leaves_during_the_response(session, world):
    def leave():
        stream = connect("v4.example.com")
        stream.sendall(b"GET /download?bytes=100000000 HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
        stream.recv(1000)
        stream.close()

    before = count(session)
    session.do(leave)
    record = new_exchange(session, before)
    assert record["reason"] == "downstream-closed" and record["bytes_down"] < 100_000_000
    assert session.get("v4.example.com")["status"] == 200


def test_a_function_that_leaves_during_its_request(session, world):
    def leave():
        stream = connect("v4.example.com")
        stream.sendall(b"POST /sink HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 1000\r\n\r\nhalf")
        time.sleep(0.2)
        stream.close()

    before = count(session)
    session.do(leave)
    assert new_exchange(session, before)["reason"] == "downstream-closed"
    assert not [r for r in world.tls.requests if r.complete], "the upstream must not take half a body for a whole one"


def test_a_function_that_leaves_while_waiting_frees_the_upstream(session, world):
    def leave():
        stream = connect("v4.example.com")
        stream.sendall(b"GET /slow?ms=3000 HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
        time.sleep(0.2)
        stream.close()

    before = count(session)
    start = time.monotonic()
    session.do(leave)
    record = new_exchange(session, before)
    assert record["reason"] == "downstream-closed" and time.monotonic() - start < 2.5


def test_a_reset_by_the_function_is_survived(session, world):
    def resets():
        import struct

        for n in range(20):
            raw = dial("v4.example.com")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.sendall(b"\x16\x03\x01\x02\x00\x01"[: n % 7])
            raw.close()

    session.do(resets)
    assert session.get("v4.example.com")["status"] == 200


def test_idle_connections_do_not_stop_others(session, world):
    def idle():
        held = [dial("v4.example.com") for _ in range(100)]
        held += [connect("v4.example.com") for _ in range(50)]
        start = time.monotonic()
        status = get("v4.example.com")["status"]
        taken = time.monotonic() - start
        [stream.close() for stream in held]
        return status, taken

    status, taken = session.do(idle)
    assert status == 200 and taken < 3


def test_a_slow_reader_is_waited_for(session, world):
    def slowly():
        stream = connect("v4.example.com", timeout=30)
        stream.sendall(b"GET /download?bytes=20000000 HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n")
        time.sleep(1.5)
        return len(Reader(stream).response()["body"])

    assert session.do(slowly) == 20_000_000


def test_the_descriptor_limit_bounds_errors_and_passes(user_bench, world):
    """With few descriptors (it raises its 128 to the 1024 that it may have) the guard serves what it can; what it
    cannot gets an error or waits, and afterwards all is well."""

    def crowd(number):
        held, errors = [], 0
        for _ in range(number):
            try:
                stream = dial("v4.example.com", timeout=5)
                held.append(stream)
            except OSError:
                errors += 1
        [stream.close() for stream in held]
        return len(held), errors

    def limited():
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 1024))

    def raise_own_limit():
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))

    with user_bench.session(policy=guard.policy(guard.endpoint("v4.example.com")), preexec_fn=limited) as session:
        session.do(raise_own_limit)
        assert session.get("v4.example.com")["status"] == 200
        session.do(crowd, 400)
        end = time.monotonic() + 10
        while session.get("v4.example.com", timeout=5)["status"] != 200:
            assert time.monotonic() < end, session.stderr()
            time.sleep(0.2)
        assert len(session.stderr()) < 10_000, "an error per connection would fill the log"


def test_the_upstream_is_not_kept_waiting_for_a_function_that_reads_nothing(session, world):
    """Back-pressure: what the function does not read must pile up at the origin, not in the guard."""

    def stall():
        stream = connect("v4.example.com")
        stream.sendall(b"GET /download?bytes=2000000000 HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
        time.sleep(2)
        stream.close()

    before = count(session)
    session.do(stall)
    assert new_exchange(session, before)["bytes_down"] < 100_000_000


def test_port_in_use_in_the_lab_does_not_matter_to_run(bench, world):
    """The listeners of `run` are in the command's namespace: whatever listens outside is no concern."""
    holders = []
    for port in range(15000, 15010):
        holders.append(socket.create_server((lab.ORIGIN_V4, port)))
    outcome = bench.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "https://v4.example.com/echo"],
        policy=guard.policy(guard.endpoint("v4.example.com")),
    )
    [holder.close() for holder in holders]
    assert outcome.out == "200", outcome.err


def test_two_guards_run_side_by_side(bench, world):
    import threading

    policy = guard.policy(guard.endpoint("v4.example.com"))
    benches = [guard.Bench(world) for _ in range(4)]
    outcomes = []
    threads = [
        threading.Thread(
            target=lambda b=b: outcomes.append(
                b.run(
                    ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "https://v4.example.com/echo"],
                    policy=policy,
                )
            )
        )
        for b in benches
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    [b.close() for b in benches]
    assert [outcome.out for outcome in outcomes] == ["200"] * 4
