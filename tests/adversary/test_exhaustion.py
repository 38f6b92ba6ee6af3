"""The function uses up what its guard lives on: descriptors, memory, turns, places. A guard that can take no more may
keep the function waiting; it must not let anything past, and it serves again when there is room."""

import re

import pytest

import guard
import lab

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST), guard.endpoint("other.example.com"))


def resident_mib(session):
    total = 0
    for pid in session.guards():
        found = re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())
        total += int(found[1]) if found else 0
    return total / 1024


def grew_less_than(session, before, mib):
    if not lab.is_sanitized(guard.SALLYPORT):  # a sanitizer's allocator keeps what is freed
        assert resident_mib(session) - before < mib


def closed_and_served(session, world, watch, listeners):
    assert watch.saw(b"shouted") == [] and watch.leaks() == [] and listeners.heard == []
    assert session.get(HOST, "/honest", timeout=60)["status"] == 200


def hold_open(count, first, address, port):
    """Connections that say something and then nothing; they are held until the next call."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    held = []
    for _ in range(count):
        stream = socket.socket()
        stream.settimeout(5)
        try:
            stream.connect((address, port))
            stream.sendall(first)
        except OSError:
            pass
        held.append(stream)
    import __main__

    __main__.held = held
    return len(held)


def let_go():
    import __main__

    for stream in __main__.held:
        stream.close()


HELD = {
    "nothing at all": b"",
    "half a record": b"\x16\x03\x01\x02\x00\x01",
    "half a request": b"GET /x HTTP/1.1\r\nHost: v4.exa",
    "a request that shouts": b"GET / HTTP/1.1\r\nHost: shouted.example.com\r\n\r\n",
    "not a protocol": b"shouted\r\n",
}


@pytest.mark.parametrize("what", HELD)
def test_connections_that_are_held(bench, world, watch, listeners, what):
    """More than the guard has descriptors for, here 300: the rest waits, and what was held is given back."""

    def limited():
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (300, 4096))

    with bench.session(policy=POLICY, preexec_fn=limited) as session:
        assert session.get(HOST)["status"] == 200
        session.do(hold_open, 600, HELD[what], lab.OUTSIDE_V4, 443)
        assert watch.saw(b"shouted") == [] and listeners.heard == []
        session.do(let_go)
        closed_and_served(session, world, watch, listeners)


def test_large_heads_on_many_connections(bench, world, watch, listeners):
    """64 KiB of a head that never ends, on each of 400 connections."""
    head = b"GET /x HTTP/1.1\r\nHost: v4.example.com\r\n" + b"X-Filler: " + b"a" * 60_000
    with bench.session(policy=POLICY) as session:
        assert session.get(HOST)["status"] == 200
        before = resident_mib(session)
        session.do(hold_open, 400, head, lab.OUTSIDE_V4, 80)
        grew_less_than(session, before, 400)
        session.do(let_go)
        closed_and_served(session, world, watch, listeners)


def test_names_without_number(bench, world, watch, listeners):
    """Each name that is greeted with has a certificate made for it, also to be refused: what is kept is small."""

    def greet(count, address):
        made = context(verify=False)
        answered = 0
        for number in range(count):
            raw = dial("x", 443, address)
            with made.wrap_socket(raw, server_hostname=f"n{number}.shouted.example.com") as stream:
                answered += stream.version() is not None
        return answered

    with bench.session(policy=POLICY) as session:
        assert session.get(HOST)["status"] == 200
        assert session.do(greet, 100, lab.OUTSIDE_V4) == 100
        before = resident_mib(session)
        assert session.do(greet, 500, lab.OUTSIDE_V4) == 500
        grew_less_than(session, before, 60)
        assert "shouted" not in repr(world.dns.questions)
        assert session.get(HOST)["status"] == 200
    assert not [r for r in world.requests() if r.header("host") != HOST] and listeners.heard == []


def test_responses_that_nobody_reads(bench, world, watch, listeners):
    """Large downloads by clients that stop reading: what is on the way is bounded for each."""

    def ask_and_stop(count):
        import __main__

        __main__.held = []
        for _ in range(count):
            stream = connect("v4.example.com")
            stream.sendall(b"GET /download?bytes=200000000 HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
            stream.recv(1000)
            __main__.held.append(stream)

    with bench.session(policy=POLICY) as session:
        assert session.get(HOST)["status"] == 200
        before = resident_mib(session)
        session.do(ask_and_stop, 40)
        grew_less_than(session, before, 60)
        session.do(let_go)
        closed_and_served(session, world, watch, listeners)


def test_a_turn_that_never_ends(bench, world, watch, listeners):
    """Two floods without pause, up and down, beside small requests: everybody gets a turn."""

    def beside():
        import threading

        stop, served = threading.Event(), []

        def download():
            with connect("v4.example.com") as stream:
                stream.sendall(b"GET /download?bytes=4000000000 HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
                while not stop.is_set() and stream.recv(1 << 18):
                    pass

        def upload():
            with connect("v4.example.com") as stream:
                stream.sendall(b"POST /flood HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 4000000000\r\n\r\n")
                try:
                    while not stop.is_set():
                        stream.sendall(bytes(1 << 18))
                except OSError:
                    pass

        threads = [threading.Thread(target=work) for work in (download, upload)]
        [t.start() for t in threads]
        for _ in range(10):
            served.append(get("v4.example.com", "/honest", timeout=30)["status"])
        stop.set()
        [t.join() for t in threads]
        return served

    with bench.session(policy=POLICY) as session:
        assert session.do(beside) == [200] * 10
        closed_and_served(session, world, watch, listeners)


def test_tiny_chunks_and_fields(bench, world, watch, listeners):
    """As much work for as few bytes as can be: chunks of one byte, and every field there may be."""
    with bench.session(policy=POLICY) as session:
        body = b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
        request = (
            b"POST /sink HTTP/1.1\r\nHost: v4.example.com\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
            + b"".join(b"X-%d: y\r\n" % n for n in range(240))
            + b"\r\n"
        )
        assert session.ask(HOST, request + body, timeout=60)["status"] == 200
        closed_and_served(session, world, watch, listeners)


def test_the_disk_is_full(bench, world, watch, listeners):
    """The function fills the disk that the records are on. Then they are lost, which is said: traffic goes on, and it
    is decided as before."""
    with bench.session(policy=POLICY, flags=["--record", "/dev/full"], record=False) as session:
        assert session.get(HOST)["status"] == 200
        session.wait_for_stderr("records are lost")
        assert session.get("denied.example.com", address=lab.OUTSIDE_V4)["status"] == 403
        closed_and_served(session, world, watch, listeners)


def test_more_upstream_connections_than_are_kept(bench, world, watch, listeners):
    """A hundred requests at a time to one host: more than stay open afterwards, and none is left behind."""

    def at_once(count):
        streams = [connect("v4.example.com") for _ in range(count)]
        for stream in streams:
            stream.sendall(b"GET /slow?ms=500 HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n")
        return {Reader(stream).response()["status"] for stream in streams}

    with bench.session(policy=POLICY) as session:
        assert session.do(at_once, 100) == {200}
        closed_and_served(session, world, watch, listeners)
