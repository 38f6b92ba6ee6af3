"""Flow graphs in force (docs/flow.md): what is out of order, too often or elsewhere is refused, and told with what was
expected."""

import json
import subprocess
import time

import flows
import guard

HOST = "v4.example.com"
OPEN = guard.endpoint(HOST)
LOAD = flows.node("load", f"GET {HOST}/echo/load", "store", retries=2, times="2")
STORE = flows.node("store", f"POST {HOST}/echo/store")
GRAPH = flows.graph(LOAD, STORE)


def asking(*requests):
    """Python code that sends these "METHOD path" one after the other, and prints their statuses."""
    return f"""
        from inside import *

        for line in {list(requests)!r}:
            method = line.split()[0]
            head = f"{{line}} HTTP/1.1\\r\\nHost: {HOST}\\r\\nContent-Length: 0\\r\\n\\r\\n"
            reply = ask("{HOST}", head.encode(), method=method)
            print(reply["status"], reply["body"].decode().strip() if reply["status"] == 403 else "")
    """


def statuses(outcome):
    return [int(line.split()[0]) for line in outcome.out.splitlines()]


def test_a_command_that_keeps_to_its_graph_does_not_notice_it(bench, world):
    outcome = bench.python(asking("GET /echo/load", "GET /echo/load", "POST /echo/store"), policy=flows.policy(bench, GRAPH, OPEN))
    assert statuses(outcome) == [200, 200, 200], outcome.err
    assert [r["node"] for r in outcome.exchanges] == ["load", "load", "store"]
    assert {r["decision"] for r in outcome.records if r["kind"] in ("exchange", "execution")} == {"allow"}
    assert {r["attributed"] for r in outcome.exchanges} == {"only"}


def test_what_is_out_of_order_too_often_or_elsewhere_is_refused(bench, world):
    code = asking("POST /echo/store", "GET /echo/load", "GET /echo/other", "POST /echo/store", "POST /echo/store", "GET /echo/load")
    outcome = bench.python(code, policy=flows.policy(bench, GRAPH, OPEN))
    assert statuses(outcome) == [403, 200, 403, 200, 403, 403]
    texts = [r["text"] for r in outcome.exchanges if r["decision"] == "deny"]
    assert texts[0] == f"POST {HOST}/echo/store may not come now; expected: GET {HOST}/echo/load; at: the entry"
    assert texts[1] == (
        f"GET {HOST}/echo/other is nowhere in the flow graph; expected: GET {HOST}/echo/load, POST {HOST}/echo/store; "
        "at: load (so far: load)"
    )
    assert texts[2] == f"POST {HOST}/echo/store may not come now; expected: the end; at: store (so far: load → store)"
    denied = json.loads(outcome.out.splitlines()[0].split(maxsplit=1)[1])
    assert denied["reason"] == "flow-not-allowed" and denied["text"] == texts[0]
    assert [r.path for r in world.requests()] == ["/echo/load", "/echo/store"]


def test_a_graph_learned_from_a_command_is_enforced_on_it(bench, world):
    """The whole way of a user: traces, a graph, a policy."""
    traces = bench.folder / "traces.jsonl"
    for loads in (1, 2, 1, 2, 3):
        code = asking(*["GET /echo/load"] * loads, "POST /echo/store")
        assert bench.python(code, policy=guard.policy(OPEN), flags=["--traces", traces]).code == 0
    learned = subprocess.run([guard.SALLYPORT, "flow", "learn", str(traces)], capture_output=True, text=True, check=True)
    policy = flows.policy(bench, learned.stdout, OPEN)
    bench.record.unlink()
    outcome = bench.python(asking("GET /echo/load", "GET /echo/load", "POST /echo/store"), policy=policy)
    assert statuses(outcome) == [200, 200, 200], (learned.stdout, outcome.records)
    outcome = bench.python(asking("GET /echo/load", "POST /echo/store", "POST /echo/store"), policy=policy)
    assert statuses(outcome) == [200, 200, 403], "a replay"


def test_a_retry_after_a_failure_is_let_through_and_a_replay_is_not(bench, world):
    graph = flows.graph(flows.node("a", f"POST {HOST}/status/503", "b", retries=1), flows.node("b", f"POST {HOST}/echo/b", retries=1))
    code = asking("POST /status/503", "POST /status/503", "POST /status/503", "POST /echo/b", "POST /echo/b")
    outcome = bench.python(code, policy=flows.policy(bench, graph, OPEN))
    assert statuses(outcome) == [503, 503, 403, 200, 403]


def test_what_failed_on_the_way_may_be_tried_again(bench, world):
    down = guard.endpoint("down.example.com")
    graph = flows.graph(flows.node("a", "GET down.example.com/x", "b", retries=1), flows.node("b", f"GET {HOST}/echo"))
    urls = ["https://down.example.com/x"] * 3 + [f"https://{HOST}/echo"]
    command = ["curl", "-sS", "--fail-early", "-o", "/dev/null", "-w", "%{http_code} "]
    command = ["sh", "-c", "; ".join(" ".join([*command, url]).replace("%{http_code} ", "'%{http_code} '") for url in urls)]
    outcome = bench.run(command, policy=flows.policy(bench, graph, OPEN, down))
    assert outcome.out.split() == ["502", "502", "403", "200"], outcome.err


def test_a_redirect_leads_where_the_graph_lets_it(bench, world):
    request = flows.node("a", f"GET {HOST}/redirect", redirects=[f"GET {HOST}/echo/next"])
    code = asking("GET /redirect?to=/echo/next", "GET /echo/next", "GET /echo/next")
    outcome = bench.python(code, policy=flows.policy(bench, flows.graph(request), OPEN))
    assert statuses(outcome) == [302, 200, 403]


def test_a_set_may_come_in_any_order_over_one_http2_connection_and_no_more_of_it(bench, world):
    members = [{"request": f"GET {HOST}/echo/{name}"} for name in "abc"]
    graph = flows.graph({"name": "all", "set": members, "next": ["exit"]})
    urls = [f"https://{HOST}/echo/{name}" for name in "cabca"]
    command = ["curl", "-sS", "--http2", "-Z", "-o", "/dev/null", "-w", "%{http_code} %{url_effective}\\n"]
    flags = [argument for url in urls for argument in (url, "-o", "/dev/null")]
    outcome = bench.run([*command, *flags], policy=flows.policy(bench, graph, OPEN))
    assert sorted(line.split()[0] for line in outcome.out.splitlines()) == ["200"] * 3 + ["403"] * 2, outcome.out
    assert sorted(r.path for r in world.requests()) == ["/echo/a", "/echo/b", "/echo/c"]


def test_audit_records_what_it_would_refuse(bench, world):
    for policy in (
        flows.policy(bench, GRAPH, OPEN, mode="audit"),
        flows.policy(bench, GRAPH, OPEN, mode="learn"),
        flows.policy(bench, GRAPH, OPEN, relaxUntil="2120-01-01T00:00:00Z"),
    ):
        bench.record.unlink(missing_ok=True)
        outcome = bench.python(asking("POST /echo/store", "GET /echo/load", "POST /echo/store"), policy=policy)
        assert statuses(outcome) == [200, 200, 200]
        assert [r["decision"] for r in outcome.exchanges] == ["would-deny", "allow", "allow"]
        assert flows.refused(outcome.records) == ["/echo/store"]


def test_the_graph_alone_may_be_audited_while_the_endpoints_decide(bench, world):
    policy = flows.policy(bench, GRAPH, guard.endpoint(HOST, path="/echo/"))
    policy = json.loads(policy)
    policy["spec"]["flow"]["mode"] = "audit"
    outcome = bench.python(asking("POST /echo/store", "GET /elsewhere"), policy=json.dumps(policy))
    assert statuses(outcome) == [200, 403]
    assert [r["reason"] for r in outcome.exchanges] == ["flow-not-allowed", "path-not-allowed"]


def test_a_relaxed_graph_says_so_and_one_whose_time_is_over_decides(bench, world):
    code = asking("POST /echo/store")
    outcome = bench.python(code, policy=flows.policy(bench, GRAPH, OPEN, relaxUntil="2120-01-01T00:00:00Z"))
    assert statuses(outcome) == [200] and outcome.exchanges[0]["text"].endswith("; let through until the policy's relaxUntil")
    outcome = bench.python(code, policy=flows.policy(bench, GRAPH, OPEN, relaxUntil="2020-01-01T00:00:00Z"))
    assert statuses(outcome) == [403]


def test_the_graph_of_another_image_is_refused_unless_it_is_relaxed(bench, world):
    digests = {name: "sha256:" + name * 64 for name in "ab"}
    graph = flows.graph(LOAD, STORE, imageDigest=digests["a"])
    policy = flows.policy(bench, graph, OPEN)
    assert bench.python(asking("GET /echo/load"), policy=policy, flags=["--image-digest", digests["a"]]).code == 0
    other = bench.python(asking("GET /echo/load"), policy=policy, flags=["--image-digest", digests["b"]])
    assert other.code == 2 and "is for the image " + digests["a"] in other.err and "nothing was run" in other.err
    policy = flows.policy(bench, graph, OPEN, relaxUntil="2120-01-01T00:00:00Z")
    relaxed = bench.python(asking("POST /echo/store"), policy=policy, flags=["--image-digest", digests["b"]])
    assert statuses(relaxed) == [200] and "warning: the flow graph" in relaxed.err


def test_an_execution_that_ends_too_early_is_an_alarm(bench, world):
    outcome = bench.python(asking("GET /echo/load"), policy=flows.policy(bench, GRAPH, OPEN))
    assert outcome.code == 0, "the command has done nothing that was refused"
    (ended,) = [r for r in outcome.records if r["kind"] == "execution"]
    assert (ended["decision"], ended["reason"], ended["end"]) == ("would-deny", "flow-incomplete", "complete")
    assert f"expected: GET {HOST}/echo/load, POST {HOST}/echo/store; at: load" in ended["text"]


def test_a_refused_request_gets_no_credential_and_no_server(bench, world):
    secret = bench.folder / "key"
    secret.write_text("s3cret-value")
    credential = {"name": "key", "secret": {"file": str(secret)}, "inject": {"header": "X-Key"}}
    policy = flows.policy(bench, GRAPH, guard.endpoint(HOST, credential="key"), credentials=[credential])
    outcome = bench.python(asking("POST /echo/store", "GET /echo/load"), policy=policy)
    assert statuses(outcome) == [403, 200], outcome.err
    assert "credential" not in outcome.exchanges[0] and outcome.exchanges[1]["credential"] == "key"
    assert [r.header("x-key") for r in world.requests()] == ["s3cret-value"]


def test_the_action_of_the_api_is_part_of_what_is_expected(bench, world):
    rules = [{"methods": ["POST"], "path": {"exact": "/echo"}}]
    endpoint = guard.endpoint(HOST, rules=rules, operations="json-rpc")
    graph = flows.graph(
        flows.node("list", f"POST {HOST}/echo", "drop", action="list"), flows.node("drop", f"POST {HOST}/echo", action="drop")
    )
    curl = "curl -sS -o /dev/null -w '%{http_code} ' -H 'Content-Type: application/json'"
    send = [f"{curl} -d '{json.dumps({'method': action})}' https://{HOST}/echo" for action in ("drop", "list", "list", "drop")]
    outcome = bench.run(["sh", "-c", "; ".join(send)], policy=flows.policy(bench, graph, endpoint))
    assert outcome.out.split() == ["403", "200", "403", "200"], (outcome.out, outcome.err)
    assert "(drop)" in outcome.exchanges[2]["text"]


def test_bad_graphs_are_told_and_nothing_is_run(bench, world):
    for graph, said in (
        (None, "the flow graph: "),
        ("nodes: [", "graph.yaml:"),
        (flows.graph(flows.node("a", "GET a.example/", "b")), "error: "),
        (flows.graph(LOAD, STORE, function="another"), "is for the function 'another'"),
        (flows.graph(flows.node("a", "GET a.example/", "b"), flows.node("b", "GET a.example/b", "a", "exit")), "a → b → a"),
    ):
        policy = flows.policy(bench, graph or "", OPEN)
        if graph is None:
            bench.policy_file.with_name("graph.yaml").unlink()
        outcome = bench.run(["echo", "ran"], policy=policy)
        assert outcome.code == 2 and outcome.out == "" and said in outcome.err and "nothing was run" in outcome.err, outcome.err
        checked = subprocess.run([guard.SALLYPORT, "policy", "check", str(bench.policy_file)], capture_output=True, text=True)
        assert checked.returncode != 0 and said in checked.stderr, checked.stderr


def test_a_changed_graph_is_read_and_decides_about_what_begins_then(bench, world):
    """One that began keeps its graph: no graph can be entered in its middle."""
    with bench.session(policy=flows.policy(bench, GRAPH, OPEN)) as session:
        assert session.get(HOST, "/echo/other")["status"] == 403
        bench.policy_file.with_name("graph.yaml").write_text(flows.graph(flows.node("a", f"GET {HOST}/echo/other")))
        session.wait_for_stderr("the changed policy is in force")
        assert session.get(HOST, "/echo/other")["status"] == 403
        bench.policy_file.with_name("graph.yaml").write_text("nodes: [")
        session.wait_for_stderr("the changed policy was refused; the one before stays in force")
        assert session.get(HOST, "/echo/load")["status"] == 200
        # Whoever changes the policy may also let the order be.
        bench.write_policy(guard.policy(OPEN))
        end = time.monotonic() + 10
        while session.get(HOST, "/echo/other")["status"] != 200:
            assert time.monotonic() < end, session.stderr()


def test_a_graph_that_comes_while_the_command_runs_is_for_the_next_one(bench, world):
    """The command could have laid a file of its own under a name that nobody held at the start."""
    with bench.session(policy=guard.policy(OPEN)) as session:
        assert session.get(HOST, "/echo/other")["status"] == 200
        bench.write_policy(flows.policy(bench, GRAPH, OPEN, guard.endpoint("other.example.com")))
        session.wait_for_stderr("another flow graph takes a new run(.|\n)*the one before stays in force")
        assert session.get(HOST, "/echo/other")["status"] == 200
    outcome = bench.python(asking("GET /echo/other"), policy=flows.policy(bench, GRAPH, OPEN))
    assert statuses(outcome) == [403]
