"""Which setting makes each client trust the guard, as docs/clients.md has it, and that a user's own choice stands."""

import json
import subprocess

import pytest

import clients
import guard
import lab
import services
from fixtures import missing

POLICY = guard.policy(guard.endpoint("v4.example.com"))
GET = {
    "http": "{0} GET https://v4.example.com/echo/{0}",
    "s3": "{0} GET https://v4.example.com/echo/{0}",
    "git": "{0} CLONE https://v4.example.com/git/{0}.git",
}
CLIENTS = pytest.mark.parametrize("client", clients.CLIENTS, ids=lambda client: client.name.replace(" ", "-"))


@pytest.fixture(scope="module", autouse=True)
def repository(world):
    server = services.GitServer(lab.folder(), "", "")
    for step in ("get", "anew"):
        server.create(f"{step}.git")


def elsewhere(client, world, folder):
    """Settings of the client's kind that trust the world's root, and so not the guard's."""
    if client.trust == "JAVA_TOOL_OPTIONS":
        store = folder / "store.p12"
        make = [guard.SALLYPORT, "ca", "bundle", "--ca-cert", str(world.root), "--pkcs12", str(store)]
        subprocess.run(make, check=True, capture_output=True, timeout=60)
        return {client.trust: f"-Djavax.net.ssl.trustStore={store}"}
    if client.trust == "PHP_INI_SCAN_DIR":
        (folder / "roots.ini").write_text(f'openssl.cafile = "{world.root}"\ncurl.cainfo = "{world.root}"\n')
        return {client.trust: f":{folder}"}
    # Some read a folder of the system's besides, where the guard's root is too, and Debian's Node the system's file.
    empty = folder / "empty"
    empty.mkdir()
    besides = {"SSL_CERT_FILE": str(world.root)} if client.trust == "NODE_EXTRA_CA_CERTS" else {}
    return {client.trust: str(world.root), "SSL_CERT_DIR": str(empty), "GIT_SSL_CAPATH": str(empty)} | besides


def reached(outcome, step):
    """Whether a request of this step was allowed and answered."""
    return any(r["decision"] == "allow" and f"/{step}" in r["path"] for r in outcome.exchanges)


@CLIENTS
def test_a_client_trusts_what_its_variable_says(bench, world, client):
    """The user has set the variable: the command gets it with the guard's CA added, and the client works. Set anew
    inside of the guard, it leads the client to other roots: so it is this variable that the client obeys."""
    if lacking := client.missing():
        missing(lacking)
    other = elsewhere(client, world, bench.folder) if client.trust else {}
    if client.trust == "JAVA_TOOL_OPTIONS":
        users = {client.trust: "-Dusers.own=1"}  # a store of the user's is left alone
    else:
        users = {name: value for name, value in other.items() if name == client.trust}
    if client.trust:
        change = [f"{name}={value}" for name, value in other.items()]
    else:
        # All of them gone; but Mono's program reads one itself, before it starts Mono.
        names = {other.trust for other in clients.CLIENTS} - {"", "NODE_EXTRA_CA_CERTS"}
        change = [word for name in sorted(names) for word in ("-u", name)]
    script = 'echo "$ask" | "$0" "$@"; echo "$ask_anew" | env $change "$0" "$@"'
    ask = {"ask": GET[client.kind].format("get"), "ask_anew": GET[client.kind].format("anew")}
    env = dict(client.environment) | users | ask | {"BODY": "/dev/null", "change": " ".join(change)}
    outcome = bench.run(["sh", "-c", script, *client.command], policy=POLICY, env=env, timeout=120)
    first, anew = map(json.loads, outcome.out.splitlines())
    assert reached(outcome, "get"), (first, outcome.err)
    if not client.trust:
        assert reached(outcome, "anew"), (anew, outcome.err)
        return
    assert anew["status"] is None and not reached(outcome, "anew"), (anew, outcome.err)
    refused = [r for r in outcome.records if r["kind"] == "connection"]
    assert {(r["decision"], r["reason"]) for r in refused} == {("error", "downstream-tls")}, (anew, outcome.records)
