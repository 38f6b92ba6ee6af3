"""The explicit proxy in the hands of a hostile client: it is a way to say a destination, never a way around the policy."""

import itertools
import socket
import ssl
import time

import pytest

import guard
import lab
import tcp_services

PORT = 15002
HOST = "v4.example.com"
DATABASE_V4, DATABASE = "127.0.0.39", "database.example.com"
POLICY = guard.policy(
    guard.endpoint(HOST, path="/allowed"),
    guard.endpoint(HOST, path="/allowed", scheme="http", name="plain"),
    guard.endpoint("other.example.com"),
    guard.endpoint("other.example.com", scheme="http", name="other-plain"),
    guard.endpoint("any", scheme="http", ports=["any"], addresses=None, name="everywhere"),
    guard.endpoint("any", ports=["any"], addresses=None, name="everywhere-tls"),
    guard.endpoint("to-private.example.com", addresses=None),
    guard.endpoint(DATABASE, protocol="tcp", ports=[7001], rules=None),
)
_numbers = itertools.count()


@pytest.fixture
def proxy(start, world):
    world.dns.table[DATABASE] = [DATABASE_V4]
    running = start(POLICY, "--proxy-listen", f"127.0.0.1:{PORT}", "--proxy-listen", f"[::1]:{PORT}")
    running.wait_until_ready()
    yield running
    # Whatever was tried: an honest request is served afterwards.
    head, _ = say(f"GET http://{HOST}/allowed HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert running.stop()[0] == 0


def say(data, seconds=10):
    """Sends, and returns everything until the end, as head and rest."""
    with socket.create_connection(("127.0.0.1", PORT), seconds) as stream:
        try:
            stream.sendall(data)
            answer = tcp_services.read_to_end(stream)
        except (OSError, TimeoutError):
            answer = b""
    head, _, rest = answer.partition(b"\r\n\r\n")
    return head, rest


def connected(target):
    """A stream after a CONNECT that was answered with 200."""
    stream = socket.create_connection(("127.0.0.1", PORT), 10)
    stream.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert stream.recv(4096).startswith(b"HTTP/1.1 200 "), target
    return stream


def records(bench, condition, seconds=10):
    end = time.monotonic() + seconds
    while not (found := [r for r in bench.records() if condition(r)]):
        assert time.monotonic() < end, bench.records()
        time.sleep(0.05)
    return found


CONNECTS = {
    "itself": (f"127.0.0.1:{PORT}", 403),
    "itself under another loopback address": (f"127.8.8.8:{PORT}", 403),
    "itself over IPv6": (f"[::1]:{PORT}", 403),
    "itself, mapped": (f"[::ffff:127.0.0.1]:{PORT}", 403),
    "itself under the machine's address": (f"{lab.PRIVATE}:{PORT}", 403),
    "no port": ("v4.example.com", 400),
    "an empty port": ("v4.example.com:", 400),
    "a port that is none": ("v4.example.com:0", 400),
    "a large port": ("v4.example.com:65979", 400),
    "a URL": ("http://v4.example.com:443/", 400),
    "user information": ("v4.example.com:443@other.example.com:443", 400),
    "a path": ("v4.example.com:443/other", 400),
    "an octal address": ("0177.0.0.1:443", 400),
    "a hexadecimal address": ("0x7f000001:443", 400),
    "a number": ("2130706433:443", 400),
    "an encoded byte": ("v4%2eexample.com:443", 400),
    "brackets": ("[v4.example.com]:443", 400),
    "a zone": ("[fe80::1%25lo]:443", 400),
    "a star": ("*:443", 400),
    "nothing": (":443", 400),
}


@pytest.mark.parametrize("target, status", CONNECTS.values(), ids=CONNECTS)
def test_a_connect_that_leads_back_or_nowhere(proxy, bench, world, target, status):
    head, rest = say(f"CONNECT {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    if status == 403:  # with a Host of its own it would be refused for that
        head, rest = say(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert head.split(b" ")[1] == str(status).encode() and b"sallyport-denied" in head, head
    assert not world.requests()
    assert records(bench, lambda r: r["decision"] == "deny" and r.get("method") == "CONNECT")


HEADS = {
    "a second host": f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nHost: other.example.com\r\n\r\n",
    "another host": f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: other.example.com\r\n\r\n",
    "another port": f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:80\r\n\r\n",
    "no host": f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n",
    "content": f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\n\r\nabc",
    "chunks": f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": f"CONNECT {HOST}:443 HTTP/1.1\nHost: {HOST}\n\n",
    "a folded field": f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\nX-A: 1\r\n 2\r\n\r\n",
    "two spaces": f"CONNECT  {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "a NUL": f"CONNECT {HOST}\x00.example.org:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "another version": f"CONNECT {HOST}:443 HTTP/3.0\r\nHost: {HOST}\r\n\r\n",
    "bytes before the answer": f"CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /allowed HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "an endless head": f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n" + "X-A: b\r\n" * 4000,
    "small letters": f"connect {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "an origin form": f"GET /allowed HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "a star": f"OPTIONS * HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "an https URL": f"GET https://{HOST}/allowed HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "a URL of another host than Host": f"GET http://{HOST}/allowed HTTP/1.1\r\nHost: other.example.com\r\n\r\n",
    "a URL with user information": f"GET http://other.example.com@{HOST}/allowed HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "a URL with another port than Host": f"GET http://{HOST}:80/allowed HTTP/1.1\r\nHost: {HOST}:8080\r\n\r\n",
    "a URL of the proxy": f"GET http://127.0.0.1:{PORT}/ HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\n\r\n",
    "a URL of the proxy in another spelling": f"GET http://[::1]:{PORT}/ HTTP/1.1\r\nHost: [::1]:{PORT}\r\n\r\n",
    "another scheme": f"GET ftp://{HOST}/allowed HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
    "TLS": "\x16\x03\x01\x00\x05hello",
    "SOCKS": "\x05\x01\x00",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_with_two_readings_is_refused(proxy, world, head):
    answer, _ = say(head.encode("latin-1"))
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"403", b"431", b"501"), answer
    assert not world.requests()


def test_the_name_inside_is_the_one_that_connect_named(proxy, bench, world):
    """Both hosts are allowed, but a connection is made for one."""
    context = ssl.create_default_context(cafile=world.guard_root.certificate)
    context.check_hostname = False
    with connected(f"{HOST}:443") as stream:
        with pytest.raises(OSError):
            context.wrap_socket(stream, server_hostname="other.example.com")
    assert records(bench, lambda r: r.get("reason") == "host-mismatch" and r["host"] == HOST)
    with context.wrap_socket(connected(f"{HOST}:443"), server_hostname=HOST) as stream:
        stream.sendall(b"GET /allowed HTTP/1.1\r\nHost: other.example.com\r\nConnection: close\r\n\r\n")
        assert tcp_services.read_to_end(stream).startswith(b"HTTP/1.1 403 ")
    with connected(f"{HOST}:80") as stream:
        stream.sendall(b"GET /anything HTTP/1.1\r\nHost: other.example.com\r\nConnection: close\r\n\r\n")
        assert tcp_services.read_to_end(stream).startswith(b"HTTP/1.1 403 ")
    with connected(f"{HOST}:80") as stream:
        stream.sendall(b"GET http://other.example.com/ HTTP/1.1\r\nHost: other.example.com\r\nConnection: close\r\n\r\n")
        assert tcp_services.read_to_end(stream).startswith(b"HTTP/1.1 403 ")
    assert not world.requests()


def test_no_tunnel_inside_a_tunnel(proxy, world):
    """The second CONNECT is a request to the host, and no host is asked for one."""
    with connected(f"{HOST}:80") as stream:
        stream.sendall(f"CONNECT other.example.com:80 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert tcp_services.read_to_end(stream).split(b" ")[1] in (b"400", b"501")
    with socket.create_connection(("127.0.0.1", PORT), 10) as stream:
        stream.sendall(f"GET http://{HOST}/allowed HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert stream.recv(65536).startswith(b"HTTP/1.1 200 ")
        stream.sendall(b"CONNECT other.example.com:80 HTTP/1.1\r\nHost: other.example.com\r\n\r\n")
        assert b"HTTP/1.1 501 " in tcp_services.read_to_end(stream)
    assert len(world.requests()) == 1


@pytest.mark.parametrize(
    "target, reason",
    [
        ("127.0.0.1:22", "address-not-allowed"),
        ("127.0.0.53:53", "address-not-allowed"),
        ("169.254.169.254:80", "address-not-allowed"),
        (f"{lab.PRIVATE}:80", "address-not-allowed"),
        ("[::ffff:169.254.169.254]:80", "address-not-allowed"),
        ("to-private.example.com:80", "address-not-allowed"),
        ("to-metadata.example.com:80", "address-not-allowed"),
    ],
)
def test_addresses_are_checked_as_ever(proxy, bench, world, target, reason):
    with connected(target) as stream:
        stream.sendall(f"GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n".encode())
        answer = tcp_services.read_to_end(stream)
    assert b" 403 " in answer.split(b"\r\n")[0] and reason.encode() in answer, answer
    head, _ = say(f"GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n".encode())
    assert b" 403 " in head and reason.encode() in head, head
    assert not world.requests()


@pytest.mark.parametrize(
    "target", [f"{DATABASE}:7002", f"{DATABASE_V4}:7001", "other.example.com:7001", f"{HOST}:443", f"{lab.OUTSIDE_V4}:25"]
)
def test_bytes_go_only_where_they_are_relayed(proxy, bench, world, watch, target):
    mark = b"marker-%d-out" % next(_numbers)
    server = tcp_services.Server(DATABASE_V4, 7001, tcp_services.answers_at_the_end)
    with connected(target) as stream:
        try:
            stream.sendall(b"\x00\x01" + mark)
            stream.shutdown(socket.SHUT_WR)
            assert tcp_services.read_to_end(stream) == b""
        except OSError:
            pass
    found = records(bench, lambda r: r.get("reason") == "opaque-not-allowed")
    server.close()
    assert server.accepted == 0 and found[0]["bytes_up"] == 0
    # The witness sees the client's own bytes to the proxy, and nothing further.
    assert {p.destination_port for p in watch.saw(mark)} <= {PORT}


def test_slow_and_silent_clients_hold_nobody_up(proxy, world):
    """Half a CONNECT on many connections: others are served meanwhile."""
    held = [socket.create_connection(("127.0.0.1", PORT), 10) for _ in range(200)]
    for number, stream in enumerate(held):
        stream.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: ".encode()[: number % 40])
    head, _ = say(f"GET http://{HOST}/allowed HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    assert head.startswith(b"HTTP/1.1 200 ")
    for stream in held:
        stream.close()
