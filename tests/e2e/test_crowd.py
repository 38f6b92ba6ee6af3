"""Crowds of connections that say nothing, or not enough: each takes little memory, the honest client is served all the
while, and when all places are taken those that are silent for longest make room.

In CI the guard has 256 descriptors, and the crowd is larger than what it has places for. `--crowd 10000` is the big
one: as many connections as that, with all the descriptors that the machine lets the guard have.
"""

import json
import os
import time

import pytest

import few_places
import guard
import lab
from few_places import PLACES, RESERVE

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST), guard.endpoint(HOST, scheme="http", name="plain"))
KINDS = ["nothing", "half a hello", "a hello", "a handshake", "half a head in TLS", "half a head"]
# What one of them may cost the guard, in KiB. A hello that was answered and a handshake hold a TLS object, and half a
# head a buffer of 16 KiB.
KIB_MAX = {"nothing": 24, "half a hello": 24, "a hello": 64, "a handshake": 40, "half a head in TLS": 80, "half a head": 40}


def hold_crowd(kind, number):
    """Another process opens the connections, and then new ones for those that are closed, until it is killed. Returns
    its pid, and a descriptor that tells when all were opened."""
    import resource
    import select

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    address = socket.getaddrinfo("v4.example.com", 443, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    plain = socket.getaddrinfo("v4.example.com", 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    shared = context()
    head = b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\nX-Ha"

    def hello():
        outgoing = ssl.MemoryBIO()
        engine = shared.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="v4.example.com")
        try:
            engine.do_handshake()
        except ssl.SSLWantReadError:
            return outgoing.read()

    def one():
        if kind == "half a head":
            stream = dial("v4.example.com", 80, plain, timeout=30)
            stream.sendall(head)
            return stream
        stream = dial("v4.example.com", 443, address, timeout=30)
        if kind in ("half a hello", "a hello"):
            data = hello()
            stream.sendall(data[:100] if kind == "half a hello" else data)
        elif kind in ("a handshake", "half a head in TLS"):
            stream = shared.wrap_socket(stream, server_hostname="v4.example.com")
            if kind == "half a head in TLS":
                stream.sendall(head)
        return stream

    ready, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        return child, ready
    try:
        held, poll, opened = {}, select.poll(), 0
        while True:
            while len(held) < number:
                opened += 1
                if opened == number:
                    os.close(tell)
                try:
                    stream = one()
                except OSError:
                    continue  # had to make room, or came too late
                held[stream.fileno()] = stream
                poll.register(stream, select.POLLRDHUP)
            for descriptor, _ in poll.poll(100):
                poll.unregister(descriptor)
                held.pop(descriptor).close()
    finally:
        os._exit(0)


def is_there(ready, seconds):
    import select

    return bool(select.select([ready], [], [], seconds)[0])


def honest(seconds):
    """Requests on new connections, one after the other: the sorted milliseconds of each, and what was not answered."""
    taken, failed = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(taken) < 3:
        began = time.monotonic()
        reply = get("v4.example.com", timeout=30)
        taken.append(round((time.monotonic() - began) * 1000, 1))
        if reply["status"] != 200:
            failed.append(repr(reply))
    return sorted(taken), failed


def disperse(pid, ready):
    import signal

    os.close(ready)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture(scope="module", params=KINDS)
def crowd(request, world):
    """One crowd, and what it was like: for the guard, and for the honest client beside it."""
    number = request.config.getoption("--crowd") or 2 * (PLACES + RESERVE)
    big = request.config.getoption("--crowd") is not None
    guarded = few_places.Guarded(world, POLICY, big)
    session = guarded.session
    try:
        alone, failed = session.do(honest, 3 if big else 0)
        before = few_places.resident_kib(guarded.pid)
        child, ready = session.do(hold_crowd, request.param, number)
        held, end = 0, time.monotonic() + 600
        while not session.do(is_there, ready, 1):  # those of a kind that is soon given up are most before the last comes
            assert time.monotonic() < end, "the crowd did not come"
            held = max(held, guarded.metric("sallyport_connections_open"))
        held = max(held, guarded.metric("sallyport_connections_open"))
        rss = few_places.resident_kib(guarded.pid)
        taken, failed_beside = session.do(honest, 10 if big else 1)
        evicted = guarded.metric("sallyport_connections_evicted_total")
        session.do(disperse, child, ready)
        left = guarded.wait_for_open(lambda count: count == 0)
        after, after_failed = session.do(honest, 0)
        records = guarded.bench.records()
    finally:
        guarded.close()
    made = {
        "kind": request.param,
        "number": number,
        "big": big,
        "held": held,
        "evicted": evicted,
        "kib each": round((rss - before) / held, 1),
        "left": left,
        "alone": [alone[len(alone) // 2], alone[-1]],
        "beside": [len(taken), taken[len(taken) // 2], taken[-1]],
        "failed": failed + failed_beside + after_failed,
    }
    print(json.dumps(made))
    made["records"] = records
    yield made


def test_the_honest_client_is_served_beside_it(crowd):
    assert crowd["failed"] == []
    assert crowd["beside"][-1] < 10_000, "milliseconds"


def test_who_is_silent_for_longest_makes_room(crowd):
    if crowd["big"]:
        pytest.skip("how many places there are depends on the machine")
    assert crowd["held"] <= PLACES + RESERVE
    assert crowd["evicted"] > 0


def test_it_takes_little_memory(crowd):
    if lab.is_sanitized(guard.SALLYPORT):
        pytest.skip("a sanitizer's allocator keeps what is freed: its memory says nothing")
    assert crowd["kib each"] < KIB_MAX[crowd["kind"]], crowd


def test_it_does_not_fill_the_log(crowd):
    """Silence is no event: at most one line a second says that the guard is full, and one for each half hello."""
    overloaded = [r for r in crowd["records"] if r.get("reason") == "overloaded"]
    assert len(overloaded) < 30
