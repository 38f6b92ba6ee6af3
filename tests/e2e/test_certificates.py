"""Certificates on both sides: the one that the function is shown, and what is wrong with those that upstreams
show."""

import json
import subprocess

import pytest

import guard
from fixtures import need

def test_a_revoked_certificate_passes_only_without_the_list(bench, world):
    with bench.session(policy=guard.policy(guard.endpoint("revoked.example.com"))) as session:
        assert session.get("revoked.example.com")["status"] == 200


def test_without_upstream_ca_the_test_root_is_unknown(bench, world):
    with bench.session(policy=guard.policy(guard.endpoint("v4.example.com")), trust=False) as session:
        assert session.get("v4.example.com")["headers"]["sallyport-denied"] == "upstream-untrusted"


def test_a_bundle_of_the_endpoint_replaces_the_roots(bench, world):
    policy = guard.policy(
        guard.endpoint("v4.example.com", caBundle={"file": str(world.root)}),
        guard.endpoint("api.example.com"),
        guard.endpoint("other.example.com", caBundle={"file": str(world.guard_root.certificate)}),
    )
    with bench.session(policy=policy, trust=False) as session:
        assert session.get("v4.example.com")["status"] == 200
        assert session.get("api.example.com")["headers"]["sallyport-denied"] == "upstream-untrusted"
        assert session.get("other.example.com")["headers"]["sallyport-denied"] == "upstream-untrusted"


def shown(bench, folder, host="v4.example.com", flags=()):
    """The chain that a guarded client is shown, checked by openssl inside; and the root that the command was
    given."""
    outcome = bench.run(
        [
            "sh",
            "-c",
            f"""
        openssl s_client -connect {host}:443 -servername {host} -showcerts </dev/null 2>/dev/null >{folder}/chain.txt
        openssl x509 -in {folder}/chain.txt -out {folder}/leaf.pem
        cp "$NODE_EXTRA_CA_CERTS" {folder}/root.pem
        openssl verify -x509_strict -purpose sslserver -verify_hostname {host} -CAfile {folder}/root.pem \
            -untrusted {folder}/chain.txt {folder}/leaf.pem
        openssl verify -x509_strict -verify_hostname someone-else.example.com -CAfile {folder}/root.pem \
            {folder}/leaf.pem
        openssl x509 -in {folder}/leaf.pem -noout -text >{folder}/leaf.txt
        openssl x509 -in {folder}/root.pem -noout -text >{folder}/root.txt
    """,
        ],
        flags=flags,
        policy=guard.policy(guard.endpoint("v4.example.com")),
    )
    return outcome, (folder / "leaf.txt").read_text(), (folder / "root.txt").read_text()


def test_the_leaf_passes_strict_verification_and_only_for_its_name(user_bench, world):
    folder = user_bench.folder
    outcome, leaf, root = shown(user_bench, folder)
    assert f"{folder}/leaf.pem: OK" in outcome.out, outcome.out + outcome.err
    assert outcome.out.count(": OK") == 1 and "hostname mismatch" in (outcome.out + outcome.err).lower()
    assert "X509v3 Subject Alternative Name" in leaf and "DNS:v4.example.com" in leaf
    assert "TLS Web Server Authentication" in leaf and "CA:FALSE" in leaf
    assert "X509v3 Authority Key Identifier" in leaf and "prime256v1" in leaf
    assert "CA:TRUE" in root and "X509v3 Subject Key Identifier" in root and "Certificate Sign" in root
    assert (folder / "leaf.pem").read_text() != (folder / "root.pem").read_text()


def test_two_runs_have_two_roots(bench, world):
    roots = []
    for _ in range(2):
        outcome = bench.run(
            ["sh", "-c", 'openssl x509 -in "$NODE_EXTRA_CA_CERTS" -noout -fingerprint -sha256'], policy=guard.policy()
        )
        roots.append(outcome.out)
    assert all(roots) and roots[0] != roots[1]


def test_an_external_root_signs_the_leaf(bench, world):
    flags = ["--ca-cert", world.guard_root.certificate, "--ca-key", world.guard_root.key]
    outcome, leaf, _ = shown(bench, bench.folder, flags=flags)
    done = subprocess.run(
        [
            "openssl",
            "verify",
            "-x509_strict",
            "-CAfile",
            world.guard_root.certificate,
            "-untrusted",
            bench.folder / "chain.txt",
            bench.folder / "leaf.pem",
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith(": OK\n"), done.stderr + outcome.err


def test_the_leaf_of_an_address_has_an_address(bench, world):
    policy = guard.policy(guard.endpoint("192.0.2.80", addresses=["192.0.2.80/32"]))
    with bench.session(policy=policy) as session:

        def verified():
            stream = socket.create_connection(("192.0.2.80", 443), 10)
            stream = ssl.create_default_context().wrap_socket(stream, server_hostname="192.0.2.80")
            return stream.getpeercert()["subjectAltName"]

        assert session.do(verified) == (("IP Address", "192.0.2.80"),)


def test_leaves_are_cached(bench, world):
    def serials():
        found = set()
        for _ in range(5):
            with connect("v4.example.com") as stream:
                found.add(stream.getpeercert()["serialNumber"])
        return sorted(found)

    with bench.session(policy=guard.policy(guard.endpoint("v4.example.com"))) as session:
        assert len(session.do(serials)) == 1


def test_python_is_content_with_strict_verification(bench, world):
    """Python has it as its default since 3.13; here it is asked for."""

    def strict():
        made = ssl.create_default_context()
        made.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        with made.wrap_socket(dial("v4.example.com"), server_hostname="v4.example.com") as stream:
            return stream.getpeercert()["subjectAltName"]

    with bench.session(policy=guard.policy(guard.endpoint("v4.example.com"))) as session:
        assert session.do(strict) == (("DNS", "v4.example.com"),)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_both_tls_versions_are_spoken_to_the_function(bench, world, version):
    def handshake(version):
        made = ssl.create_default_context()
        made.minimum_version = made.maximum_version = getattr(ssl.TLSVersion, version)
        stream = made.wrap_socket(dial("v4.example.com"), server_hostname="v4.example.com")
        stream.sendall(b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n")
        return stream.version(), Reader(stream).response()["status"]

    with bench.session(policy=guard.policy(guard.endpoint("v4.example.com"))) as session:
        assert session.do(handshake, version) == (version.replace("_", "."), 200)


def test_a_session_of_one_host_does_not_resume_for_another(bench, world):
    """The ticket carries no permission: a resumed connection is decided by its own server name."""

    def resume():
        made = ssl.create_default_context()
        stream = made.wrap_socket(dial("v4.example.com"), server_hostname="v4.example.com")
        stream.sendall(b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
        Reader(stream).response()
        ticket = stream.session
        made.check_hostname = False
        second = made.wrap_socket(
            dial("denied.example.com", address="192.0.2.1"), server_hostname="denied.example.com", session=ticket
        )
        second.sendall(b"GET /echo HTTP/1.1\r\nHost: denied.example.com\r\nConnection: close\r\n\r\n")
        return Reader(second).response()["status"]

    with bench.session(policy=guard.policy(guard.endpoint("v4.example.com"))) as session:
        assert session.do(resume) in (403, None)
    assert {r.sni for r in world.tls.requests} <= {"v4.example.com"}


def test_a_function_that_does_not_trust_the_ca_leaves_a_record_with_a_hint(bench, world):
    outcome = bench.run(
        ["curl", "-sS", "--cacert", str(world.root), "https://v4.example.com/"],
        policy=guard.policy(guard.endpoint("v4.example.com")),
    )
    assert outcome.code == 60, outcome.err
    record = next(r for r in outcome.records if r["kind"] == "connection")
    assert record["reason"] == "downstream-tls" and record["host"] == "v4.example.com"
    assert "CA" in record["text"] or "trust" in record["text"]
    assert not world.requests()


@pytest.mark.parametrize("protocol", ("http/1.1", "h2"))
def test_each_client_that_leaves_after_the_handshake_leaves_its_record(bench, protocol):
    """With tickets or SETTINGS unread, closing is a reset: the guard may meet it when it reads or when it writes."""
    times = 20
    with bench.session(policy=guard.policy(guard.endpoint("v4.example.com"))) as session:

        def leave(times, protocol):
            for _ in range(times):
                connect("v4.example.com", alpn=[protocol]).close()

        session.do(leave, times, protocol)
        records = session.wait_for_records(lambda found: len(found) == times)
    assert {(r["kind"], r["reason"]) for r in records} == {("connection", "downstream-tls")}


PASSED = guard.policy(
    guard.endpoint("v4.example.com", inspection="none", rules=None, name="pinned"), guard.endpoint("api.example.com")
)


def test_a_client_that_leaves_after_the_handshake_without_a_word_leaves_a_record(bench, world):
    """GnuTLS has its user verify after the handshake: git then closes without an alert."""
    with bench.session(policy=guard.policy(guard.endpoint("v4.example.com"))) as session:

        def leave(asking_first):
            stream = connect("v4.example.com")
            if asking_first:
                stream.sendall(b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
                Reader(stream).response()
            stream.close()

        session.do(leave, True)
        session.do(leave, False)
        records = session.wait_for_records(lambda found: len(found) == 2)
    assert [r["kind"] for r in records] == ["exchange", "connection"]
    assert (records[1]["decision"], records[1]["reason"], records[1]["host"]) == (
        "error",
        "downstream-tls",
        "v4.example.com",
    )
    assert "does it trust the guard's CA?" in records[1]["text"]


def test_a_passed_through_host_shows_its_own_certificate(user_bench, world):
    """With the origin's root alone the client is satisfied: nobody stands between. With the combined bundle it is
    not, as the test's root is not in the system's."""
    outcome = user_bench.run(
        ["curl", "-sS", "--cacert", world.root, "https://v4.example.com/echo?through=1"], policy=PASSED
    )
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["target"] == "/echo?through=1"
    record = next(r for r in outcome.records if r["kind"] == "connection")
    assert (record["decision"], record["endpoint"], record["host"]) == ("allow", "pinned", "v4.example.com")
    assert record["bytes_down"] > 100 and "path" not in record
    assert not outcome.exchanges


def test_a_passed_through_connection_half_closes_and_ends(bench, world):
    with bench.session(policy=PASSED) as session:
        reply = session.do(through, str(world.root))
        assert reply["status"] == 200
        session.wait_for_records(lambda records: any(r["kind"] == "connection" for r in records))


def through(root):
    made = ssl.create_default_context(cafile=root)
    stream = made.wrap_socket(dial("v4.example.com"), server_hostname="v4.example.com")
    stream.sendall(b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n")
    return Reader(stream).response()


def test_node_trusts_the_guard(user_bench, world):
    need("node")
    code = (
        "fetch('https://v4.example.com/echo').then((r) => console.log(r.status), (e) => console.log(String(e.cause)))"
    )
    outcome = user_bench.run(["node", "-e", code], policy=guard.policy(guard.endpoint("v4.example.com")))
    assert outcome.out.strip() == "200", outcome.err
