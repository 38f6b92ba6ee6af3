"""The function writes into what people and programs read about it: records, the terminal, error texts, metrics, drafts."""

import json
import os
import pty
import re
import select
import time

import pytest

import guard
import lab

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST, path="/allowed/"))
FORGED = '{"kind":"exchange","decision":"allow","host":"forged.example.com"}'

# Bytes that end up in a record in some way, each with a line feed, quotes or terminal commands in it.
SENT = {
    "a path": b"GET /\\n" + FORGED.encode() + b" HTTP/1.1\r\nHost: v4.example.com\r\n\r\n",
    "a path, escaped": b"GET /denied%0a%22%7b%1b%5b2J HTTP/1.1\r\nHost: v4.example.com\r\n\r\n",
    "a path with terminal commands": b"GET /denied\x1b[2J\x1b]0;owned\x07 HTTP/1.1\r\nHost: v4.example.com\r\n\r\n",
    "a path with C1 controls": b"GET /denied\xc2\x9b2J\x9b2J HTTP/1.1\r\nHost: v4.example.com\r\n\r\n",
    "a path with quotes": b'GET /denied","decision":"allow" HTTP/1.1\r\nHost: v4.example.com\r\n\r\n',
    "a path turned round": "GET /denied\u202egnp.exe HTTP/1.1\r\nHost: v4.example.com\r\n\r\n".encode(),
    "a method": b'GET","decision":"allow /x HTTP/1.1\r\nHost: v4.example.com\r\n\r\n',
    "a long method": b"A" * 20000 + b" /x HTTP/1.1\r\nHost: v4.example.com\r\n\r\n",
    "a method that is a token": b"allow!#$%&'*+-.^_`|~ /denied HTTP/1.1\r\nHost: v4.example.com\r\n\r\n",
    "a host": b'GET /x HTTP/1.1\r\nHost: x","decision":"allow\r\n\r\n',
    "a host with terminal commands": b"GET /x HTTP/1.1\r\nHost: \x1b[31mv4.example.com\r\n\r\n",
    "a host with a line feed": b"GET /x HTTP/1.1\r\nHost: x\n" + FORGED.encode() + b"\r\n\r\n",
    "a target": b"GET http://\x1b[2J/ HTTP/1.1\r\nHost: v4.example.com\r\n\r\n",
    "a field": b"GET /denied HTTP/1.1\r\nHost: v4.example.com\r\nX: \x1b[2J\n" + FORGED.encode() + b"\r\n\r\n",
    "a version": b"GET /denied \x1b[2J\r\nHost: v4.example.com\r\n\r\n",
    "a NUL": b"GET /denied\0allow HTTP/1.1\r\nHost: v4.example.com\r\n\r\n",
}


@pytest.fixture(scope="module")
def session(world):
    bench = guard.Bench(world)
    with bench.session(policy=POLICY, flags=["--verbose", "--admin", bench.admin]) as made:
        yield made
    bench.close()


def only_true_records(session, before):
    """Every line is one JSON object of the guard's own making, and printable."""
    raw = session.bench.record.read_bytes()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", raw)
    for line in raw.splitlines()[before:]:
        record = json.loads(line)
        assert set(record) <= KNOWN, record
        assert record["function"] == "tested" and re.fullmatch("[0-9a-f]{16}", record["id"])
        assert record.get("host") != "forged.example.com"
        if record["kind"] == "exchange":
            assert record["decision"] == "deny" or record["path"].startswith("/allowed/")


KNOWN = set(
    "time id kind function mode decision reason scheme host port method path endpoint rule credential status bytes_up "
    "bytes_down duration_ms first_byte_ms upstream reused protocol text".split()
)


@pytest.mark.parametrize("what", SENT)
def test_a_request_writes_into_the_records(session, world, what):
    """A second line that says that all is well, or commands for the terminal of whoever reads on."""
    before = len(session.bench.records())
    reply = session.ask(HOST, SENT[what], timeout=5)
    assert reply["status"] is None or reply["status"] >= 400
    assert b"\x1b" not in reply["body"] and json.loads(reply["body"] or b"{}") is not None
    records = session.wait_for_records(lambda r: len(r) > before)
    assert len(records) == before + 1
    only_true_records(session, before)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", session.stderr())
    assert not world.requests()
    assert session.get(HOST, "/allowed/honest")["status"] == 200
    session.wait_for_records(lambda r: len(r) > before + 1)  # or it would count for the next of these


NAMES = [
    b'a","decision":"allow',
    b"a\n" + FORGED.encode()[:50],
    b"\x1b[2J\x1b]0;owned\x07",
    b"\xc2\x9b2J",
    b"a\0b",
    b"..",
    b"\\u0000",
    b"\r\nallow GET https://x",
]


@pytest.mark.parametrize("label", NAMES, ids=lambda label: ascii(label)[:24])
def test_a_name_writes_into_the_records(session, world, label):
    """DNS labels may have any byte."""

    def ask_name(message):
        stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stream.settimeout(2)
        stream.sendto(message, ("127.0.0.1", 53))
        try:
            return stream.recv(4096)[3] & 15
        except OSError:
            return None

    before = len(session.bench.records())
    message = b"\0\1\1\0\0\1\0\0\0\0\0\0" + bytes([len(label)]) + label + b"\x07example\x03com\0\0\1\0\1"
    assert session.do(ask_name, message) in (1, 3, None)
    session.wait_for_records(lambda r: len(r) > before)
    only_true_records(session, before)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", session.stderr())
    assert session.get(HOST, "/allowed/honest")["status"] == 200


def test_a_server_name_writes_into_the_records(session, world):
    """The name of a hello may have any byte too."""

    def hello(name, address):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        stand_in = "abc.d.e.fg".ljust(len(name), "g")
        engine = context(verify=False).wrap_bio(incoming, outgoing, server_hostname=stand_in)
        try:
            engine.do_handshake()
        except ssl.SSLWantReadError:
            pass
        stream = dial("x", 443, address, timeout=5)
        stream.sendall(outgoing.read().replace(stand_in.encode(), name))
        return read_all(stream)[1]

    before = len(session.bench.records())
    for name in (b'x","host":"forged.example.com', b"\x1b[2J\x1b]0;owned\x07", b"line\nfeed\r\nhere"):
        session.do(hello, name, lab.OUTSIDE_V4)
    session.wait_for_records(lambda r: len(r) >= before + 3)
    only_true_records(session, before)
    assert session.get(HOST, "/allowed/honest")["status"] == 200


def test_metrics_have_no_word_of_the_functions(session, world):
    """A label for each host or path would let the function fill the memory of whoever scrapes, and write there."""

    def many():
        for n in range(20):
            ask("v4.example.com", b"M%d /p%d HTTP/1.1\r\nHost: h%d.example.com\r\n\r\n" % (n, n, n), timeout=5)

    lines = len(session.bench.metrics()[1].splitlines())
    session.do(many)
    text = session.bench.metrics()[1]
    assert "h7.example" not in text and "/p7" not in text and "M7" not in text
    assert len(text.splitlines()) < lines + 40


def test_a_real_terminal_gets_no_command(bench, world):
    """Standard error is a terminal here, with colours: every escape sequence on it is one of the guard's colours."""
    main, side = pty.openpty()
    attack = "import socket, ssl\n" + "\n".join(
        [
            "def send(data):",
            "    raw = socket.create_connection(('v4.example.com', 443), 5)",
            "    stream = ssl.create_default_context().wrap_socket(raw, server_hostname='v4.example.com')",
            "    stream.sendall(data)",
            "    stream.recv(4096)",
        ]
        + [f"send({data!r})" for name, data in SENT.items() if name != "a long method"]
    )
    process = bench.start([guard.PYTHON, "-c", attack], policy=POLICY, stderr=side)
    os.close(side)
    seen, end = b"", time.monotonic() + 40
    while time.monotonic() < end:
        if not select.select([main], [], [], 0.2)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            seen += os.read(main, 65536)
        except OSError:
            break
    process.communicate(timeout=20)
    os.close(main)
    assert b"DENY" in seen
    left = re.sub(rb"\x1b\[(3[0-9]|0)m", b"", seen)
    assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]", left), left


def test_a_draft_allows_no_more_than_what_happened(bench, world):
    """What is learned is written as YAML: a path or a host could end a line, open a rule, or become an expression."""

    def visit():
        for target in (
            "/a\"}], path: {prefix: /}",
            "/a%0a%20%20-%20host:%20any",
            "/a:%20any",
            "/{any}",
            "/[a-z]+",
            "/.*",
            "/*",
            "/&x",
            "/'%22",
            "/#",
            "/%23",
            "/!!python",
            "/~",
            "/null",
        ):
            ask("v4.example.com", f"GET {target} HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n".encode())

    draft = bench.folder / "draft.yaml"
    with bench.session(flags=["--learn", draft]) as session:
        session.do(visit)
    import subprocess

    checked = subprocess.run([guard.SALLYPORT, "policy", "check", draft], capture_output=True, text=True, timeout=20)
    assert checked.returncode == 0, checked.stderr + draft.read_text()
    assert " any" not in re.sub(r"#.*", "", draft.read_text()) or "/a:%20any" in draft.read_text()
    for request in ("GET https://denied.example.com/", "GET https://v4.example.com/else", "POST https://v4.example.com/~"):
        tested = subprocess.run([guard.SALLYPORT, "policy", "test", draft, "--request", request], capture_output=True)
        assert tested.returncode == 3, (request, draft.read_text())
