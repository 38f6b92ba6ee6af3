"""Slow ones and silent ones, of both sides: each comes to its end when the table of limits in docs/architecture.md says
so, not earlier, with an answer where one can still be given, and nothing stays. The guard's time passes ten times
faster here."""

import socket
import subprocess
import time

import pytest

import guard
import lab

SHARES_TRAFFIC = True  # the module's guard serves all of its tests
FACTOR = 10
LATE = 8  # seconds of the real clock that a loaded machine may take longer

DROP = f"""
table inet swallowing {{
  chain input {{ type filter hook input priority 0; ip daddr {lab.NGINX_V4} tcp dport 443 drop; }}
}}
"""


def slow_ones():
    """Starts every slow client, one after the other, and waits for all of them: name to (what came of it, seconds)."""
    import select
    import threading

    ends = {}
    threads = []
    opened = {}  # "last": when the last connection was about to be made

    def start(name, function, *arguments):
        def run():
            try:
                result = function(*arguments)
            except OSError as error:
                result = type(error).__name__
            ends[name] = (result, time.monotonic() - began)

        began = opened.pop("last")
        threads.append(threading.Thread(target=run))
        threads[-1].start()

    def until_end(stream, *pieces):
        for piece in pieces:
            stream.sendall(piece)
        return read_all(stream)

    def hello():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = context().wrap_bio(incoming, outgoing, server_hostname="v4.example.com")
        try:
            engine.do_handshake()
        except ssl.SSLWantReadError:
            return outgoing.read()

    def plain(first=b"", port=80):
        opened["last"] = time.monotonic()
        stream = dial("v4.example.com", port, timeout=80)
        stream.sendall(first)
        return stream

    def secure(host="v4.example.com", alpn=None):
        for _ in range(20):  # what has ten seconds by the guard's clock may be too slow on a loaded machine
            opened["last"] = time.monotonic()
            try:
                return connect(host, timeout=80, alpn=alpn)
            except OSError as error:
                failure = error
        raise failure

    def goaway(stream, data):
        """The code with which the guard ends a connection of HTTP/2."""
        stream.sendall(data)
        came = b""
        while len(came) < 9 or came[3] != 7:
            if len(came) >= 9 and len(came) >= 9 + int.from_bytes(came[:3], "big"):
                came = came[9 + int.from_bytes(came[:3], "big") :]
                continue
            part = stream.recv(65536)
            if not part:
                return "no GOAWAY"
            came += part
        return int.from_bytes(came[13:17], "big")

    def drip(stream):
        stream.settimeout(0.2)
        while True:
            try:
                return stream.recv(65536)[:12]
            except TimeoutError:
                stream.sendall(b"x")

    def trickle(stream, pieces):
        stream.sendall(f"POST /sink HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: {pieces}\r\n\r\n".encode())
        for _ in range(pieces):
            time.sleep(1)
            stream.sendall(b"t")
        return Reader(stream).response()["status"]

    def answered(stream, head, *pieces):
        stream.sendall(head.encode() + b"\r\n\r\n")
        for piece in pieces:
            try:
                stream.sendall(piece)
            except OSError:
                break
        reply = Reader(stream).response()
        return reply["status"], reply["headers"].get("sallyport-denied"), reply["complete"], len(reply["body"])

    def unread(stream, request):
        stream.sendall(f"{request}\r\nHost: v4.example.com\r\n\r\n".encode())
        poll = select.poll()
        poll.register(stream, select.POLLRDHUP)
        return bool(poll.poll(80_000))

    def twice(stream):
        reply = answered(stream, "GET /echo HTTP/1.1\r\nHost: v4.example.com")
        return reply[0], read_all(stream)

    def lingering(stream):
        reply = answered(stream, "POST /denied HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 100", b"some")
        data, end = read_all(stream)
        time.sleep(0.1)
        try:
            while True:  # a closed connection says so at the second write
                stream.sendall(b"more")
                time.sleep(0.3)
        except OSError:
            return reply[0], reply[1], end

    first = hello()
    head = b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\nX-Slow: "
    start("no byte", until_end, plain())
    start("no byte where TLS is expected", until_end, plain(port=443))
    start("half a hello", until_end, plain(first[:100], port=443))
    start("a hello and no more", lambda stream: until_end(stream)[1], plain(first, port=443))
    start("a handshake and no more", until_end, secure())
    start("no second request", twice, secure())
    start("half a head", lambda stream: until_end(stream)[0][:12], plain(head))
    start("half a head in TLS", lambda stream: until_end(stream, head)[0][:12], secure())
    start("a byte of a head now and then", drip, plain(head))
    start("a byte of a body now and then", trickle, secure(), 36)
    post = "POST /sink HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: "
    preface, settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"
    start("HTTP/2 without its preface", goaway, secure(alpn=["h2"]), b"")
    start("half a preface", goaway, secure(alpn=["h2"]), preface[:20])
    start("HTTP/2 without a request", goaway, secure(alpn=["h2"]), preface + settings)
    start("half a header block", goaway, secure(alpn=["h2"]), preface + settings + b"\0\0\1\1\0\0\0\0\1\x82")
    start("half a body", answered, secure(), post + "1000", b"b" * 500)
    start("a server that never answers", answered, secure(), "GET /mute HTTP/1.1\r\nHost: v4.example.com")
    start("a server that stops", answered, secure(), "GET /half HTTP/1.1\r\nHost: v4.example.com")
    start("a server that reads nothing", answered, secure(), post.replace("sink", "deaf") + "48000000", *[bytes(1_000_000)] * 48)
    start("a server without TLS", answered, secure("chaos.example.com"), "GET / HTTP/1.1\r\nHost: chaos.example.com")
    start("a swallowing network", answered, secure("nginx.example.com"), "GET / HTTP/1.1\r\nHost: nginx.example.com")
    start("a denied body that does not come", lingering, secure())

    start("a client that reads nothing", unread, secure(), "GET /download?bytes=64000000 HTTP/1.1")
    [thread.join() for thread in threads]
    return ends


SECONDS = {  # of the guard: what the table says, and what comes of it
    "no byte": (10, lambda end: end == (b"", "end")),
    "no byte where TLS is expected": (10, lambda end: end == (b"", "end")),
    "half a hello": (10, lambda end: end[1] != "timeout"),
    "a hello and no more": (10, lambda end: end != "timeout"),
    "a handshake and no more": (75, lambda end: end == (b"", "end")),
    "no second request": (75, lambda end: end == (200, (b"", "end"))),
    "half a head": (30, lambda end: end == b"HTTP/1.1 408"),
    "half a head in TLS": (30, lambda end: end == b"HTTP/1.1 408"),
    "a byte of a head now and then": (30, lambda end: end == b"HTTP/1.1 408"),
    "a byte of a body now and then": (360, lambda end: end == 200),
    "HTTP/2 without its preface": (30, lambda end: end == 0),
    "half a preface": (30, lambda end: end == 0),
    "HTTP/2 without a request": (30, lambda end: end == 0),
    "half a header block": (30, lambda end: end == 11),
    "half a body": (300, lambda end: end[:2] == (408, "downstream-timeout")),
    "a server that never answers": (300, lambda end: end[:2] == (504, "upstream-timeout")),
    "a server that stops": (300, lambda end: end[0] == 200 and not end[2] and end[3] == 500),
    "a server that reads nothing": (300, lambda end: end[:2] == (504, "upstream-timeout")),
    "a server without TLS": (10, lambda end: end[:2] == (504, "upstream-timeout")),
    "a swallowing network": (10, lambda end: end[0] in (502, 504)),
    "a client that reads nothing": (300, lambda end: end is True),
    "a denied body that does not come": (5, lambda end: end[:2] == (403, "path-not-allowed")),
}


@pytest.fixture(scope="module")
def run(world, fast_clock):
    """All of them at once through one guard."""
    world.forget()
    bench = guard.Bench(world)
    silent = socket.create_server((lab.CHAOS_V4, 443))  # connects, and says nothing
    subprocess.run(["nft", "-f", "-"], input=DROP, text=True, check=True)
    policy = guard.policy(
        guard.endpoint("v4.example.com", rules=[{"methods": ["any"], "path": {"regex": "/([^d].*|deaf|download)"}}]),
        guard.endpoint("v4.example.com", scheme="http", name="plain"),
        guard.endpoint("chaos.example.com"),
        guard.endpoint("nginx.example.com"),
    )
    try:
        with bench.session(policy=policy, env=fast_clock(FACTOR), flags=["--admin", bench.admin]) as session:
            wait_for(lambda: session.get("v4.example.com")["status"], lambda status: status == 200, timeout=60)
            made = {"before": gauges(bench), "ends": session.do(slow_ones)}
            made["records"] = session.wait_for_records(lambda records: any(r.get("path") == "/download" for r in records))
            made["after"] = wait_for(lambda: gauges(bench), lambda found: found["connections_open"] == 0)
            made["upstream"] = wait_for(lambda: sum(c.open for c in world.tls.connections), lambda found: found == 0)
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "swallowing"], check=True)
        silent.close()
        bench.close()
    yield made


def gauges(bench):
    """The guard's own count of what is open."""
    found = {}
    for line in bench.metrics()[1].splitlines():
        if line.startswith(("sallyport_connections_open", "sallyport_tasks")):
            name, _, value = line.partition("{")
            found[name.removeprefix("sallyport_")] = float(value.rpartition(" ")[2])
    return found


def wait_for(look, good, timeout=75 / FACTOR + LATE):
    end = time.monotonic() + timeout
    while not good(found := look()):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("what", SECONDS)
def test_it_ends_in_time_and_not_before(run, what):
    limit, right = SECONDS[what]
    result, seconds = run["ends"][what]
    assert right(result), result
    assert limit * 0.95 <= seconds * FACTOR <= limit + LATE * FACTOR, seconds


def test_what_a_client_does_not_read_is_not_taken_in(run):
    record = next(r for r in run["records"] if r.get("path") == "/download")
    assert (record["decision"], record["reason"]) == ("error", "downstream-timeout")
    assert record["bytes_down"] < 32_000_000


def test_nothing_stays(run):
    assert run["after"]["tasks"] <= run["before"]["tasks"]


def test_upstream_connections_that_idle_are_closed(run):
    assert run["upstream"] == 0


def quiet_tunnel():
    """A WebSocket through which nothing goes: the seconds until its end."""
    upgrade = (
        "GET /websocket HTTP/1.1\r\nHost: v4.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for _ in range(20):  # the guard's patience for the first bytes is short here
        try:
            stream = dial("v4.example.com", 80, timeout=60)
            stream.sendall(upgrade.encode())
            reader = Reader(stream)
            if reader.response()["status"] == 101:
                break
        except OSError:
            pass
    reader.exactly(7)
    began = time.monotonic()
    return read_all(stream), time.monotonic() - began


def test_a_quiet_tunnel_ends_after_an_hour(bench, world, fast_clock):
    factor = 400
    policy = guard.policy(guard.endpoint("v4.example.com", scheme="http"))
    with bench.session(policy=policy, env=fast_clock(factor)) as session:
        end, seconds = session.do(quiet_tunnel)
        assert end == (b"", "end")
        assert 3600 * 0.95 <= seconds * factor <= 3600 + LATE * factor
        record = guard.exchanges(session.wait_for_records(lambda r: guard.exchanges(r)))[-1]
        assert "idle too long" in record["text"]


def behind_the_close_frames(trickles):
    """Both sides have said that they close, and neither does: the seconds until the guard does, and how it looks."""
    import select

    stream = dial("v4.example.com", 80, timeout=60)
    stream.sendall(
        b"GET /websocket-says?bytes=880203e8 HTTP/1.1\r\nHost: v4.example.com\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    reader = Reader(stream)
    reader.response()
    closing = reader.exactly(4)
    stream.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
    began = time.monotonic()
    while not select.select([stream], [], [], 0.05)[0] and time.monotonic() < began + 60:
        if trickles:
            stream.sendall(b"\x89\x80\0\0\0\0")
    return closing, read_all(stream), time.monotonic() - began


@pytest.mark.parametrize("trickles, least, most", [(False, 5, 10), (True, 30, 30)])
def test_sides_that_have_closed_a_websocket_have_little_time_to_go(bench, world, fast_clock, trickles, least, most):
    """What follows the close frames keeps nothing open: neither silence nor frames that are read away."""
    factor = 5
    policy = guard.policy(guard.endpoint("v4.example.com", scheme="http"))
    with bench.session(policy=policy, env=fast_clock(factor)) as session:
        closing, end, seconds = session.do(behind_the_close_frames, trickles)
        assert closing == b"\x88\x02\x03\xe8" and end == (b"", "end")
        assert least * 0.95 <= seconds * factor <= most + LATE * factor
        [record] = guard.exchanges(session.wait_for_records(lambda r: guard.exchanges(r)))
    assert (record["decision"], record["status"], record.get("text")) == ("allow", 101, None)
