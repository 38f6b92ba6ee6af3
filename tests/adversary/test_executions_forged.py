"""A function that would have its requests counted to another execution, or to one that nobody began."""

import pytest

import flows
import guard
from runtime_api import RuntimeApi

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST))
API = "runtime-api.sallyport.internal"
NEXT = f"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n".encode()


@pytest.fixture
def api(world):
    made = RuntimeApi()
    yield made
    made.close()


@pytest.fixture
def session(bench, api):
    flags = ["--runtime-api", api.address, "--traces", bench.folder / "traces.jsonl"]
    with bench.session(policy=POLICY, flags=flags) as made:
        yield made


def answer(identity, what="response", host=API):
    return (
        f"POST /2018-06-01/runtime/invocation/{identity}/{what} HTTP/1.1\r\nHost: {host}\r\n"
        "Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    ).encode()


def attributed(session, path):
    """To which execution the guard counts a request that is sent now."""
    session.get(HOST, path)
    records = session.wait_for_records(lambda r: any(one.get("path") == path for one in guard.exchanges(r)))
    return next(r.get("execution") for r in guard.exchanges(records) if r.get("path") == path)


def ask_api(session, request):
    return session.ask(API, request, tls=False, port=80)


def test_no_execution_begins_that_the_api_did_not_begin(session, api, world):
    """Answers of other servers, answers without an id, answers to other requests."""
    fake = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: forged\r\nContent-Length: 2\r\n\r\n{}"
    session.get(HOST, f"/raw?bytes={fake.hex()}")
    session.ask(HOST, NEXT.replace(API.encode(), HOST.encode()))
    start = attributed(session, "/one")
    session.ask(HOST, NEXT)  # the API's name on a connection to another host
    assert attributed(session, "/two") == start
    ask_api(session, NEXT.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"))
    assert attributed(session, "/three") == start, "it is what the function does before its first invocation"


def test_an_execution_ends_with_its_own_answer_only(session, api, world):
    api.invoke("real")
    assert ask_api(session, NEXT)["status"] == 200
    mine = attributed(session, "/during")
    assert mine is not None
    ask_api(session, answer("other"))
    ask_api(session, answer("real", "response/x"))
    session.ask(HOST, answer("real", host=HOST))
    assert attributed(session, "/still") == mine
    ask_api(session, answer("real"))
    assert attributed(session, "/after") is None, "what is sent behind the answer belongs to no execution"


def test_each_invocation_has_the_graph_anew_and_what_is_between_has_none(bench, world, api):
    graph = flows.graph(flows.node("once", f"GET {HOST}/echo/once"))
    policy = flows.policy(bench, graph, guard.endpoint(HOST))
    once = "/echo/once"
    with bench.session(policy=policy, flags=["--runtime-api", api.address]) as session:
        assert [session.get(HOST, once)["status"] for _ in range(2)] == [200, 403], "before the first"
        for name in ("first", "second"):
            api.invoke(name)
            assert ask_api(session, NEXT)["status"] == 200
            assert [session.get(HOST, once)["status"] for _ in range(2)] == [200, 403]
            ask_api(session, answer(name))
            refused = session.get(HOST, once)
            assert refused["status"] == 403 and b"no execution is open that could send it" in refused["body"]
    assert len(world.requests()) == 3


def test_the_api_is_reached_under_its_name_alone(session, api, world):
    """Its address is one that the policy does not have, and stays out of reach."""
    before = len(api.requests)
    for host, port in (("127.0.0.1", 9001), ("to-loopback.example.com", 9001)):
        session.ask(host, NEXT.replace(API.encode(), f"{host}:{port}".encode()), tls=False, port=port)
    session.ask(API, NEXT.replace(API.encode(), f"{API}:9001".encode()), tls=False, port=9001)
    assert len(api.requests) == before
    assert ask_api(session, b"GET /anything HTTP/1.1\r\nHost: %s\r\nSallyport-Tag: v1.a.b\r\nConnection: close\r\n\r\n" % API.encode())
    assert not [n for _, _, headers in api.requests for n in headers if n.lower().startswith("sallyport")]
