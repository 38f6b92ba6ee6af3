"""Learning, auditing, enforcing, and a policy that changes while the guard runs."""

import json
import subprocess
import threading
import time

import pytest

import dns
import guard
import lab

LEARN_TRAFFIC = """
    import requests
    session = requests.Session()
    codes = []
    for n in range(3):
        codes.append(session.get(f"https://v4.example.com/v1/items/{n}?page={n}").status_code)
    codes.append(session.post("https://v4.example.com/v1/orders", data=b"x").status_code)
    codes.append(session.get("https://api.example.com:8443/health").status_code)
    codes.append(session.get("http://other.example.com/plain").status_code)
    print(*codes)
"""


def test_learn_then_enforce_what_was_learned(user_bench, world):
    draft = user_bench.folder / "learned.yaml"
    learned = user_bench.python(LEARN_TRAFFIC, flags=["--learn", draft])
    assert learned.out.split() == ["200"] * 6, learned.err
    assert all(r["decision"] == "allow" and r["mode"] == "learn" for r in learned.exchanges)
    text = draft.read_text()
    for expected in ("v4.example.com", "api.example.com", "other.example.com", "8443", "/v1/", "EgressPolicy"):
        assert expected in text, text
    assert text.index("api.example.com") < text.index("other.example.com") < text.index("v4.example.com"), "sorted"
    assert "#" in text, "commented"
    assert "page=" not in text, "no queries"

    check = subprocess.run([guard.SALLYPORT, "policy", "check", draft], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr
    user_bench.record.unlink()
    same = user_bench.python(LEARN_TRAFFIC, flags=["--policy", draft, "--mode", "enforce"])
    assert same.out.split() == ["200"] * 6, same.err + text
    assert {r["mode"] for r in same.exchanges} == {"enforce"}

    world.forget()
    user_bench.record.unlink()
    other = user_bench.python(
        """
        import requests
        from inside import get
        print(requests.get("https://v4.example.com/admin").status_code,
              requests.delete("https://v4.example.com/v1/orders").status_code,
              get("denied.example.com", address="192.0.2.1")["status"])
    """,
        flags=["--policy", draft, "--mode", "enforce"],
    )
    assert other.out.split() == ["403", "403", "403"], other.err
    assert not world.requests()


def test_learning_needs_no_policy_and_looks_names_up(user_bench, world):
    outcome = user_bench.run(["curl", "-sS", "https://denied.example.com/echo"], flags=["--mode", "learn"])
    assert json.loads(outcome.out)["target"] == "/echo", outcome.err
    assert outcome.exchanges[0]["decision"] == "allow"


SLOW_CLIENT = """
    import socket, ssl, time
    context = ssl.create_default_context()
    with socket.create_connection(("v4.example.com", 443), 20) as raw:
        time.sleep(1.5)
        with context.wrap_socket(raw, server_hostname="v4.example.com") as stream:
            stream.sendall(b"GET /echo HTTP/1.1\\r\\nHost: v4.example.com\\r\\nConnection: close\\r\\n\\r\\n")
            print(stream.recv(100).split()[1].decode())
"""


def test_a_client_that_is_slow_to_begin_is_learned_too(bench, world):
    """botocore reads its roots after it has connected, which takes long on a busy machine."""
    outcome = bench.python(SLOW_CLIENT, flags=["--mode", "learn"])
    assert outcome.out.strip() == "200", outcome.err
    assert [(r["kind"], r["host"], r["path"]) for r in outcome.records] == [("exchange", "v4.example.com", "/echo")]


def test_learning_still_verifies_the_upstream(bench, world):
    outcome = bench.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%header{sallyport-denied}", "https://expired.example.com/"],
        flags=["--mode", "learn"],
    )
    assert outcome.out == "upstream-expired", outcome.err


def test_a_draft_is_also_written_when_the_command_fails_or_is_killed(bench, world):
    draft = bench.folder / "learned.yaml"
    outcome = bench.run(["sh", "-c", "curl -sS https://v4.example.com/echo; kill -9 $$"], flags=["--learn", draft])
    assert outcome.code == 137
    assert "v4.example.com" in draft.read_text()


AUDITED = guard.policy(guard.endpoint("v4.example.com", path="/allowed"), mode="audit")


def test_audit_lets_through_and_records_what_it_would_have_denied(user_bench, world):
    outcome = user_bench.python(
        """
        import requests
        for url in ("https://v4.example.com/allowed", "https://v4.example.com/other", "https://denied.example.com/x"):
            answer = requests.get(url)
            print(answer.status_code, "sallyport-denied" in answer.headers)
    """,
        policy=AUDITED,
    )
    assert outcome.out.splitlines() == ["200 False"] * 3, outcome.err
    assert [(r["decision"], r.get("reason")) for r in outcome.exchanges] == [
        ("allow", None),
        ("would-deny", "path-not-allowed"),
        ("would-deny", "host-not-allowed"),
    ]
    assert all(r["status"] == 200 and r["mode"] == "audit" for r in outcome.exchanges)


def test_the_flag_overrides_the_document(bench, world):
    outcome = bench.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "https://v4.example.com/other"],
        policy=AUDITED,
        flags=["--mode", "enforce"],
    )
    assert outcome.out == "403", outcome.err


def test_audit_still_refuses_what_is_malformed(bench, world):
    with bench.session(policy=AUDITED) as session:
        reply = session.ask(
            "v4.example.com",
            b"POST / HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 3\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )
    assert reply["status"] == 400 and not world.requests()


OPEN = guard.policy(guard.endpoint("v4.example.com"))
CLOSED = guard.policy(guard.endpoint("v4.example.com", path="/only-this"))


def on_one_connection():
    """Opens a connection on the first call and keeps using it: the agent's module remembers it."""
    import inside_state

    if not hasattr(inside_state, "stream"):
        inside_state.stream = connect("v4.example.com")
    inside_state.stream.sendall(b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
    return Reader(inside_state.stream).response()["status"]


def remember():
    import sys, types

    sys.modules["inside_state"] = types.ModuleType("inside_state")


def status_becomes(session, function, wanted, timeout=10):
    end = time.monotonic() + timeout
    while (status := session.do(function)) != wanted:
        assert time.monotonic() < end, f"still {status}; {session.stderr()}"
        time.sleep(0.05)


def test_a_new_policy_counts_at_once_also_on_an_open_connection(user_bench, world):
    with user_bench.session(policy=OPEN) as session:
        session.do(remember)
        assert session.do(on_one_connection) == 200
        user_bench.write_policy(CLOSED)
        status_becomes(session, on_one_connection, 403)
        assert session.get("v4.example.com", "/only-this")["status"] == 200
        user_bench.write_policy(OPEN)
        status_becomes(session, on_one_connection, 200)


def test_a_policy_rewritten_in_place_counts_too(bench, world):
    with bench.session(policy=OPEN) as session:
        session.do(remember)
        assert session.do(on_one_connection) == 200
        bench.policy_file.write_text(CLOSED)
        status_becomes(session, on_one_connection, 403)


def test_a_policy_replaced_where_the_command_cannot_write_counts_too(ordinary_bench, world):
    """The way in which most editors and all configuration managers write: another file takes the old one's place."""
    bench = ordinary_bench
    bench.folder.chmod(0o755)
    bench.record = bench.folder / "home" / "record.jsonl"
    with bench.session(policy=OPEN) as session:
        session.do(remember)
        assert session.do(on_one_connection) == 200
        bench.replace_policy(CLOSED)
        status_becomes(session, on_one_connection, 403)


@pytest.mark.parametrize(
    "broken",
    ["not: [yaml", "kind: EgressPolicy\n", "", OPEN.replace('"rules"', '"rulez"')],
    ids=["syntax", "kind", "empty", "field"],
)
def test_a_broken_policy_is_refused_and_the_old_one_kept(bench, world, broken):
    with bench.session(policy=CLOSED) as session:
        assert session.get("v4.example.com", "/only-this")["status"] == 200
        bench.write_policy(broken)
        session.wait_for_stderr(r"policy\.yaml")
        assert session.get("v4.example.com", "/only-this")["status"] == 200
        assert session.get("v4.example.com", "/echo")["status"] == 403
        bench.write_policy(OPEN)
        session.do(remember)
        status_becomes(session, on_one_connection, 200)


def test_a_busy_folder_does_not_keep_a_new_policy_away(bench, world):
    """The command may be able to write beside the policy: that must not let it put off a stricter one."""
    with bench.session(policy=OPEN) as session:
        session.do(remember)
        assert session.do(on_one_connection) == 200
        stop = threading.Event()

        def write_without_pause():
            while not stop.wait(0.005):
                (bench.folder / "noise").write_text("x")

        writer = threading.Thread(target=write_without_pause)
        writer.start()
        try:
            bench.write_policy(CLOSED)
            status_becomes(session, on_one_connection, 403, timeout=5)
        finally:
            stop.set()
            writer.join()


def test_a_removed_policy_file_keeps_the_old_policy(bench, world):
    with bench.session(policy=CLOSED) as session:
        assert session.get("v4.example.com", "/echo")["status"] == 403
        bench.policy_file.unlink()
        time.sleep(0.5)
        assert session.get("v4.example.com", "/echo")["status"] == 403
        assert session.get("v4.example.com", "/only-this")["status"] == 200


def test_reload_under_load_never_answers_wrongly(bench, world):
    """Four connections send without pause while the policy goes to and fro: what both policies allow is always
    allowed, what both deny always denied, and nothing else is ever seen."""

    def load(seconds):
        import threading

        results = {"both": set(), "neither": set(), "one": set()}
        count = [0]

        def run():
            stream = connect("v4.example.com")
            reader = Reader(stream)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                for path, name in (("/only-this", "both"), ("/one", "one"), ("/never", "neither")):
                    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: v4.example.com\r\n\r\n".encode())
                    reply = reader.response()
                    results[name].add((reply["status"], reply["complete"]))
                    count[0] += 1

        threads = [threading.Thread(target=run) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        return {key: sorted(value, key=str) for key, value in results.items()}, count[0]

    both = guard.endpoint("v4.example.com", path="/only-this", name="both")
    one = guard.endpoint("v4.example.com", path="/one", name="one")
    with bench.session(policy=guard.policy(both)) as session:
        stop = threading.Event()

        def swing():
            turn = 0
            while not stop.wait(0.05):
                turn += 1
                bench.write_policy(guard.policy(both, one) if turn % 2 else guard.policy(both))

        writer = threading.Thread(target=swing)
        writer.start()
        try:
            results, count = session.do(load, 4)
        finally:
            stop.set()
            writer.join()
        assert results["both"] == [(200, True)] and results["neither"] == [(403, True)], results
        assert results["one"] == [(200, True), (403, True)], results
        records = session.wait_for_records(lambda r: len(guard.exchanges(r)) >= count)
        assert len(guard.exchanges(records)) == count


def begin(kind, upgrade):
    """Something that stays open, at an address that the policy allows so far."""
    import builtins

    if kind == "bytes":
        builtins.kept = dial("db.example.com", 7001)
        return bool(builtins.kept.recv(100))
    if kind == "unread":
        builtins.kept = connect("other.example.com", verify=False)
        builtins.kept.sendall(b"GET /echo HTTP/1.1\r\nHost: other.example.com\r\n\r\n")
        return Reader(builtins.kept).response()["status"] == 200
    if kind == "HTTP/2":
        import http2_frames as h2

        builtins.kept = h2.Client("v4.example.com")
        builtins.kept.ask(1, h2.request("v4.example.com", "/mute"))
        return not builtins.kept.run(timeout=0.5).ended
    builtins.kept = connect("v4.example.com")
    path, fields = ("/websocket", upgrade) if kind == "WebSocket" else ("/half", "")
    builtins.kept.sendall(f"GET {path} HTTP/1.1\r\nHost: v4.example.com\r\n{fields}\r\n".encode())
    return builtins.kept.recv(100).startswith(b"HTTP/1.1 ")


def outcome(kind):
    import builtins

    if kind != "HTTP/2":
        return read_all(builtins.kept)[1]
    reply = builtins.kept.until_over(1)[0]
    return reply["headers"].get("sallyport-denied", "timeout")


@pytest.mark.parametrize("kind", ["exchange", "HTTP/2", "WebSocket", "unread", "bytes"])
def test_narrowed_addresses_end_what_is_at_another(bench, world, kind):
    """The host is allowed as before, but not where it led: what was let through to there goes no further."""
    import tcp_services

    def policy(addresses):
        return guard.policy(
            guard.endpoint("v4.example.com", addresses=addresses),
            guard.endpoint("other.example.com", addresses=addresses, inspection="none", rules=None),
            guard.endpoint("db.example.com", protocol="tcp", ports=[7001], rules=None, addresses=addresses),
        )

    server = tcp_services.Server("127.0.0.46", 7001, tcp_services.greeting)
    world.dns.table["db.example.com"] = ["127.0.0.46"]
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    with bench.session(policy=policy(lab.ADDRESSES)) as session:
        assert session.do(begin, kind, upgrade)
        bench.write_policy(policy([*lab.ADDRESSES, "10.1.2.3"]))  # wider: it goes on
        session.wait_for_stderr("the changed policy is in force")
        time.sleep(0.3)
        assert not [r for r in bench.records() if r.get("reason") == "address-not-allowed"]
        bench.write_policy(policy(["10.1.2.3"]))
        assert session.do(outcome, kind) != "timeout"
        ended = lambda records: [r for r in records if r.get("reason") == "address-not-allowed"]
        (record,) = ended(session.wait_for_records(ended))
        assert record["decision"] == "deny" and "policy was changed" in record["text"], record
    server.close()


def test_a_policy_that_comes_while_the_server_is_looked_up_counts(bench, world):
    """The exchange was allowed, but nothing had been sent yet when the new policy came."""
    real = world.dns.table["v6.example.com"]
    world.dns.table["v6.example.com"] = dns.SILENCE
    ask = "GET /late HTTP/1.1\r\nHost: v6.example.com\r\n\r\n"

    def send(request):
        import builtins

        builtins.kept = connect("v6.example.com")
        builtins.kept.sendall(request.encode())

    def answer():
        import builtins

        return Reader(builtins.kept).response()["status"]

    try:
        with bench.session(policy=guard.policy(guard.endpoint("v6.example.com"))) as session:
            session.do(send, ask)
            time.sleep(0.3)
            bench.write_policy(guard.policy(guard.endpoint("v6.example.com", path="/only-this")))
            session.wait_for_stderr("the changed policy is in force")
            world.dns.table["v6.example.com"] = real
            assert session.do(answer) == 403
            (record,) = guard.exchanges(session.wait_for_records(guard.exchanges))
            assert (record["decision"], record["reason"]) == ("deny", "path-not-allowed")
    finally:
        world.dns.table["v6.example.com"] = real
    assert not world.saw("/late")
