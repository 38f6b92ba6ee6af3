"""One destination per request: the server name, Host and the target must agree, and what cannot be read is
refused."""

import json
import time

import pytest

import guard
import lab

HOST = "v4.example.com"
POLICY = guard.policy(
    guard.endpoint(HOST),
    guard.endpoint("other.example.com"),
    guard.endpoint("api.example.com", scheme="http"),
    guard.endpoint("v6.example.com", inspection="none", rules=None, name="passed"),
)


def count(session):
    """The number of records, once none has come for a while."""
    last, found = -1, 0
    while found != last:
        last = found
        time.sleep(0.15)
        found = len(session.bench.records())
    return found


def wire(*lines, body=b""):
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def refused(reply, *reasons):
    assert reply["status"] is not None and reply["status"] >= 400, reply
    assert reply["headers"]["sallyport-denied"] in reasons, reply


# The server name is v4.example.com, and the address is where that leads.
MISMATCHES = {
    "another allowed host": "other.example.com",
    "a denied host": "denied.example.com",
    "another port": f"{HOST}:8443",
    "plain port": f"{HOST}:80",
    "an address": lab.OUTSIDE_V4,
    "an address in brackets": f"[{lab.OUTSIDE_V6}]",
    "a name below": f"x.{HOST}",
    "a name that ends in it": f"evil{HOST}",
    "a name that starts with it": f"{HOST}.evil.example.org",
}


@pytest.mark.parametrize("what", MISMATCHES)
def test_host_is_not_the_server_name(session, world, what):
    refused(session.ask(HOST, wire("GET /x HTTP/1.1", f"Host: {MISMATCHES[what]}")), "host-mismatch")
    assert not world.requests()


SAME = [HOST, HOST.upper(), "V4.Example.Com", f"{HOST}:443"]


@pytest.mark.parametrize("host", SAME)
def test_other_spellings_of_the_same_host(session, world, host):
    assert session.ask(HOST, wire("GET /echo HTTP/1.1", f"Host: {host}", "Connection: close"))["status"] == 200
    assert world.requests()[0].header("host").lower().removesuffix(":443") == HOST


MALFORMED_HOSTS = [
    "",
    " ",
    f"{HOST}:",
    f"{HOST}:0443",
    f"{HOST}:99999",
    f"{HOST}:0",
    f"{HOST}:https",
    f"user@{HOST}",
    f"{HOST}@denied.example.com",
    f"{HOST}\x00.denied.example.com",
    f"{HOST},denied.example.com",
    f"{HOST} denied.example.com",
    f"{HOST}/x",
    f"[{HOST}]",
    f"{HOST}?",
    f"{HOST}#",
    f"{HOST}%00",
    "v4.ex\u00e4mple.com",
    f"{HOST}..",
    f".{HOST}",
    "v4..example.com",
    f"{HOST}\\",
    "[::1",
    "::1",
    "0x7f.1",
    "127.1",
    "2130706433",
    "017700000001",
    "[::ffff:127.0.0.1%25lo]",
    "a" * 64 + ".example.com",
]


@pytest.mark.parametrize("host", MALFORMED_HOSTS, ids=lambda host: ascii(host)[:40])
def test_malformed_hosts(session, world, host):
    refused(
        session.ask(HOST, wire("GET /x HTTP/1.1", f"Host: {host}")),
        "host-mismatch",
        "malformed-http",
        "malformed-target",
    )
    assert not world.requests()


TARGETS = {
    "absolute, another host": "https://denied.example.com/x",
    "absolute, another allowed host": "https://other.example.com/x",
    "absolute, another port": f"https://{HOST}:8443/x",
    "absolute, plain": f"http://{HOST}/x",
    "absolute, userinfo": f"https://{HOST}@denied.example.com/x",
    "absolute, odd scheme": f"ftp://{HOST}/x",
    "absolute, file": "file:///etc/passwd",
    "authority only": f"{HOST}:443",
    "scheme-relative": "//denied.example.com/x",
    "no slash": "x",
    "empty": "",
    "asterisk with GET": "*",
}


@pytest.mark.parametrize("what", TARGETS)
def test_targets_that_name_another_destination(session, world, what):
    refused(
        session.ask(HOST, wire(f"GET {TARGETS[what]} HTTP/1.1", f"Host: {HOST}")),
        "host-mismatch",
        "malformed-http",
        "malformed-target",
    )
    assert not world.requests()


def test_an_absolute_target_whose_host_header_differs(session, world):
    refused(session.ask(HOST, wire(f"GET https://{HOST}/x HTTP/1.1", "Host: denied.example.com")), "host-mismatch")
    assert not world.requests()


@pytest.mark.parametrize("second", [HOST, "denied.example.com"])
def test_two_host_headers(session, world, second):
    refused(session.ask(HOST, wire("GET /x HTTP/1.1", f"Host: {HOST}", f"Host: {second}")), "malformed-http")
    assert not world.requests()


def test_no_host_at_all(session, world):
    refused(session.ask(HOST, wire("GET /x HTTP/1.1", "Accept: */*")), "malformed-http", "host-mismatch")
    assert not world.requests()


@pytest.mark.parametrize("port, tls", [(443, True), (80, False), (3128, False), (8080, False)])
def test_connect_is_never_served(session, world, port, tls):
    reply = session.ask(HOST, wire(f"CONNECT {HOST}:443 HTTP/1.1", f"Host: {HOST}:443"), port=port, tls=tls, timeout=5)
    refused(reply, "unsupported-method", "port-not-allowed", "host-mismatch", "malformed-target")
    assert not world.requests()


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "connect", "Connect"])
def test_odd_methods_open_no_tunnel(session, world, method):
    reply = session.ask(
        HOST,
        wire(f"{method} {HOST}:443 HTTP/1.1", f"Host: {HOST}")
        + wire("GET /tunnelled HTTP/1.1", "Host: denied.example.com"),
    )
    assert reply["status"] is None or reply["status"] >= 400
    assert not world.saw("tunnelled")


def test_the_http2_preface_without_tls(session, world):
    def send(host):
        stream = dial(host, 80)
        stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        return read_all(stream)[0]

    session.do(send, "api.example.com")
    assert not world.requests()


def test_the_http2_preface_inside_tls(session, world):
    reply = session.ask(HOST, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), timeout=5)
    assert reply["status"] in (None, 400, 501) and not world.requests()


@pytest.mark.parametrize("offered, agreed", [(["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "h2"), (["h3", "h2"], "h2")])
def test_a_protocol_that_was_not_agreed_on_is_not_spoken(session, world, offered, agreed):
    def speak_the_other(offered):
        stream = connect("v4.example.com", alpn=offered)
        agreed = stream.selected_alpn_protocol()
        if agreed == "h2":
            stream.sendall(b"GET /other HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
        else:
            stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        return agreed, read_all(stream)[1]

    result, end = session.do(speak_the_other, offered)
    assert result == agreed and end != "timeout" and not world.requests()


@pytest.mark.parametrize("first, second", [(HOST, "other.example.com"), (HOST, "denied.example.com")])
def test_each_request_of_a_connection_is_decided(session, world, first, second):
    """A permission for the first request is none for the next."""
    both = wire("GET /first HTTP/1.1", f"Host: {first}") + wire(
        "GET /second HTTP/1.1", f"Host: {second}", "Connection: close"
    )
    replies = session.ask(HOST, both, count=2)
    assert replies[0]["status"] == 200 and not world.saw("/second")
    refused(replies[1], "host-mismatch")


def test_plain_http_with_an_inner_host(session, world):
    """On port 80 the Host header alone names the destination, whatever address was dialled."""
    assert session.get("api.example.com", tls=False, port=80, address=lab.OUTSIDE_V4)["status"] == 200
    assert world.plain.requests[0].header("host") == "api.example.com"
    world.forget()
    reply = session.ask("api.example.com", wire("GET /x HTTP/1.1", "Host: denied.example.com"), tls=False, port=80)
    refused(reply, "host-not-allowed", "host-mismatch")
    assert not world.requests()


# Server names that Python would not send: a hello is made for a name of the same length, and the name replaced in it.
def patched_hello(host, old, new, address, before=b"", timeout=5):
    """Sends a hello for the name `old` with every `old` in it replaced; returns what came back and how it ended."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = context(verify=False)
    engine = made.wrap_bio(incoming, outgoing, server_hostname=host)
    try:
        engine.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = outgoing.read()
    assert old in hello
    stream = dial("unused", 443, address, timeout=timeout)
    stream.sendall(before + hello.replace(old, new))
    return read_all(stream)


ODD_NAMES = [
    b"192.0.2.66",
    b"v4\x00xxxx.de",
    b"..........",
    b"-a.example",
    b"a b.exampl",
    b"a*.example",
    b"[::1]:4443",
    b"\xff\xfe\xfd.examp",
    b"0x7f000001",
    b"2130706433",
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name))
def test_odd_server_names(session, world, watch, listeners, name):
    stand_in = "abc.d.e.fg"[: len(name)].ljust(len(name), "g")
    data, end = session.do(patched_hello, stand_in, stand_in.encode(), name, lab.OUTSIDE_V4)
    assert end != "timeout" or data[:1] == b"\x16", "it is ended, or shaken hands with so that it can be told why"
    assert watch.leaks() == [] and listeners.heard == []
    assert not world.requests()


def test_no_server_name_to_an_unknown_address(session, world, watch, listeners):
    reply = session.get(HOST, "/no-name", address=lab.OUTSIDE_V4, sni=None)
    assert reply["status"] in (None, 403)
    assert not world.requests() and watch.leaks() == [] and listeners.heard == []


def test_no_server_name_to_the_address_that_dns_gave(session, world):
    """The guard handed out the address, so it knows the name. It may serve it or not, but never anything else under
    it."""
    assert session.get(HOST, "/echo", sni=None)["status"] in (None, 200, 403)
    world.forget()
    refused_or_closed = session.ask(HOST, wire("GET /crossed HTTP/1.1", "Host: other.example.com"), sni=None)
    assert refused_or_closed["status"] in (None, 403, 400) and not world.requests()


def test_a_server_name_that_is_not_the_one_the_address_was_given_for(session, world):
    """The function may ask for one name and greet with another: what it greets with is decided."""

    def cross():
        address = socket.getaddrinfo("other.example.com", 443, socket.AF_INET)[0][4][0]
        return get("v4.example.com", "/crossed", address=address)

    reply = session.do(cross)
    assert reply["status"] in (200, 403)
    assert {r.header("host") for r in world.saw("/crossed")} <= {HOST}


# RFC 9849: an outer hello of encrypted_client_hello, and the same cut short.
ECH_OUTER = b"\0\0\1\0\1\x07\0\x20" + bytes(range(32)) + b"\0\x40" + bytes(64)


def hello_with_ech(host, extension, address, timeout):
    """Sends a hello for the host with one more extension, all lengths mended; returns what came back and how it
    ended."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    engine = context(verify=False).wrap_bio(incoming, outgoing, server_hostname=host)
    try:
        engine.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = bytearray(outgoing.read())
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # cipher suites
    at += 1 + hello[at]  # compression
    more = b"\xfe\x0d" + len(extension).to_bytes(2, "big") + extension
    for start, size in ((at, 2), (6, 3), (3, 2)):
        length = int.from_bytes(hello[start : start + size], "big") + len(more)
        hello[start : start + size] = length.to_bytes(size, "big")
    stream = dial(host, 443, address, timeout=timeout)
    stream.sendall(bytes(hello) + more)
    return read_all(stream)


@pytest.mark.parametrize(
    "extension, reason", [(ECH_OUTER, "ech-not-allowed"), (b"", "malformed-tls"), (b"\7", "malformed-tls")]
)
def test_ech_on_a_connection_that_would_be_passed_through(session, world, extension, reason):
    """The outer name is allowed; the inner one could be any."""
    before = count(session)
    data, end = session.do(hello_with_ech, "v6.example.com", extension, lab.OUTSIDE_V4, 10)
    assert end != "timeout"
    assert not world.tls.failed_handshakes and not world.requests()
    records = session.wait_for_records(lambda r: len(r) > before)
    assert [r["reason"] for r in records[before:]] == [reason]


def test_ech_where_the_guard_inspects_does_no_harm(session, world):
    data, end = session.do(patched_hello, HOST, b"\x00\x17\x00\x00", b"\xfe\x0d\x00\x00", lab.OUTSIDE_V4, timeout=2)
    assert data[:1] in (b"\x16", b"\x15", b"")
    assert not world.requests()


@pytest.mark.parametrize(
    "first",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x00\x01",
        b"EHLO x\r\n",
        b"\x05\x01\x00",
        b"\x16\x03\x01",
        b"\x80\x2e\x01\x03\x01",
        b"GET / SIP/2.0\r\n\r\n",
        b"get / http/1.1\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"G" * 20000,
        b"\x16\x03\x01\xff\xff" + bytes(20000),
    ],
    ids=lambda first: ascii(first[:20]),
)
@pytest.mark.parametrize("port", [443, 22])
def test_what_is_neither_tls_nor_http(session, world, watch, listeners, first, port):
    def send(first, port, address):
        stream = dial("v4.example.com", port, address, timeout=15)
        try:
            stream.sendall(first)
            stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return read_all(stream)

    before = count(session)
    data, end = session.do(send, first, port, lab.OUTSIDE_V4)
    assert end != "timeout" and not world.requests() and watch.leaks() == [] and listeners.heard == []
    if b"\x16\x03\x01\x02\x00".startswith(first):
        return  # closed before it said anything: there may be nothing to record
    records = session.wait_for_records(lambda r: len(r) > before)
    assert len(records) == before + 1 and records[-1]["decision"] == "deny"
    assert records[-1]["reason"] in (
        "opaque-not-allowed",
        "malformed-tls",
        "malformed-http",
        "unsupported-method",
        "host-not-allowed",
        "port-not-allowed",
        "downstream-closed",
        "head-too-large",
    )


def test_a_hello_in_many_records_and_segments_is_understood(session, world):
    """Large hellos (ML-KEM) come in several segments; some stacks split them over records (RFC 8446 section 5.1)."""

    def fragmented(piece, names):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = context(alpn=[f"protocol-number-{n}" for n in range(names)] + ["http/1.1"])
        engine = made.wrap_bio(incoming, outgoing, server_hostname="v4.example.com")
        stream = dial("v4.example.com")
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first = True
        while True:
            try:
                engine.do_handshake()
                break
            except ssl.SSLWantReadError:
                data = outgoing.read()
                if first:
                    body = data[5:]
                    for at in range(0, len(body), piece):
                        part = body[at : at + piece]
                        stream.sendall(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part)
                        time.sleep(0.002)
                    first = False
                elif data:
                    stream.sendall(data)
                received = stream.recv(65536)
                if not received:
                    return None
                incoming.write(received)
        engine.write(b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n")
        stream.sendall(outgoing.read())
        while True:
            try:
                return engine.read(65536)[:15]
            except ssl.SSLWantReadError:
                received = stream.recv(65536)
                if not received:
                    return None
                incoming.write(received)

    assert session.do(fragmented, 1, 0) == b"HTTP/1.1 200 OK"
    assert session.do(fragmented, 100, 0) == b"HTTP/1.1 200 OK"
    assert session.do(fragmented, 1000, 200) == b"HTTP/1.1 200 OK"


def test_a_hello_over_the_cap_is_refused(session, world):
    def huge():
        made = context(alpn=[f"{n:05d}" + "x" * 240 for n in range(100)])
        try:
            made.wrap_socket(dial("v4.example.com", timeout=8), server_hostname="v4.example.com")
            return "accepted"
        except (TimeoutError, socket.timeout):
            return "hung"
        except OSError:
            return "refused"

    assert session.do(huge) == "refused"
    assert not world.requests()


def test_slow_hellos_and_heads_are_given_up(session, world):
    """Several at once: one that says nothing, one that stops in a record header, one in a hello, one that sends a
    byte a second."""

    def slow():
        import threading

        ends = {}

        def one(name, pieces, pause):
            stream = dial("v4.example.com", timeout=25)
            start = time.monotonic()
            try:
                for piece in pieces:
                    stream.sendall(piece)
                    time.sleep(pause)
                ends[name] = (read_all(stream)[1], time.monotonic() - start)
            except OSError as error:
                ends[name] = (type(error).__name__, time.monotonic() - start)

        cases = {
            "header": ([b"\x16\x03"], 0),
            "hello": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 0),
            "byte a second": ([bytes([b]) for b in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)], 1),
        }
        threads = [threading.Thread(target=one, args=(name, *case)) for name, case in cases.items()]
        [t.start() for t in threads]
        [t.join() for t in threads]
        return ends

    ends = session.do(slow)
    assert all(end != "timeout" and taken < 20 for end, taken in ends.values()), ends


def test_a_record_of_a_denied_name_is_plain_text(session, world):
    """The id of the answer finds its record also here."""
    reply = session.get("denied.example.com", address=lab.OUTSIDE_V4)
    told = json.loads(reply["body"])
    assert [
        r for r in session.wait_for_records(lambda r: any(x["id"] == told["id"] for x in r)) if r["id"] == told["id"]
    ]
