"""`sallyport ca`: what the built program writes, shows and refuses."""

import json
import os
import pathlib
import socket
import ssl
import stat
import subprocess
import threading

import pytest

BIN = os.environ.get("SALLYPORT_BIN")
pytestmark = pytest.mark.skipif(not BIN, reason="SALLYPORT_BIN does not name the folder of the built programs")


def ca(*arguments, **options):
    command = [str(pathlib.Path(BIN or "") / "sallyport"), "ca", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def run(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)


@pytest.fixture
def root(tmp_path):
    certificate, key = tmp_path / "root.pem", tmp_path / "root.key"
    made = ca("init", "--cert", certificate, "--key", key, "--name", "Test root", "--days", 10)
    assert made.returncode == 0, made.stderr
    return certificate, key


def issue(root, folder, *hosts, name="leaf", **options):
    return ca("issue", *hosts, "--ca-cert", root[0], "--ca-key", root[1], "--cert", folder / f"{name}.pem",
              "--key", folder / f"{name}.key", **options)


def test_init_writes_a_key_for_its_owner_alone_and_a_strict_root(root, tmp_path):
    certificate, key = root
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(certificate.stat().st_mode) == 0o644
    assert run("openssl", "verify", "-x509_strict", "-CAfile", certificate, certificate).returncode == 0
    assert run("openssl", "pkey", "-in", key, "-noout", "-check").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root.key", "root.pem"]


def test_init_leaves_files_that_exist_alone_unless_forced(root, tmp_path):
    before = [path.read_bytes() for path in root]
    again = ca("init", "--cert", root[0], "--key", root[1])
    assert again.returncode == 1
    assert f"can't write {root[1]}: File exists; --force replaces it" in again.stderr
    only_key = ca("init", "--cert", tmp_path / "new.pem", "--key", root[1])
    only_certificate = ca("init", "--cert", root[0], "--key", tmp_path / "new.key")
    assert only_key.returncode == only_certificate.returncode == 1
    assert [path.read_bytes() for path in root] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root.key", "root.pem"], "no halves are left"
    forced = ca("init", "--cert", root[0], "--key", root[1], "--force")
    assert forced.returncode == 0, forced.stderr
    assert root[1].read_bytes() != before[1]
    assert stat.S_IMODE(root[1].stat().st_mode) == 0o600


@pytest.mark.parametrize("arguments, status, text", [
    (["init"], 2, "--cert is required"),
    (["init", "--cert", "a", "--key", "b", "--days", "0"], 2, "--days"),
    (["init", "--cert", "same", "--key", "same"], 1, "both name same"),
    (["init", "--cert", "no/such/a", "--key", "b"], 1, "can't write no/such/a: No such file or directory"),
    (["init", "--cert", "a", "--key", "b", "--name", "x" * 65], 1, "1 to 64 bytes"),
    (["show", "missing.pem"], 1, "missing.pem"),
    (["show", os.devnull], 1, "holds no PEM certificate"),
    (["frobnicate"], 2, "subcommand"),
    ([], 2, "subcommand"),
])
def test_bad_arguments_are_told(arguments, status, text, tmp_path):
    refused = ca(*arguments, cwd=tmp_path)
    assert refused.returncode == status
    assert text in refused.stderr + refused.stdout
    assert list(tmp_path.iterdir()) == []


def test_show_tells_what_a_person_and_a_program_need(root):
    shown = json.loads(ca("show", root[0], "-o", "json").stdout)
    assert len(shown) == 1
    assert shown[0]["subject"] == "CN=Test root"
    assert shown[0]["key"] == "EC P-256"
    assert shown[0]["ca"] is True and shown[0]["self_signed"] is True
    assert shown[0]["problems"] == []
    fingerprint = run("openssl", "x509", "-in", root[0], "-noout", "-fingerprint", "-sha256").stdout
    assert shown[0]["fingerprint_sha256"] == fingerprint.strip().split("=")[1]
    text = ca("show", root[0]).stdout
    assert "subject        CN=Test root\n" in text
    assert shown[0]["subject_key_id"] in text
    piped = ca("show", "-", input=root[0].read_text())
    assert piped.stdout == text


def test_show_names_the_problems_of_a_root_that_strict_clients_refuse(tmp_path):
    config = tmp_path / "c.cnf"
    config.write_text("[req]\ndistinguished_name=d\nprompt=no\nx509_extensions=v\n[d]\nCN=Old \x1b[31m\n"
                      "[v]\nbasicConstraints=CA:TRUE\nsubjectKeyIdentifier=none\n")
    made = run("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-keyout", tmp_path / "o.key", "-out",
               tmp_path / "o.pem", "-config", config)
    assert made.returncode == 0, made.stderr
    problems = json.loads(ca("show", tmp_path / "o.pem", "-o", "json").stdout)[0]["problems"]
    assert any("keyUsage" in problem for problem in problems)
    assert any("basicConstraints is not critical" in problem for problem in problems)
    assert any("subjectKeyIdentifier" in problem for problem in problems)
    assert "\x1b" not in ca("show", tmp_path / "o.pem").stdout


def test_an_issued_certificate_serves_a_strict_client(root, tmp_path):
    issued = issue(root, tmp_path, "Ledger.Internal", "127.0.0.1", "::1")
    assert issued.returncode == 0, issued.stderr
    assert stat.S_IMODE((tmp_path / "leaf.key").stat().st_mode) == 0o600
    verified = run("openssl", "verify", "-x509_strict", "-verify_hostname", "ledger.internal", "-CAfile", root[0],
                   tmp_path / "leaf.pem")
    assert verified.returncode == 0, verified.stdout + verified.stderr

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "leaf.pem", tmp_path / "leaf.key")
    client = ssl.create_default_context(cafile=root[0])
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve():
            for _ in range(2):
                connection, _ = listener.accept()
                with server.wrap_socket(connection, server_side=True) as tls:
                    tls.sendall(b"hello")

        thread = threading.Thread(target=serve)
        thread.start()
        for host in ("ledger.internal", "127.0.0.1"):
            with socket.create_connection(listener.getsockname(), 20) as plain:
                with client.wrap_socket(plain, server_hostname=host) as tls:
                    assert tls.recv(5) == b"hello"
        thread.join()


def test_issue_refuses_what_is_no_host_and_a_ca_that_does_not_fit(root, tmp_path):
    for host in ("*.example.com", "example.com:443", "a b", ""):
        refused = issue(root, tmp_path, host)
        assert refused.returncode == 1, host
    other = ca("init", "--cert", tmp_path / "other.pem", "--key", tmp_path / "other.key")
    assert other.returncode == 0
    mismatch = issue((root[0], tmp_path / "other.key"), tmp_path, "a.example")
    assert mismatch.returncode == 1
    assert "does not belong to the certificate" in mismatch.stderr
    swapped = issue((root[1], root[0]), tmp_path, "a.example")
    assert "are the certificate and the key swapped?" in swapped.stderr
    assert not (tmp_path / "leaf.pem").exists() and not (tmp_path / "leaf.key").exists()
    assert issue(root, tmp_path, "a.example").returncode == 0
    leaf = (tmp_path / "leaf.pem", tmp_path / "leaf.key")
    assert "is not a CA" in issue(leaf, tmp_path, "b.example", name="below").stderr


def test_bundle_joins_the_systems_roots_and_the_ca(root, tmp_path):
    printed = ca("bundle", "--ca-cert", root[0])
    if "were not found" in printed.stderr:
        pytest.skip("this system has no root certificates")
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.endswith(root[0].read_text())
    assert printed.stdout.count("BEGIN CERTIFICATE") > 10
    written = ca("bundle", "--ca-cert", root[0], "--out", tmp_path / "b.pem", "--pkcs12", tmp_path / "b.p12")
    assert written.returncode == 0 and written.stdout == ""
    assert (tmp_path / "b.pem").read_text() == printed.stdout
    listed = run("openssl", "pkcs12", "-nokeys", "-nomacver", "-passin", "pass:", "-in", tmp_path / "b.p12")
    assert listed.stdout.count("BEGIN CERTIFICATE") == printed.stdout.count("BEGIN CERTIFICATE")


def test_bundle_never_takes_a_private_key_or_a_leaf(root, tmp_path):
    both = tmp_path / "both.pem"
    both.write_text(root[0].read_text() + root[1].read_text())
    refused = ca("bundle", "--ca-cert", both, "--out", tmp_path / "b.pem")
    assert refused.returncode == 1
    assert f"{both}: " in refused.stderr and "private key" in refused.stderr
    assert issue(root, tmp_path, "a.example").returncode == 0
    assert "is not a CA" in ca("bundle", "--ca-cert", tmp_path / "leaf.pem").stderr
    assert not (tmp_path / "b.pem").exists()
