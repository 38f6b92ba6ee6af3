"""The CA of an application is replaced at once, as after a compromise: what guards show, and what functions make of it. A
real controller, real guards, and curl and OpenSSL before and after."""

import json
import subprocess
import time

import pytest

import guard
from controller import Controller, free_ports
from proxy import PROXY

HOST = "v4.example.com"


@pytest.fixture
def shop(tmp_path):
    made = Controller(tmp_path)
    made.do("app", "create", "shop")
    made.put("policy", guard.policy(guard.endpoint(HOST), function="first"), function="first")
    (tmp_path / "token").write_text(made.do("token", "create", "-a", "shop", "-f", "first"))
    yield made
    assert made.stop() == 0, made.said()
    guard.no_sanitizer_report(made.said())


def flags(shop):
    return ["--controller", shop.url, "--controller-ca", shop.data / "ca.pem", "--application", "shop", "--function",
            "first", "--join-token-file", shop.folder / "token"]


def root(shop, name):
    """A file with what the application's functions have to trust now."""
    path = shop.folder / name
    path.write_text(shop.do("app", "get-ca", "-a", "shop"))
    return path


def eventually(condition, what, timeout=60):
    last = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < last, what
        time.sleep(0.1)
    return found


def curl(host):
    import subprocess
    done = subprocess.run(["curl", "-sS", "-m", "30", "-o", "/dev/null", "-w", "%{http_code}", f"https://{host}/echo"],
                          capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else done.stderr


def shown(host):
    """What the guard shows, in PEM: the leaf first."""
    import subprocess
    done = subprocess.run(["openssl", "s_client", "-connect", f"{host}:443", "-servername", host, "-showcerts"],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    end = "-----END CERTIFICATE-----\n"
    return [part[part.index("-----BEGIN"):] + end for part in done.stdout.split(end) if "-----BEGIN" in part]


def trust_files():
    """What the variables and the system's own place lead to, as the command sees it."""
    import os
    names = [os.environ[name] for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE")]
    return [open(name).read() for name in [*names, "/etc/ssl/certs/ca-certificates.crt"]]


def python_that_has_loaded_it(host):
    """One context for all calls, as a function that runs for long has it."""
    import builtins
    import ssl
    import urllib.request
    if not hasattr(builtins, "kept_context"):
        builtins.kept_context = ssl.create_default_context()
    try:
        return str(urllib.request.urlopen(f"https://{host}/echo", context=builtins.kept_context, timeout=30).status)
    except OSError as error:
        return str(error)


def verifies(chain, trusted, folder):
    """Whether OpenSSL takes the leaf, by what the application is to trust."""
    for name, certificates in (("leaf.pem", chain[:1]), ("rest.pem", chain[1:])):
        (folder / name).write_text("".join(certificates))
    done = subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", trusted, "-untrusted", folder / "rest.pem",
                           folder / "leaf.pem"], capture_output=True, text=True)
    return done.returncode == 0


def test_after_a_compromise_the_old_ca_is_trusted_by_nothing_that_is_started(bench, shop):
    with guard.Session(bench, flags=flags(shop)) as session:
        old_root = root(shop, "old.pem")
        assert session.do(curl, HOST) == "200"
        assert session.do(python_that_has_loaded_it, HOST) == "200"
        old_chain = session.do(shown, HOST)
        assert verifies(old_chain, old_root, shop.folder)
        assert all(old_root.read_text() in text for text in session.do(trust_files))

        assert "none before it is trusted any more" in shop.do("app", "put-ca", "--drop-old", "-a", "shop")
        new_root = root(shop, "new.pem")
        assert old_root.read_text() not in new_root.read_text()
        assert not verifies(old_chain, new_root, shop.folder), "a leaf of the old one is refused"
        eventually(lambda: verifies(session.do(shown, HOST), new_root, shop.folder), "no leaf of the new one is shown")
        assert session.do(curl, HOST) == "200", "started since, it trusts the new one"
        for text in session.do(trust_files):
            assert new_root.read_text() in text and old_root.read_text() not in text
        assert "certificate verify failed" in session.do(python_that_has_loaded_it, HOST), "it trusts the old one alone"
        assert shop.alarms() == []
        guard.no_sanitizer_report(session.stderr())
    audit = json.loads(shop.do("audit", "-o", "json"))["entries"]
    assert ["put another CA, and drop those before it, for"] == [e["what"] for e in audit if "another CA" in e["what"]]


def test_one_that_waits_to_sign_is_trusted_by_what_is_started_from_then_on(bench, shop):
    with guard.Session(bench, flags=flags(shop)) as session:
        shop.do("app", "put-ca", "-a", "shop")
        both = root(shop, "both.pem").read_text()
        assert both.count("BEGIN CERTIFICATE") == 2
        eventually(lambda: all(both in text for text in session.do(trust_files)), "the files are as before")
        assert session.do(curl, HOST) == "200"


def test_a_guard_that_was_away_gets_a_certificate_of_the_new_one_when_it_is_back(bench, shop):
    with guard.Session(bench, flags=flags(shop)) as session:
        assert session.do(curl, HOST) == "200"
        shop.kill()
        shop.start()
        shop.do("app", "put-ca", "--drop-old", "-a", "shop")
        new_root = root(shop, "new.pem")
        eventually(lambda: verifies(session.do(shown, HOST), new_root, shop.folder), "no leaf of the new one is shown")
        assert session.do(curl, HOST) == "200"


def test_the_guard_of_a_pod_shows_the_new_one_to_what_trusts_it(bench, shop):
    (port,) = free_ports(1)
    old_root = root(shop, "old.pem")
    proxy = subprocess.Popen([PROXY, *map(str, flags(shop)), "--proxy-listen", f"127.0.0.1:{port}", "--upstream-ca",
                              bench.world.root, "--admin", bench.admin, "--workers", "2"], stderr=subprocess.PIPE,
                             text=True, env=bench.environment)

    def status(trusted):
        done = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-x", f"http://127.0.0.1:{port}",
                               "--cacert", trusted, f"https://{HOST}/echo"], capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else done.stderr

    try:
        eventually(lambda: bench.admin.exists() and bench.metrics("/readyz")[0] == 200, "it is not ready")
        assert status(old_root) == "200"
        shop.do("app", "put-ca", "--drop-old", "-a", "shop")
        new_root = root(shop, "new.pem")
        eventually(lambda: [status(new_root) for _ in range(8)] == ["200"] * 8, "not in all workers")
        assert "certificate" in status(old_root), "who has not been given the new one refuses the guard"
    finally:
        proxy.terminate()
        _, err = proxy.communicate(timeout=20)
    guard.no_sanitizer_report(err)


def test_what_is_neither_kept_nor_dropped_changes_nothing(shop):
    before = shop.do("app", "get-ca", "-a", "shop")
    status, _, answer = shop.api("PUT", "/v1/applications/shop/ca?old=burn")
    assert (status, answer["error"]) == (400, "old: keep or drop is wanted")
    assert shop.do("app", "get-ca", "-a", "shop") == before
