"""Mutual TLS: the guard shows a certificate that the function does not hold. The server is nginx, which checks it."""

import json
import subprocess

import pytest

import certificates
import guard
import lab
import tcp_services
from fixtures import need

HOST, SERVER_V4 = "mutual.example.com", "127.0.0.41"
NGINX = """
daemon off;
user root root;
master_process off;
error_log stderr;
pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen {address}:443 ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_client_certificate {clients};
    ssl_verify_client {verify};
    ssl_verify_depth 2;
    ssl_session_tickets on;
    location / {{ default_type text/plain; return 200 "$ssl_client_verify $ssl_client_s_dn $ssl_session_reused\\n"; }}
  }}
}}
"""
CLIENT_EXTENSIONS = (
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"
    "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
)


@pytest.fixture(scope="module")
def authority(world):
    """Who the server believes about its clients."""
    world.dns.table[HOST] = [SERVER_V4]
    return certificates.Authority(world.folder, "clients-root")


@pytest.fixture
def client(bench, authority):
    """(certificate with its chain, key), kept beside the policy."""
    between = certificates.Authority(authority.folder, f"between-{bench.folder.name}", issuer=authority)
    made = between.issue(f"client-{bench.folder.name}", [], extensions=CLIENT_EXTENSIONS)
    certificate, key = bench.folder / "client.pem", bench.folder / "client.key"
    certificate.write_text(made[0].read_text() + between.certificate.read_text())
    key.write_text(made[1].read_text())
    return certificate, key


@pytest.fixture
def serve(world, authority, request):
    need("nginx")

    def start(verify):
        folder = lab.folder()
        certificate, key = world.authority.issue("mutual", [HOST])
        (folder / "nginx.conf").write_text(
            NGINX.format(
                folder=folder,
                address=SERVER_V4,
                certificate=certificate,
                key=key,
                clients=authority.certificate,
                verify=verify,
            )
        )
        running = tcp_services.Process(["nginx", "-c", folder / "nginx.conf"], SERVER_V4, 443, folder)
        request.addfinalizer(running.close)
        return folder / "access"

    return start


def policy(certificate, key, mode="enforce"):
    files = {"certificate": {"file": str(certificate)}, "key": {"file": str(key)}}
    return guard.policy(guard.endpoint(HOST, path="/allowed", clientCertificate=files), mode=mode)


def test_the_server_learns_who_the_client_is(bench, serve, client):
    serve("on")
    outcome = bench.run(["curl", "-sS", f"https://{HOST}/allowed"], policy=policy(*client))
    assert outcome.out.startswith("SUCCESS CN=client-"), outcome.out + outcome.err
    assert [r["decision"] for r in outcome.exchanges] == ["allow"]
    assert client[1].read_text()[40:80] not in bench.record.read_text()


def test_without_it_the_server_says_no(bench, serve):
    serve("on")
    outcome = bench.run(
        ["curl", "-sS", f"https://{HOST}/allowed"], policy=guard.policy(guard.endpoint(HOST, path="/allowed"))
    )
    assert "400 No required SSL certificate was sent" in outcome.out


def test_what_no_rule_allows_goes_without_it(bench, serve, client):
    """In audit a denied request passes, but not in the client's name: no pooled connection and no session carries it."""
    serve("optional")
    urls = [f"https://{HOST}/{path}" for path in ("allowed", "other", "allowed/1", "other/1", "allowed/2")]
    outcome = bench.python(
        """
        import sys, requests
        for url in sys.argv[1:]:
            print(requests.get(url).text.split()[0], requests.get(url, headers={"Connection": "close"}).text.split()[0])
    """,
        *urls,
        policy=policy(*client, mode="audit"),
    )
    assert outcome.out.split("\n")[:5] == ["SUCCESS SUCCESS", "NONE NONE"] * 2 + ["SUCCESS SUCCESS"], outcome.err
    assert [r["decision"] for r in outcome.exchanges] == (["allow"] * 2 + ["would-deny"] * 2) * 2 + ["allow"] * 2


@pytest.mark.parametrize("what", ["another key", "an encrypted key", "no key", "no certificate"])
def test_what_cannot_be_used_fails_closed(bench, serve, client, authority, what):
    log = serve("optional")
    certificate, key = client
    if what == "another key":
        key.write_text(authority.issue(f"stranger-{bench.folder.name}", [], extensions=CLIENT_EXTENSIONS)[1].read_text())
    elif what == "an encrypted key":
        options = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", key.with_suffix(".new")]
        subprocess.run(options, check=True, capture_output=True)
        key.write_text(key.with_suffix(".new").read_text())
    else:
        (key if what == "no key" else certificate).write_text("nothing of the kind\n")
    outcome = bench.run(["curl", "-sS", f"https://{HOST}/allowed"], policy=policy(*client))
    answer = json.loads(outcome.out)
    assert answer["reason"] == "credential-unavailable" and "client certificate of endpoint" in answer["text"], answer
    assert log.read_text() == ""


def test_the_key_is_hidden_from_the_command(user_bench, serve, authority, world):
    serve("on")
    made = authority.issue(f"hidden-{user_bench.folder.name}", [], extensions=CLIENT_EXTENSIONS)
    certificate, key = user_bench.folder / "client.pem", user_bench.folder / "client.key"
    for source, target in zip(made, (certificate, key)):
        target.write_text(source.read_text())
        target.chmod(0o644)
    outcome = user_bench.run(
        ["sh", "-c", f"curl -sS https://{HOST}/allowed; grep -c BEGIN {certificate}; grep -c BEGIN {key}"],
        policy=policy(certificate, key),
    )
    lines = outcome.out.split("\n")
    assert lines[0].startswith("SUCCESS") and lines[1] == "1" and lines[2] in ("", "0"), outcome.out + outcome.err


def test_renewed_files_are_taken_up(bench, serve, client, authority):
    """By the next connection that is made."""
    serve("on")
    with bench.session(policy=policy(*client)) as session:
        before = session.get(HOST, "/allowed")["body"]
        certificate, key = authority.issue(f"renewed-{bench.folder.name}", [], extensions=CLIENT_EXTENSIONS)
        client[0].write_text(certificate.read_text())
        client[1].write_text(key.read_text())
        bench.write_policy(policy(*client) + "\n")  # which closes the connections that are kept
        session.wait_for_stderr("the changed policy is in force")
        after = session.get(HOST, "/allowed")["body"]
    assert b"CN=client-" in before and b"CN=renewed-" in after
