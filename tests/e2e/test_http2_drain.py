"""SIGTERM while HTTP/2 is spoken: what is under way ends, and clients are told in time (RFC 9113 section 6.8)."""

import importlib.util
import select
import signal
import subprocess
import time

import pytest

import fixtures
import guard
import http2_frames as h2
import lab
from test_proxy import redirected  # noqa: F401  a fixture

HOST = "v4.example.com"
GRPC_PORT = 50052
POLICY = guard.policy(guard.endpoint(HOST), guard.endpoint(HOST, ports=[GRPC_PORT], name="grpc"))
EVERY_STREAM = 0x7FFFFFFF


@pytest.fixture
def proxy(start, redirected):  # noqa: F811
    running = start(POLICY)
    running.wait_until_ready()
    return running


def client():
    return h2.Client(HOST, address=lab.CAPTURED_V4, verify=False)


def wait_for(condition, timeout=15):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_streams_under_way_end_and_new_ones_are_not_begun(proxy, bench, world):
    busy, idle = client(), client()
    idle.ask(1, h2.request(HOST, "/echo"))
    assert idle.until_over(1)[0]["status"] == 200
    busy.ask(1, h2.request(HOST, "/slow?ms=1500"))
    busy.ask(3, h2.request(HOST, "/body", "POST", ("content-length", "10")), end=False)
    busy.data(3, b"first")
    wait_for(lambda: world.saw("/slow") and world.saw("/body"))
    proxy.process.send_signal(signal.SIGTERM)
    busy.run(lambda c: c.goaways)
    assert busy.goaways[0] == (EVERY_STREAM, 0), "a notice first: requests may be on their way"
    busy.ask(5, h2.request(HOST, "/echo?on-its-way"))
    busy.run(lambda c: len(c.goaways) == 2)
    last, code = busy.goaways[1]
    assert code == 0 and last in (3, 5)
    busy.ask(7, h2.request(HOST, "/echo?too-late"))
    busy.data(3, b"after", end=True)
    first, second = busy.until_over(1, 3)
    assert (first["status"], first["ended"]) == (200, True) and second["body"] == b"firstafter"
    if last == 5:  # what it says was processed, was
        assert busy.until_over(5)[0]["status"] == 200
    busy.run(lambda c: c.ended)
    assert busy.ended == "end" and busy.of(7)["status"] is None
    idle.run(lambda c: c.ended)
    assert [last for last, _ in idle.goaways] == [EVERY_STREAM, 1] and idle.ended == "end"
    for one in (busy, idle):
        one.close()
    _, err = proxy.process.communicate(timeout=20)
    guard.no_sanitizer_report(err)
    assert proxy.process.returncode == 0
    assert not world.saw("too-late") and len(world.saw("on-its-way")) == (last == 5)
    paths = [r["path"] for r in guard.exchanges(bench.records())]
    assert sorted(paths) == sorted(["/echo", "/slow", "/body"] + ["/echo"] * (last == 5))


def test_who_connects_during_a_drain_is_refused(proxy, world):
    busy = client()
    busy.ask(1, h2.request(HOST, "/slow?ms=1500"))
    wait_for(lambda: world.saw("/slow"))
    proxy.process.send_signal(signal.SIGTERM)
    busy.run(lambda c: c.goaways)
    with pytest.raises(OSError):
        client()
    assert busy.until_over(1)[0]["status"] == 200


GRPC = """
import sys, grpc
roots = open(sys.argv[1], "rb").read()
options = [("grpc.ssl_target_name_override", sys.argv[2])]
with grpc.secure_channel(sys.argv[3], grpc.ssl_channel_credentials(roots), options) as channel:
    call = channel.unary_stream("/test.Echo/Down")(b"8", timeout=30)
    for message in call:
        print("got", message.decode(), flush=True)
    print("code", call.code().name, flush=True)
    sys.stdin.readline()
    try:
        channel.unary_unary("/test.Echo/Unary")(b"x", timeout=5)
    except grpc.RpcError as error:
        print("then", error.code().name, flush=True)
"""


def test_a_stream_of_grpc_runs_to_its_end(proxy, bench, world):
    if importlib.util.find_spec("grpc") is None:
        fixtures.missing("python3-grpcio")
    certificate, key = world.good
    command = [guard.PYTHON, str(lab.SUPPORT / "grpc_server.py"), lab.ORIGIN_V4, str(GRPC_PORT), str(certificate), str(key)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=lab.die_with_parent)
    assert select.select([server.stdout], [], [], 20)[0] and "ready" in server.stdout.readline()
    asked = [guard.PYTHON, "-c", GRPC, str(world.guard_root.certificate), HOST, f"{lab.CAPTURED_V4}:{GRPC_PORT}"]
    function = subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=lab.die_with_parent)
    try:
        assert function.stdout.readline() == "got 0\n"
        proxy.process.send_signal(signal.SIGTERM)
        rest = [function.stdout.readline() for _ in range(8)]
        assert rest == [f"got {n}\n" for n in range(1, 8)] + ["code OK\n"]
        out, _ = function.communicate("\n", timeout=30)
        assert out == "then UNAVAILABLE\n"
        proxy.process.communicate(timeout=20)
        assert proxy.process.returncode == 0
    finally:
        function.kill()
        server.kill()
        function.wait()
        server.wait()
    [record] = guard.exchanges(bench.records())
    assert (record["path"], record["decision"], record["status"]) == ("/test.Echo/Down", "allow", 200)
