"""What a denied function gets: no name, or an answer that it and its owner can read, with the id of the record."""

import json

import pytest

import guard
import lab
from fixtures import need_root

POLICY = guard.policy(
    guard.endpoint("v4.example.com", methods=["GET", "POST"], path="/allowed/", name="api"),
    guard.endpoint("other.example.com"),
)


def denied(reply, reason, status=403):
    """The denial's JSON, after checking all of its form."""
    assert reply["status"] == status, reply
    assert reply["headers"]["sallyport-denied"] == reason
    assert reply["headers"]["content-type"].startswith("application/json")
    told = json.loads(reply["body"])
    assert told["reason"] == reason and told["error"] and told["text"] and len(told["id"]) == 16
    int(told["id"], 16)
    return told


@pytest.fixture(scope="module", params=["root", "ordinary"])
def session(request, world):
    if request.param == "ordinary":
        need_root()
    bench = guard.Bench(world, request.param)
    with bench.session(policy=POLICY) as made:
        yield made
    bench.close()


def record_of(session, told):
    records = session.wait_for_records(lambda records: any(r["id"] == told["id"] for r in records))
    return next(r for r in records if r["id"] == told["id"])


def test_a_denied_name_does_not_resolve_and_is_not_looked_up(session, world):
    def look_up(name):
        try:
            return repr(socket.getaddrinfo(name, 443))
        except socket.gaierror as error:
            return error.errno == socket.EAI_NONAME

    assert session.do(look_up, "denied.example.com") is True
    assert world.dns.names_asked() == set()


def test_dig_says_nxdomain_and_a_record_says_why(user_bench, world):
    outcome = user_bench.run(["dig", "+tries=1", "+time=3", "denied.example.com"], policy=POLICY)
    assert "status: NXDOMAIN" in outcome.out, outcome.out + outcome.err
    record = next(r for r in outcome.records if r["kind"] == "dns")
    assert (record["decision"], record["reason"], record["host"]) == ("deny", "host-not-allowed", "denied.example.com")


def test_an_allowed_name_leads_to_a_stable_synthetic_address(session):
    def look_up():
        return [
            sorted({found[4][0] for found in socket.getaddrinfo("v4.example.com", 443, family)})
            for family in (socket.AF_INET, socket.AF_INET6, socket.AF_INET)
        ]

    v4, v6, again = session.do(look_up)
    assert v4 == again and len(v4) == 1 and v4[0].startswith(("198.18.", "198.19."))
    assert len(v6) == 1 and v6[0].startswith("fd")


def test_no_lookup_leaves_before_a_request_is_allowed(session, world):
    session.do(resolve_only)
    assert world.dns.names_asked() == set()
    assert session.get("other.example.com")["status"] == 200
    assert world.dns.names_asked() == {"other.example.com"}


def resolve_only():
    socket.getaddrinfo("other.example.com", 443)


@pytest.mark.parametrize("address", ["192.0.2.66", "2001:db8::66"], ids=["v4", "v6"])
def test_a_denied_host_dialled_by_address_gets_a_readable_403(session, world, address):
    reply = session.get("denied.example.com", address=address)
    told = denied(reply, "host-not-allowed")
    assert "denied.example.com" in told["text"]
    record = record_of(session, told)
    assert (record["decision"], record["reason"], record["host"]) == ("deny", "host-not-allowed", "denied.example.com")
    assert not world.requests()


def test_curl_with_resolve_reads_the_403_over_verified_tls(user_bench, world):
    outcome = user_bench.run(
        [
            "curl",
            "-sS",
            "-w",
            "\n%{http_code} %{ssl_verify_result}",
            "--resolve",
            "denied.example.com:443:192.0.2.1",
            "https://denied.example.com/",
        ],
        policy=POLICY,
    )
    body, _, status = outcome.out.rpartition("\n")
    assert status == "403 0", outcome.err
    assert json.loads(body)["reason"] == "host-not-allowed"


def test_a_denied_path(session, world):
    told = denied(session.get("v4.example.com", "/secret?token=hidden"), "path-not-allowed")
    assert told["endpoint"] == "api"
    record = record_of(session, told)
    assert record["path"] == "/secret" and record["endpoint"] == "api" and "upstream" not in record
    assert not world.requests()


def test_a_denied_method(session, world):
    def delete():
        return ask("v4.example.com", b"DELETE /allowed/x HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n")

    told = denied(session.do(delete), "method-not-allowed")
    assert record_of(session, told)["method"] == "DELETE"
    assert not world.requests()


def test_a_denied_port(session, world):
    denied(session.get("v4.example.com", "/allowed/x", port=8443), "port-not-allowed")
    assert not world.requests()


def test_plain_http_to_an_https_endpoint(session, world):
    denied(session.get("v4.example.com", "/allowed/x", tls=False, port=80), "port-not-allowed")
    assert not world.requests()


def test_plain_http_to_an_unknown_host(session, world):
    denied(session.get("denied.example.com", tls=False, port=80, address=lab.OUTSIDE_V4), "host-not-allowed")
    assert not world.requests()


def test_the_connection_lives_on_after_a_denial(session):
    def both():
        stream = connect("v4.example.com")
        reader = Reader(stream)
        replies = []
        for path in ("/allowed/1", "/secret", "/allowed/2"):
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: v4.example.com\r\n\r\n".encode())
            replies.append(reader.response()["status"])
        return replies

    assert session.do(both) == [200, 403, 200]


def test_a_denied_upload_is_answered_and_not_taken(session, world):
    def upload():
        stream = connect("v4.example.com")
        try:
            stream.sendall(b"POST /secret HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 100000000\r\n\r\n")
            for _ in range(100):
                stream.sendall(b"x" * 1000000)
        except OSError:
            pass
        return Reader(stream).response()

    denied(session.do(upload), "path-not-allowed")
    assert not world.requests()


def test_a_denied_request_that_expects_100_gets_none(session):
    def expecting():
        stream = connect("v4.example.com", timeout=5)
        stream.sendall(
            b"POST /secret HTTP/1.1\r\nHost: v4.example.com\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
        return Reader(stream).response()

    reply = session.do(expecting)
    denied(reply, "path-not-allowed")
    assert reply["informational"] == []


def test_a_head_request_is_denied_without_a_body(session):
    reply = session.do(
        "ask",
        "v4.example.com",
        b"HEAD /secret HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n",
        method="HEAD",
    )
    assert reply["status"] == 403 and reply["headers"]["sallyport-denied"] == "method-not-allowed"


@pytest.mark.parametrize("size", [18, 300_000])
def test_a_denied_upload_over_http2_is_told_and_no_error_of_the_stream(bench, world, size):
    """The answer is there before the body is; curl 7.88 takes a stream that is reset then for a failure."""
    (bench.folder / "body").write_bytes(b"x" * size)
    ask = "curl -sS --http2 -o /dev/null -w '%{http_code} %{http_version}\\n' --data-binary @body https://v4.example.com/denied"
    outcome = bench.run(
        ["sh", "-c", f"for i in $(seq 30); do {ask}; done"], policy=guard.policy(guard.endpoint("v4.example.com", path="/allowed"))
    )
    assert outcome.out.split("\n")[:-1] == ["403 2"] * 30, outcome.err
    assert not world.requests()


def test_an_empty_policy_allows_nothing(bench, world):
    outcome = bench.run(
        ["curl", "-sS", "--resolve", "v4.example.com:443:192.0.2.1", "https://v4.example.com/"], policy=guard.policy()
    )
    assert json.loads(outcome.out)["reason"] == "host-not-allowed"
    assert not world.requests()


def test_an_endpoint_without_rules_is_a_mistake_that_is_told(bench, world):
    """It would allow nothing, which nobody writes on purpose."""
    outcome = bench.run(
        ["curl", "-sS", "https://v4.example.com/"], policy=guard.policy(guard.endpoint("v4.example.com", rules=None))
    )
    assert outcome.code == 2 and "rule" in outcome.err
    assert not world.requests()


def test_two_endpoints_of_one_host_are_both_tried(bench, world):
    policy = guard.policy(
        guard.endpoint("v4.example.com", methods=["GET"], path="/a", name="first"),
        guard.endpoint("v4.example.com", methods=["POST"], path="/b", name="second"),
    )
    with bench.session(policy=policy) as session:
        assert session.get("v4.example.com", "/a/x")["status"] == 200
        post = b"POST /b HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        assert session.ask("v4.example.com", post)["status"] == 200
        assert session.get("v4.example.com", "/b")["status"] == 403
        records = guard.exchanges(session.wait_for_records(lambda r: len(guard.exchanges(r)) == 3))
    assert [r.get("endpoint") for r in records][:2] == ["first", "second"]


@pytest.mark.parametrize(
    "path, allowed",
    [
        ("/exact", True),
        ("/exact/", False),
        ("/exactly", False),
        ("/v1/items/12", True),
        ("/v1/items/x", False),
        ("/v1/items/12/x", False),
        ("/pre", True),
        ("/prefixed", None),
        ("/pre/x", True),
    ],
)
def test_path_rules(bench, world, path, allowed):
    """A regular expression matches the whole path. Whether a prefix without a slash at its end matches "/prefixed" is
    the policy reference's to say; here it must only be decided, and be what was forwarded."""
    policy = guard.policy(
        guard.endpoint(
            "v4.example.com",
            rules=[
                {"methods": ["GET"], "path": {"exact": "/exact"}},
                {"methods": ["GET"], "path": {"regex": "/v1/items/[0-9]+"}},
                {"methods": ["GET"], "path": {"prefix": "/pre"}},
            ],
        )
    )
    with bench.session(policy=policy) as session:
        reply = session.get("v4.example.com", path)
    assert reply["status"] in (200, 403)
    assert allowed is None or (reply["status"] == 200) is allowed
    assert bool(world.requests()) is (reply["status"] == 200)
