"""`upstreamProxy`: only a proxy reaches the outside. A real one (tinyproxy), and one that misbehaves."""

import base64
import json
import re
import socket
import ssl
import threading
import time

import pytest

import guard
import lab
import tcp_services
from fixtures import need

PROXY_V4, PROXY_PORT, DATABASE_V4 = "127.0.0.43", 3128, "127.0.0.44"
URL = f"http://{PROXY_V4}:{PROXY_PORT}"
SECRET = "tester:proxy-pass-word"
TINYPROXY = """
Port {port}
Listen {address}
Timeout 30
LogFile "{folder}/log"
LogLevel Connect
MaxClients 100
Allow 127.0.0.0/8
{authorization}
ConnectPort 443
ConnectPort 80
ConnectPort 7001
"""


@pytest.fixture
def tinyproxy(world, request):
    need("tinyproxy")
    world.dns.table["proxy.example.com"] = [PROXY_V4]
    world.dns.table["db.example.com"] = [DATABASE_V4]

    def start(authorization="", upstream=""):
        folder = lab.folder()
        folder.chmod(0o777)
        configuration = folder / "tinyproxy.conf"
        configuration.write_text(
            TINYPROXY.format(port=PROXY_PORT, address=PROXY_V4, folder=folder, authorization=authorization + upstream)
        )
        running = tcp_services.Process(["tinyproxy", "-d", "-c", configuration], PROXY_V4, PROXY_PORT, folder)
        request.addfinalizer(running.close)
        return folder / "log"

    return start


def policy(*endpoints, mode="enforce", **proxy):
    made = json.loads(guard.policy(*endpoints, mode=mode))
    made["spec"]["upstreamProxy"] = {"url": URL} | proxy
    return json.dumps(made)


ENDPOINTS = [
    guard.endpoint("v4.example.com", addresses=None),
    guard.endpoint("v4.example.com", scheme="http", name="plain", addresses=None),
    guard.endpoint("db.example.com", protocol="tcp", ports=[7001], rules=None, addresses=None),
]


def test_everything_goes_through_the_proxy(user_bench, world, tinyproxy):
    log = tinyproxy()
    server = tcp_services.Server(DATABASE_V4, 7001, tcp_services.greeting)
    outcome = user_bench.python(
        """
        import requests
        from inside import dial
        session = requests.Session()
        print(*(session.get(url).status_code for url in ["https://v4.example.com/a", "https://v4.example.com/b",
                                                         "http://v4.example.com/c"]))
        stream = dial("db.example.com", 7001)
        print(stream.recv(4096)[5:11])
    """,
        policy=policy(*ENDPOINTS, url=f"http://proxy.example.com:{PROXY_PORT}"),
    )
    server.close()
    assert outcome.out == "200 200 200\nb'8.0.36'\n", outcome.err
    assert {r["upstream"] for r in outcome.records} == {f"{PROXY_V4}:{PROXY_PORT}"}
    assert {r["decision"] for r in outcome.records} == {"allow"}
    text = log.read_text()
    for destination in ("v4.example.com:443", "v4.example.com:80", "db.example.com:7001"):
        assert text.count(f"CONNECT {destination} ") == 1, text  # the second request used the first one's connection
    assert [r.sni for r in world.requests()] == ["v4.example.com", "v4.example.com", None]
    assert "proxy.example.com" in world.dns.names_asked()


def test_certificates_are_verified_through_it(bench, world, tinyproxy):
    tinyproxy()
    outcome = bench.run(
        ["curl", "-sS", "https://expired.example.com/"],
        policy=policy(guard.endpoint("expired.example.com", addresses=None)),
    )
    assert json.loads(outcome.out)["reason"] == "upstream-expired"


@pytest.mark.parametrize("source", ["file", "env"])
def test_credentials(bench, tinyproxy, source):
    log = tinyproxy("BasicAuth tester proxy-pass-word")
    secret = bench.folder / "proxy-credentials"
    secret.write_text(SECRET + "\n")
    chosen = {"file": str(secret)} if source == "file" else {"env": "PROXY_SECRET"}
    outcome = bench.run(
        ["sh", "-c", f"curl -sS -o /dev/null -w '%{{http_code}} ' https://v4.example.com/; cat {secret}; env"],
        policy=policy(*ENDPOINTS, credentials=chosen),
        env={"PROXY_SECRET": SECRET} if source == "env" else {},
    )
    assert outcome.out.startswith("200 "), outcome.out + outcome.err
    seen = outcome.out if source == "file" else outcome.out.replace((secret.read_text()), "")
    encoded = base64.b64encode(SECRET.encode()).decode()
    assert SECRET not in seen and encoded not in seen, "kept from the command"
    for text in (bench.record.read_text(), outcome.err):
        assert SECRET not in text and encoded not in text
    assert "CONNECT v4.example.com:443" in log.read_text()


@pytest.mark.parametrize(
    "credentials, reason, words",
    [
        (None, "upstream-proxy", "wants credentials (407)"),
        ("tester:wrong", "upstream-proxy", "it answered 401"),  # which is what tinyproxy says
        ("no colon", "credential-unavailable", "were not read"),
    ],
    ids=["none", "wrong", "malformed"],
)
def test_credentials_that_will_not_do(bench, world, tinyproxy, credentials, reason, words):
    tinyproxy("BasicAuth tester proxy-pass-word")
    secret = bench.folder / "proxy-credentials"
    secret.write_text(credentials or "")
    chosen = {"credentials": {"file": str(secret)}} if credentials else {}
    outcome = bench.run(["curl", "-sS", "https://v4.example.com/"], policy=policy(*ENDPOINTS, **chosen))
    answer = json.loads(outcome.out)
    assert answer["reason"] == reason and words in answer["text"], answer
    assert outcome.exchanges[0]["status"] == 502 and not world.requests()


def test_an_endpoint_may_go_its_own_way(bench, world):
    """The spec's proxy is not there; the endpoint does without."""
    outcome = bench.run(
        ["sh", "-c", "for h in v4 other; do curl -sSo /dev/null -w '%{http_code} ' https://$h.example.com/; done"],
        policy=policy(
            guard.endpoint("v4.example.com", upstreamProxy={"url": "none"}), guard.endpoint("other.example.com")
        ),
    )
    assert outcome.out.split() == ["200", "502"], outcome.err
    assert [r.get("reason") for r in outcome.exchanges] == [None, "upstream-proxy"]


def test_the_addresses_of_literals_are_still_checked(bench, tinyproxy):
    log = tinyproxy()
    outcome = bench.python(
        f"""
        from inside import get
        print(get("{lab.METADATA}", port=80, tls=False)["headers"].get("sallyport-denied"))
    """,
        policy=policy(guard.endpoint("any", scheme="http", ports=["any"], addresses=None)),
    )
    assert outcome.out == "address-not-allowed\n", outcome.err
    assert lab.METADATA not in log.read_text()


ANSWERS = {
    "nothing": (b"", "closed the connection without an answer"),
    "half a head": (b"HTTP/1.1 200 OK\r\nX-A", "closed the connection without an answer"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "did not answer in HTTP/1"),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", "did not answer in HTTP/1"),
    "a long status": (b"HTTP/1.1 2000 OK\r\n\r\n", "did not answer in HTTP/1"),
    "other credentials": (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants credentials (407)"),
    "a refusal": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "it answered 403"),
    "an informational one": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "it answered 100"),
    "a switch": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "it answered 101"),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", "it answered 302"),
    "an endless head": (b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000, "sent an answer without end"),
}


@pytest.mark.parametrize("answer, words", ANSWERS.values(), ids=ANSWERS)
def test_a_proxy_that_answers_something_else(bench, world, answer, words):
    def serve(stream):
        asked = stream.recv(65536)
        try:
            stream.sendall(answer)
            stream.shutdown(socket.SHUT_WR)
            tcp_services.read_to_end(stream)
        except OSError:
            pass  # the guard has heard enough
        return asked

    server = tcp_services.Server(PROXY_V4, PROXY_PORT, serve)
    outcome = bench.run(["curl", "-sS", "https://v4.example.com/"], policy=policy(*ENDPOINTS))
    server.close()
    body = json.loads(outcome.out)
    assert body["reason"] == "upstream-proxy" and words in body["text"], body
    head = rb"CONNECT v4\.example\.com:443 HTTP/1\.1\r\nHost: v4\.example\.com:443\r\nVia: 1\.1 sallyport-[0-9a-f]{16}\r\n\r\n"
    assert re.fullmatch(head, server.heard[0]), server.heard
    assert not world.requests()


def test_an_answer_in_single_bytes_with_the_servers_first_words_behind_it(bench):
    """Where the head ends, the server's bytes begin, however they were cut."""

    def serve(stream):
        stream.recv(65536)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"HTTP/1.0 200 Connection established\r\nProxy-agent: x\r\n\r":
            stream.sendall(bytes([byte]))
            time.sleep(0.002)
        stream.sendall(b"\n220 mail.example.com\r\n\r\nmore")
        return tcp_services.read_to_end(stream)

    server = tcp_services.Server(PROXY_V4, PROXY_PORT, serve)
    outcome = bench.python(
        """
        from inside import dial
        stream = dial("db.example.com", 7001)
        data = b""
        while len(data) < 28:
            data += stream.recv(100)
        stream.sendall(b"said")
        stream.shutdown(1)
        print(data)
    """,
        policy=policy(*ENDPOINTS),
    )
    assert outcome.out == "b'220 mail.example.com\\r\\n\\r\\nmore'\n", outcome.err
    end = time.monotonic() + 10
    while not server.heard and time.monotonic() < end:
        time.sleep(0.02)
    server.close()
    assert server.heard == [b"said"]


def test_a_proxy_that_says_nothing_is_given_up(bench, fast_clock):
    stop = threading.Event()
    server = tcp_services.Server(PROXY_V4, PROXY_PORT, lambda stream: stop.wait(60))
    outcome = bench.run(
        ["curl", "-sS", "-m", "50", "https://v4.example.com/"], policy=policy(*ENDPOINTS), env=fast_clock(10)
    )
    stop.set()
    server.close()
    assert json.loads(outcome.out)["reason"] == "upstream-proxy", outcome.err


@pytest.mark.parametrize("through", ["itself", "another proxy"])
@pytest.mark.parametrize("what", ["https", "http", "unread", "bytes"])
def test_a_proxy_that_leads_back_to_the_guard_is_no_storm(bench, world, start, tinyproxy, what, through):
    """Each hop would ask for the next: the second one is refused, and the client is told."""
    port = 15002
    if through == "another proxy":
        tinyproxy(upstream=f"upstream http 127.0.0.1:{port}")
    else:
        world.dns.table["proxy.example.com"] = ["127.0.0.1"]
    url = URL if through == "another proxy" else f"http://proxy.example.com:{port}"
    unread = guard.endpoint("other.example.com", addresses=None, inspection="none", rules=None)
    running = start(policy(*ENDPOINTS, unread, url=url), "--proxy-listen", f"127.0.0.1:{port}")
    running.wait_until_ready()
    target = {"https": "v4.example.com:443", "http": "v4.example.com:80", "unread": "other.example.com:443",
              "bytes": "db.example.com:7001"}[what]
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 20) as stream:
        if what == "http":
            stream.sendall(b"GET http://v4.example.com/ HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n")
            answer = tcp_services.read_to_end(stream)
        else:
            stream.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert stream.recv(4096).startswith(b"HTTP/1.1 200 ")
            answer = inside_of(stream, target) if what != "bytes" else tcp_services.read_to_end(stream)
    assert time.monotonic() - began < 10
    records = records_of(bench, lambda r: any(x.get("reason") == "loop" for x in r))
    loops = [r for r in records if r.get("reason") == "loop"]
    assert len(records) <= 4 and loops and "upstreamProxy leads back" in loops[0]["text"], records
    if what in ("https", "http"):
        assert b"502 Bad Gateway" in answer and b'"upstream-proxy"' in answer, answer
    else:
        assert answer == b"" and any(r.get("reason") == "upstream-proxy" for r in records), (answer, records)
    assert running.stop()[0] == 0 and not world.requests()


def inside_of(stream, target):
    """What comes of a request over TLS inside, whoever ends that; nothing where TLS does not come about."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    host = target.partition(":")[0]
    try:
        with client.wrap_socket(stream, server_hostname=host) as tls:
            tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return tcp_services.read_to_end(tls)
    except OSError:
        return b""


def records_of(bench, condition, timeout=10):
    end = time.monotonic() + timeout
    while not condition(bench.records()) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.3)  # whatever comes behind it
    return bench.records()
