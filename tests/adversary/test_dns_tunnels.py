"""Data leaves in questions, or a forged answer sends the function or its guard elsewhere. The witnesses: the lab's name
server, which remembers every question, and every packet."""

import itertools
import os
import struct

import pytest

import guard
import lab

HOST = "v4.example.com"
POLICY = guard.policy(
    guard.endpoint(HOST),
    guard.endpoint("*.wild.example.com", path="/allowed/", methods=["GET"]),
)
_numbers = itertools.count()


def new_marker():
    return f"leak{os.getpid()}x{next(_numbers)}x"


def name_of(text):
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def question(name, kind=1, dns_class=1, flags=0x0100, counts=(1, 0, 0, 0), after=b"", repeat=1):
    return (
        struct.pack("!HHHHHH", 0x4242, flags, *counts)
        + (name_of(name) + struct.pack("!HH", kind, dns_class)) * repeat
        + after
    )


def option(code, data):
    return b"\0\0\x29\x10\0\0\0\0\0" + struct.pack("!HHH", len(data) + 4, code, len(data)) + data


def record(name, address):
    return name_of(name) + struct.pack("!HHIH", 1, 1, 3600, 4) + bytes(map(int, address.split(".")))


# name: the message, from a marker that must not get out.
MESSAGES = {
    "TXT": lambda m: question(f"{m}.wild.example.com", 16),
    "NULL": lambda m: question(f"{m}.wild.example.com", 10),
    "ANY": lambda m: question(f"{m}.wild.example.com", 255),
    "SVCB": lambda m: question(f"{m}.wild.example.com", 64),
    "CNAME": lambda m: question(f"{m}.wild.example.com", 5),
    "NAPTR": lambda m: question(f"{m}.wild.example.com", 35),
    "a type of its own": lambda m: question(f"{m}.wild.example.com", 65280),
    "the longest labels": lambda m: question(".".join([(m + "a" * 63)[:63]] * 3) + ".wild.example.com"),
    "many labels": lambda m: question(".".join(m) + ".wild.example.com"),
    "mixed case": lambda m: question("".join(c.upper() if i % 2 else c for i, c in enumerate(m)) + ".WiLd.eXaMpLe.CoM"),
    "bytes that are no letters": lambda m: question(f"{m}.\x01\x02\x7f.wild.example.com"),
    "a denied name": lambda m: question(f"{m}.denied.example.com"),
    "a name of one label": lambda m: question(m),
    "below the reverse zone": lambda m: question(f"{m}.in-addr.arpa", 12),
    "below localhost": lambda m: question(f"{m}.localhost"),
    "the chaos class": lambda m: question(f"{m}.bind", 16, 3),
    "any class": lambda m: question(f"{m}.wild.example.com", 16, 255),
    "no recursion": lambda m: question(f"{m}.wild.example.com", 16, 1, 0),
    "two questions": lambda m: question(HOST, counts=(2, 0, 0, 0), after=question(f"{m}.example.com")[12:]),
    "a question that says a thousand": lambda m: question(f"{m}.wild.example.com", counts=(1000, 0, 0, 0)),
    "data in a private option": lambda m: question(HOST, counts=(1, 0, 0, 1), after=option(65001, m.encode())),
    "data as padding": lambda m: question(HOST, counts=(1, 0, 0, 1), after=option(12, m.encode() * 20)),
    "data as client subnet": lambda m: question(HOST, counts=(1, 0, 0, 1), after=option(8, b"\0\1\x20\0" + m.encode()[:4])),
    "data as a cookie": lambda m: question(HOST, counts=(1, 0, 0, 1), after=option(10, m.encode()[:8])),
    "data behind the message": lambda m: question(HOST, after=m.encode() * 10),
    "an update": lambda m: question("example.com", 6, 1, 0x2800, (1, 0, 1, 0), record(f"{m}.example.com", "1.2.3.4")),
    "a notification": lambda m: question(f"{m}.example.com", 6, 1, 0x2400),
    "a status question": lambda m: question(f"{m}.example.com", 1, 1, 0x1000),
    "a zone transfer": lambda m: question(f"{m}.wild.example.com", 252),
    "an incremental one": lambda m: question(f"{m}.wild.example.com", 251),
    "a pointer to itself": lambda m: struct.pack("!HHHHHH", 1, 256, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1" + m.encode(),
    "a loop of two pointers": lambda m: struct.pack("!HHHHHH", 1, 256, 1, 0, 0, 0) + b"\xc0\x0e\xc0\x0c\0\1\0\1",
    "a pointer past the end": lambda m: struct.pack("!HHHHHH", 1, 256, 1, 0, 0, 0) + b"\xc3\xff\0\1\0\1" + m.encode(),
    "a label that has no end": lambda m: struct.pack("!HHHHHH", 1, 256, 1, 0, 0, 0) + b"\x3f" + m.encode(),
    "nothing but a head": lambda m: struct.pack("!HHHHHH", 1, 256, 1, 0, 0, 0),
    "less than a head": lambda m: m.encode()[:7],
    "four thousand bytes": lambda m: question(HOST, after=m.encode() * 400)[:4096],
    "sixty thousand bytes": lambda m: question(HOST, after=m.encode() * 6000)[:60000],
}


def say(message, tcp, address="127.0.0.1"):
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    stream = socket.socket(socket.AF_INET, kind)
    stream.settimeout(0.5)
    try:
        stream.connect((address, 53))
        stream.send((len(message).to_bytes(2, "big") if tcp else b"") + message)
        return len(stream.recv(65536))
    except OSError as error:
        return type(error).__name__


@pytest.mark.parametrize("what", MESSAGES)
def test_nothing_of_a_question_leaves(session, world, watch, what):
    """Each is asked of the guard over UDP, and of a name server outside over TCP: none gets a question of its own
    out."""
    marker = new_marker()
    message = MESSAGES[what](marker)
    session.do(say, message, False, "127.0.0.1")
    session.do(say, message, True, lab.RESOLVER)
    assert watch.saw(marker.encode()) == [] and watch.saw(marker.upper().encode()) == []
    assert marker not in repr(world.dns.questions).lower() and watch.leaks() == []
    assert session.get(HOST)["status"] == 200


def test_a_denied_request_is_not_looked_up(session, world, watch):
    """Below a wildcard the name itself could carry data, and looking it up would send it: not before a request to it is
    allowed."""
    marker = new_marker()
    for path, method in (("/elsewhere", "GET"), ("/allowed/x", "POST"), ("/allowed/../x", "GET")):
        request = f"{method} {path} HTTP/1.1\r\nHost: {marker}.wild.example.com\r\nConnection: close\r\n\r\n".encode()
        assert session.ask(f"{marker}.wild.example.com", request)["status"] == 403
    assert marker not in repr(world.dns.questions) and watch.saw(marker.encode()) == []
    assert session.get(HOST)["status"] == 200


def test_a_forged_answer_is_not_believed(session, world, watch, listeners):
    """The function answers its own question, to the guard and to whoever asks: with the attacker's address."""

    def forge(messages):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for _ in range(50):
            for message in messages:
                for port in (53, 5353, 61001, 61000, 61053):
                    try:
                        sender.sendto(message, ("127.0.0.1", port))
                    except OSError:
                        pass
        return sorted({found[4][0] for found in socket.getaddrinfo("v4.example.com", 443, socket.AF_INET)})

    before = session.do(forge, [])
    answer = record(HOST, lab.OUTSIDE_V4)
    forged = [question(HOST, flags=flags, counts=(1, 1, 0, 0), after=answer) for flags in (0x8180, 0x8580, 0x0100)]
    forged.append(question(HOST, counts=(1, 0, 1, 1), after=answer + answer))
    assert session.do(forge, forged) == before
    reply = session.get(HOST)
    assert reply["status"] == 200 and listeners.heard == [] and watch.leaks() == []


def test_a_thousand_questions_in_one_stream(session, world, watch):
    """The channel that a tunnel wants: many questions, no answer read."""

    def pipeline(messages):
        stream = socket.create_connection(("127.0.0.1", 53), 10)
        stream.settimeout(10)
        stream.sendall(b"".join(len(m).to_bytes(2, "big") + m for m in messages))
        data = b""
        while len(data) < 12 * len(messages):
            part = stream.recv(65536)
            if not part:
                break
            data += part
        return len(data)

    marker = new_marker()
    messages = [question(f"{marker}{n}.{zone}", 16) for n in range(500) for zone in ("wild.example.com", "evil.example")]
    assert session.do(pipeline, messages) > 0
    assert watch.saw(marker.encode()) == [] and marker not in repr(world.dns.questions)
    assert session.get(HOST)["status"] == 200


def test_a_stream_that_never_asks(session, world):
    """More streams to the name service than it serves at one time, each with half a message."""

    def hold(count):
        held = []
        for _ in range(count):
            stream = socket.create_connection(("127.0.0.1", 53), 5)
            stream.sendall(b"\x0f")
            held.append(stream)
        names = [len(socket.getaddrinfo("v4.example.com", 443, socket.AF_INET, socket.SOCK_STREAM))]
        [stream.close() for stream in held]
        return names

    assert session.do(hold, 200) == [1]
    assert session.get(HOST)["status"] == 200


def test_more_names_than_there_are_places_for(bench, world):
    """65,536 names have synthetic addresses; the function asks for more: no name gets another one's address, and those
    that are known go on to work."""

    def fill(count):
        import struct

        stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stream.connect(("127.0.0.1", 53))
        stream.settimeout(5)
        tail = b"\x04wild\x07example\x03com\0\0\1\0\1"
        refused, seen = 0, set()
        for start in range(0, count, 50):
            for n in range(start, start + 50):
                label = b"n%06d" % n
                stream.send(struct.pack("!HHHHHH", n & 0xFFFF, 256, 1, 0, 0, 0) + b"\x07" + label + tail)
            for _ in range(50):
                answer = stream.recv(600)
                if answer[3] & 15:
                    refused += 1
                else:
                    seen.add(answer[-4:])
        return refused, len(seen)

    with bench.session(policy=POLICY) as session:
        assert session.get(HOST)["status"] == 200
        refused, seen = session.do(fill, 66_000)
        assert seen + refused == 66_000 and 60_000 < seen <= 65_536, (refused, seen)
        assert session.get(HOST)["status"] == 200
