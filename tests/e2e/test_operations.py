"""API actions (docs/policy.md, operations): found in head or body, decided, recorded; what was looked at is what is sent."""

import hashlib
import json
import shutil
import subprocess

import pytest

import fixtures
import guard
import lab

HOST = "v4.example.com"
BUILD = lab.BIN.parent


def endpoint(operations, actions, host=HOST, **more):
    rules = [{"methods": ["GET", "POST"], "path": {"prefix": "/"}, "actions": actions}]
    return guard.endpoint(host, rules=rules, operations=operations, **more)


def post(body, *headers, length=True, target="/echo", host=HOST):
    body = body.encode() if isinstance(body, str) else body
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}", *headers, "Connection: close"]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


JSON = "Content-Type: application/json"
FORM = "Content-Type: application/x-www-form-urlencoded"
AMZ = "Content-Type: application/x-amz-json-1.0"

PROTOCOLS = {
    "aws-json": (
        "aws-json",
        "D.GetItem",
        post("{}", AMZ, "X-Amz-Target: D.GetItem"),
        post("{}", AMZ, "X-Amz-Target: D.DeleteTable"),
    ),
    "aws-query": ("aws-query", "GetIt", post("Version=1&Action=GetIt", FORM), post("Action=DeleteIt", FORM)),
    "aws-query in the URL": (
        "aws-query",
        "GetIt",
        post("", target="/echo?Action=GetIt"),
        post("", target="/echo?Action=DeleteIt"),
    ),
    "graphql": (
        "graphql",
        "Items",
        post('{"query":"query Items { items }"}', JSON),
        post('{"query":"mutation Drop { drop }"}', JSON),
    ),
    "json-rpc": ("json-rpc", "list", post('{"method":"list","id":1}', JSON), post('{"method":"drop","id":1}', JSON)),
    "soap": ("soap", "urn:get", post("<x/>", "SOAPAction: urn:get"), post("<x/>", "SOAPAction: urn:drop")),
    "header": ({"header": "X-Op"}, "list", post("", "X-Op: list"), post("", "X-Op: drop")),
    "form": ({"form": "op"}, "list", post("op=list", FORM), post("op=drop", FORM)),
    "json": ({"json": "/job/0"}, "list", post('{"job":["list"]}', JSON), post('{"job":["drop"]}', JSON)),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_action_is_decided_and_recorded(bench, world, protocol):
    operations, action, allowed, denied = PROTOCOLS[protocol]
    with bench.session(policy=guard.policy(endpoint(operations, [action]))) as session:
        reply = session.ask(HOST, allowed)
        assert reply["status"] == 200, reply
        told = json.loads(reply["body"])
        body = allowed.partition(b"\r\n\r\n")[2]
        assert told["body_sha256"] == hashlib.sha256(body).hexdigest()
        refused = session.ask(HOST, denied)
        assert refused["status"] == 403 and refused["headers"]["sallyport-denied"] == "action-not-allowed"
        assert action in json.loads(refused["body"])["text"]
        none = session.ask(HOST, post(""))
        assert none["status"] == 403, "a request without an action has none of the rule's"
        records = guard.exchanges(session.wait_for_records(lambda r: len(guard.exchanges(r)) == 3))
    assert [r.get("action") for r in records][0] == action
    assert records[1]["action"] not in (action, "") and "action" not in records[2]
    assert len(world.requests()) == 1


def test_a_rule_without_actions_takes_every_one(bench):
    rules = [{"methods": ["POST"], "path": {"exact": "/echo"}}]
    with bench.session(policy=guard.policy(guard.endpoint(HOST, rules=rules, operations="json-rpc"))) as session:
        assert session.ask(HOST, post('{"method":"list"}', JSON))["status"] == 200
        assert session.ask(HOST, post("{}", JSON))["status"] == 200
        assert session.ask(HOST, post("no JSON", JSON))["status"] == 400, "what cannot be read is refused all the same"
        records = guard.exchanges(session.wait_for_records(lambda r: len(guard.exchanges(r)) == 3))
    assert [r.get("action") for r in records] == ["list", None, None]
    assert records[2]["reason"] == "malformed-action" and records[2]["decision"] == "deny"


def test_a_chunked_body_and_one_that_waits_for_100_are_held_and_sent(bench):
    def slowly():
        import time

        stream = connect("v4.example.com")
        head = b"POST /echo HTTP/1.1\r\nHost: v4.example.com\r\nContent-Type: application/json\r\n"
        stream.sendall(head + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        for piece in (b'{"meth', b'od":"li', b'st"}'):
            time.sleep(0.05)
            stream.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        stream.sendall(b"0\r\nX-Sum: 1\r\n\r\n")
        chunked = Reader(stream).response("POST")
        stream.sendall(head + b"Content-Length: 17\r\nExpect: 100-continue\r\n\r\n")
        reader = Reader(stream)
        first = reader.head()
        stream.sendall(b'{"method":"list"}')
        return chunked, first[0], reader.response("POST")

    with bench.session(policy=guard.policy(endpoint("json-rpc", ["list"]))) as session:
        chunked, informed, expected = session.do(slowly)
    told = json.loads(chunked["body"])
    # Trailers stay behind where actions are read: in them another action could stand, for a server that joins them.
    assert told["body_size"] == 17 and told["trailers"] == []
    assert informed == 100
    headers = {name.lower(): value for name, value in json.loads(expected["body"])["headers"]}
    assert "expect" not in headers and headers["content-length"] == "17"


def test_a_body_as_large_as_the_limit_passes_and_a_byte_more_does_not(bench, world):
    limit = 1 << 20

    def of_size(size):
        start = b'{"method":"list","p":"'
        return start + b"x" * (size - len(start) - 2) + b'"}'

    with bench.session(policy=guard.policy(endpoint("json-rpc", ["list"]))) as session:
        reply = session.ask(HOST, post(of_size(limit), JSON))
        assert json.loads(reply["body"])["body_size"] == limit
        assert session.ask(HOST, post(of_size(limit + 1), JSON))["headers"]["sallyport-denied"] == "malformed-action"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (limit + 1, of_size(limit + 1))
        chunked = session.ask(HOST, post(body, JSON, "Transfer-Encoding: chunked", length=False))
        assert chunked["status"] == 400 and chunked["headers"]["sallyport-denied"] == "malformed-action"
    assert len(world.requests()) == 1


def test_over_http2_the_body_is_held_too(bench, world):
    fixtures.need("curl")
    body = '{"method":"list","p":"' + "x" * 200_000 + '"}'
    (bench.folder / "body").write_text(body)
    call = ["curl", "-sS", "--http2", "-H", JSON, "-o", "/dev/stderr", "-w", "%{http_version} %{http_code}\n"]
    allowed = [*call, "--data-binary", f"@{bench.folder / 'body'}", f"https://{HOST}/echo"]
    denied = [*call, "--data-binary", '{"method":"drop"}', f"https://{HOST}/echo"]
    outcome = bench.run(
        ["sh", "-c", " && ".join(map(guard_quote, (allowed, denied)))], policy=guard.policy(endpoint("json-rpc", ["list"]))
    )
    assert outcome.out.split("\n")[:2] == ["2 200", "2 403"], outcome
    assert world.requests()[0].body == body.encode() and len(world.requests()) == 1
    assert [r.get("action") for r in outcome.exchanges] == ["list", "drop"]


def guard_quote(words):
    import shlex

    return " ".join(map(shlex.quote, words))


@pytest.mark.parametrize("mode", ["audit", "learn"])
def test_where_nothing_is_refused_an_action_is_recorded_but_an_ambiguous_one_is_refused(bench, mode):
    with bench.session(policy=guard.policy(endpoint("json-rpc", ["list"]), mode=mode)) as session:
        assert session.ask(HOST, post('{"method":"drop"}', JSON))["status"] == 200
        assert session.ask(HOST, post('{"method":"list","method":"drop"}', JSON))["status"] == 400
        records = guard.exchanges(session.wait_for_records(lambda r: len(guard.exchanges(r)) == 2))
    assert [r["decision"] for r in records] == ["would-deny", "deny"]
    assert records[0]["action"] == "drop" and records[0]["reason"] == "action-not-allowed"


def test_policy_test_takes_an_action(bench):
    bench.write_policy(guard.policy(endpoint("json-rpc", ["list"])))
    tried = subprocess.run(
        [guard.SALLYPORT, "policy", "test", bench.policy_file]
        + [part for action in ("list", "drop") for part in ("--request", f"POST https://{HOST}/ {action}")],
        capture_output=True,
        text=True,
    )
    assert tried.returncode == 3 and "allow  POST" in tried.stdout and "the action 'drop'" in tried.stdout
