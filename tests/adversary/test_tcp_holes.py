"""An endpoint with `protocol: tcp` carries anything to its host and port. It must not carry anything anywhere else, nor
become a way around what is decided for HTTP."""

import itertools
import subprocess
import time

import pytest

import guard
import lab
import tcp_services

DATABASE_V4, OTHER_V4, HOST, OTHER = "127.0.0.36", "127.0.0.37", "database.example.com", "not-said.example.com"
PORT = 7301
_numbers = itertools.count()


def relayed(host, *ports, **more):
    return guard.endpoint(host, protocol="tcp", ports=list(ports), rules=None, **more)


POLICY = guard.policy(
    relayed(HOST, PORT),
    guard.endpoint("v4.example.com", ["GET"], "/allowed", ports=[443, PORT]),
    guard.endpoint("v4.example.com", ["GET"], "/allowed", scheme="http", name="plain"),
    relayed("*.sub.example.com", PORT, 8443),
    guard.endpoint("deep.sub.example.com", ["GET"], "/allowed", ports=[8443]),
    *[
        relayed(f"to-{where}.example.com", PORT, addresses=None)
        for where in ("loopback", "metadata", "private", "mapped", "outside", "synthetic")
    ],
    relayed("rebinding.example.com", PORT, addresses=[f"{lab.ORIGIN_V4}/32"]),
)


@pytest.fixture(scope="module")
def servers(world):
    """What a hole would reach: each keeps what it hears."""
    world.dns.table[HOST] = [DATABASE_V4]
    world.dns.table[OTHER] = [OTHER_V4]
    wanted = tcp_services.Server(DATABASE_V4, PORT, tcp_services.answers_at_the_end)
    others = [
        tcp_services.Server(address, port, tcp_services.answers_at_the_end)
        for address, port in [
            (DATABASE_V4, PORT + 1),
            (OTHER_V4, PORT),
            (lab.OUTSIDE_V4, PORT),
            (lab.ORIGIN_V4, PORT),
            (lab.METADATA, PORT),
            (lab.PRIVATE, PORT),
            (lab.OUTSIDE_V6, PORT),
        ]
    ]
    yield wanted, others
    for server in [wanted, *others]:
        server.close()


@pytest.fixture
def untouched(servers, world):
    """Nothing but the database may have heard anything, and it is served afterwards."""
    wanted, others = servers
    for server in servers[1]:
        server.accepted, server.heard = 0, []
    wanted.accepted, wanted.heard = 0, []
    yield wanted
    assert [server.accepted for server in others] == [0] * len(others), [server.heard for server in others]
    assert not world.requests()


def say(marker, host, port, address=None):
    """A binary greeting, which no reader takes for TLS or HTTP."""
    try:
        stream = dial(host, port, address)  # noqa: F821
        stream.sendall(b"\x00\x01" + marker)
        stream.shutdown(1)
    except OSError as error:
        return b"", type(error).__name__
    return read_all(stream)  # noqa: F821


def address_of(host):
    import socket

    return socket.getaddrinfo(host, 1, socket.AF_INET)[0][4][0]


def marker():
    return b"marker-%d-out" % next(_numbers)


def test_the_database_itself_is_reached(session, untouched, watch):
    """The control: what the others try would be seen here."""
    mark = marker()
    assert session.do(say, mark, HOST, PORT) == (b"got %d bytes" % (len(mark) + 2), "end")
    assert untouched.heard == [b"\x00\x01" + mark] and watch.saw(mark)


@pytest.mark.parametrize(
    "host, port, address",
    [
        (HOST, PORT + 1, None),
        (HOST, 22, None),
        ("v4.example.com", PORT + 1, None),
        ("v4.example.com", PORT, None),
        ("unused", PORT, DATABASE_V4),
        ("unused", PORT, OTHER_V4),
        ("unused", PORT, lab.OUTSIDE_V4),
        ("unused", PORT, lab.OUTSIDE_V6),
        ("unused", PORT, "::ffff:" + lab.OUTSIDE_V4),
        ("unused", PORT, "198.18.255.254"),
        ("deep.sub.example.com", 8443, None),
    ],
    ids=[
        "another port",
        "a port below 1024",
        "another name with its other port",
        "another name on the same port",
        "the server's own address",
        "a stranger's address",
        "an address outside",
        "an address outside over IPv6",
        "a mapped address",
        "a synthetic address of no name",
        "a more exact host that is HTTP on this port",
    ],
)
def test_bytes_go_nowhere_else(session, untouched, watch, host, port, address):
    mark = marker()
    assert session.do(say, mark, host, port, address)[0] == b""
    assert not watch.saw(mark) and untouched.accepted == 0
    record = session.wait_for_records(lambda found: found and found[-1]["port"] == port)[-1]
    assert (record["decision"], record["bytes_up"]) == ("deny", 0), record


def test_a_name_that_nobody_allowed(session, untouched, watch):
    """It has no address in there, so there is nothing to dial."""
    mark = marker()
    assert session.do(say, mark, OTHER, PORT) == (b"", "gaierror")
    assert not watch.saw(mark) and untouched.accepted == 0


def test_the_name_of_one_connection_is_not_that_of_another(session, untouched, watch):
    """The synthetic address of an HTTP host, with the database's port: the address decides, not what was meant."""
    mark = marker()
    theirs = session.do(address_of, "v4.example.com")
    assert session.do(say, mark, HOST, PORT, theirs)[0] == b""
    assert not watch.saw(mark) and untouched.accepted == 0


@pytest.mark.parametrize("where", ["loopback", "metadata", "private", "mapped", "outside", "synthetic"])
def test_a_relayed_name_that_leads_to_a_special_address(session, untouched, watch, where):
    mark = marker()
    host = f"to-{where}.example.com"
    assert session.do(say, mark, host, PORT)[0] == b""
    assert not watch.saw(mark)
    record = session.wait_for_records(lambda found: found and found[-1]["host"] == host)[-1]
    assert (record["decision"], record["reason"]) == ("deny", "address-not-allowed"), record


def test_a_relayed_name_is_looked_up_and_checked_each_time(session, servers, world):
    """Every other answer leads to the metadata service; only the one that is allowed is dialled."""
    [untouchable] = [server for server in servers[1] if server.address == lab.METADATA]
    reasons, end = set(), time.monotonic() + 20
    while not {None, "address-not-allowed"} <= reasons:
        assert time.monotonic() < end, reasons
        session.do(say, marker(), "rebinding.example.com", PORT)
        time.sleep(0.3)
        reasons = {r.get("reason") for r in session.bench.records() if r["host"] == "rebinding.example.com"}
    assert untouchable.accepted == 0


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
def test_the_database_as_host_of_a_request(session, untouched, watch, tls):
    """The connection was made for an HTTP host; a server name or Host that is the database's changes nothing of it."""
    reply = session.ask(
        HOST,
        f"GET /allowed HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode(),
        port=443 if tls else 80,
        address=session.do(address_of, "v4.example.com"),
        tls=tls,
    )
    assert reply["status"] == 403 and untouched.accepted == 0, reply


def test_the_rules_of_http_hold_beside_it(session, untouched, world):
    """A relayed host opens nothing of an HTTP host, on the same port or any other."""
    for port in (443, PORT):
        reply = session.ask("v4.example.com", b"GET /other HTTP/1.1\r\nHost: v4.example.com\r\n\r\n", port=port)
        assert (reply["status"], reply["headers"]["sallyport-denied"]) == (403, "path-not-allowed"), reply
    reply = session.ask(
        "deep.sub.example.com", b"GET /other HTTP/1.1\r\nHost: deep.sub.example.com\r\n\r\n", port=8443
    )
    assert (reply["status"], reply["headers"]["sallyport-denied"]) == (403, "path-not-allowed"), reply


@pytest.mark.parametrize(
    "endpoints, words",
    [
        ([relayed("any", 25)], "host: any cannot be used"),
        ([relayed(HOST, "any")], "the port any cannot be used"),
        ([{"name": "a", "host": HOST, "protocol": "tcp"}], "no ports"),
        ([relayed(HOST, 443), guard.endpoint(HOST, name="b")], "one has protocol: tcp and the other has not"),
        ([relayed(HOST, 443), guard.endpoint(HOST, name="b", ports=["any"])], "protocol: tcp and the other has not"),
        ([relayed("93.184.216.34", 25, addresses=None)], "must be in 'addresses' too"),
        ([relayed(HOST, 25, credential="c")], "'credential' cannot be used"),
    ],
    ids=["any host", "any port", "no port", "an HTTP port", "an HTTP host's ports", "an address", "a credential"],
)
def test_a_policy_that_would_relay_too_much_is_refused(bench, endpoints, words):
    bench.write_policy(guard.policy(*endpoints))
    done = subprocess.run([guard.SALLYPORT, "policy", "check", bench.policy_file], capture_output=True, text=True)
    assert done.returncode == 1 and words in done.stderr, done.stderr


@pytest.mark.parametrize(
    "endpoints, words",
    [
        ([relayed(HOST, 8443), guard.endpoint("*.example.com", ports=[8443])], "relays a port unread that endpoint"),
        ([relayed(HOST, 443)], "relays port 443 unread"),
    ],
    ids=["inside a wildcard", "the port of HTTPS"],
)
def test_a_policy_that_may_relay_too_much_is_warned_of(bench, endpoints, words):
    bench.write_policy(guard.policy(*endpoints))
    done = subprocess.run([guard.SALLYPORT, "policy", "check", bench.policy_file], capture_output=True, text=True)
    assert done.returncode == 0 and words in done.stderr, done.stderr
