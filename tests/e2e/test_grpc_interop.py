"""The interoperability cases of gRPC through the guard, which puts in a credential: grpc-go's own client and server as
its authors wrote them, and grpcio's, each with each."""

import functools
import importlib.util
import select
import socket
import subprocess
import time

import pytest

import clients
import fixtures
import guard
import lab

HOST = "v4.example.com"
PORTS = {"grpc-go": 50061, "grpcio": 50062}
SECRET = "grpc-bearer-5f1dd0a1"
INTEROP = str(lab.SUPPORT / "grpc_interop.py")
SERVICE = "/grpc.testing.TestService/"
# Each case, and the methods that its requests are for.
CASES = {
    "empty_unary": ["EmptyCall"],
    "large_unary": ["UnaryCall"],
    "client_streaming": ["StreamingInputCall"],
    "server_streaming": ["StreamingOutputCall"],
    "ping_pong": ["FullDuplexCall"],
    "empty_stream": ["FullDuplexCall"],
    "custom_metadata": ["UnaryCall", "FullDuplexCall"],
    "status_code_and_message": ["UnaryCall", "FullDuplexCall"],
    "special_status_message": ["UnaryCall"],
    "unimplemented_method": ["UnimplementedCall"],
    "unimplemented_service": ["UnimplementedCall"],
    "cancel_after_begin": ["StreamingInputCall"],
    "cancel_after_first_response": ["FullDuplexCall"],
    "timeout_on_sleeping_server": ["FullDuplexCall"],
}
# Given up at once, which may be before it was sent: grpc-go waits for a millisecond.
MAY_SEND_NOTHING = {"cancel_after_begin", "timeout_on_sleeping_server"}


def start_server(world, kind):
    certificate, key = world.good
    port = PORTS[kind]
    if kind == "grpc-go":
        command = [clients.MADE / "grpc" / "server", "-use_tls", "-port", port, "-tls_cert_file", certificate]
        command += ["-tls_key_file", key]
    else:
        command = [guard.PYTHON, INTEROP, "server", lab.ORIGIN_V4, port, certificate, key]
    running = subprocess.Popen(
        [*map(str, command)],
        env={"PATH": "/usr/bin:/bin", "AUTHORIZATION": f"Bearer {SECRET}", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lab.die_with_parent,
    )
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((lab.ORIGIN_V4, port), 1).close()
            return running
        except OSError:
            assert running.poll() is None and time.monotonic() < end, f"the server of {kind} did not start"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def server(world):
    if lacking := clients.not_made("grpc"):
        fixtures.missing(lacking)
    if importlib.util.find_spec("grpc") is None:
        fixtures.missing("python3-grpcio")
    started = functools.cache(lambda kind: start_server(world, kind))
    yield started
    for kind in PORTS:
        started(kind).kill()
        started(kind).wait()


def command_of(client, port, case):
    if client == "grpcio":
        return [guard.PYTHON, INTEROP, "client", HOST, port, case]
    return [clients.MADE / "grpc" / "client", "-use_tls", "-server_host", HOST, "-server_port", port, "-test_case", case]


def policy(bench):
    secret = bench.folder / "secret"
    secret.write_text(SECRET + "\n")
    endpoints = [
        guard.endpoint(HOST, name=kind, ports=[port], credential="rpc", methods=["POST"], path="/grpc.testing.")
        for kind, port in PORTS.items()
    ]
    for endpoint in endpoints:
        endpoint["rules"] = [{"methods": ["POST"], "path": {"regex": r"/grpc\.testing\.[A-Za-z]+/[A-Za-z]+"}}]
    made = {"name": "rpc", "secret": {"file": str(secret)}, "inject": {"header": "Authorization", "format": "Bearer {}"}}
    return guard.policy(*endpoints, credentials=[made])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("to", PORTS)
@pytest.mark.parametrize("client", PORTS)
def test_a_case_holds_through_the_guard(bench, server, client, to, case):
    assert server(to).poll() is None
    outcome = bench.run(command_of(client, PORTS[to], case), policy=policy(bench), timeout=60)
    assert outcome.code == 0, outcome.out + outcome.err
    records = outcome.exchanges
    assert records or case in MAY_SEND_NOTHING
    service = SERVICE.replace("TestService", "UnimplementedService") if case == "unimplemented_service" else SERVICE
    assert {r["path"] for r in records} <= {service + name for name in CASES[case]}, records
    assert len({r["path"] for r in records}) == len(CASES[case]) or case in MAY_SEND_NOTHING
    assert {(r["protocol"], r["endpoint"], r["credential"]) for r in records} <= {("HTTP/2", to, "rpc")}, records
    given_up = ("cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server")
    for record in records:
        ended = (record["decision"], record.get("reason"))
        assert ended == ("allow", None) or case in given_up and ended == ("error", "downstream-closed"), record
