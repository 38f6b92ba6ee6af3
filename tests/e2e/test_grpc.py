"""gRPC through the guard: HTTP/2 on both sides, with grpcio as client and as server. One guard for all."""

import importlib.util
import select
import subprocess
import time

import pytest

import fixtures
import guard
import lab

HOST = "v4.example.com"
PORT = 50051
POLICY = guard.policy(
    guard.endpoint(HOST, ports=[PORT], rules=[
        {"methods": ["POST"], "path": {"prefix": f"/test.Echo/{name}"}}
        for name in ("Unary", "Down", "Up", "Both", "Broken", "Slow")
    ]),
)
SHARES_TRAFFIC = True


class Server:
    def __init__(self, world):
        certificate, key = world.good
        self.process = subprocess.Popen(
            [guard.PYTHON, str(lab.SUPPORT / "grpc_server.py"), lab.ORIGIN_V4, str(PORT), str(certificate), str(key)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=lab.die_with_parent,
        )
        assert self.says("ready")

    def says(self, word, timeout=20):
        return bool(select.select([self.process.stdout], [], [], timeout)[0]) and word in self.process.stdout.readline()


@pytest.fixture(scope="module")
def server(world):
    if importlib.util.find_spec("grpc") is None:
        fixtures.missing("python3-grpcio")
    made = Server(world)
    yield made
    made.process.kill()
    made.process.wait()


@pytest.fixture(scope="module")
def session(world, server):
    bench = guard.Bench(world)
    with bench.session(policy=POLICY) as running:
        yield running
    bench.close()


def channel():
    import os

    import grpc

    roots = open(os.environ["SSL_CERT_FILE"], "rb").read()
    return grpc.secure_channel("v4.example.com:50051", grpc.ssl_channel_credentials(roots))


def inside(session, source, *arguments):
    """Runs `def rpc(grpc, channel, …)` with a channel of its own."""
    import inspect
    import textwrap

    made = inspect.getsource(channel) + textwrap.dedent(inspect.getsource(source)) + f"""
def outer(*arguments):
    import grpc
    with channel() as opened:
        return {source.__name__}(grpc, opened, *arguments)
"""
    return session.do_source(made, "outer", *arguments)


def last_record(session, path, count=1):
    matching = lambda records: [r for r in guard.exchanges(records) if r.get("path") == path]
    return matching(session.wait_for_records(lambda r: len(matching(r)) >= count))[-1]


def test_unary_with_metadata(session):
    def rpc(grpc, channel):
        call = channel.unary_unary("/test.Echo/Unary")
        reply, details = call.with_call(b"hello", timeout=20, metadata=[("x-sent", "s"), ("x-sent-bin", b"\x00\x01")])
        return reply, sorted(map(tuple, details.initial_metadata())), sorted(map(tuple, details.trailing_metadata()))

    reply, initial, trailing = inside(session, rpc)
    assert reply == b"echo hello" and ("x-initial", "i") in initial
    assert ("x-trailing", "t") in trailing and ("x-bytes-bin", b"\x00\xff") in trailing
    record = last_record(session, "/test.Echo/Unary")
    told = (record.get("reason"), record.get("text"))
    assert (record["protocol"], record["status"], record["decision"]) == ("HTTP/2", 200, "allow"), told


def test_a_stream_of_answers_comes_as_it_is_made(session):
    def rpc(grpc, channel):
        import time

        begun, seen = time.monotonic(), []
        for message in channel.unary_stream("/test.Echo/Down")(b"4", timeout=20):
            seen.append((message, time.monotonic() - begun))
        return seen

    seen = inside(session, rpc)
    assert [m for m, _ in seen] == [b"0", b"1", b"2", b"3"] and seen[3][1] - seen[0][1] > 0.4, seen


def test_a_stream_of_requests(session):
    def rpc(grpc, channel):
        return channel.stream_unary("/test.Echo/Up")((b"x" * 100_000 for _ in range(50)), timeout=60)

    assert inside(session, rpc) == b"5000000"


def test_both_directions_take_turns(session):
    def rpc(grpc, channel):
        import queue

        asked, seen = queue.Queue(), []
        replies = channel.stream_stream("/test.Echo/Both")(iter(asked.get, None), timeout=30)
        for number in range(20):  # each is sent only when the one before it was answered
            asked.put(b"%d" % number)
            seen.append(next(replies))
        asked.put(None)
        return seen, list(replies), replies.code().name

    seen, rest, code = inside(session, rpc)
    assert seen == [b"got %d" % n for n in range(20)] and rest == [] and code == "OK"


def test_errors_have_their_details(session):
    def rpc(grpc, channel):
        try:
            channel.unary_unary("/test.Echo/Broken")(b"", timeout=20)
        except grpc.RpcError as error:
            return error.code().name, error.details(), [tuple(m) for m in error.trailing_metadata()]

    assert inside(session, rpc) == ("FAILED_PRECONDITION", "not today: \u00e4 %", [("x-why", "because")])


def test_a_denied_method_is_an_error_of_the_call(session):
    def rpc(grpc, channel):
        try:
            channel.unary_unary("/test.Other/Unary")(b"", timeout=20)
        except grpc.RpcError as error:
            return error.code().name

    assert inside(session, rpc) == "PERMISSION_DENIED"
    assert last_record(session, "/test.Other/Unary")["reason"] == "path-not-allowed"


@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_giving_up_reaches_the_server(session, server, how):
    def rpc(grpc, channel, how):
        import time

        call = channel.unary_unary("/test.Echo/Slow").future(b"", timeout=1 if how == "deadline" else 30)
        if how == "cancel":
            time.sleep(1)
            call.cancel()
        try:
            call.result()
        except grpc.RpcError as error:
            return error.code().name
        except grpc.FutureCancelledError:
            return "CANCELLED"

    assert inside(session, rpc, how) == ("DEADLINE_EXCEEDED" if how == "deadline" else "CANCELLED")
    assert server.says("cancelled", 5)


def test_many_calls_share_one_connection_to_the_server(session):
    def rpc(grpc, channel):
        call = channel.unary_unary("/test.Echo/Unary")
        calls = [call.future(b"%d" % n, timeout=60) for n in range(300)]
        return [c.result() for c in calls]

    assert inside(session, rpc) == [b"echo %d" % n for n in range(300)]
    last_record(session, "/test.Echo/Unary", 300)
    time.sleep(0.2)
    records = [r for r in guard.exchanges(session.bench.records()) if r.get("path") == "/test.Echo/Unary"]
    assert sum(1 for r in records if not r["reused"]) <= 5, [r["reused"] for r in records]
