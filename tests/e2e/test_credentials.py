"""Header credentials: the origin gets the secret, the function never holds it."""

import json
import pathlib
import time

import pytest

import guard

SECRET = "sk-live-5f1dd0a1c0ffee"
HOST = "v4.example.com"


def credential(bench, **more):
    path = bench.folder / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o644)  # the guard may run as an ordinary user, who owns nothing here
    made = {
        "name": "stripe",
        "secret": {"file": str(path)},
        "inject": {"header": "Authorization", "format": "Bearer {}"},
    }
    return made | more


def policy_with(made, *endpoints):
    endpoints = endpoints or (guard.endpoint(HOST, credential="stripe", name="paid"), guard.endpoint("api.example.com"))
    return guard.policy(*endpoints, credentials=[made])


PLACEHOLDER = {"env": "STRIPE_KEY"}


def authorization(world):
    return [r.header("authorization") for r in world.tls.requests]


def test_the_origin_sees_the_credential_and_the_function_does_not(user_bench, world):
    made = credential(user_bench, placeholder=PLACEHOLDER)
    outcome = user_bench.python(
        f"""
        import os, requests, pathlib
        held = os.environ["STRIPE_KEY"]
        answer = requests.get("https://{HOST}/status/200", headers={{"Authorization": "Bearer " + held}})
        print(answer.status_code, held)
        everything = [dict(os.environ), open("/proc/self/environ").read(), dict(answer.headers), answer.text]
        print("{SECRET[:6]}" + "{SECRET[6:]}" in repr(everything))
    """,
        policy=policy_with(made),
    )
    status, held = outcome.out.splitlines()[0].split()
    assert status == "200" and SECRET not in held and len(held) >= 16, outcome.err
    assert outcome.out.splitlines()[1] == "False"
    assert authorization(world) == [f"Bearer {SECRET}"]
    assert outcome.exchanges[0]["credential"] == "stripe"


def test_the_credential_is_injected_where_the_function_sends_nothing(bench, world):
    with bench.session(policy=policy_with(credential(bench))) as session:
        assert session.get(HOST)["status"] == 200
    assert authorization(world) == [f"Bearer {SECRET}"]


def test_the_credential_goes_only_where_it_is_bound(bench, world):
    made = credential(bench)
    with bench.session(policy=policy_with(made)) as session:
        session.get("api.example.com")
        session.get(HOST)
    assert authorization(world) == [None, f"Bearer {SECRET}"]


def test_a_foreign_value_is_replaced(bench, world):
    with bench.session(policy=policy_with(credential(bench))) as session:
        assert session.get(HOST, headers="Authorization: Bearer of-the-attacker\r\n")["status"] == 200
    assert authorization(world) == [f"Bearer {SECRET}"]


def test_a_foreign_value_is_refused_where_the_binding_says_so(bench, world):
    made = credential(bench, foreign="deny", placeholder=PLACEHOLDER)
    with bench.session(policy=policy_with(made)) as session:
        reply = session.get(HOST, headers="Authorization: Bearer of-the-attacker\r\n")
        assert reply["status"] == 403 and reply["headers"]["sallyport-denied"] == "foreign-credential"
        assert session.get(HOST)["status"] == 200
        held = session.do(environment, "STRIPE_KEY")
        assert session.get(HOST, headers=f"Authorization: Bearer {held}\r\n")["status"] == 200
    assert authorization(world) == [f"Bearer {SECRET}"] * 2


def environment(name):
    return os.environ[name]


def test_two_values_in_the_bound_header_do_not_reach_the_origin(bench, world):
    with bench.session(policy=policy_with(credential(bench))) as session:
        reply = session.get(HOST, headers="Authorization: Bearer one\r\nAuthorization: Bearer two\r\n")
    assert reply["status"] in (200, 400, 403)
    assert authorization(world) in ([], [f"Bearer {SECRET}"])


MISUSES = {
    "query": lambda p: (HOST, f"/echo?key={p}", ""),
    "path": lambda p: (HOST, f"/x/{p}/y", ""),
    "another header": lambda p: (HOST, "/echo", f"X-Leak: {p}\r\n"),
    "another host's header": lambda p: ("api.example.com", "/echo", f"Authorization: Bearer {p}\r\n"),
    "another host's query": lambda p: ("api.example.com", f"/echo?{p}", ""),
    "percent-encoded": lambda p: (HOST, "/echo?k=" + "".join(f"%{ord(c):02x}" for c in p), ""),
    "basic": lambda p: ("api.example.com", "/echo", "Authorization: Basic " + _base64(f"user:{p}") + "\r\n"),
    "cookie": lambda p: (HOST, "/echo", f"Cookie: session={p}\r\n"),
    "user agent": lambda p: (HOST, "/echo", f"User-Agent: {p}\r\n"),
}


def _base64(text):
    import base64

    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def misuse_session(world):
    bench = guard.Bench(world)
    made = credential(bench, placeholder=PLACEHOLDER)
    with bench.session(policy=policy_with(made)) as session:
        yield session, session.do(environment, "STRIPE_KEY")
    bench.close()


@pytest.mark.parametrize("place", MISUSES)
def test_a_placeholder_in_the_wrong_place_is_refused(misuse_session, world, place):
    session, held = misuse_session
    host, path, headers = MISUSES[place](held)
    reply = session.get(host, path, headers)
    assert reply["status"] == 403, reply
    assert reply["headers"]["sallyport-denied"] == "placeholder-misuse"
    assert not world.requests()
    assert SECRET.encode() not in reply["body"]


def test_a_chosen_placeholder(bench, world):
    chosen = "placeholder-chosen-by-the-owner"
    made = credential(bench, placeholder={"value": chosen, "env": "KEY"})
    with bench.session(policy=policy_with(made)) as session:
        assert session.do(environment, "KEY") == chosen
        assert session.get(HOST, headers=f"Authorization: Bearer {chosen}\r\n")["status"] == 200
    assert authorization(world) == [f"Bearer {SECRET}"]


def test_a_secret_from_the_environment_does_not_reach_the_command(bench, world):
    """The variable that held the secret for the guard is not handed on."""
    made = credential(bench, secret={"env": "REAL_STRIPE_KEY"}, placeholder=PLACEHOLDER)
    with bench.session(policy=policy_with(made), env={"REAL_STRIPE_KEY": SECRET}) as session:
        assert session.get(HOST)["status"] == 200
        found = session.do(search_everywhere, SECRET[:6], SECRET[6:])
    assert authorization(world) == [f"Bearer {SECRET}"]
    assert found == []


def search_everywhere(front, back):
    """Where a process of the command can find the secret: its own and every other process's environment and
    arguments."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline"):
            try:
                if (front + back).encode() in open(f"/proc/{pid}/{name}", "rb").read():
                    found.append(f"{pid}/{name}")
            except OSError:
                pass
    return found


def test_a_credential_is_not_sent_over_plain_http(bench, world):
    made = credential(bench)
    policy = guard.policy(guard.endpoint(HOST, scheme="http", credential="stripe"), credentials=[made])
    outcome = bench.run(["curl", "-sS", f"http://{HOST}/echo"], policy=policy)
    assert SECRET not in outcome.out
    assert not [r for r in world.plain.requests if r.header("authorization")]


def test_a_credential_is_not_sent_to_an_upstream_that_fails_verification(bench, world):
    made = credential(bench)
    policy = guard.policy(guard.endpoint("unknown-root.example.com", credential="stripe"), credentials=[made])
    with bench.session(policy=policy) as session:
        reply = session.get("unknown-root.example.com")
    assert reply["status"] == 502
    assert not world.requests()


def test_a_missing_secret_is_said_at_the_start_or_denied_with_its_own_reason(bench, world):
    made = credential(bench, secret={"file": "/nonexistent/secret"})
    outcome = bench.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %header{sallyport-denied}", f"https://{HOST}/echo"],
        policy=policy_with(made),
    )
    if outcome.code == 2:
        assert "/nonexistent/secret" in outcome.err and ":" in outcome.err
    else:
        assert outcome.out == "502 credential-unavailable", outcome.err
    assert not world.requests()


def test_the_secret_is_nowhere_in_what_the_guard_writes(bench, world):
    """Records, standard error at its most talkative, metrics: also not the query of an endpoint with a credential."""
    made = credential(bench, placeholder=PLACEHOLDER)
    with bench.session(policy=policy_with(made), flags=["--verbose", "--admin", bench.admin]) as session:
        held = session.do(environment, "STRIPE_KEY")
        session.get(HOST, "/echo?account=hidden-in-query", headers=f"Authorization: Bearer {held}\r\n")
        session.get(HOST, f"/denied-misuse?{held}&hidden-in-query")
        session.wait_for_records(lambda r: len(guard.exchanges(r)) == 2)
        _, metrics = bench.metrics()
        written = session.stderr() + bench.record.read_text() + metrics
    assert authorization(world) == [f"Bearer {SECRET}"]
    written += session.stderr() + bench.record.read_text()
    for forbidden in (SECRET, held, "hidden-in-query"):
        assert forbidden not in written


def test_a_changed_secret_file_is_taken_with_the_next_policy(bench, world):
    made = credential(bench)
    text = policy_with(made)
    with bench.session(policy=text) as session:
        session.get(HOST)
        pathlib.Path(made["secret"]["file"]).write_text("rotated-secret-value")
        bench.write_policy(text + "\n")
        end = time.monotonic() + 10
        while authorization(world)[-1] != "Bearer rotated-secret-value":
            assert time.monotonic() < end, session.stderr()
            session.get(HOST)
    assert set(authorization(world)) == {f"Bearer {SECRET}", "Bearer rotated-secret-value"}
