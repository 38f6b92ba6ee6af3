"""AWS Lambda's Runtime API through the guard: each invocation is an execution (docs/executions.md)."""

import json
import textwrap
import time

import pytest

import guard
from runtime_api import RuntimeApi

HOST = "v4.example.com"
OPEN = guard.policy(guard.endpoint(HOST))

# What a runtime does, as AWS describes it: one connection, the next invocation, its answer.
LOOP = """
import http.client, json, os, threading
from inside import *

def invocations(handler):
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", "/2018-06-01/runtime/invocation/next")
        answer = api.getresponse()
        event = answer.read()
        identity = answer.getheader("Lambda-Runtime-Aws-Request-Id")
        if answer.status != 200:
            return
        try:
            result, what = handler(json.loads(event), answer), "response"
        except Exception as error:
            result, what = {"errorMessage": str(error)}, "error"
        api.request("POST", f"/2018-06-01/runtime/invocation/{identity}/{what}", json.dumps(result))
        done = api.getresponse()
        assert done.status == 202, done.status
        done.read()
"""


@pytest.fixture
def api(world):
    made = RuntimeApi()
    yield made
    made.close()


def traces(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(bench, code, *flags, policy=OPEN):
    return bench.start([guard.PYTHON, "-c", LOOP + textwrap.dedent(code)], policy=policy, flags=flags)


def end(api, process, runtimes=1):
    for _ in range(runtimes):
        api.invoke(None)
    out, err = process.communicate(timeout=30)
    guard.no_sanitizer_report(err)
    assert process.returncode == 0, err
    return out


def test_each_invocation_is_an_execution(user_bench, world, api):
    file = user_bench.folder / "home" / "traces.jsonl"
    process = run(
        user_bench,
        f"""
        get("{HOST}", "/before")

        def handler(event, answer):
            for path in event["paths"]:
                get("{HOST}", path)
            if event.get("fail"):
                raise ValueError("as asked")
            return len(event["paths"])

        invocations(handler)
        """,
        "--runtime-api",
        api.address,
        "--traces",
        file,
    )
    api.invoke("first", b'{"paths": ["/a", "/b"]}')
    assert api.wait_for("first") == ("response", b"2")
    api.invoke("second", b'{"paths": [], "fail": true}')
    assert api.wait_for("second") == ("error", b'{"errorMessage": "as asked"}')
    api.invoke("third", b'{"paths": ["/c"]}')
    assert api.wait_for("third")[0] == "response"
    end(api, process)
    told = traces(file)
    paths = [[f["operation"]["path"] for f in t.get("flows", [])] for t in told]
    assert paths == [["/before"], ["/a", "/b"], [], ["/c"]]
    assert {t["end"] for t in told} == {"EXECUTION_END_COMPLETE"} and all(t["attributed"] for t in told)
    assert len({t["execution"] for t in told}) == 4
    by_path = {r["path"]: r for r in guard.exchanges(user_bench.records())}
    assert by_path["/before"]["execution"] == told[0]["execution"], "what is before any invocation is one of its own"
    assert by_path["/a"]["execution"] == told[1]["execution"] and by_path["/a"]["attributed"] == "only"
    assert by_path["/2018-06-01/runtime/invocation/next"]["endpoint"] == "runtime-api"


def test_the_api_gets_what_the_runtime_sends_under_its_own_name(bench, world, api):
    process = run(bench, "invocations(lambda event, answer: answer.getheader('Lambda-Runtime-Deadline-Ms'))", "--runtime-api", api.address)
    api.invoke("one")
    assert api.wait_for("one") == ("response", b'"0"')
    end(api, process)
    assert all(headers["Host"] == api.address for _, _, headers in api.requests)


def test_invocations_at_one_time_are_told_apart_by_their_trace(bench, world, api):
    file = bench.folder / "traces.jsonl"
    process = run(
        bench,
        f"""
        both = threading.Barrier(2, timeout=20)

        def handler(event, answer):
            root = answer.getheader("Lambda-Runtime-Trace-Id").split("Root=1-")[1].split(";")[0].replace("-", "")
            both.wait()  # both have begun
            get("{HOST}", event["path"], f"traceparent: 00-{{root}}-00f067aa0ba902b7-01\\r\\n")
            both.wait()  # neither has ended
            return 1

        threads = [threading.Thread(target=invocations, args=(handler,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        """,
        "--runtime-api",
        api.address,
        "--traces",
        file,
    )
    api.invoke("a", b'{"path": "/a"}', "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")
    api.invoke("b", b'{"path": "/b"}', "Root=1-5759e988-aaaaaaaafe1be46a99427279;Sampled=1")
    api.wait_for("a")
    api.wait_for("b")
    end(api, process, 2)
    told = traces(file)
    assert sorted(f["operation"]["path"] for t in told for f in t["flows"]) == ["/a", "/b"]
    assert all(len(t["flows"]) == 1 and t["attributed"] for t in told)
    assert {r.get("attributed") for r in guard.exchanges(bench.records()) if r["host"] == HOST} == {"trace-context"}


def test_without_a_trace_nobody_knows_whose_request_it_is(bench, world, api):
    file = bench.folder / "traces.jsonl"
    process = run(
        bench,
        f"""
        both = threading.Barrier(2, timeout=20)

        def handler(event, answer):
            both.wait()
            get("{HOST}", event["path"])
            both.wait()
            return 1

        threads = [threading.Thread(target=invocations, args=(handler,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        """,
        "--runtime-api",
        api.address,
        "--traces",
        file,
    )
    api.invoke("a", b'{"path": "/a"}')
    api.invoke("b", b'{"path": "/b"}')
    api.wait_for("a")
    api.wait_for("b")
    end(api, process, 2)
    assert [t["attributed"] for t in traces(file) if "attributed" in t] == []
    assert {r.get("attributed") for r in guard.exchanges(bench.records()) if r["host"] == HOST} == {"set"}


def test_the_variable_of_the_guard_is_enough(bench, world, api):
    environment = {"AWS_LAMBDA_RUNTIME_API": api.address}
    process = bench.start(
        [guard.PYTHON, "-c", LOOP + "invocations(lambda event, answer: os.environ['AWS_LAMBDA_RUNTIME_API'])"],
        policy=OPEN,
        env=environment,
    )
    api.invoke("one")
    assert api.wait_for("one") == ("response", b'"runtime-api.sallyport.internal:80"')
    end(api, process)


def test_a_runtime_that_waits_longer_than_any_answer_may_take(bench, world, api, fast_clock):
    """The guard's clock is fast: it waits for more than ten minutes."""
    process = bench.start(
        [guard.PYTHON, "-c", LOOP + "invocations(lambda event, answer: 1)"],
        policy=OPEN,
        flags=["--runtime-api", api.address],
        env=fast_clock(200),
    )
    time.sleep(4)
    api.invoke("late")
    assert api.wait_for("late")[0] == "response"
    end(api, process)


def test_the_name_means_nothing_without_the_api(bench, world):
    outcome = bench.run(["curl", "-sS", "http://runtime-api.sallyport.internal/"], policy=OPEN)
    assert outcome.code == 6, outcome


@pytest.mark.parametrize("address", ["127.0.0.1", "http://127.0.0.1:9001", "127.0.0.1:0"])
def test_an_address_that_is_none_is_refused(bench, world, address):
    outcome = bench.run(["true"], policy=OPEN, flags=["--runtime-api", address])
    assert outcome.code != 0 and "HOST:PORT" in outcome.err
