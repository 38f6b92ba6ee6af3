"""TLS and HTTP used in ways that their ends could take differently: versions, renegotiation, tickets, early data, odd
records, upgrades, tunnels, answers that were not asked for."""

import pytest

import guard
import lab
from own_files import run

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST), guard.endpoint("other.example.com", path="/allowed/"))


def still_serves(session, world):
    world.forget()
    assert session.get(HOST, "/honest")["status"] == 200
    assert [r.target for r in world.requests()] == ["/honest"]


REQUEST = "printf 'GET /sneaked HTTP/1.1\\r\\nHost: v4.example.com\\r\\nConnection: close\\r\\n\\r\\n'"
CLIENT = "timeout 8 openssl s_client -connect v4.example.com:443 -servername v4.example.com -quiet"
# Ways of shaking hands that must come to nothing.
HANDSHAKES = {
    "TLS 1.1": f"{REQUEST} | {CLIENT} -tls1_1 -cipher ALL:@SECLEVEL=0",
    "TLS 1.0": f"{REQUEST} | {CLIENT} -tls1 -cipher ALL:@SECLEVEL=0",
    "no encryption": f"{REQUEST} | {CLIENT} -tls1_2 -cipher eNULL:@SECLEVEL=0",
    "no certificate": f"{REQUEST} | {CLIENT} -tls1_2 -cipher aNULL:@SECLEVEL=0",
    "a shared key": f"{REQUEST} | {CLIENT} -tls1_2 -psk 00112233 -cipher PSK:@SECLEVEL=0",
    "RSA key exchange": f"{REQUEST} | {CLIENT} -tls1_2 -cipher kRSA:@SECLEVEL=0",
    "DTLS": f"{REQUEST} | timeout 3 openssl s_client -dtls -connect {lab.OUTSIDE_V4}:443 -quiet",
    "HTTP/1 where HTTP/2 was agreed": f"{REQUEST} | {CLIENT} -alpn h2 | od -c",
    "only an unknown protocol": f"{REQUEST} | {CLIENT} -alpn ssh",
    "SMTP's upgrade": f"{REQUEST} | timeout 3 openssl s_client -connect {lab.OUTSIDE_V4}:443 -starttls smtp",
    "a small curve": f"{REQUEST} | {CLIENT} -tls1_2 -curves secp192r1",
}


@pytest.mark.parametrize("how", HANDSHAKES)
def test_a_handshake_that_protects_nothing(session, world, watch, listeners, how):
    """Somebody on the way, or a client that was talked into it, would read and change what the guard believes."""
    said = session.do(run, HANDSHAKES[how])
    assert not world.saw("sneaked"), said
    assert listeners.heard == [] and watch.leaks() == []
    still_serves(session, world)


def test_renegotiation(session, world):
    """A second handshake inside of the first could change who speaks, after everything was decided."""
    script = f"(printf 'GET /first HTTP/1.1\\r\\nHost: {HOST}\\r\\n\\r\\n'; sleep 1; echo R; sleep 1; {REQUEST}; sleep 1)"
    said = session.do(
        run, f"{script} | timeout 10 openssl s_client -connect {HOST}:443 -servername {HOST} -tls1_2 -legacy_renegotiation"
    )
    assert "/first" in [r.target for r in world.requests()], said
    assert not world.saw("sneaked"), said
    still_serves(session, world)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_ticket_of_one_name_for_another(session, world, version):
    """A ticket says what the first handshake came to: for a name that is allowed. It is used for one that is not, and
    for one that may do less."""

    def resume(first, second, version, path):
        made = ssl.create_default_context()
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        made.minimum_version = made.maximum_version = getattr(ssl.TLSVersion, version)
        with made.wrap_socket(dial(first), server_hostname=first) as stream:
            stream.sendall(f"GET /first HTTP/1.1\r\nHost: {first}\r\n\r\n".encode())
            Reader(stream).response()
            ticket = stream.session
        address = socket.getaddrinfo(first, 443)[0][4][0]
        with made.wrap_socket(dial(second, 443, address), server_hostname=second, session=ticket) as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {second}\r\nConnection: close\r\n\r\n".encode())
            reply = Reader(stream).response()
            return stream.session_reused, reply["status"]

    assert session.do(resume, HOST, "denied.example.com", version, "/sneaked") == (False, 403)
    assert session.do(resume, HOST, "other.example.com", version, "/sneaked") == (False, 403)
    assert session.do(resume, HOST, HOST, version, "/again") == (True, 200)
    assert not world.saw("sneaked")
    still_serves(session, world)


def test_a_ticket_from_before_the_policy_changed(bench, world):
    """What it remembers was allowed then."""

    def first():
        global made, ticket
        made = ssl.create_default_context()
        with made.wrap_socket(dial("v4.example.com"), server_hostname="v4.example.com") as stream:
            stream.sendall(b"GET /first HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
            Reader(stream).response()
            ticket = stream.session
        import __main__

        __main__.kept = made, ticket

    def again(address):
        import __main__

        made, ticket = __main__.kept
        with made.wrap_socket(dial("x", 443, address), server_hostname="v4.example.com", session=ticket) as stream:
            stream.sendall(b"GET /sneaked HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n")
            return Reader(stream).response()["status"]

    with bench.session(policy=POLICY) as session:
        session.do(first)
        bench.write_policy(guard.policy(guard.endpoint("other.example.com")))
        session.wait_for_stderr("the changed policy is in force")
        assert session.do(again, lab.OUTSIDE_V4) == 403
        assert session.get("other.example.com")["status"] == 200
    assert not world.saw("sneaked")


def test_early_data(session, world):
    """Data before the handshake is done can be sent again by anybody who saw it."""
    script = (
        f"cd $(mktemp -d -p $HOME); {REQUEST} >early; (printf 'GET /first HTTP/1.1\\r\\nHost: {HOST}\\r\\n\\r\\n'; sleep 1) | "
        f"timeout 5 openssl s_client -connect {HOST}:443 -servername {HOST} -tls1_3 -sess_out s -quiet; "
        f"timeout 5 openssl s_client -connect {HOST}:443 -servername {HOST} -tls1_3 -sess_in s -early_data early </dev/null"
    )
    said = session.do(run, script)
    assert not world.saw("sneaked"), said
    still_serves(session, world)


def test_a_client_certificate_is_nobodys(session, world):
    """The function shows a certificate of its own: the guard asks for none, and sends none on."""
    script = (
        "cd $(mktemp -d -p $HOME); openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=admin "
        "-keyout k -out c; curl -s -o /dev/null -w '%{http_code}' --cert c --key k https://v4.example.com/with-certificate"
    )
    assert "200" in session.do(run, script)
    still_serves(session, world)


def flood(record, count, first=b""):
    """An honest handshake, then records that nobody needs; how it ended, and how long it took."""
    stream = dial("v4.example.com", 443, timeout=10)
    start = time.monotonic()
    try:
        stream.sendall(first)
        for _ in range(count // 1000):
            stream.sendall(record * 1000)
        stream.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return read_all(stream)[1], time.monotonic() - start


RECORDS = {
    "empty handshake records": b"\x16\x03\x03\x00\x00",
    "warnings": b"\x15\x03\x03\x00\x02\x01\x5a",
    "changes of cipher": b"\x14\x03\x03\x00\x01\x01",
    "heartbeats": b"\x18\x03\x03\x00\x03\x01\xff\xff",
    "application data": b"\x17\x03\x03\x00\x01x",
    "a handshake message of 16 MiB": b"\x16\x03\x03\x40\x00\x01\xff\xff\xff" + b"\0" * 16380,
    "a hello of no length": b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    "an old hello": b"\x80\x2e\x01\x00\x02" + bytes(43),
}


@pytest.mark.parametrize("what", RECORDS)
def test_records_without_end(session, world, what):
    """Each costs the guard something, and none is ever a request."""
    count = 2000 if len(RECORDS[what]) > 1000 else 50_000
    end, taken = session.do(flood, RECORDS[what], count)
    assert end in ("end", "ConnectionResetError", "BrokenPipeError"), end
    assert not world.requests() and taken < 30
    still_serves(session, world)


def test_new_keys_without_end(session, world):
    """TLS 1.3 lets a peer ask for new keys as often as it likes; each time costs both."""
    script = "(for i in $(seq 300); do echo K; done; sleep 1) | timeout 20 openssl s_client -connect v4.example.com:443 -tls1_3"
    session.do(run, script, timeout=30)
    assert not world.requests()
    still_serves(session, world)


@pytest.mark.parametrize("port, tls", [(443, False), (80, True), (8443, False), (22, True)])
def test_the_right_host_in_the_wrong_protocol(session, world, port, tls):
    """Plain HTTP where TLS is meant would show everything on the way; TLS where nothing is allowed leads nowhere."""
    reply = session.get(HOST, "/sneaked", port=port, tls=tls, address=lab.OUTSIDE_V4)
    assert reply["status"] in (None, 403)
    assert not world.saw("sneaked")
    still_serves(session, world)


UPGRADES = {
    "refused": "/ignores-upgrade",
    "to something else": "/malformed?kind=unasked-101",
    "with nobody's answer": "/switch?accept=none",
    "with another's answer": "/switch?accept=wrong",
    "with two answers": "/switch?accept=twice",
}


@pytest.mark.parametrize("how", UPGRADES)
def test_a_tunnel_that_was_not_agreed_on(session, world, how):
    """A server that says 101 without meaning it, or passes on the status of one behind it, would give the function a
    connection of which nothing is decided any more."""

    def upgrade(path):
        with connect("v4.example.com", timeout=5) as stream:
            stream.sendall(
                f"GET {path} HTTP/1.1\r\nHost: v4.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            reply = Reader(stream).response()
            try:
                stream.sendall(b"GET /tunnelled HTTP/1.1\r\nHost: denied.example.com\r\n\r\n")
                stream.recv(1000)
            except OSError:
                pass
            return reply["status"]

    assert session.do(upgrade, UPGRADES[how]) != 101
    assert not [r for r in world.requests() if "/tunnelled" in r.target]
    still_serves(session, world)


ODD_UPGRADES = {
    "no key": "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "an odd version": "Upgrade: websocket\r\nSec-WebSocket-Version: 1337\r\nSec-WebSocket-Key: x\r\n",
    "two keys": "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: x\r\n",
    "TLS": "Upgrade: TLS/1.2\r\n",
    "a list": "Upgrade: websocket, h2c\r\n",
}


@pytest.mark.parametrize("what", ODD_UPGRADES)
def test_odd_upgrades_are_requests_as_others_are(session, world, what):
    """What follows an upgrade that is none is the next request, and decided."""
    both = (
        f"GET /ignores-upgrade HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\n{ODD_UPGRADES[what]}\r\n"
        "GET /sneaked HTTP/1.1\r\nHost: denied.example.com\r\nConnection: close\r\n\r\n"
    )
    replies = session.ask(HOST, both.encode(), count=2, timeout=5)
    assert replies[1]["status"] in (None, 400, 403) and not world.saw("sneaked")
    still_serves(session, world)


ANSWERS = ["extra", "malformed?kind=endless-1xx", "malformed?kind=control-byte", "malformed?kind=length-and-chunked"]


@pytest.mark.parametrize("path", ANSWERS)
def test_answers_that_would_poison_the_next(session, world, path):
    """An allowed server sends more than was asked for, for whoever asks next on the same connection."""

    def several(path):
        return [get("v4.example.com", path)["body"]] + [get("v4.example.com", "/honest")["body"] for _ in range(3)]

    for _ in range(5):
        bodies = session.do(several, "/" + path)
        assert not any(b"poison" in body for body in bodies), bodies
        assert all(b'"/honest"' in body for body in bodies[1:])
    still_serves(session, world)


FIELDS = {
    "Range": "Range: bytes=" + ",".join(f"{n}-{n + 1}" for n in range(0, 9000, 2)),
    "Expect": "Expect: 200-ok",
    "Max-Forwards": "Max-Forwards: 0",
    "Forwarded": "Forwarded: host=denied.example.com;proto=http",
    "Proxy-Connection": "Proxy-Connection: keep-alive",
    "Proxy-Authorization": "Proxy-Authorization: Basic c25lYWtlZA==",
    "Keep-Alive": "Keep-Alive: timeout=100000, max=100000",
    "TE": "TE: trailers, deflate;q=0.5",
    "Trailer": "Trailer: Host, Content-Length",
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_for_those_on_the_way(session, world, name):
    """They speak to proxies and not to servers: none changes where the request goes or how it ends."""
    reply = session.get(HOST, "/echo", FIELDS[name] + "\r\n")
    assert reply["status"] in (200, 400, 417, 431)
    for request in world.requests():
        assert request.header("host") == HOST and not request.header("proxy-authorization")
        assert request.header("te") in (None, "trailers")
    still_serves(session, world)


def test_a_compressed_bomb_passes_as_it_is(session, world):
    """The guard unpacks nothing: what is small on the wire costs it as much as it is large there."""

    def fetch():
        return len(get("v4.example.com", "/gzip")["body"])

    assert session.do(fetch) < 200
    record = session.wait_for_records(lambda r: any(x.get("path") == "/gzip" for x in r))
    assert [x for x in record if x.get("path") == "/gzip"][-1]["bytes_down"] < 200
    still_serves(session, world)
