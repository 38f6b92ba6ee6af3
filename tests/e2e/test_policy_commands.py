"""`sallyport policy check` and `sallyport policy test`: what a person and a pipeline ask before anything runs."""

import re
import subprocess

import pytest

import guard


@pytest.fixture
def check(bench):
    def run(text, *arguments, command="check"):
        bench.write_policy(text)
        return subprocess.run(
            [guard.SALLYPORT, "policy", command, bench.policy_file, *arguments], capture_output=True, text=True
        )

    return run


POLICY = guard.policy(
    guard.endpoint("api.example.com", methods=["GET"], path="/v1/", name="api"),
    guard.endpoint("*.wild.example.com", methods=["any"], path="/", name="wild"),
    guard.endpoint("plain.example.com", methods=["GET"], path="/", name="plain", scheme="http"),
    guard.endpoint("port.example.com", methods=["GET"], path="/", name="port", ports=[8443]),
    {"name": "pinned", "host": "pinned.example.com", "inspection": "none"},
)


def test_a_good_policy_checks(check):
    done = check(POLICY)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_a_bad_one_fails_with_places_on_standard_error(check):
    done = check(POLICY.replace('"rules"', '"rulez"'))
    assert done.returncode == 1 and re.search(r"policy\.yaml:\d+:\d+: .*rulez", done.stderr) and not done.stdout


def test_secrets_are_not_needed_for_a_check(check):
    made = {
        "name": "k",
        "secret": {"file": "/nonexistent/secret"},
        "inject": {"header": "Authorization", "format": "Bearer {}"},
    }
    done = check(guard.policy(guard.endpoint("api.example.com", credential="k"), credentials=[made]))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "request_text, decision, word",
    [
        ("GET https://api.example.com/v1/items?x=1", "allow", "api"),
        ("GET https://API.example.com./v1/items", "allow", "api"),
        ("GET https://api.example.com:443/v1/items", "allow", "api"),
        ("POST https://api.example.com/v1/items", "deny", "method-not-allowed"),
        ("GET https://api.example.com/v2", "deny", "path-not-allowed"),
        ("GET https://api.example.com/v1/../v2", "deny", "path-not-allowed"),
        ("GET https://api.example.com:8443/v1/items", "deny", "port-not-allowed"),
        ("GET http://api.example.com/v1/items", "deny", "port-not-allowed"),
        ("GET https://other.example.org/", "deny", "host-not-allowed"),
        ("DELETE https://a.b.wild.example.com/x", "allow", "wild"),
        ("DELETE https://wild.example.com/x", "deny", "host-not-allowed"),
        ("DELETE https://notwild.example.com/x", "deny", "host-not-allowed"),
        ("GET http://plain.example.com/x", "allow", "plain"),
        ("GET https://port.example.com:8443/x", "allow", "port"),
        ("GET https://api.example.com/v1/%2e%2e/v2", "deny", "path-not-allowed"),
    ],
)
def test_a_request_is_decided_and_the_rule_named(check, request_text, decision, word):
    done = check(POLICY, "--request", request_text, command="test")
    assert re.search(rf"\b{decision}\b", done.stdout) and word in done.stdout, done.stdout
    assert done.returncode == (0 if decision == "allow" else 3), "a pipeline can tell by the exit code"


@pytest.mark.parametrize(
    "request_text", ["GET", "https://api.example.com/", "GET ftp://api.example.com/", "GET https://", ""]
)
def test_a_request_that_is_none_is_a_usage_mistake(check, request_text):
    done = check(POLICY, "--request", request_text, command="test")
    assert done.returncode == 2 and done.stderr
