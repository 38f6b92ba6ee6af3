"""The certificate of a guard that is a member of an application: signed by its controller for the hosts of its function, and
what real clients make of it. Real guards, and a real controller."""

import base64
import json
import subprocess
import time

import pytest

import clients
import guard
import published
from controller import Controller, eventually, free_ports
from fixtures import missing
from members import HOST, PROBES, end, filled, flags, guards, settings
from proxy import PROXY
from published import Published

OTHER, DENIED = "other.example.com", "denied.example.com"
NAMES = ["curl", "Python http.client, strict", "Python requests", "Node fetch", "Go net/http", "Java HttpClient"]


def policy(*hosts):
    return guard.policy(*(guard.endpoint(host) for host in hosts), function="first", inbound={"probes": PROBES})


@pytest.fixture
def shop(tmp_path):
    made = filled(Controller(tmp_path))
    made.put("policy", policy(HOST), function="first")
    (tmp_path / "root.pem").write_text(made.do("app", "get-ca", "-a", "shop"))
    yield made
    end(made)


@pytest.fixture
def serve(bench, shop):
    started = []

    def make():
        started.append(Published(bench, None, *flags(shop, "first")))
        return started[-1]

    yield make
    for one in started:
        one.stop()


def statuses(count, host=HOST):
    return published.run(["/echo"] * count, host=host)["statuses"]


@pytest.mark.parametrize("client", [c for c in clients.CLIENTS if c.name in NAMES], ids=lambda c: c.name)
def test_real_clients_verify_the_chain_up_to_the_tenants_root(bench, shop, client):
    if lacking := client.missing():
        missing(lacking)
    environment = dict(client.environment) | {"BODY": "/dev/null"}
    outcome = bench.run(client.command, flags=flags(shop, "first"), env=environment, input=f"get GET https://{HOST}/echo\n")
    assert json.loads(outcome.out.splitlines()[0])["status"] == 200, (outcome.out, outcome.err)


def test_what_is_shown_is_a_leaf_below_an_intermediate_for_the_functions_hosts(bench, shop):
    show = f"openssl s_client -connect {HOST}:443 -servername {HOST} -verify_return_error -showcerts </dev/null"
    outcome = bench.run(["sh", "-c", show], flags=flags(shop, "first"))
    assert "Verify return code: 0 (ok)" in outcome.out, outcome.out
    leaf, intermediate = outcome.out.split("-----BEGIN CERTIFICATE-----")[1:]
    read = subprocess.run(["openssl", "x509", "-noout", "-text"], capture_output=True, text=True,
                          input="-----BEGIN CERTIFICATE-----" + intermediate).stdout
    assert "CN = Sallyport CA of shop" in read and "CA:TRUE, pathlen:0" in read, read
    permitted, excluded = read.split("Permitted:")[1].split("Excluded:")
    assert permitted.split() == [f"DNS:{HOST}"] and "IP:0.0.0.0/0.0.0.0" in excluded
    checked = subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", shop.folder / "root.pem"],
                             capture_output=True, text=True, input="-----BEGIN CERTIFICATE-----" + intermediate)
    assert checked.returncode == 0, checked.stderr
    assert "guard " in read and "/first" in read, "whose it is"


def test_where_no_certificate_would_be_taken_an_alert_says_that_it_is_denied(bench, shop):
    outcome = bench.run(["curl", "-sS", "--resolve", f"{DENIED}:443:192.0.2.7", f"https://{DENIED}/"], flags=flags(shop, "first"))
    assert outcome.code != 0 and "alert access denied" in outcome.err, outcome.err
    (record,) = [r for r in outcome.records if r["kind"] == "connection"]
    assert (record["decision"], record["reason"], record["host"]) == ("deny", "host-not-allowed", DENIED)
    assert "add an endpoint" in record["text"] or "To allow it" in record["text"], record["text"]


def test_a_policy_for_another_host_comes_into_force_with_a_certificate_for_it(shop, serve):
    serve()
    assert statuses(2) == [200, 200]
    shop.put("policy", policy(HOST, OTHER), function="first")
    eventually(lambda: guards(shop)[0].get("refusal", "") == "" and
               published.run(["/echo"], host=OTHER)["statuses"] == [200], "it is not allowed", 10)
    assert statuses(2) == [200, 200]
    shop.put("policy", policy(OTHER), function="first")
    eventually(lambda: not can_reach(HOST), "it is still allowed")
    assert statuses(2, OTHER) == [200, 200]


def can_reach(host):
    return statuses(1, host) == [200]


def test_a_certificate_is_renewed_under_way(shop, serve):
    shop.put("settings", settings(certificateLifetime="6s"))
    first = serve()
    last = time.monotonic() + 14
    while time.monotonic() < last:
        assert statuses(5) == [200] * 5
        time.sleep(0.2)
    assert "expired" not in first.stderr()
    assert not [a for a in shop.alarms() if a["kind"] == "certificate-refused"]


def test_past_its_end_nothing_is_served_over_tls_until_the_controller_is_back(shop, serve):
    shop.put("settings", settings(certificateLifetime="6s"))
    first = serve()
    assert statuses(1) == [200]
    shop.kill()
    assert statuses(1) == [200], "as long as it is good"
    eventually(lambda: not can_reach(HOST), "it is still served")
    eventually(lambda: "the guard's certificate has expired" in first.stderr(), "it is not said")
    shop.start()
    eventually(lambda: can_reach(HOST), "it did not come back")


def test_the_guard_of_a_pod_needs_no_ca_files(bench, shop):
    (port,) = free_ports(1)
    proxy = subprocess.Popen([PROXY, *map(str, flags(shop, "first")), "--proxy-listen", f"127.0.0.1:{port}", "--upstream-ca",
                              bench.world.root, "--admin", bench.admin, "--workers", "2"], stderr=subprocess.PIPE,
                             text=True, env=bench.environment)
    try:
        eventually(lambda: bench.admin.exists() and bench.metrics("/readyz")[0] == 200, "it is not ready")
        ask = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-x", f"http://127.0.0.1:{port}", "--cacert",
               shop.folder / "root.pem"]
        for _ in range(8):
            done = subprocess.run([*ask, f"https://{HOST}/echo"], capture_output=True, text=True)
            assert done.stdout == "200", done.stderr
        shop.put("policy", policy(HOST, OTHER), function="first")
        eventually(lambda: all(subprocess.run([*ask, f"https://{OTHER}/echo"], capture_output=True,
                                              text=True).stdout == "200" for _ in range(4)), "not in all workers")
    finally:
        proxy.terminate()
        _, err = proxy.communicate(timeout=20)
    guard.no_sanitizer_report(err)
    assert proxy.returncode == 0, err


def test_without_a_controller_ca_files_are_needed(bench):
    done = subprocess.run([PROXY, "--policy", "x", "--proxy-listen", "127.0.0.1:0"], capture_output=True, text=True)
    assert done.returncode == 2 and "--ca-cert FILE and --ca-key FILE are required" in done.stderr
    done = subprocess.run([PROXY, "--policy", "x", "--ca-cert", "x"], capture_output=True, text=True)
    assert done.returncode == 2 and "go together" in done.stderr


def test_a_ca_is_imported_and_trusted_beside_the_one_before(shop, bench):
    made = ["ca", "init", "--cert", "new.pem", "--key", "new.key", "--name", "Example egress root"]
    shop.do(*made)
    before = (shop.folder / "root.pem").read_text()
    said = shop.do("app", "put-ca", "new.pem", "--key", "new.key", "-a", "shop")
    assert "trusted now" in said
    assert shop.do("app", "get-ca", "-a", "shop") == before + (shop.folder / "new.pem").read_text()
    outcome = bench.run(["sh", "-c", f"cat $NODE_EXTRA_CA_CERTS; curl -s -o /dev/null -w '%{{http_code}}' https://{HOST}/echo"],
                        flags=flags(shop, "first"))
    assert outcome.out == before + (shop.folder / "new.pem").read_text() + "200", outcome.err
    wrong = shop.cli("app", "put-ca", "new.pem", "--key", "new.pem", "-a", "shop")
    assert wrong.returncode == 1 and "no private key" in wrong.stderr, wrong.stderr
    assert "go together" in shop.cli("app", "put-ca", "new.pem", "-a", "shop").stderr
    assert [e["what"] for e in json.loads(shop.do("audit", "-o", "json"))["entries"]].count("put another CA for") == 1


def test_the_key_of_the_ca_is_not_in_the_database_as_it_is(shop):
    shop.do("ca", "init", "--cert", "new.pem", "--key", "new.key")
    shop.do("app", "put-ca", "new.pem", "--key", "new.key", "-a", "shop")
    body = (shop.folder / "new.key").read_text().splitlines()[2].encode()  # behind what all such keys begin with
    kept = b"".join(path.read_bytes() for path in shop.data.iterdir() if path.is_file())
    assert body[:40] not in kept and base64.b64decode(body)[:40] not in kept


@pytest.mark.parametrize("lifetime", ["1s", "25h", "never"])
def test_a_lifetime_that_is_none_is_refused(shop, lifetime):
    done = shop.cli("app", "put-settings", "-", "-a", "shop", input=f"""\
apiVersion: sallyport.dev/v1alpha1
kind: Application
metadata: {{name: shop}}
spec: {{certificateLifetime: {lifetime}}}
""")
    assert done.returncode == 1 and ":4:" in done.stderr and "is not valid" in done.stderr, done.stderr
