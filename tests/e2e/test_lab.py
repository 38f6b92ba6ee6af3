"""The lab itself: without a guard everything in it can be reached and is seen. A witness that sees nothing proves
nothing before it has been shown to see something."""

import json
import socket
import subprocess
import urllib.request

import lab


def test_an_unguarded_client_reaches_the_origin_over_both_families(world):
    for family in ("-4", "-6"):
        done = subprocess.run(
            ["curl", "-sS", family, "--cacert", world.root, "https://api.example.com/echo?q=1"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout)["target"] == "/echo?q=1"
    assert {r.sni for r in world.tls.requests} == {"api.example.com"}


def test_the_origin_checks_what_a_client_sends(world):
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "--cacert",
            world.root,
            "-H",
            "Transfer-Encoding: chunked",
            "--data-binary",
            "abc",
            "https://v4.example.com/sink",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["bytes"] == 3
    assert world.tls.requests[-1].header("transfer-encoding") == "chunked"


def test_the_bad_certificates_are_bad(world):
    for name, complaint in (
        ("expired", "expired"),
        ("not-yet", "not yet valid"),
        ("wrong-host", "no alternative"),
        ("self-signed", "self-signed"),
        ("unknown-root", "local issuer"),
        ("weak", "key too small|weak"),
    ):
        done = subprocess.run(
            ["curl", "-sS", "--cacert", world.root, f"https://{name}.example.com/"], capture_output=True, text=True
        )
        assert done.returncode != 0, name
        assert any(word in done.stderr for word in complaint.split("|")), done.stderr


def test_a_revoked_certificate_is_found_with_the_list(world):
    done = subprocess.run(
        ["curl", "-sS", "--cacert", world.root, "--crlfile", world.crl, "https://revoked.example.com/"],
        capture_output=True,
        text=True,
    )
    assert "revoked" in done.stderr


def test_nginx_answers(world):
    world.start_nginx()
    done = subprocess.run(
        ["curl", "-sS", "--cacert", world.root, "https://nginx.example.com/answer"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "nginx here\n"


def test_the_name_server_answers_as_its_table_says(world):
    def ask(name, kind="A"):
        done = subprocess.run(
            ["dig", "+tries=1", "+time=1", "+noall", "+answer", "+comments", name, kind], capture_output=True, text=True
        )
        return done.stdout

    assert lab.ORIGIN_V4 in ask("api.example.com")
    assert lab.ORIGIN_V6 in ask("api.example.com", "AAAA")
    assert "SERVFAIL" in ask("servfail.example.com")
    assert "NXDOMAIN" in ask("nowhere.example.com")
    assert ask("rebinding.example.com") != ask("rebinding.example.com")
    assert ("api.example.com", "A") in world.dns.questions


def test_the_witness_sees_what_leaves(world, watch, listeners):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b"marker-udp", (lab.OUTSIDE_V4, 443))
    with socket.create_connection((lab.OUTSIDE_V6, 4444), 5) as stream:
        stream.sendall(b"marker-tcp")
        assert stream.recv(100) == b"answer from outside"
    subprocess.run(
        ["dig", "+tries=1", "+time=1", "@" + lab.OUTSIDE_V4, "marker-dns.example.com", "TXT"], capture_output=True
    )
    assert watch.saw(b"marker-udp") and watch.saw(b"marker-tcp") and watch.saw(b"marker-dns")
    assert {(p.protocol, p.destination_port) for p in watch.leaks()} >= {("udp", 443), ("tcp", 4444), ("udp", 53)}
    assert ("tcp", lab.OUTSIDE_V6, 4444, b"marker-tcp") in listeners.heard


def test_the_witness_lets_the_allowed_traffic_be(world, watch):
    urllib.request.urlopen("http://v4.example.com/echo", timeout=5).read()
    assert watch.leaks() == []
    assert any(p.destination_port == 80 for p in watch.packets)
