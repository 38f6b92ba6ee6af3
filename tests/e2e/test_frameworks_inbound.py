"""Functions as people write them, in three frameworks, with several messages at one time: to which execution the guard
counts what they send, with OpenTelemetry passing the trace on and without (docs/executions.md)."""

import concurrent.futures
import json

import pytest

import clients
import fixtures
import guard
import published

HOST = "v4.example.com"
AT_ONE_TIME = 8
POLICY = guard.policy(guard.endpoint(HOST), inbound={"probes": [{"path": "/healthz", "methods": ["GET"]}]})
MADE, PROGRAMS = clients.MADE / "functions", clients.PROGRAMS / "functions"
FRAMEWORKS = {
    "Flask under gunicorn": (
        [guard.PYTHON, "-m", "gunicorn", "--threads", AT_ONE_TIME, "--bind", f"127.0.0.1:{published.INSIDE}", "flask_function:app"],
        {"PYTHONPATH": f"{MADE / 'python'}:{PROGRAMS}"},
    ),
    "Express": (["node", PROGRAMS / "express_function.js", published.INSIDE], {"NODE_PATH": str(MADE / "node" / "node_modules")}),
    "Go net/http": ([MADE / "function", published.INSIDE], {}),
}


@pytest.fixture(params=FRAMEWORKS)
def serve(request, bench, world):
    """Starts a function of the framework, and ends it."""
    if why := clients.not_made("functions"):
        fixtures.missing(why)
    started = []

    def make(**environment):
        command, variables = FRAMEWORKS[request.param]
        env = variables | environment | {"TOGETHER": str(AT_ONE_TIME)}
        started.append(published.Published(bench, POLICY, command=command, env=env))
        return started[-1]

    yield make
    for one in started:
        one.stop()


def send(paths, **task):
    body = json.dumps({"urls": [f"https://{HOST}{path}" for path in paths]} | task)
    status, _, answer = published.ask("POST", "/run", body, {"Content-Type": "application/json"}, timeout=40)
    assert (status, json.loads(answer)["statuses"]) == (200, [200] * len(paths)), answer
    return list(paths)


def sequence(i):
    """Each message has the function send something else, and another number of requests."""
    return [f"/{i}/{step}" for step in range(1 + i % 4)]


def paths(trace):
    return [f["operation"]["path"] for f in trace.get("flows", [])]


@pytest.mark.parametrize("propagate, how", [("yes", "trace-context"), ("", "set")], ids=["with the trace", "without"])
def test_it_is_known_which_message_a_request_was_sent_for(serve, propagate, how):
    """One message after the other there is nothing to tell apart, and the function needs to know of nothing. At one time
    the trace tells; without it nobody knows, and that is said of every execution; none of the requests is lost."""
    function = serve(PROPAGATE=propagate)
    before = [send(sequence(i)) for i in range(2)]
    with concurrent.futures.ThreadPoolExecutor(AT_ONE_TIME) as pool:
        together = list(pool.map(lambda i: send(sequence(i), meet=True), range(2, 2 + AT_ONE_TIME)))
    told = function.traces()
    assert len(told) == 2 + AT_ONE_TIME and {t["end"] for t in told} == {"EXECUTION_END_COMPLETE"}
    assert list(map(paths, told[:2])) == before and all(t["attributed"] for t in told[:2])
    by_path = {r["path"]: r["attributed"] for r in function.records("exchange")}
    assert {by_path[path] for one in before for path in one} == {"only"}
    assert {by_path[path] for one in together for path in one} == {how}
    if propagate:
        assert sorted(map(paths, told[2:])) == sorted(together) and all(t["attributed"] for t in told)
    else:
        assert not any(t.get("attributed") for t in told[2:])
        assert sorted(p for t in told[2:] for p in paths(t)) == sorted(p for one in together for p in one)
