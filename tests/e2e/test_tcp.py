"""What is neither TLS nor HTTP: databases, mail and caches behind endpoints with `protocol: tcp`."""

import subprocess
import time

import pytest

import guard
import lab
import tcp_services
from fixtures import missing, need

REDIS_V4, SQL_V4, MAIL_V4, ODD_V4 = "127.0.0.32", "127.0.0.33", "127.0.0.34", "127.0.0.35"
NAMES = {
    "cache.example.com": [REDIS_V4],
    "sql.example.com": [SQL_V4],
    "mail.example.com": [MAIL_V4],
    "odd.example.com": [ODD_V4],
}


def relayed(host, *ports, **more):
    return guard.endpoint(host, protocol="tcp", ports=list(ports), rules=None, **more)


POLICY = guard.policy(
    relayed("cache.example.com", 6379),
    relayed("sql.example.com", 5432),
    relayed("mail.example.com", 25),
    relayed("odd.example.com", 3306, 7001, 7002),
    guard.endpoint("v4.example.com"),
)


@pytest.fixture(scope="module", autouse=True)
def names(world):
    world.dns.table.update(NAMES)


@pytest.fixture
def serve(request):
    """Starts a server that ends with the test."""

    def start(made):
        request.addfinalizer(made.close)
        return made

    return start


def only_record(outcome):
    assert len(outcome.records) == 1, outcome.records
    return outcome.records[0]


def test_redis(user_bench, serve):
    need("redis-server", "redis-cli")
    serve(tcp_services.redis(REDIS_V4))
    outcome = user_bench.run(
        ["sh", "-c", "(echo SET k v; echo GET k; echo PING) | redis-cli -h cache.example.com"], policy=POLICY
    )
    assert outcome.out.split() == ["OK", "v", "PONG"], outcome.err
    record = only_record(outcome)
    assert (record["kind"], record["decision"], record["endpoint"]) == ("connection", "allow", "cache-example-com")
    assert (record["host"], record["port"], record["protocol"]) == ("cache.example.com", 6379, "TCP")
    assert record["upstream"] == f"{REDIS_V4}:6379" and "scheme" not in record
    assert record["bytes_up"] > 20 and record["bytes_down"] > 10


def test_redis_moves_much_both_ways(bench, serve):
    need("redis-server", "redis-cli")
    serve(tcp_services.redis(REDIS_V4))
    outcome = bench.run(
        [
            "sh",
            "-c",
            "head -c 20000000 /dev/zero | tr '\\0' x > value; redis-cli -h cache.example.com -x SET big < value;"
            "redis-cli -h cache.example.com --raw GET big | head -c 20000000 | cmp - value && echo same",
        ],
        policy=POLICY,
        cwd=bench.folder,
    )
    assert outcome.out.split() == ["OK", "same"], outcome.err
    first, second = outcome.records
    assert first["bytes_up"] > 20_000_000 and second["bytes_down"] > 20_000_000


def test_postgresql_and_the_tls_inside_it(bench, world, serve):
    """Its client asks for TLS with a message of its own: the guard sees neither that nor what is inside."""
    need("psql")
    if tcp_services.postgresql_programs() is None:
        missing("PostgreSQL's server")
    certificate, key = world.authority.issue("sql", ["sql.example.com"])
    serve(tcp_services.postgresql(SQL_V4, certificate, key))
    outcome = bench.run(
        ["psql", f"host=sql.example.com user=tested dbname=postgres sslmode=verify-full sslrootcert={world.root}"]
        + ["-Atc", "select 40 + 2, ssl from pg_stat_ssl where pid = pg_backend_pid()"],
        policy=POLICY,
    )
    assert outcome.out == "42|t\n", outcome.err
    assert only_record(outcome)["endpoint"] == "sql-example-com"


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "starttls"])
def test_mail(bench, world, serve, secured):
    """The server speaks first; after STARTTLS its own certificate is what the client sees."""
    certificate, key = world.authority.issue("mail", ["mail.example.com"])
    server = serve(tcp_services.Server(MAIL_V4, 25, tcp_services.mail(certificate, key)))
    outcome = bench.python(
        """
        import smtplib, ssl, sys, time
        begun = time.monotonic()
        with smtplib.SMTP("mail.example.com", 25, timeout=20) as mail:
            connected = time.monotonic() - begun
            if sys.argv[1] == "True":
                mail.starttls(context=ssl.create_default_context(cafile=sys.argv[2]))
            mail.sendmail("a@example.com", ["b@example.com"], "Subject: x\\r\\n\\r\\nhello there")
        print(connected < 3)
    """,
        str(secured),
        str(world.root),
        policy=POLICY,
    )
    assert outcome.out == "True\n", outcome.err
    assert server.heard == [(secured, b"Subject: x\r\n\r\nhello there\r\n")]
    assert only_record(outcome)["decision"] == "allow"


def test_a_server_that_speaks_first_is_heard_at_once(bench, serve):
    server = serve(tcp_services.Server(ODD_V4, 3306, tcp_services.greeting))
    outcome = bench.python(
        """
        import time
        from inside import dial
        begun = time.monotonic()
        stream = dial("odd.example.com", 3306)
        hello = stream.recv(4096)
        quick = time.monotonic() - begun < 3
        stream.sendall(b"login")
        print(hello[4:17], quick, len(stream.recv(100)))
    """,
        policy=POLICY,
    )
    assert outcome.out == "b'\\n8.0.36-teste' True 11\n", outcome.err
    assert server.heard == [b"login"]


def test_half_closed_connections_stay_open_the_other_way(bench, serve):
    late = serve(tcp_services.Server(ODD_V4, 7001, tcp_services.answers_at_the_end))
    early = serve(tcp_services.Server(ODD_V4, 7002, tcp_services.ends_first))
    outcome = bench.python(
        """
        import socket
        from inside import dial, read_all
        stream = dial("odd.example.com", 7001)
        stream.sendall(b"x" * 300_000)
        stream.shutdown(socket.SHUT_WR)
        print(read_all(stream))
        stream = dial("odd.example.com", 7002)
        print(read_all(stream))
        stream.sendall(b"still here")
        stream.close()
    """,
        policy=POLICY,
    )
    assert outcome.out.split("\n")[:2] == ["(b'got 300000 bytes', 'end')", "(b'that is all', 'end')"], outcome.err
    assert late.heard == [b"x" * 300_000]
    end = time.monotonic() + 10
    while not early.heard and time.monotonic() < end:
        time.sleep(0.02)
    assert early.heard == [b"still here"]
    assert [(r["bytes_up"], r["bytes_down"]) for r in outcome.records] == [(300_000, 16), (10, 11)]


def test_one_record_for_each_connection_and_the_metrics_of_it(bench, serve):
    serve(tcp_services.Server(ODD_V4, 7001, tcp_services.answers_at_the_end))

    def many():
        streams = [dial("odd.example.com", 7001) for _ in range(100)]  # noqa: F821
        for stream in streams:
            stream.sendall(b"12345")
            stream.shutdown(1)
        return [read_all(stream)[0] for stream in streams]  # noqa: F821

    with bench.session(policy=POLICY, flags=["--admin", bench.admin]) as session:
        assert session.do(many) == [b"got 5 bytes"] * 100
        records = session.wait_for_records(lambda found: len(found) == 100)
        assert {(r["decision"], r["bytes_up"], r["bytes_down"]) for r in records} == {("allow", 5, 11)}
        text = bench.metrics()[1]
    labels = 'function="tested",decision="allow",endpoint="odd-example-com",reason=""'
    assert f"sallyport_connections_without_exchange_total{{{labels}}} 100" in text, text


def test_a_server_that_is_not_there(bench):
    outcome = bench.python(
        """
        from inside import dial, read_all
        print(read_all(dial("odd.example.com", 7001)))
    """,
        policy=POLICY,
    )
    assert outcome.out == "(b'', 'end')\n", outcome.err
    record = only_record(outcome)
    assert (record["decision"], record["reason"]) == ("error", "unreachable")


KEEP = """
import builtins
def begin():
    builtins.kept = dial("odd.example.com", 3306)
    return len(builtins.kept.recv(4096))
def wait():
    return read_all(builtins.kept)
"""


def test_a_changed_policy_ends_what_it_no_longer_allows(bench, serve):
    serve(tcp_services.Server(ODD_V4, 3306, tcp_services.greeting))
    with bench.session(policy=POLICY) as session:
        assert session.do_source(KEEP, "begin") > 10
        bench.write_policy(guard.policy(guard.endpoint("v4.example.com")))
        assert session.do_source(KEEP, "wait")[0] == b""
        records = session.wait_for_records(lambda found: found)
        assert (records[0]["decision"], records[0]["reason"]) == ("deny", "opaque-not-allowed")


def test_learned_and_then_enforced(bench, serve, world):
    certificate, key = world.authority.issue("mail", ["mail.example.com"])
    serve(tcp_services.Server(MAIL_V4, 25, tcp_services.mail(certificate, key)))
    serve(tcp_services.Server(ODD_V4, 7001, tcp_services.answers_at_the_end))
    code = """
        import smtplib
        from inside import dial, read_all
        with smtplib.SMTP("mail.example.com", 25, timeout=20) as mail:
            mail.sendmail("a@example.com", ["b@example.com"], "Subject: x\\r\\n\\r\\nhello")
        stream = dial("odd.example.com", 7001)
        stream.sendall(b"\\x00\\x01binary")
        stream.shutdown(1)
        print(read_all(stream))
    """
    draft = bench.folder / "learned.yaml"
    learned = bench.python(code, flags=["--learn", draft])
    assert learned.out == "(b'got 8 bytes', 'end')\n", learned.err
    assert {(r["decision"], r["protocol"]) for r in learned.records} == {("allow", "TCP")}
    text = draft.read_text()
    assert text.count("protocol: tcp") == 2 and "inspection" not in text, text
    checked = subprocess.run([guard.SALLYPORT, "policy", "check", draft], capture_output=True, text=True)
    assert checked.returncode == 0 and not checked.stderr, checked.stderr
    bench.record.unlink()
    enforced = bench.python(code, flags=["--policy", draft, "--mode", "enforce"])
    assert enforced.out == learned.out, enforced.err + text
    assert {(r["decision"], r["mode"]) for r in enforced.records} == {("allow", "enforce")}


def test_audit_lets_it_through_and_says_what_enforcing_would_not(bench, serve):
    serve(tcp_services.Server(ODD_V4, 7001, tcp_services.answers_at_the_end))
    serve(tcp_services.Server(ODD_V4, 7002, tcp_services.answers_at_the_end))
    outcome = bench.python(
        """
        from inside import dial, read_all
        for port in (7001, 7002):
            stream = dial("odd.example.com", port)
            stream.sendall(b"\\x00\\x01")
            stream.shutdown(1)
            print(read_all(stream))
    """,
        policy=guard.policy(relayed("odd.example.com", 7001, addresses=["10.0.0.0/8"]), mode="audit"),
    )
    assert outcome.out == "(b'got 2 bytes', 'end')\n" * 2, outcome.err
    assert [(r["decision"], r["reason"]) for r in outcome.records] == [
        ("would-deny", "address-not-allowed"),
        ("would-deny", "opaque-not-allowed"),
    ]


def test_an_address_that_is_named(bench, serve):
    serve(tcp_services.Server(lab.OUTSIDE_V4, 7001, tcp_services.answers_at_the_end))
    outcome = bench.python(
        f"""
        from inside import dial, read_all
        stream = dial("unused", 7001, address="{lab.OUTSIDE_V4}")
        stream.sendall(b"\\x00\\x01")
        stream.shutdown(1)
        print(read_all(stream))
    """,
        policy=guard.policy(relayed(lab.OUTSIDE_V4, 7001, addresses=[lab.OUTSIDE_V4])),
    )
    assert outcome.out == "(b'got 2 bytes', 'end')\n", outcome.err
    assert only_record(outcome)["host"] == lab.OUTSIDE_V4


def test_what_policy_test_says(bench):
    bench.write_policy(POLICY)

    def ask(*requests):
        flags = [part for request in requests for part in ("--request", request)]
        return subprocess.run(
            [guard.SALLYPORT, "policy", "test", bench.policy_file, *flags], capture_output=True, text=True
        )

    allowed = ask("tcp://cache.example.com:6379")
    assert allowed.returncode == 0 and "protocol: tcp, the connection is relayed unread" in allowed.stdout
    refused = ask("tcp://cache.example.com:6380", "tcp://v4.example.com:443")
    assert refused.returncode == 3 and refused.stdout.count("opaque-not-allowed") == 2
    assert "add an endpoint with protocol: tcp, this host and this port" in refused.stdout
