"""Names and addresses that lead to where no function may go: the machine itself, its network, its metadata
service."""

import pytest

import guard
import lab

INTERNAL = [
    "to-loopback.example.com",
    "to-metadata.example.com",
    "to-private.example.com",
    "to-mapped.example.com",
    "to-outside.example.com",
    "to-synthetic.example.com",
]
POLICY = guard.policy(
    *[guard.endpoint(name, addresses=None) for name in INTERNAL],
    guard.endpoint("rebinding.example.com", addresses=["127.0.0.0/8"]),
    guard.endpoint("any", addresses=None, scheme="http", ports=["any"], name="everywhere"),
    guard.endpoint("any", addresses=None, ports=["any"], name="everywhere-tls"),
)


@pytest.mark.parametrize("host", INTERNAL)
@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
def test_a_name_that_leads_to_a_special_address(session, world, watch, listeners, host, tls):
    reply = session.get(host, tls=tls, port=443 if tls else 80)
    assert reply["status"] == 403 and reply["headers"]["sallyport-denied"] == "address-not-allowed", reply
    assert not world.requests() and listeners.heard == []
    assert watch.leaks() == []
    assert not [
        p
        for p in watch.packets
        if p.protocol == "tcp" and p.destination in (lab.ORIGIN_V4, lab.METADATA, lab.PRIVATE, lab.OUTSIDE_V4)
    ]


ADDRESSES = [
    "169.254.169.254",
    "127.0.0.1",
    "127.0.0.10",
    "10.66.0.1",
    "192.0.2.66",
    "198.18.0.1",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]",
    "[fd5a:11a1::10]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[2001:db8::66]",
    "[::127.0.0.1]",
]


@pytest.mark.parametrize("host", ADDRESSES)
def test_a_special_address_as_host(session, world, watch, listeners, host):
    """The endpoint is `any`, which is every name and address, but no special one."""
    request = f"GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    reply = session.ask("unused", request, address=lab.OUTSIDE_V4, tls=False, port=80)
    assert reply["status"] in (400, 403), reply
    assert reply["headers"]["sallyport-denied"] in (
        "address-not-allowed",
        "malformed-target",
        "malformed-http",
        "host-mismatch",
    ), reply
    assert not world.requests() and watch.leaks() == [] and listeners.heard == []


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "127.0.0.01",
        "1.2.3",
        "169.254.43518",
        "[0:0:0:0:0:ffff:127.0.0.1%lo]",
        "[::1%25lo]",
        "localhost",
        "localhost.",
    ],
)
def test_other_spellings_of_special_addresses(session, world, watch, listeners, host):
    request = f"GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    reply = session.ask("unused", request, address=lab.OUTSIDE_V4, tls=False, port=80)
    assert reply["status"] in (400, 403, 502), reply
    assert not world.requests() and watch.leaks() == [] and listeners.heard == []


def test_rebinding_is_checked_at_every_connection(session, world, watch):
    """The name leads to an allowed address and to the metadata service by turns, and is never to be kept."""

    def visit():
        time.sleep(1.1)  # past the least time for which an answer of the name server is kept
        return get("rebinding.example.com", "/half-close")["status"]

    statuses = [session.do(visit) for _ in range(5)]
    assert set(statuses) == {200, 403}, statuses
    assert not [p for p in watch.packets if lab.METADATA in (p.destination, p.source)]


def test_the_machines_own_services_on_loopback_are_out_of_reach(session, world, watch):
    """The witness: a service of the machine on every address of its loopback."""

    def try_all():
        reached = []
        for address in ("127.0.0.1", "127.0.0.10", "::1"):
            for port in (80, 443, 8443):
                try:
                    socket.create_connection((address, port), 1).close()
                    reached.append((address, port))
                except OSError:
                    pass
        return reached

    assert session.do(try_all) == []
    assert watch.leaks() == [] and not world.requests()


def test_with_the_address_named_it_is_allowed(bench, world):
    policy = guard.policy(
        guard.endpoint("to-loopback.example.com", addresses=["127.0.0.10/32"]),
        guard.endpoint("v4.example.com", addresses=["127.0.0.11/32"]),
    )
    with bench.session(policy=policy) as session:
        assert session.get("to-loopback.example.com")["status"] == 200
        assert session.get("v4.example.com")["headers"]["sallyport-denied"] == "address-not-allowed"
