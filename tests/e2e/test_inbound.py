"""Messages to a function through the guard: `run --publish` (docs/executions.md). Each is an execution."""

import http.client
import json
import re
import socket
import subprocess
import threading
import time

import pytest

import fixtures
import guard
import lab
import published
from inside import Reader
from published import Published, ask

HOST = "v4.example.com"
PROBES = {"probes": [{"path": "/healthz", "methods": ["GET", "HEAD"]}]}
POLICY = guard.policy(guard.endpoint(HOST), inbound=PROBES)
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def serve(bench, world):
    """Starts published functions, and ends them."""
    started = []

    def make(*arguments, policy=POLICY, **options):
        started.append(Published(options.pop("bench", bench), policy, *arguments, **options))
        return started[-1]

    yield make
    for one in started:
        one.stop()


def paths(trace):
    return [f["operation"]["path"] for f in trace.get("flows", [])]


def test_each_message_is_an_execution(user_bench, world, serve):
    function = serve(bench=user_bench)
    answer = published.run(["/a", "/b"])
    assert answer["statuses"] == [200, 200]
    assert ask("GET", "/nothing/sent?secret=1")[0] == 200
    published.run(["/c"])
    told = function.traces()
    assert [paths(t) for t in told] == [["/a", "/b"], [], ["/c"]]
    assert {t["end"] for t in told} == {"EXECUTION_END_COMPLETE"} and all(t["attributed"] for t in told)
    assert told[0]["inbound"] == {"method": "POST", "host": f"http://127.0.0.1:{published.OUTSIDE}", "path": "/run"}
    assert told[1]["inbound"]["path"] == "/nothing/sent" and "query" not in told[1]["inbound"]
    records = [r for r in function.records("inbound") if r["path"] == "/run"]
    assert [r["execution"] for r in records] == [told[0]["execution"], told[2]["execution"]]
    assert all((r["decision"], r["method"], r["status"]) == ("allow", "POST", 200) for r in records)
    assert all(r["bytes_up"] > 0 and r["bytes_down"] > 0 and r["duration_ms"] > 0 for r in records)
    sent = {r["path"]: r for r in function.records("exchange")}
    assert sent["/b"]["execution"] == told[0]["execution"] and sent["/b"]["attributed"] == "only"


def test_what_is_sent_while_nobody_asks_belongs_to_none(serve):
    """Before the first message, behind an answer, and while only a probe is under way."""
    function = serve()
    assert ask("GET", "/early")[2] == b"early"
    after = function.wait_for_record(kind="exchange", path="/after-the-answer")
    assert "execution" not in after
    told = function.traces()
    assert [t["inbound"]["path"] for t in told] == ["/early"] and paths(told[0]) == []


def test_a_probe_is_forwarded_and_begins_no_execution(serve):
    policy = guard.policy(guard.endpoint(HOST), inbound={"probes": [{"path": "/run", "methods": ["POST"]}, *PROBES["probes"]]})
    function = serve(policy=policy)
    assert published.run(["/sent-by-a-first-probe"])["statuses"] == [200]
    assert ask("GET", "/healthz/", headers={"User-Agent": "kube-probe/1.30"})[0] == 200  # anybody can say so
    assert published.run(["/sent-by-a-probe"])["statuses"] == [200]
    assert ask("GET", "/healthz")[0] == 200
    assert "execution" not in function.wait_for_record(kind="exchange", path="/sent-by-a-probe")
    # Before the first message the function is starting, probes or not.
    started, message = function.traces()
    assert "inbound" not in started and [f["operation"]["path"] for f in started["flows"]] == ["/sent-by-a-first-probe"]
    assert message["inbound"]["path"] == "/healthz/"
    probes = [r for r in function.records("inbound") if r["path"] in ("/run", "/healthz")]
    assert len(probes) >= 3 and not [r for r in probes if "execution" in r]


def fields_of(answer):
    return [(name.lower(), value) for name, value in json.loads(answer[2])["fields"]]


@pytest.mark.parametrize("fresh, flags", [(None, "01"), ("sampled", "01"), ("unsampled", "00")])
def test_a_message_without_a_trace_gets_one(serve, fresh, flags):
    serve(policy=guard.policy(guard.endpoint(HOST), inbound={"freshTrace": fresh} if fresh else {}))
    seen = [dict(fields_of(ask("GET", "/fields")))["traceparent"] for _ in range(2)]
    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-" + flags, one) for one in seen) and seen[0] != seen[1]
    kept = fields_of(ask("GET", "/fields", headers={"traceparent": PARENT, "tracestate": "a=b"}))
    assert ("traceparent", PARENT) in kept and ("tracestate", "a=b") in kept
    replaced = fields_of(ask("GET", "/fields", headers={"traceparent": "nonsense", "tracestate": "a=b"}))
    assert "nonsense" not in str(replaced) and "tracestate" not in dict(replaced)


@pytest.mark.parametrize("propagate, how", [(True, "trace-context"), (False, "set")], ids=["propagated", "not"])
def test_messages_at_one_time_are_told_apart_by_the_trace_that_the_function_passes_on(serve, propagate, how):
    function = serve()
    errors = []

    def one(i):
        try:
            published.run([f"/{i}/a", f"/{i}/b"], propagate=propagate, meet=["all", 8])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    told = function.traces()
    assert len(told) == 8 and all(t.get("attributed", False) is propagate for t in told)
    if propagate:
        assert sorted(map(paths, told)) == sorted([f"/{i}/a", f"/{i}/b"] for i in range(8))
    assert {r["attributed"] for r in function.records("exchange")} == {how}


def test_the_function_may_listen_where_it_likes(serve):
    """On 127.0.0.1, on every address, on ::1 alone."""
    command = [guard.PYTHON, str(lab.SUPPORT / "function_server.py"), published.INSIDE]
    for address in ("0.0.0.0", "::1", "::"):
        function = serve(command=[*command, address])
        assert ask("GET", "/")[0] == 200, address
        function.stop()


def test_all_addresses_of_the_machine_and_several_ports(bench, serve):
    function = serve("--publish", f"[::1]:18081:{published.INSIDE}", publish=f"18080:{published.INSIDE}")
    for address, port in (("127.0.0.1", 18080), ("::1", 18080), (lab.PRIVATE, 18080), ("::1", 18081)):
        assert ask("GET", "/", address=address, port=port)[0] == 200, (address, port)
    assert function.stop() == 0


def test_bodies_stream_both_ways_at_one_time(serve):
    serve()
    with published.connect() as stream:
        stream.sendall(b"POST /echo HTTP/1.1\r\nHost: f\r\nTransfer-Encoding: chunked\r\n\r\n")
        reader = Reader(stream)
        for i in range(20):
            part = bytes([65 + i]) * 5000
            stream.sendall(b"1388\r\n" + part + b"\r\n")
            if i == 0:
                assert reader.head()[0] == 200
            assert reader.line() == "1388" and reader.exactly(5000) == part and reader.line() == ""
        stream.sendall(b"0\r\n\r\n")
        assert reader.line() == "0" and reader.line() == ""


def test_an_answer_comes_piece_by_piece(serve):
    serve()
    client = http.client.HTTPConnection(published.ADDRESS, published.OUTSIDE, timeout=20)
    client.request("GET", "/chunks")
    response = client.getresponse()
    began = time.monotonic()
    assert response.read(6) == b"piece0" and time.monotonic() - began < 0.35
    assert response.read() == b"piece1piece2"


def test_an_execution_lasts_as_long_as_its_websocket(serve):
    function = serve()
    with published.connect() as stream:
        stream.sendall(
            b"GET /ws HTTP/1.1\r\nHost: f\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        reader = Reader(stream)
        status, fields = reader.head()
        assert status == 101 and dict(fields)["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        for word in (b"first", b"second"):
            stream.sendall(bytes([0x81, 0x80 | len(word)]) + b"\0\0\0\0" + word)
            assert reader.exactly(2 + len(word))[2:] == word
        stream.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        assert reader.exactly(4) == b"\x88\x02\x03\xe8"
    function.wait_for_record(kind="inbound", path="/ws", protocol="WebSocket", decision="allow")
    (trace,) = function.traces()
    assert paths(trace) == ["/first", "/second"] and trace["end"] == "EXECUTION_END_COMPLETE"


def test_a_connection_carries_many_messages_and_each_is_its_own(serve):
    function = serve()
    client = http.client.HTTPConnection(published.ADDRESS, published.OUTSIDE, timeout=20)
    for i in range(5):
        client.request("POST", "/run", json.dumps({"paths": [f"/{i}"]}))
        assert json.loads(client.getresponse().read())["statuses"] == [200]
    client.close()
    assert [paths(t) for t in function.traces()] == [[f"/{i}"] for i in range(5)]
    assert [r["reused"] for r in function.records("inbound") if r["path"] == "/run"][1:] == [True] * 4


@pytest.mark.parametrize(
    "request_line, why",
    [("GET /break HTTP/1.1", "upstream-closed"), ("GET /trickle HTTP/1.1", "downstream-closed")],
    ids=["by the function", "by the client"],
)
def test_an_answer_that_breaks_off_cuts_the_execution(serve, request_line, why):
    function = serve()
    with published.connect() as stream:
        stream.sendall(f"{request_line}\r\nHost: f\r\n\r\n".encode())
        if why == "upstream-closed":
            reply = Reader(stream).response()
            assert reply["status"] == 200 and not reply["complete"]
        else:
            assert Reader(stream).head()[0] == 200
    record = function.wait_for_record(kind="inbound", decision="error", reason=why)
    ended = function.wait_for_record(kind="execution", execution=record["execution"])
    assert ended["end"] == "cut"


def test_a_function_that_does_not_listen(serve):
    """The client is told so, and nothing of how it is inside; no execution begins."""
    function = serve(command=["sleep", "60"], ready=False)
    end = time.monotonic() + 20
    while True:
        try:
            status, fields, body = ask("GET", "/")
            break
        except OSError:
            assert time.monotonic() < end
    assert status == 502 and fields["sallyport-denied"] == "unreachable"
    assert "127.0.0.1" not in body.decode() and set(json.loads(body)) == {"error", "reason", "id"}
    (record,) = function.wait_for(lambda r: r)
    assert "execution" not in record and "Connection refused" in record["text"]


def test_a_published_port_in_use_is_said_and_nothing_is_run(bench, world):
    with socket.create_server((published.ADDRESS, published.OUTSIDE)):
        outcome = bench.run(["touch", bench.folder / "home" / "was-run"], policy=POLICY,
                            flags=["--publish", f"{published.ADDRESS}:{published.OUTSIDE}:80"])
    assert outcome.code == 125 and "in use" in outcome.err and "nothing was run" in outcome.err
    assert not (bench.folder / "home" / "was-run").exists()


@pytest.mark.parametrize("publish", ["8080", "8080:0", "name:8080:80", "127.0.0.1:8080:80/udp"])
def test_what_is_no_publication_is_refused(bench, world, publish):
    outcome = bench.run(["true"], policy=POLICY, flags=["--publish", publish])
    assert outcome.code == 2 and "HOSTPORT:PORT" in outcome.err


@pytest.mark.parametrize(
    "inbound, word",
    [
        ({"probes": [{"path": "healthz", "methods": ["GET"]}]}, "healthz"),
        ({"probes": [{"path": "/a/../b", "methods": ["GET"]}]}, "/b"),
        ({"probes": [{"path": "/a?b", "methods": ["GET"]}]}, "query"),
        ({"probes": [{"path": "/a"}]}, "methods"),
        ({"probes": [{"path": "/a", "methods": ["get"]}]}, "get"),
        ({"probe": []}, "probes"),
    ],
    ids=str,
)
def test_mistakes_in_the_policy_are_told(bench, world, inbound, word):
    outcome = bench.run(["true"], policy=guard.policy(guard.endpoint(HOST), inbound=inbound))
    assert outcome.code == 2 and word in outcome.err


def test_the_metrics_count_messages_and_executions(serve, bench):
    function = serve("--admin", bench.admin)
    published.run(["/a"])
    function.wait_for_record(kind="execution")
    last = time.monotonic() + 5  # the line of a record is written before it is counted
    while True:
        text = bench.metrics()[1]
        if re.search(r'sallyport_inbound_exchanges_total\{function="tested",decision="allow",reason=""\} [1-9]', text):
            break
        assert time.monotonic() < last, text
    assert 'sallyport_executions_total{function="tested",end="complete",reason=""} 1\n' in text
    assert 'sallyport_executions_open{function="tested"} 0\n' in text
    assert re.search(r'sallyport_inbound_duration_seconds_count\{function="tested"\} [1-9]', text)


NGHTTPD = ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", "/etc", "--echo-upload", "--trailer", "x-after: told"]


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "-m", "20", *map(str, arguments)], capture_output=True, text=True)
    return done.stdout, done.stderr


URL = f"http://{published.ADDRESS}:{published.OUTSIDE}"


def test_http2_by_prior_knowledge_reaches_a_function_that_speaks_it(serve):
    fixtures.need("nghttpd", "nghttp", "h2load", "curl")
    function = serve(command=[*NGHTTPD, published.INSIDE], ready=False)
    end = time.monotonic() + 20
    while not (out := curl("--http2-prior-knowledge", "-w", "%{http_version} %{http_code}", f"{URL}/hostname")[0]).endswith("2 200"):
        assert time.monotonic() < end, out
    assert curl("--http2-prior-knowledge", "-d", "x" * 100_000, f"{URL}/echo")[0] == "x" * 100_000
    record = function.wait_for_record(kind="inbound", path="/echo")
    assert (record["protocol"], record["status"], record["bytes_up"]) == ("HTTP/2", 200, 100_000)
    done = subprocess.run(["nghttp", "-v", f"{URL}/hostname"], capture_output=True, text=True, timeout=20)
    assert "x-after: told" in done.stdout, done.stdout
    done = subprocess.run(["h2load", "-n", "300", "-c", "2", "-m", "40", f"{URL}/hostname"], capture_output=True, text=True)
    assert "300 succeeded" in done.stdout, done.stdout
    told = function.traces()
    assert len(told) >= 302 and sum(t["inbound"]["path"] == "/echo" for t in told) == 1


def test_http2_from_outside_to_a_function_that_speaks_http1_only(serve):
    """Nothing is lost in finding out: a request that may not be repeated arrives once."""
    serve()
    out, err = curl("--http2-prior-knowledge", "-w", " %{http_version} %{http_code}", "-d", "hello", f"{URL}/posted")
    assert out.endswith(" 2 200"), (out, err)
    assert json.loads(out.rsplit(" ", 2)[0]) == {"line": "POST /posted HTTP/1.1", "body": 5}

