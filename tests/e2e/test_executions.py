"""Executions and their traces (docs/executions.md): a command that is run is one; what it sends is noted in order."""

import json
import subprocess

import pytest

import guard

HOST = "v4.example.com"
OPEN = guard.policy(guard.endpoint(HOST, query="sort"), guard.endpoint("down.example.com"))


def traces(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def seconds(text):
    return float(text.removesuffix("s"))


def test_a_command_is_one_execution_and_its_trace_says_what_it_sent(user_bench, world):
    bench = user_bench
    file = bench.folder / "home" / "traces.jsonl"
    code = f"""
        import time
        from inside import *

        get("{HOST}", "/echo?b=2&a=1")
        ask("{HOST}", b"POST /status/503 HTTP/1.1\\r\\nHost: {HOST}\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nhello")
        get("{HOST}", "/redirect?to=/next%3Fz=1")
        get("denied.example.com", "/x")
        time.sleep(0.2)
    """
    outcome = bench.python(code, policy=OPEN.replace("enforce", "audit"), flags=["--traces", file])
    assert outcome.code == 0, outcome.err
    (trace,) = traces(file)
    assert trace["function"] == "tested" and trace["end"] == "EXECUTION_END_COMPLETE" and trace["attributed"] is True
    assert "inbound" not in trace and seconds(trace["duration"]) >= 0.2
    flows = trace["flows"]
    assert [f["operation"].get("path") for f in flows] == ["/echo", "/status/503", "/redirect", "/x"]
    assert flows[0]["operation"] == {"method": "GET", "host": HOST, "path": "/echo", "query": "a=1&b=2"}
    assert [f["status"] for f in flows[:3]] == [200, 503, 302] and {f["end"] for f in flows} == {"FLOW_END_ANSWERED"}
    assert flows[1]["bytesUp"] == "5" and flows[2]["redirect"]["path"] == "/next"
    began = [seconds(f["began"]) for f in flows]
    assert began == sorted(began) and all(b <= seconds(f["ended"]) for b, f in zip(began, flows, strict=True))
    assert seconds(flows[-1]["ended"]) <= seconds(trace["duration"])
    # The records name the execution, and it has one of its own.
    assert {r["execution"] for r in outcome.records if r["kind"] != "dns"} == {trace["execution"]}
    assert {r["attributed"] for r in outcome.exchanges} == {"only"}
    (ended,) = [r for r in outcome.records if r["kind"] == "execution"]
    assert (ended["end"], ended["flows"], ended["decision"]) == ("complete", 4, "allow")


def test_what_is_refused_and_what_fails_is_in_the_trace_as_such(bench, world):
    file = bench.folder / "traces.jsonl"
    code = f"""
        from inside import *

        get("{HOST}", "/echo")
        ask("{HOST}", b"GET /x HTTP/1.1\\r\\nHost: denied.example.com\\r\\n\\r\\n")
        ask("{HOST}", b"POST /echo HTTP/1.1\\r\\nHost: {HOST}\\r\\n{{}}\\r\\n\\r\\n")
        get("{HOST}", "/cut")
        get("down.example.com", "/x")
    """
    policy = guard.policy(guard.endpoint(HOST, ["GET"]), guard.endpoint("down.example.com"))
    outcome = bench.python(code, policy=policy, flags=["--traces", file])
    (trace,) = traces(file)
    flows = [(f["operation"]["path"], f["end"], f.get("status")) for f in trace["flows"]]
    assert flows[0] == ("/echo", "FLOW_END_ANSWERED", 200)
    assert ("/cut", "FLOW_END_FAILED", 200) in flows and ("/x", "FLOW_END_FAILED", None) in flows
    # What names another host than its connection is no operation that could be sent; what is no request neither.
    assert len([r for r in outcome.exchanges if "execution" not in r]) == len(outcome.exchanges) - len(flows)


def test_a_denied_request_is_a_flow_that_was_denied(bench, world):
    file = bench.folder / "traces.jsonl"
    policy = guard.policy(guard.endpoint(HOST, ["GET"], path="/allowed"))
    outcome = bench.run(["curl", "-sS", "-o", "/dev/null", f"https://{HOST}/denied"], policy=policy, flags=["--traces", file])
    assert outcome.code == 0
    (trace,) = traces(file)
    assert [(f["operation"]["path"], f["end"]) for f in trace["flows"]] == [("/denied", "FLOW_END_DENIED")]
    assert "status" not in trace["flows"][0] and not world.requests()


def test_the_action_is_part_of_the_operation(bench, world):
    file = bench.folder / "traces.jsonl"
    rules = [{"methods": ["POST"], "path": {"exact": "/echo"}}]
    policy = guard.policy(guard.endpoint(HOST, rules=rules, operations="json-rpc"))
    body = ["-H", "Content-Type: application/json", "-d", '{"method":"list"}']
    bench.run(["curl", "-sS", "-o", "/dev/null", *body, f"https://{HOST}/echo"], policy=policy, flags=["--traces", file])
    (trace,) = traces(file)
    assert [f["operation"]["action"] for f in trace["flows"]] == ["list"]


def test_traces_of_several_runs_stand_in_one_file_and_the_binary_form_too(bench, world):
    for name in ("traces.jsonl", "traces.pb"):
        for _ in range(3):
            bench.run(["curl", "-sS", "-o", "/dev/null", f"https://{HOST}/echo"], policy=OPEN, flags=["--traces", bench.folder / name])
    assert len({t["execution"] for t in traces(bench.folder / "traces.jsonl")}) == 3
    binary = (bench.folder / "traces.pb").read_bytes()
    assert binary.startswith(b"SLPTRC1\n")
    at, count = 8, 0
    while at < len(binary):
        size, shift = 0, 0
        while True:
            byte = binary[at]
            at, size, shift = at + 1, size | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        assert HOST.encode() in binary[at : at + size]
        at, count = at + size, count + 1
    assert (at, count) == (len(binary), 3)


def test_without_traces_nothing_is_said_of_executions(bench, world):
    outcome = bench.run(["curl", "-sS", "-o", "/dev/null", f"https://{HOST}/echo"], policy=OPEN)
    assert outcome.records and not [r for r in outcome.records if "execution" in r or r["kind"] == "execution"]


def test_a_proxy_that_is_ended_cuts_its_execution(start, bench, world):
    file = bench.folder / "traces.jsonl"
    running = start(OPEN, "--proxy-listen", "127.0.0.1:15128", "--traces", file)
    running.wait_until_ready()
    call = ["curl", "-sS", "-o", "/dev/null", "--proxy", "http://127.0.0.1:15128", "--cacert", world.guard_root.certificate]
    subprocess.run([*call, f"https://{HOST}/echo"], check=True)
    running.stop()
    (trace,) = traces(file)
    assert trace["end"] == "EXECUTION_END_CUT" and [f["status"] for f in trace["flows"]] == [200]


@pytest.mark.parametrize("content", ["half a trace", '{"function":"f"}\n{"func'])
def test_a_file_that_ends_in_the_middle_of_a_trace_is_refused(bench, world, content):
    file = bench.folder / "traces.jsonl"
    file.write_text(content)
    outcome = bench.run(["true"], policy=OPEN, flags=["--traces", file])
    assert outcome.code == 125 and "ends in the middle" in outcome.err
    assert file.read_text() == content


def test_what_is_no_file_is_refused(bench, world):
    outcome = bench.run(["true"], policy=OPEN, flags=["--traces", "/dev/full"])
    assert outcome.code == 125 and "regular file" in outcome.err


def test_a_full_disk_is_said_and_stops_no_traffic(bench, world):
    small = bench.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", small], check=True)
    try:
        (small / "filler").write_bytes(bytes(4096))
        call = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"https://{HOST}/echo"]
        outcome = bench.run(call, policy=OPEN, flags=["--traces", small / "traces.jsonl"])
        assert outcome.out == "200" and (small / "traces.jsonl").read_text() == ""
        assert outcome.err.count("traces are lost") == 1 and "1 traces were lost" in outcome.err
    finally:
        subprocess.run(["umount", small], check=True)


def test_the_command_cannot_change_its_traces(user_bench, world):
    file = user_bench.folder / "home" / "traces.jsonl"
    code = f"""
        for attempt in (lambda: open({str(file)!r}, "w"), lambda: open({str(file)!r}, "a"), lambda: __import__("os").unlink({str(file)!r})):
            try:
                attempt()
                print("changed")
            except OSError:
                print("refused")
    """
    outcome = user_bench.python(code, policy=OPEN, flags=["--traces", file])
    assert outcome.out.split() == ["refused"] * 3, outcome
    assert len(traces(file)) == 1
