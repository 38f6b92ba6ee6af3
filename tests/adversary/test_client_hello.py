"""The first bytes of TLS, through the whole guard: every way to cut a hello apart is understood, and every hello that
two readers could understand differently is refused before anything leaves."""

import inspect
import ssl

import pytest

import guard
import lab

HOST = "v4.example.com"
OTHER = "other.example.com"
DENIED = "denied.example.com"
SHARES_TRAFFIC = True
SERVER_HELLO = b"\x02"
POLICY = guard.policy(
    guard.endpoint(HOST),
    guard.endpoint(OTHER),
    guard.endpoint("v6.example.com", inspection="none", rules=None, name="passed"),
)


# What runs inside.


def send_hellos(jobs):
    """One connection for each (host, address, pieces): the first pieces of all are sent, then the second ones, and so
    on, so that the guard has most often read one before the next comes. Returns what came back on each, and how it
    ended."""
    streams = [dial(host, 443, address, timeout=30) for host, address, _ in jobs]  # noqa: F821
    for stream in streams:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # noqa: F821
    for number in range(max(len(pieces) for _, _, pieces in jobs)):
        for stream, (_, _, pieces) in zip(streams, jobs):
            if number < len(pieces):
                try:
                    stream.sendall(pieces[number])
                except OSError:
                    pass  # refused in the middle
    replies = []
    for stream in streams:
        try:
            stream.shutdown(socket.SHUT_WR)  # noqa: F821
        except OSError:
            pass
        replies.append(read_all(stream))  # noqa: F821
        stream.close()
    return replies


def send(session, jobs, recorded=True):
    """What came back, and the reasons in the records: one of each connection, unless it ended before it had said
    anything."""
    before = len(session.bench.records())
    replies = session.do_source(inspect.getsource(send_hellos), "send_hellos", jobs)
    expected = len(jobs) if recorded else 0
    records = session.wait_for_records(lambda r: len(r) >= before + expected, timeout=30)[before:]
    assert len(records) == expected
    return replies, [r.get("reason") for r in records]


# What is sent.


def real_hello(host=HOST, **options):
    """What Python's ssl would send. With TLS 1.2 alone the guard's answer shows its certificate in clear text."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = options.get("version", ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    if "alpn" in options:
        context.set_alpn_protocols(options["alpn"])
    outgoing = ssl.MemoryBIO()
    engine = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        engine.do_handshake()
    return outgoing.read()


def vector(size, content):
    return len(content).to_bytes(size, "big") + content


def record(payload, kind=22, version=0x0301):
    return bytes([kind]) + version.to_bytes(2, "big") + vector(2, payload)


def name(text, kind=0):
    return bytes([kind]) + vector(2, text)


def server_name(*names):
    return 0, vector(2, b"".join(names))


V4 = HOST.encode()
SNI = server_name(name(V4))
GROUPS = 10, vector(2, b"\0\x1d\0\x17")
POINTS = 11, b"\1\0"
SIGNATURES = 13, vector(2, b"\x04\x03\x08\x04\x04\x01")
REST = [GROUPS, POINTS, SIGNATURES]


def message(extensions, suites=b"\xc0\x2b\xc0\x2f", session_id=b"", version=b"\3\3", compression=b"\0"):
    """A hello for TLS 1.2, put together by hand."""
    block = b"".join(kind.to_bytes(2, "big") + vector(2, data) for kind, data in extensions)
    body = version + bytes(range(32)) + vector(1, session_id) + vector(2, suites) + vector(1, compression)
    return b"\1" + vector(3, body + vector(2, block))


def hello(*extensions, **parts):
    return record(message([*extensions, *REST], **parts))


GOOD = message([SNI, *REST])


def padded(size):
    """A hello of that many bytes, records left out."""
    return record(message([SNI, *REST, (21, bytes(size - len(GOOD) - 4))]))


ML_KEM_768, ML_KEM_1024 = b"\x11\xec" + vector(2, bytes(1216)), b"\x02\x02" + vector(2, bytes(1568))
VERSIONS_12_AND_GREASE = 43, vector(1, b"\x7a\x7a\3\3")
ECH_OUTER = 0xFE0D, b"\0\0\1\0\1\x07\0\x20" + bytes(range(32)) + vector(2, bytes(64))


def is_served(reply, host=HOST):
    """The guard has shaken hands as that host: its certificate is there, in clear text."""
    data, _ = reply
    return data[:1] == b"\x16" and data[5:6] == SERVER_HELLO and host.encode() in data


def nothing_happened(world, watch, listeners):
    assert not world.requests() and not world.tls.failed_handshakes
    assert watch.leaks() == [] and listeners.heard == []


def in_two(data):
    return [[data[:at], data[at:]] for at in range(1, len(data))]


def in_two_records(data):
    payload = data[5:]
    return [[record(payload[:at]) + record(payload[at:])] for at in range(1, len(payload))]


def in_two_records_and_segments(data):
    payload = data[5:]
    return [[record(payload[:at]), record(payload[at:])] for at in range(1, len(payload))]


@pytest.mark.parametrize("cut", [in_two, in_two_records, in_two_records_and_segments])
def test_a_real_hello_split_at_every_byte(session, world, cut):
    ways = cut(real_hello())
    replies, _ = send(session, [(HOST, None, pieces) for pieces in ways])
    assert len(ways) > 100 and [at for at, reply in enumerate(replies) if not is_served(reply)] == []
    assert not world.requests()


def test_a_hello_in_records_of_one_byte_and_in_segments_of_one_byte(session):
    whole = real_hello()
    tiny = b"".join(record(bytes([byte])) for byte in whole[5:])
    bytewise = [bytes([byte]) for byte in whole]
    replies, _ = send(session, [(HOST, None, [tiny]), (HOST, None, bytewise), (HOST, None, [bytes([b]) for b in tiny])])
    assert [is_served(reply) for reply in replies] == [True] * 3


SERVED = {
    "as it is": record(GOOD),
    "GREASE everywhere": hello(
        (0x0A0A, b""),
        SNI,
        (0xFAFA, b"\0"),
        VERSIONS_12_AND_GREASE,
        suites=b"\x1a\x1a\xc0\x2b",
    ),
    "a key share of X25519MLKEM768": hello(SNI, (51, vector(2, ML_KEM_768))),
    "key shares of both sizes": hello(SNI, (51, vector(2, ML_KEM_768 + ML_KEM_1024 + ML_KEM_768))),
    "1500 bytes": padded(1500),
    "1700 bytes": padded(1700),
    "2000 bytes": padded(2000),
    "8000 bytes": padded(8000),
    "the largest": padded(16000),
    "the outer form of ECH": hello(SNI, ECH_OUTER),
    "a name in capitals": hello(server_name(name(V4.upper()))),
    "a name with a dot": hello(server_name(name(V4 + b"."))),
    "record version 3.0": record(GOOD, version=0x0300),
    "record version 3.3": record(GOOD, version=0x0303),
    "record version 3.4": record(GOOD, version=0x0304),
    "record version 3.255": record(GOOD, version=0x03FF),
    "a session id": hello(SNI, session_id=bytes(32)),
}


@pytest.mark.parametrize("what", SERVED)
def test_hellos_that_are_served(session, what):
    (reply,), _ = send(session, [(HOST, None, [SERVED[what]])])
    assert is_served(reply), reply


TWO_NAMES = server_name(name(V4), name(DENIED.encode()))


def with_length(at, size, change):
    """The good hello, with the number of `size` bytes at a place of the message changed."""
    value = int.from_bytes(GOOD[at : at + size], "big") + change
    return record(GOOD[:at] + value.to_bytes(size, "big") + GOOD[at + size :])


AT_SUITES = 4 + 2 + 32 + 1
AT_COMPRESSION = AT_SUITES + 2 + 4
AT_BLOCK = AT_COMPRESSION + 2
AT_SNI = AT_BLOCK + 2 + 2

REFUSED = {
    "two names": hello(TWO_NAMES),
    "two names, the denied one first": hello(server_name(name(DENIED.encode()), name(V4))),
    "the same name twice": hello(server_name(name(V4), name(V4))),
    "two extensions": hello(SNI, server_name(name(DENIED.encode()))),
    "two extensions, the denied one first": hello(server_name(name(DENIED.encode())), SNI),
    "the same extension twice": hello(SNI, SNI),
    "another extension twice": hello(SNI, (0x0A0A, b""), (0x0A0A, b"")),
    "no name in the list": hello(server_name()),
    "no list": hello((0, b"")),
    "an empty name": hello(server_name(name(b""))),
    "a name of another type": hello(server_name(name(V4, 1))),
    "a name of another type behind": hello(server_name(name(V4), name(DENIED.encode(), 1))),
    "a NUL in the name": hello(server_name(name(V4 + b"\0." + DENIED.encode()))),
    "a long name": hello(server_name(name(b"a" * 63 + b"." + b"b" * 250))),
    "a port in the name": hello(server_name(name(V4 + b":443"))),
    "bytes after the list": hello((0, SNI[1] + b"\0")),
    "ECH, empty": hello(SNI, (0xFE0D, b"")),
    "ECH, the inner form": hello(SNI, (0xFE0D, b"\1")),
    "SSLv2, offering TLS 1.0": b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + bytes(37),
    "SSLv2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37),
    "an empty record before": record(b"") + record(GOOD),
    "an empty record between": record(GOOD[:50]) + record(b"") + record(GOOD[50:]),
    "another record between": record(GOOD[:50]) + record(b"\1", 20) + record(GOOD[50:]),
    "an alert first": record(b"\1\0", 21) + record(GOOD),
    "another version between": record(GOOD[:50]) + record(GOOD[50:], version=0x0201),
    "two hellos": record(GOOD + GOOD),
    "a byte behind": record(GOOD + b"\0"),
    "another message": record(b"\2" + GOOD[1:]),
    "version 2 in the hello": hello(SNI, version=b"\2\2"),
    "no cipher suites": hello(SNI, suites=b""),
    "half a cipher suite": hello(SNI, suites=b"\xc0"),
    "no null compression": hello(SNI, compression=b"\1"),
    "a session id of 33 bytes": hello(SNI, session_id=bytes(33)),
    "over the cap": padded(16001),
    "the message is said to be shorter": with_length(1, 3, -1),
    "the message is said to be huge": with_length(1, 3, 0xF00000),
    "the cipher suites are said to be longer": with_length(AT_SUITES, 2, 2),
    "the cipher suites are said to be odd": with_length(AT_SUITES, 2, 1),
    "the compression is said to be longer": with_length(AT_COMPRESSION, 1, 1),
    "the extensions are said to be longer": with_length(AT_BLOCK, 2, 1),
    "the extensions are said to be shorter": with_length(AT_BLOCK, 2, -1),
    "the name's extension is said to be longer": with_length(AT_SNI, 2, 4),
    "the name's extension is said to be shorter": with_length(AT_SNI, 2, -4),
    "the list is said to be longer": with_length(AT_SNI + 2, 2, 1),
    "the list is said to be shorter": with_length(AT_SNI + 2, 2, -1),
    "the name is said to be longer": with_length(AT_SNI + 5, 2, 1),
    "the name is said to be shorter": with_length(AT_SNI + 5, 2, -1),
}


def answered(replies, names):
    """The names of those that the guard has shaken hands with, or has let wait."""
    told = zip([name for name in names for _ in range(2)], replies, strict=True)
    return [name for name, (data, end) in told if end == "timeout" or data[5:6] == SERVER_HELLO]


def test_hellos_that_are_refused(session, world, watch, listeners):
    """On the way to an allowed address and to one that no policy knows."""
    jobs = [(HOST, address, [data]) for data in REFUSED.values() for address in (None, lab.OUTSIDE_V4)]
    replies, reasons = send(session, jobs)
    assert answered(replies, REFUSED) == []
    assert reasons == ["malformed-tls"] * len(jobs)
    nothing_happened(world, watch, listeners)


# Not yet a hello when the client has nothing more to say.
UNFINISHED = {
    "nothing but a record's header": record(GOOD)[:5],
    "all but the last byte": record(GOOD)[:-1],
    "the record is said to be longer": record(GOOD)[:3] + vector(2, GOOD + b"\0")[:2] + GOOD,
    "the message is said to be longer": with_length(1, 3, 1),
}


def test_hellos_that_end_too_early(session, world, watch, listeners):
    jobs = [(HOST, address, [data]) for data in UNFINISHED.values() for address in (None, lab.OUTSIDE_V4)]
    replies, _ = send(session, jobs, recorded=False)
    assert answered(replies, UNFINISHED) == []
    nothing_happened(world, watch, listeners)


def test_without_a_name_the_address_that_dns_gave_counts(session, world):
    """The certificate is for the name that was looked up."""
    (known,), _ = send(session, [(HOST, None, [hello()])])
    assert is_served(known)


ADDRESSES_AS_NAMES = [lab.OUTSIDE_V4.encode(), lab.OUTSIDE_V6.encode(), b"127.0.0.1", b"::1", b"169.254.169.254"]


@pytest.mark.parametrize("text", [None, *ADDRESSES_AS_NAMES])
def test_neither_no_name_nor_an_address_opens_an_unknown_address(session, world, watch, listeners, text):
    """It may be shaken hands with, so that a refusal can be read, but only as what it asked for."""
    extensions = [] if text is None else [server_name(name(text))]
    (reply,), _ = send(session, [(HOST, lab.OUTSIDE_V4, [hello(*extensions)])])
    assert reply[1] != "timeout" and not is_served(reply) and not is_served(reply, OTHER)
    nothing_happened(world, watch, listeners)


def test_a_passed_through_connection_gets_the_hello_as_it_was(session, world):
    """Also where it came in pieces: the origin sees the same bytes, and answers with its own certificate."""
    whole = real_hello("v6.example.com")
    tiny = b"".join(record(whole[5:][at : at + 40]) for at in range(0, len(whole) - 5, 40))
    replies, _ = send(session, [("v6.example.com", None, [data]) for data in (whole, tiny)])
    for data, _ in replies:
        assert data[:1] == b"\x16" and data[5:6] == SERVER_HELLO and b"test-root" in data
