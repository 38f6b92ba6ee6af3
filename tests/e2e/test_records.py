"""Records and metrics: exactly one record per exchange, both tell the same story."""

import collections
import datetime
import re
import subprocess

import pytest

import guard

POLICY = guard.policy(
    guard.endpoint("v4.example.com", methods=["GET", "POST"], path="/", name="api"),
    guard.endpoint("down.example.com"),
    guard.endpoint("expired.example.com"),
    guard.endpoint("other.example.com", path="/only"),
)

MIX = [
    ("v4.example.com", "/echo", 200),
    ("v4.example.com", "/status/404", 404),
    ("v4.example.com", "/status/500", 500),
    ("down.example.com", "/x", 502),
    ("expired.example.com", "/x", 502),
    ("other.example.com", "/x", 403),
    ("v4.example.com", "/cut", 200),
    ("v4.example.com", "/a/%2e%2e/../../x", 400),
]


@pytest.fixture(scope="module")
def told(world):
    """A mixed session; its records, metrics and standard error."""
    bench = guard.Bench(world)
    with bench.session(policy=POLICY, flags=["--admin", bench.admin]) as session:
        replies = []
        for host, path, expected in MIX:
            reply = session.get(host, path)
            assert reply["status"] == expected, (host, path, reply)
            replies.append(reply)
        session.get("denied.example.com", address="192.0.2.1")
        session.ask(
            "v4.example.com",
            b"POST /sink HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 100000\r\n"
            b"Connection: close\r\n\r\n" + b"x" * 100000,
        )
        session.get("v4.example.com", "/download?bytes=200000&secret=in-query")
        count = len(MIX) + 3
        session.wait_for_records(lambda r: len(guard.exchanges(r)) >= count)
        status, metrics = bench.metrics()
        assert status == 200
        curl = subprocess.run(
            ["curl", "-sS", "-i", "--unix-socket", bench.admin, "http://admin/metrics"], capture_output=True, text=True
        )
        health = {path: bench.metrics(path) for path in ("/healthz", "/readyz", "/nothing", "/quitquitquit")}
        listening = bench.admin.exists()
    yield {
        "replies": replies,
        "records": bench.records(),
        "metrics": metrics,
        "curl": curl,
        "health": health,
        "count": count,
        "listening": listening,
        "left": bench.admin.exists(),
        "stderr": session.stderr(),
    }
    bench.close()


def samples(text, pattern):
    """(labels, value) of the samples whose name matches."""
    found = []
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)(?: \d+)?", line)
        if match and re.fullmatch(pattern, match[1]):
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            found.append((labels, float(match[3])))
    return found


def test_one_record_per_exchange(told):
    assert len(guard.exchanges(told["records"])) == told["count"]
    ids = [r["id"] for r in told["records"]]
    assert len(set(ids)) == len(ids)


def test_each_record_has_its_fields_in_the_right_form(told):
    for record in told["records"]:
        assert record["kind"] in ("exchange", "connection", "dns")
        assert re.fullmatch(r"[0-9a-f]{16}", record["id"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
        moment = datetime.datetime.fromisoformat(record["time"].replace("Z", "+00:00"))
        assert abs(moment - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(minutes=10)
        assert record["decision"] in ("allow", "deny", "would-deny", "error")
        assert record["function"] == "tested" and record["mode"] == "enforce"
        assert None not in record.values() and "" not in (record.get("reason", "x"), record.get("text", "x"))
        if record["decision"] != "allow":
            assert record["reason"] and record["text"]


def test_an_allowed_exchange_tells_everything(told):
    record = guard.exchanges(told["records"])[0]
    assert (record["scheme"], record["host"], record["port"], record["method"], record["path"]) == (
        "https",
        "v4.example.com",
        443,
        "GET",
        "/echo",
    )
    assert (record["endpoint"], record["rule"], record["status"], record["protocol"]) == ("api", 0, 200, "HTTP/1.1")
    assert record["upstream"] == "127.0.0.10:443"
    assert 0 < record["first_byte_ms"] <= record["duration_ms"] < 10_000
    assert record["bytes_up"] == 0 and record["bytes_down"] == len(told["replies"][0]["body"])


def test_decisions_and_reasons(told):
    found = [(r["decision"], r.get("reason")) for r in guard.exchanges(told["records"])]
    assert found == [
        ("allow", None),
        ("allow", None),
        ("allow", None),
        ("error", "unreachable"),
        ("error", "upstream-expired"),
        ("deny", "path-not-allowed"),
        ("error", "upstream-closed"),
        ("deny", "malformed-target"),
        ("deny", "host-not-allowed"),
        ("allow", None),
        ("allow", None),
    ]


def test_bytes_are_counted(told):
    upload, download = guard.exchanges(told["records"])[-2:]
    assert upload["bytes_up"] == 100_000 and download["bytes_down"] == 200_000


def test_no_query_is_recorded(told):
    assert all("?" not in r.get("path", "") for r in told["records"])
    assert "in-query" not in repr(told["records"])


def test_metrics_count_what_the_records_tell(told):
    counted = collections.Counter()
    for labels, value in samples(told["metrics"], r"sallyport_(exchanges|requests)_total"):
        counted[labels["decision"]] += value
    recorded = collections.Counter(r["decision"] for r in guard.exchanges(told["records"]))
    assert counted == recorded, told["metrics"]


def test_metrics_are_well_formed_and_bounded(told):
    names = {
        line.split("{")[0].split(" ")[0] for line in told["metrics"].splitlines() if line and not line.startswith("#")
    }
    ours = {name for name in names if not name.startswith(("process_", "promhttp_"))}
    assert ours and all(name.startswith("sallyport_") for name in ours), names
    assert not any(name.endswith(("_ms", "_milliseconds", "_kib")) for name in ours), "base units"
    for forbidden in ("/echo", "/download", "in-query", "denied.example.com"):
        assert forbidden not in told["metrics"]
    for line in told["metrics"].splitlines():
        assert (
            not line or line.startswith(("# HELP ", "# TYPE ")) or re.fullmatch(r"\w+(\{.*\})? [-+.\deEinfNa]+", line)
        ), line


def test_the_admin_socket_speaks_http_to_curl(told):
    assert told["curl"].returncode == 0 and told["curl"].stdout.startswith("HTTP/1.1 200")
    assert re.search(r"(?i)content-type: text/plain; *version=0\.0\.4", told["curl"].stdout)


def test_health_and_readiness(told):
    assert told["health"]["/healthz"][0] == 200 and told["health"]["/readyz"][0] == 200
    assert told["health"]["/nothing"][0] == 404 and told["health"]["/quitquitquit"][0] == 404


def test_the_admin_socket_is_gone_afterwards(told):
    assert told["listening"] and not told["left"]


def test_a_record_file_is_appended_to_and_private(user_bench, world):
    for _ in range(2):
        user_bench.run(["curl", "-sS", "-o", "/dev/null", "https://v4.example.com/echo"], policy=POLICY)
    import lab

    assert len(guard.exchanges(user_bench.records())) == 2
    assert lab.mode_of(user_bench.record) & 0o077 == 0, "a record says who talks to whom"


def test_hostile_names_and_paths_stay_one_line_of_json(bench, world):
    """Escapes of a terminal, quotes, backslashes, and bytes above ASCII."""
    with bench.session(policy=POLICY, flags=["--verbose"]) as session:
        for path in ('/echo"}\\', "/\x1b[31mred", "/caf\u00e9", "/%0d%0ainjected", "/<script>", "/" + "a" * 20000):
            session.get("v4.example.com", path)
        session.ask("v4.example.com", b'G"T /x HTTP/1.1\r\nHost: v4.example.com\r\n\r\n')
        session.ask("v4.example.com", b"GET /x HTTP/1.1\r\nHost: v4.example.com\x1b[2J\r\n\r\n")
        records = session.wait_for_records(lambda r: len(guard.exchanges(r)) >= 8)
        stderr = session.stderr()
    assert len(guard.exchanges(records)) == 8
    assert "\x1b[31mred" not in stderr and "\x1b[2J" not in stderr


def test_a_record_file_that_cannot_be_written_is_said_at_once(bench, world):
    outcome = bench.run(["true"], policy=POLICY, flags=["--record", "/nonexistent/records"], record=False)
    assert outcome.code in (2, 125) and "/nonexistent/records" in outcome.err
