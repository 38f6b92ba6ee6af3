"""Who wants to reach a function through the guard, and a function that would begin, keep or share executions as it
likes (docs/executions.md)."""

import json
import re
import socket
import struct
import threading
import time

import pytest

import flows
import guard
import http2_frames
import lab
import published
from inside import Reader
from published import ADDRESS, INSIDE, OUTSIDE, Published, ask
from test_smuggling import REFUSED

HOST = "v4.example.com"
PROBES = {"probes": [{"path": "/healthz", "methods": ["GET"]}]}
POLICY = guard.policy(guard.endpoint(HOST), inbound=PROBES)


@pytest.fixture
def serve(bench, world):
    started = []

    def make(*arguments, policy=POLICY, **options):
        started.append(Published(bench, policy, *arguments, **options))
        return started[-1]

    yield make
    for one in started:
        one.stop()


def seen():
    return json.loads(ask("GET", "/seen")[2])


def is_well():
    assert ask("GET", "/honest")[0] == 200


def send(data, timeout=3):
    """Everything that comes back."""
    with published.connect(timeout=timeout) as stream:
        try:
            stream.sendall(data)
            answer = b""
            while part := stream.recv(65536):
                answer += part
        except OSError:
            pass
    return answer


def test_nothing_is_smuggled_to_the_function(serve):
    """What the guard refuses of the function's own requests it refuses of others', too."""
    serve()
    for what, request in REFUSED.items():
        answer = send(request, timeout=1)
        assert not answer or re.match(rb"HTTP/1\.1 (400|408|413|431|501) ", answer), (what, answer[:200])
    assert not [line for line, _ in seen() if "smuggled" in line or "allowed" in line]
    is_well()


@pytest.mark.parametrize("target", ["/a/../../b", "//evil/x", "/a\\b", "/%00", "/a;x/..;/b", "http://elsewhere/x", "/a#b"])
def test_a_target_with_two_readings_never_arrives(serve, target):
    serve()
    answer = send(f"GET {target} HTTP/1.1\r\nHost: f\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1\.1 (400|403) ", answer), answer[:100]
    assert not [line for line, _ in seen() if "honest" not in line and "healthz" not in line]


def test_fields_of_guards_come_neither_in_nor_out(serve):
    serve()
    fields = "".join(f"{name}: v1.forged.x\r\n" for name in ("Sallyport-Tag", "sallyport_tag", "SALLYPORT-Anything"))
    send(
        f"POST /posted HTTP/1.1\r\nHost: f\r\n{fields}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        "1\r\nx\r\n0\r\nSallyport-Tag: v1.trailer.x\r\n\r\n".encode()
    )
    status, answered, _ = ask("GET", "/tagged", headers={"Sallyport-Tag": "v1.forged.x"})
    assert status == 200 and answered["x-fine"] == "yes"
    assert not [name for name in answered if name.startswith("sallyport") or name == "alt-svc"]
    told = seen()
    assert {"/posted", "/tagged"} <= {line.split()[1] for line, _ in told}
    assert not [name for _, fields in told for name, _ in fields if name.lower().replace("_", "-").startswith("sallyport")]


def test_the_function_begins_no_execution_of_itself(bench, world):
    """Its published port under every address of the machine, as an endpoint that allows all, in audit, as bytes; and under
    its own loopback, where it meets itself and nobody else."""
    here = {"ports": ["any"], "addresses": ["0.0.0.0/0", "::/0"]}
    endpoints = [
        guard.endpoint("any", scheme="http", **here),
        guard.endpoint(lab.PRIVATE, scheme="http", name="private", **here),
        {"name": "bytes", "host": "nginx.example.com", "protocol": "tcp", "ports": [OUTSIDE], "addresses": ["127.0.0.0/8"]},
    ]
    flags = ["--publish", f"{OUTSIDE}:{INSIDE}", "--publish", f"{ADDRESS}:18081:{INSIDE}"]
    for mode in ("enforce", "audit"):
        bench.record.unlink(missing_ok=True)
        with bench.session(policy=guard.policy(*endpoints, mode=mode), flags=flags) as session:
            for host in (HOST, "v6.example.com", "to-private.example.com", "nginx.example.com", lab.PRIVATE):
                request = f"GET /begin HTTP/1.1\r\nHost: {host}:{OUTSIDE}\r\nConnection: close\r\n\r\n".encode()
                where = {"address": lab.PRIVATE} if host == lab.PRIVATE else {}
                reply = session.ask(host, request, tls=False, port=OUTSIDE, **where)
                if host == "nginx.example.com":
                    assert reply["status"] is None
                else:
                    assert (reply["status"], reply["headers"].get("sallyport-denied")) == (403, "loop"), (host, reply)
            assert ask("GET", "/outside")[0] == 502  # from outside it is served, and nobody listens inside
            records = session.wait_for_records(lambda r: [one for one in r if one["kind"] == "inbound"])
        assert [r["path"] for r in records if r["kind"] == "inbound"] == ["/outside"]
        assert not [r for r in records if r["kind"] == "execution"]


def test_an_execution_that_never_ends_is_ended(serve, fast_clock):
    """By a timer: nothing else happens meanwhile. What the function sends later belongs to none."""
    function = serve(env=fast_clock(200))
    with published.connect() as stream:
        stream.sendall(b"GET /trickle HTTP/1.1\r\nHost: f\r\n\r\n")
        assert Reader(stream).head()[0] == 200
        ended = function.wait_for_record(kind="execution", timeout=30)
        assert ended["end"] == "timeout" and ended["path"] == "/trickle"
        assert stream.recv(100), "it is the execution that has ended, not the answer"


def test_a_message_that_is_never_answered_is_given_up(serve, fast_clock):
    function = serve(env=fast_clock(200))
    status, fields, _ = ask("GET", "/never")
    assert (status, fields["sallyport-denied"]) == (504, "upstream-timeout")
    assert function.wait_for_record(kind="execution", path="/never")["end"] == "cut"
    is_well()


def test_a_function_that_reads_nothing_holds_nobody_for_ever(serve, fast_clock):
    function = serve(env=fast_clock(200))
    with published.connect(timeout=0.5) as stream:
        stream.sendall(b"POST /unread HTTP/1.1\r\nHost: f\r\nContent-Length: 1000000000\r\n\r\n")
        sent = 0
        with pytest.raises(TimeoutError):  # long before it is given up, and its rest read away
            while sent < 200_000_000:
                sent += stream.send(b"x" * 65536)
    assert sent < 50_000_000, "the guard holds what nobody takes"
    assert function.wait_for_record(kind="execution", path="/unread", timeout=30)["end"] == "cut"
    is_well()


def test_what_is_sent_behind_an_early_answer_belongs_to_no_other_execution_either(serve):
    """While another one is open: as only one is, the request would be counted to it if the function gave no trace. It is
    said how that is known, and a trace that has ended is none."""
    function = serve()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask("GET", "/slow?s=1.5")))
    assert ask("GET", "/early", headers={"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"})[2] == b"early"
    thread.start()
    record = function.wait_for_record(kind="exchange", path="/after-the-answer")
    thread.join()
    assert answers[0][0] == 200
    slow = function.wait_for_record(kind="inbound", path="/slow")
    assert record.get("execution") in (None, slow["execution"])
    early = function.wait_for_record(kind="inbound", path="/early")
    assert record.get("execution") != early["execution"]


def test_more_executions_than_may_be_open_are_turned_away(serve, bench):
    """Nobody answers them, and nobody needs to: the kernel takes the connections."""
    code = f"import socket, time; s = socket.create_server(('127.0.0.1', {INSIDE}), backlog=4096); time.sleep(600)"
    function = serve("--admin", bench.admin, command=[guard.PYTHON, "-c", code], ready=False)
    time.sleep(1)
    function_is_there = time.monotonic() + 20
    streams = []
    while not streams:
        try:
            streams.append(published.connect())
        except OSError:
            assert time.monotonic() < function_is_there
    streams += [published.connect() for _ in range(1024 - len(streams))]
    for stream in streams:
        stream.sendall(b"GET /held HTTP/1.1\r\nHost: f\r\n\r\n")
    deadline = time.monotonic() + 30
    while True:
        status, fields, _ = ask("GET", "/one-more", timeout=5) if all_held(function) else (None, {}, b"")
        if status is not None:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert (status, fields["sallyport-denied"], fields["retry-after"]) == (503, "overloaded", "1")
    for stream in streams:  # with a reset: half of a connection may be closed by who waits for an answer
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()
    function.wait_for(lambda r: sum(one["kind"] == "execution" for one in r) >= 1024, timeout=30)


def all_held(function):
    """Whether as many executions are open as may be."""
    text = function.bench.metrics()[1]
    return "sallyport_executions_open{function=\"tested\"} 1024\n" in text


def test_an_http2_client_with_a_thousand_streams(serve):
    function = serve()
    client = http2_frames.Client("127.0.0.1", tls=False, address=ADDRESS, port=OUTSIDE)
    for i in range(1000):
        if not client.ask(1 + 2 * i, http2_frames.request("f", "/never", scheme="http")):
            break
    client.run(lambda client: sum(s["reset"] is not None for s in client.streams.values()) >= 872, timeout=20)
    refused = [s for s in client.streams.values() if s["reset"] is not None]
    assert len(refused) >= 872 or client.goaway is not None, (len(refused), client.goaway)
    is_well()
    client.close()
    records = function.wait_for(lambda r: any(one["kind"] == "execution" and one["path"] == "/never" for one in r))
    never = [r for r in records if r["kind"] == "execution" and r["path"] == "/never"]
    assert len(never) <= 128 and {r["end"] for r in never} == {"cut"}
    is_well()


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00" + b"\0" * 200, b"\0\1\2\3" * 100, b"SSH-2.0-x\r\n"],
    ids=["TLS", "bytes", "ssh"],
)
def test_what_is_no_http_is_closed(serve, data):
    function = serve()
    assert send(data) == b""
    function.wait_for_record(kind="connection", decision="deny")
    assert not [line for line, _ in seen() if "honest" not in line and "healthz" not in line]
    is_well()


def test_the_host_of_a_message_is_the_functions_business_but_has_one_reading(serve):
    serve()
    for host in ("shop.example.com", "shop.example.com:8443", "127.0.0.1", "[::1]:80"):
        assert ask("GET", "/host", headers={"Host": host})[0] == 200
        assert [dict(fields)["Host"] for line, fields in seen() if "/host" in line][-1] == host.removesuffix(":80")
    for bad in (b"a b", b"a@b", b"a/b", b"[::1", b"a,b"):
        assert send(b"GET /bad HTTP/1.1\r\nHost: " + bad + b"\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert not [line for line, _ in seen() if "/bad" in line]


# Answers each message with "mine", and some with one more answer, at once or a little later.
ANSWERS_TWICE = """
import socket, sys, threading, time

def answer(text):
    return b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(text) + text

def serve(stream):
    data = b""
    while part := stream.recv(65536):
        data += part
        while b"\\r\\n\\r\\n" in data:
            head, _, data = data.partition(b"\\r\\n\\r\\n")
            stream.sendall(answer(b"mine") + (answer(b"poison") if b"/double" in head else b""))
            if b"/later" in head:
                time.sleep(0.2)
                stream.sendall(answer(b"poison"))

server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


@pytest.mark.parametrize("path", ["/double", "/later"])
def test_an_answer_to_a_message_that_has_not_come_is_nobodys(serve, path):
    """An execution would end before its message is seen, and its client would get what the function thought up before."""
    function = serve(command=[guard.PYTHON, "-c", ANSWERS_TWICE, INSIDE])
    for _ in range(3):
        assert ask("GET", path)[2] == b"mine"
        time.sleep(0.4 if path == "/later" else 0)
        assert ask("GET", "/next")[2] == b"mine"
    ended = function.wait_for(lambda r: sum(one["kind"] == "execution" for one in r) >= 6)
    assert {r["end"] for r in ended if r["kind"] == "execution"} == {"complete"}


def test_messages_under_one_trace_are_allowed_no_more_than_each_of_them(serve, bench, world):
    """Somebody outside helps, and gives two messages the same trace, so that it tells nothing apart."""
    graph = flows.graph(flows.node("once", f"GET {HOST}/echo/once"))
    serve(policy=flows.policy(bench, graph, guard.endpoint(HOST)))
    trace = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    said = []
    send = lambda: said.extend(published.run(["/echo/once"] * 2, trace, propagate=True, meet=["both", 2])["statuses"])
    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == [200, 200, 403, 403]
    assert len([r for r in world.requests() if r.path == "/echo/once"]) == 2
