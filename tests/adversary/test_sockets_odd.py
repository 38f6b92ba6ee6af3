"""Everything else that a socket can do: other protocols, other addresses for the same, options that choose a way,
tricks with who calls whom. The witness outside sees none of it."""

import itertools
import os

import pytest

import guard
import lab

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST))
V4, V6 = lab.OUTSIDE_V4, lab.OUTSIDE_V6
_numbers = itertools.count()


@pytest.fixture(scope="module")
def guarded(world):
    """As root, who without privileges still may more than others; test_ways_out.py has both."""
    bench = guard.Bench(world)
    with bench.session(policy=POLICY) as made:
        yield made
    bench.close()


def send(marker, family, kind, protocol, address, options=(), source=None):
    """One socket: options, a source, a destination, the marker; what came back."""
    stream = socket.socket(family, kind, protocol)
    stream.settimeout(0.5)
    for level, option, value in options:
        stream.setsockopt(level, option, value)
    if source:
        stream.bind(source)
    stream.connect(address) if kind != socket.SOCK_RAW else None
    stream.sendto(marker, address) if kind == socket.SOCK_RAW else stream.send(marker)
    return stream.recv(100)


INET, INET6, STREAM, DGRAM, RAW, SEQ = 2, 10, 1, 2, 3, 5
MPTCP, SCTP, DCCP, UDPLITE, L2TP = 262, 132, 33, 136, 115
# name: family, type, protocol, address, options, source
WAYS = {
    "MPTCP": (INET, STREAM, MPTCP, (V4, 4444)),
    "MPTCP, version 6": (INET6, STREAM, MPTCP, (V6, 4444)),
    "SCTP": (INET, STREAM, SCTP, (V4, 4444)),
    "SCTP, in packets": (INET, SEQ, SCTP, (V4, 4444)),
    "SCTP, version 6": (INET6, STREAM, SCTP, (V6, 4444)),
    "DCCP": (INET, 6, DCCP, (V4, 4444), [(269, 2, 42)]),
    "UDP-Lite, version 6": (INET6, DGRAM, UDPLITE, (V6, 4444)),
    "L2TP": (INET, DGRAM, L2TP, (V4, 0)),
    "an unknown protocol": (INET, RAW, 253, (V4, 0)),
    "GRE": (INET, RAW, 47, (V4, 0)),
    "IP in IP": (INET, RAW, 4, (V4, 0)),
    "ESP": (INET, RAW, 50, (V4, 0)),
    "IPv6 in raw": (INET6, RAW, 255, (V6, 0)),
    "a mapped address over UDP": (INET6, DGRAM, 0, ("::ffff:" + V4, 4444)),
    "a translated address": (INET6, STREAM, 0, ("64:ff9b::" + V4, 4444)),
    "6to4": (INET6, DGRAM, 0, ("2002:c000:242::1", 4444)),
    "no address": (INET, STREAM, 0, ("0.0.0.0", 4444)),
    "no address, version 6": (INET6, DGRAM, 0, ("::", 4444)),
    "another loopback": (INET, STREAM, 0, ("127.0.0.10", 443)),
    "the last loopback": (INET, DGRAM, 0, ("127.255.255.254", 53)),
    "broadcast to all": (INET, DGRAM, 0, ("255.255.255.255", 4444), [(1, 6, 1)]),
    "multicast to all": (INET, DGRAM, 0, ("224.0.0.1", 4444)),
    "multicast, far": (INET, DGRAM, 0, ("239.1.2.3", 4444), [(0, 33, 64), (0, 34, 1)]),
    "multicast, version 6": (INET6, DGRAM, 0, ("ff02::1", 4444, 0, 1)),
    "multicast of the site": (INET6, DGRAM, 0, ("ff05::2", 4444, 0, 1)),
    "link-local": (INET6, STREAM, 0, ("fe80::1", 4444, 0, 1)),
    "a reserved address": (INET, STREAM, 0, ("240.0.0.1", 4444)),
    "the network's own": (INET, DGRAM, 0, ("0.1.2.3", 4444)),
    "a loose source route": (INET, STREAM, 0, (V4, 4444), [(0, 4, b"\x83\x07\x04\xc0\x00\x02\x42\x00")]),
    "a record of the route": (INET, DGRAM, 0, (V4, 4444), [(0, 4, b"\x07\x07\x04\0\0\0\0\0")]),
    "a routing header": (INET6, DGRAM, 0, (V6, 4444), [(41, 57, b"\0\2\0\1\0\0\0\0" + bytes(16))]),
    "hop-by-hop options": (INET6, DGRAM, 0, (V6, 4444), [(41, 54, b"\0\0\1\4\0\0\0\0")]),
    "destination options": (INET6, STREAM, 0, (V6, 4444), [(41, 59, b"\0\0\1\4\0\0\0\0")]),
    "a mark": (INET, STREAM, 0, (V4, 4444), [(1, 36, 1337)]),
    "a device": (INET, STREAM, 0, (V4, 4444), [(1, 25, b"lo\0")]),
    "another device": (INET, DGRAM, 0, (V4, 4444), [(1, 25, b"eth0\0")]),
    "no routing": (INET, DGRAM, 0, (V4, 4444), [(1, 5, 1)]),
    "a free source": (INET, STREAM, 0, (V4, 4444), [(0, 15, 1)], ("203.0.113.7", 0)),
    "a transparent source": (INET, STREAM, 0, (V4, 4444), [(0, 19, 1)], ("203.0.113.7", 0)),
    "the destination as source": (INET, DGRAM, 0, (V4, 4444), [(0, 15, 1)], (V4, 4444)),
    "the guard's port as source": (INET, STREAM, 0, (V4, 4444), [(1, 2, 1), (1, 15, 1)], ("0.0.0.0", 61001)),
    "the name service's port as source": (INET, DGRAM, 0, (V4, 4444), [(1, 15, 1)], ("0.0.0.0", 53)),
    "the highest priority": (INET, DGRAM, 0, (V4, 4444), [(1, 12, 6)]),
    "the lowest time to live": (INET, DGRAM, 0, (V4, 4444), [(0, 2, 1)]),
    "fragments": (INET, DGRAM, 0, (V4, 4444), [(0, 10, 0)]),
    "zero copies": (INET, STREAM, 0, (V4, 4444), [(1, 60, 1)]),
    "port 0": (INET, STREAM, 0, (V4, 0)),
    "not DNS on its port": (INET, STREAM, 0, (V4, 53)),
    "not DNS on its port, UDP": (INET, DGRAM, 0, (V4, 53)),
    "time": (INET, DGRAM, 0, (V4, 123)),
    "IPsec through NAT": (INET, DGRAM, 0, (V4, 4500)),
    "WireGuard": (INET, DGRAM, 0, (V4, 51820)),
}


@pytest.mark.parametrize("what", WAYS)
def test_another_kind_of_socket(guarded, world, watch, listeners, what):
    """Redirecting TCP and answering DNS is not enough if one other thing passes."""
    marker = f"marker{os.getpid()}y{next(_numbers)}y".encode()
    code = """
def attempt(*arguments):
    try:
        return send(*arguments)
    except (OSError, ValueError, OverflowError) as error:
        return f"{type(error).__name__}: {error}"
"""
    import inspect

    if what == "fragments":
        marker = (marker + b" ") * 3000
    said = guarded.do_source(inspect.getsource(send) + code, "attempt", marker, *WAYS[what])
    assert watch.saw(marker[:20]) == [] and watch.leaks() == [] and listeners.heard == [], said
    assert said != b"answer from outside"
    assert guarded.get(HOST)["status"] == 200


def test_calls_from_both_sides(guarded, world, watch, listeners):
    """Two sockets that call each other at one time need nobody who listens: here under addresses of the world."""

    def both(address):
        import threading

        results = []

        def call(source, destination):
            stream = socket.socket()
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stream.settimeout(0.3)
            try:
                stream.bind((address, source))
            except OSError as error:
                results.append(type(error).__name__)
                return
            for _ in range(20):
                try:
                    stream.connect((address, destination))
                    stream.sendall(b"shouted")
                    results.append(stream.recv(10))
                    return
                except OSError as error:
                    results.append(type(error).__name__)
            stream.close()

        threads = [threading.Thread(target=call, args=pair) for pair in ((4445, 4446), (4446, 4445))]
        [t.start() for t in threads]
        [t.join() for t in threads]
        return results

    said = guarded.do(both, V4)
    assert watch.saw(b"shouted") == [] and watch.leaks() == [] and listeners.heard == [], said
    assert guarded.get(HOST)["status"] == 200


def test_the_guards_ports_taken_over(guarded, world, watch, listeners):
    """Whoever listens where the kernel redirects to would be the guard to other processes of the function, and see what
    they send, unrecorded."""

    def take(ports):
        taken = []
        for port in ports:
            for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    stream = socket.socket(family, kind)
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    try:
                        stream.bind((address, port))
                        if kind == socket.SOCK_STREAM:
                            stream.listen()
                        taken.append((address, port, int(kind)))
                    except OSError:
                        pass
                    globals().setdefault("kept", []).append(stream)
        return taken

    def listening():
        ports = set()
        for name in ("tcp", "tcp6"):
            for line in open(f"/proc/net/{name}").read().splitlines()[1:]:
                if line.split()[3] == "0A":
                    ports.add(int(line.split()[1].split(":")[1], 16))
        return sorted(ports)

    ports = guarded.do(listening)
    assert ports
    taken = guarded.do(take, ports)
    assert not [place for place in taken if place[2] == 1], "no listener of TCP beside the guard's"
    for _ in range(5):
        assert guarded.get(HOST)["status"] == 200
    assert guarded.get("denied.example.com", address=V4)["status"] == 403


def test_a_descriptor_handed_in(guarded, world, watch, listeners):
    """Descriptors travel over unix sockets: from the guard none can be had, whatever is asked of what it listens on."""

    def ask_for_one():
        import array
        import glob

        got = []
        names = glob.glob("/run/**/*.sock", recursive=True) + glob.glob("/tmp/**/*.sock", recursive=True)
        for name in names + ["\0sallyport", "\0sallyport-super", "\0sallyport-admin"]:
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(0.3)
            try:
                stream.connect(name)
                stream.sendall(b"give")
                _, control, _, _ = stream.recvmsg(100, socket.CMSG_SPACE(64 * 4))
                got += [len(array.array("i", data)) for _, _, data in control]
            except OSError:
                pass
        return got

    assert guarded.do(ask_for_one) == []
    assert guarded.get(HOST)["status"] == 200 and watch.leaks() == [] and listeners.heard == []
