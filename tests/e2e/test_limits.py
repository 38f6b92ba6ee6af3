"""Limits on how often requests may be sent: `limits` of a policy, with real clients and real time."""

import json
import time

import pytest

import guard

HOST = "v4.example.com"

# Requests on one connection, as fast as they go: a line of JSON for each.
CLIENT = """
    import http.client, json, ssl, sys, time
    connection = http.client.HTTPSConnection("v4.example.com", context=ssl.create_default_context(), timeout=20)
    for method, path in json.loads(sys.argv[1]):
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read().decode()
        print(json.dumps({"status": answer.status, "wait": answer.getheader("retry-after"),
                          "denied": answer.getheader("sallyport-denied"), "body": body, "at": time.monotonic()}))
        sys.stdout.flush()
"""


def policy(*limits, **options):
    return guard.policy(guard.endpoint(HOST, name="api"), limits=list(limits), **options)


def send(bench, requests, **options):
    outcome = bench.python(CLIENT, json.dumps(requests), **options)
    assert outcome.code == 0, outcome.err
    return [json.loads(line) for line in outcome.out.splitlines()], outcome


def statuses(answers):
    return [each["status"] for each in answers]


def test_a_burst_passes_and_what_is_beyond_it_is_told_when_to_come_again(user_bench, world):
    answers, outcome = send(
        user_bench,
        [["GET", "/echo"]] * 6,
        policy=policy({"name": "few", "endpoint": "api", "rate": "10/h", "burst": 4}),
    )
    assert statuses(answers) == [200] * 4 + [429] * 2
    denial = answers[4]
    assert denial["denied"] == "rate-limited" and 359 <= int(denial["wait"]) <= 360
    told = json.loads(denial["body"])
    assert told["reason"] == "rate-limited" and told["text"] == "The limit 'few' lets 10/h through, and 4 at once."
    assert [r.get("reason") for r in outcome.exchanges] == [None] * 4 + ["rate-limited"] * 2
    assert outcome.exchanges[4]["decision"] == "deny" and outcome.exchanges[4]["status"] == 429


def test_the_rate_holds_over_time(user_bench, world):
    """40 requests for each of which the client waits as it is told: 5 at once, and then 20 a second."""
    outcome = user_bench.python(
        """
        import http.client, ssl, time
        connection = http.client.HTTPSConnection("v4.example.com", context=ssl.create_default_context(), timeout=20)
        sent = refused = 0
        began = time.monotonic()
        while sent < 40:
            connection.request("GET", "/echo")
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                sent += 1
            else:
                assert answer.status == 429 and answer.getheader("retry-after") == "1", answer.status
                refused += 1
                time.sleep(0.01)
        print(time.monotonic() - began, refused)
    """,
        policy=policy({"name": "steady", "rate": "20/s", "burst": 5}),
    )
    assert outcome.code == 0, outcome.err
    took, refused = (float(word) for word in outcome.out.split())
    assert took >= 35 / 20 - 0.05 and refused > 10


def test_only_what_a_limit_names_counts(user_bench, world):
    limits = policy({"name": "writes", "endpoint": "api", "methods": ["POST", "PUT"], "rate": "1/h"})
    requests = [["GET", "/echo"], ["POST", "/echo"], ["GET", "/echo"], ["PUT", "/echo"], ["GET", "/echo"]]
    answers, _ = send(user_bench, requests, policy=limits)
    assert statuses(answers) == [200, 200, 200, 429, 200]


def test_a_request_must_pass_each_of_its_limits_and_takes_of_none_if_one_refuses(user_bench, world):
    limits = policy(
        {"name": "all", "rate": "1/h", "burst": 3},
        {"name": "writes", "methods": ["POST"], "rate": "1/h", "burst": 1},
    )
    requests = [["POST", "/echo"], ["POST", "/echo"], ["POST", "/echo"], ["GET", "/echo"], ["GET", "/echo"]]
    answers, _ = send(user_bench, [*requests, ["GET", "/echo"]], policy=limits)
    assert statuses(answers) == [200, 429, 429, 200, 200, 429]


def test_what_a_rule_refuses_does_not_count(user_bench, world):
    endpoint = guard.endpoint(HOST, methods=["GET"], path="/echo", name="api")
    limits = guard.policy(endpoint, limits=[{"name": "all", "rate": "1/h", "burst": 2}])
    requests = [["DELETE", "/echo"]] * 5 + [["GET", "/echo"]] * 3
    answers, _ = send(user_bench, requests, policy=limits)
    assert statuses(answers) == [403] * 5 + [200, 200, 429]


@pytest.mark.parametrize("mode", ["audit", "learn"])
def test_audit_and_learn_say_what_would_be_refused(user_bench, world, mode):
    answers, outcome = send(
        user_bench, [["GET", "/echo"]] * 3, policy=policy({"name": "few", "rate": "1/h"}, mode=mode)
    )
    assert statuses(answers) == [200] * 3
    assert [r["decision"] for r in outcome.exchanges] == ["allow", "would-deny", "would-deny"]
    assert outcome.exchanges[1]["reason"] == "rate-limited"


def test_connections_processes_and_protocols_share_a_limit(user_bench, world):
    """Neither a new connection nor another process nor HTTP/2 gives a function a bucket of its own."""
    outcome = user_bench.run(
        [
            "sh",
            "-c",
            "for i in 1 2 3 4; do curl -sS -o /dev/null -w '%{http_code}\\n' https://v4.example.com/echo; "
            "curl -sS --http2 -o /dev/null -w '%{http_code}\\n' https://v4.example.com/echo & wait; done",
        ],
        policy=policy({"name": "few", "rate": "1/h", "burst": 5}),
    )
    assert outcome.code == 0, outcome.err
    assert sorted(outcome.out.split()) == ["200"] * 5 + ["429"] * 3


def test_streams_of_one_connection_at_once_get_no_more(user_bench, world):
    outcome = user_bench.run(
        ["curl", "-sS", "--http2", "-Z", "--parallel-max", "40", "-o", "/dev/null", "-w", "%{http_code}\\n"]
        + ["https://v4.example.com/echo?[1-40]"],
        policy=policy({"name": "few", "rate": "1/h", "burst": 7}),
    )
    assert outcome.out.split().count("200") == 7 and outcome.out.split().count("429") == 33


def test_a_changed_policy_does_not_fill_the_bucket_again(user_bench, world):
    limit = {"name": "few", "rate": "1/h", "burst": 3}
    process = user_bench.start(
        [
            "sh",
            "-c",
            "for i in 1 2 3 4; do curl -sS -o /dev/null -w '%{http_code}\\n' https://v4.example.com/echo; done; "
            "echo ready; read line; "
            "for i in 1 2; do curl -sS -o /dev/null -w '%{http_code}\\n' https://v4.example.com/echo; done",
        ],
        policy=policy(limit),
        stdin=-1,
    )
    first = [process.stdout.readline().strip() for _ in range(5)]
    assert first == ["200", "200", "200", "429", "ready"]
    other = {"name": "writes", "methods": ["POST"], "rate": "5/s"}
    user_bench.write_policy(policy(limit, other))
    time.sleep(1.5)
    out, err = process.communicate("go\n", timeout=20)
    assert process.returncode == 0, err
    assert out.split() == ["429", "429"]
    guard.no_sanitizer_report(err)
