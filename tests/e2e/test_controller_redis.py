"""Controllers on a Redis: what is stored outlives each of them and Redis itself, and who has lost its place says nothing more."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

import certificates
import guard
from controller import BIN, Controller, free_ports

pytestmark = [
    pytest.mark.skipif(not os.environ.get("SALLYPORT_BIN"),
                       reason="SALLYPORT_BIN does not name the folder of the built programs"),
    pytest.mark.skipif(not shutil.which("redis-server") and not os.environ.get("CI"),
                       reason="redis-server is not installed (./dev test installs it)"),
]

LEASE_S = 2

POLICY = """\
apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {name: checkout}
spec:
  endpoints:
  - {name: api, host: api.example.com, rules: [{methods: [GET], path: {prefix: /}}]}
"""


class Redis:
    def __init__(self, folder, *options, port=None):
        self.folder, self.port, self.options = folder, port or free_ports(1)[0], list(map(str, options))
        self.url = f"redis://127.0.0.1:{self.port}/0?name=test"
        folder.mkdir()
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--save", "",
             "--appendonly", "yes", "--appendfsync", "always", "--logfile", self.folder / "log", *self.options])
        last = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < last
                time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis(tmp_path):
    made = Redis(tmp_path / "redis")
    yield made
    made.kill()


@pytest.fixture
def replicas(tmp_path, redis):
    """The one that has the application, and another; they have the same keys, as from a secret of the cluster."""
    pair = joined(tmp_path, redis)
    assert [each for each in pair if each.metric("executions", application="shop") is not None] == pair[:1]
    yield pair
    first, second = pair
    for each in (first, second):
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGCONT)
            each.kill()
        assert "ERROR: " not in each.said(), each.said()  # of a sanitizer


def joined(folder, redis):
    """Two that have eight shards each, the first of them the application `shop`."""
    pair = [Controller(folder, flags=["--store", redis.url, "--advertise", "127.0.0.1"])]
    pair[0].do("app", "create", "shop")
    shutil.copytree(pair[0].data, folder / "other" / "data")
    pair.append(Controller(folder / "other", flags=["--store", redis.url, "--advertise", "127.0.0.1"]))
    until(lambda: [each.metric("shards") for each in pair] == [8, 8], pair)
    pair.sort(key=lambda each: each.metric("executions", application="shop") is None)
    return pair


def until(condition, controllers, seconds=30):
    """How long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, [each.said() for each in controllers]
        time.sleep(0.02)
    return time.monotonic() - began


def has_all(controller):
    return controller.metric("shards") == 16


def test_another_takes_over_what_a_killed_one_has_stored(replicas):
    first, second = replicas
    first.put("policy", POLICY, function="checkout")
    first.do("secret", "put", "stripe", "-a", "shop", input="sk-live-1\n")
    first.kill()
    assert until(lambda: has_all(second), [second]) < LEASE_S + 3
    assert second.do("policy", "get", "-a", "shop", "-f", "checkout") == POLICY
    assert "secret stripe" in second.do("app", "show", "shop")


def test_one_that_ends_gives_its_place_back_at_once(replicas):
    first, second = replicas
    assert first.stop() == 0
    assert until(lambda: has_all(second), [second]) < LEASE_S


def test_one_that_was_paused_beyond_its_lease_changes_nothing_and_ends(replicas):
    first, second = replicas
    first.process.send_signal(signal.SIGSTOP)
    until(lambda: has_all(second), [second])
    second.put("policy", POLICY, function="checkout")
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(timeout=10) == 125
    assert "another controller has taken over" in first.said()
    second.put("policy", POLICY.replace("GET", "POST"), function="checkout")
    history = second.do("policy", "history", "-a", "shop", "-f", "checkout").splitlines()
    assert [line.split()[0] for line in history] == ["VERSION", "2", "1"]


def test_what_was_stored_is_there_after_redis_was_killed(redis, replicas):
    first, _ = replicas
    first.put("policy", POLICY, function="checkout")
    redis.kill()
    refused = first.cli("secret", "put", "stripe", "-a", "shop", input="sk-live-1\n")
    assert refused.returncode != 0, "nothing counts as stored that is not"
    redis.start()
    last = time.monotonic() + 20
    while first.cli("policy", "put", "-", "-a", "shop", "-f", "checkout", input=POLICY).returncode != 0:
        assert time.monotonic() < last, first.said()
        time.sleep(0.2)
    history = first.do("policy", "history", "-a", "shop", "-f", "checkout").splitlines()
    assert [line.split()[0] for line in history] == ["VERSION", "2", "1"]


@pytest.mark.parametrize("store, told", [
    ("redis://ann:hunter2@localhost", "?password-file=FILE"),
    ("memcached://localhost", "it begins with redis://"),
    ("redis://127.0.0.1:1", "Connection refused"),
])
def test_a_store_that_cannot_be_used_is_refused_with_the_reason(tmp_path, store, told):
    done = subprocess.run([BIN / "sallyport-controller", "--data", tmp_path / "data", "--store", store],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode in (2, 125)
    assert told in done.stderr
    assert "hunter2" not in done.stderr


def test_a_redis_that_may_drop_what_is_stored_is_refused(tmp_path):
    redis = Redis(tmp_path / "redis", "--maxmemory-policy", "allkeys-lru")
    done = subprocess.run([BIN / "sallyport-controller", "--data", tmp_path / "data", "--store", redis.url],
                          capture_output=True, text=True, timeout=60)
    redis.kill()
    assert done.returncode == 2
    assert "set it to noeviction" in done.stderr


def test_after_a_failover_by_sentinel_the_controller_goes_on_with_the_new_primary(tmp_path):
    at_once = ("--repl-diskless-sync-delay", "0")
    primary = Redis(tmp_path / "primary", *at_once)
    replica = Redis(tmp_path / "replica", *at_once, "--replicaof", "127.0.0.1", str(primary.port))
    port = free_ports(1)[0]
    (tmp_path / "sentinel.conf").write_text(f"""\
port {port}
bind 127.0.0.1
dir {tmp_path}
sentinel monitor main 127.0.0.1 {primary.port} 1
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 5000
""")
    sentinel = subprocess.Popen(["redis-server", tmp_path / "sentinel.conf", "--sentinel"], stdout=subprocess.DEVNULL)
    controller = None
    last = time.monotonic() + 60
    try:
        while ("slaves=1" not in asked(port, "INFO", "sentinel")
               or "state=online" not in asked(primary.port, "INFO", "replication")):
            assert time.monotonic() < last
            time.sleep(0.1)
        controller = Controller(tmp_path, flags=["--store", f"redis+sentinel://127.0.0.1:{port}/main?replicas=1"])
        controller.do("app", "create", "shop")
        controller.put("policy", POLICY, function="checkout")
        primary.kill()
        # The new primary has no replica until the old one is back as that.
        while f":{replica.port}" not in asked(port, "INFO", "sentinel"):
            assert time.monotonic() < last
            time.sleep(0.1)
        primary.start()
        while controller.cli("policy", "put", "-", "-a", "shop", "-f", "checkout", input=POLICY).returncode != 0:
            assert controller.process.poll() is None and time.monotonic() < last, controller.said()
            time.sleep(0.5)
        assert "sallyport:" in asked(replica.port, "KEYS", "*holder")
        history = controller.do("policy", "history", "-a", "shop", "-f", "checkout").splitlines()
        assert history[-1].split()[0] == "1", "what a replica had is there"
        assert controller.stop() == 0
    finally:
        if controller and controller.process.poll() is None:
            controller.kill()
        sentinel.kill()
        sentinel.wait()
        primary.kill()
        replica.kill()


def asked(port, *command):
    """What the Redis or sentinel there answers, as text; nothing while it is not there."""
    return subprocess.run(["redis-cli", "-p", str(port), *command], capture_output=True, text=True, timeout=20).stdout


def test_a_guard_goes_on_with_the_next_controller(tmp_path, redis, world):
    first, second = joined(tmp_path, redis)
    first.put("policy", guard.policy(guard.endpoint("v4.example.com", name="api"), function="checkout"), function="checkout")
    (tmp_path / "token").write_text(first.do("token", "create", "-a", "shop", "-f", "checkout"))
    bench = guard.Bench(world)
    flags = ["--controller", second.url, "--controller-ca", first.data / "ca.pem", "--application", "shop", "--function",
             "checkout", "--join-token-file", tmp_path / "token"]
    with bench.session(flags=flags) as session:
        assert session.get("v4.example.com", "/echo/1")["status"] == 200
        (before,) = json.loads(first.do("guard", "list", "-o", "json"))["guards"]
        first.kill()
        began = time.monotonic()
        assert session.get("v4.example.com", "/echo/2")["status"] == 200, "the policy that is known stays"
        while not [g for g in guards(second) if g["state"] == "connected"]:
            assert time.monotonic() - began < LEASE_S + 20, second.said()
            time.sleep(0.05)
        back = time.monotonic() - began
        (after,) = guards(second)
        assert after["id"] == before["id"]
        assert session.get("v4.example.com", "/echo/3")["status"] == 200
    exchanges = [e["path"] for e in second.events() if e["kind"] == "exchange"]
    assert exchanges == ["/echo/1", "/echo/2", "/echo/3"], "nothing is lost, and nothing twice"
    assert back < LEASE_S + 4, back
    bench.close()
    assert second.stop() == 0, second.said()


def guards(controller):
    """None while somebody has taken nothing over yet."""
    status, _, body = controller.api("GET", "/v1/guards")
    return body.get("guards", []) if status == 200 else []


def refused(folder, url):
    """What a controller says of a store that it can't use."""
    done = subprocess.run([BIN / "sallyport-controller", "--data", folder / "refused", "--store", url, "--listen",
                           "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=20)
    assert done.returncode in (2, 125), done.stderr
    assert "sanitizer" not in done.stderr.lower(), done.stderr
    return done.stderr


def works(folder, url):
    folder.mkdir(exist_ok=True)
    controller = Controller(folder, flags=["--store", url])
    controller.do("app", "create", "shop")
    assert controller.do("app", "list") == "shop\n"
    assert controller.stop() == 0, controller.said()


@pytest.fixture
def guarded(tmp_path):
    """A Redis that speaks TLS alone, and wants a password."""
    authority = certificates.Authority(tmp_path, "company")
    certificate, key = authority.issue("redis", ["127.0.0.1"], names="IP:127.0.0.1")
    port = free_ports(1)[0]
    made = Redis(tmp_path / "redis", "--port", 0, "--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file",
                 key, "--tls-ca-cert-file", authority.certificate, "--tls-auth-clients", "no", "--databases", 8, "--requirepass", "right",
                 "--user", *"ann on >hers ~* &* +@all".split(), "--user", *"bob on >his ~* +get".split(), port=port)
    for name in ("right", "wrong", "hers", "his"):
        (tmp_path / name).write_text(name + "\n")
    made.ca = authority.certificate
    yield made
    made.kill()


def test_over_tls_with_a_password_in_another_database(tmp_path, guarded):
    at = f"127.0.0.1:{guarded.port}/3?ca={guarded.ca}&password-file={tmp_path}"
    works(tmp_path, f"rediss://{at}/right")
    works(tmp_path / "other", f"rediss://ann@{at}/hers".replace("/3?", "/4?"))


def test_what_is_not_believed_is_told_nothing(tmp_path, guarded):
    at, ca = f"127.0.0.1:{guarded.port}", f"ca={guarded.ca}"
    other = certificates.Authority(tmp_path, "another")
    assert "name the CA that it chains to" in refused(tmp_path, f"rediss://{at}?password-file={tmp_path}/right")
    assert "name the CA that it chains to" in refused(
        tmp_path, f"rediss://{at}?ca={other.certificate}&password-file={tmp_path}/right")
    named = refused(tmp_path, f"rediss://localhost:{guarded.port}?{ca}&password-file={tmp_path}/right")
    assert "its certificate is for other names" in named, "it is for an address, not for this name"
    wrong = refused(tmp_path, f"rediss://{at}?{ca}&password-file={tmp_path}/wrong")
    assert f"it does not take the password of {tmp_path}/wrong: WRONGPASS" in wrong
    assert "Redis wants a password: ?password-file=FILE" in refused(tmp_path, f"rediss://{at}?{ca}")
    assert "the user ann has no password" in refused(tmp_path, f"rediss://ann@{at}?{ca}")
    assert "does not let the user" in refused(tmp_path, f"rediss://bob@{at}?{ca}&password-file={tmp_path}/his")
    assert "it has no database 9" in refused(tmp_path, f"rediss://{at}/9?{ca}&password-file={tmp_path}/right")
    refused(tmp_path, f"redis://{at}?password-file={tmp_path}/right")  # there is TLS, and it speaks none


def over_tls(port, authority, *command):
    return subprocess.run(["redis-cli", "-p", str(port), "--tls", "--cacert", authority, "-a", "right", *command],
                          capture_output=True, text=True, timeout=20).stdout.strip()


def test_what_a_handshake_fails_for_is_said_with_its_remedy(tmp_path, guarded):
    at, ca = f"127.0.0.1:{guarded.port}", f"ca={guarded.ca}"
    assert over_tls(guarded.port, guarded.ca, "config", "set", "tls-auth-clients", "yes") == "OK"
    assert "set tls-auth-clients to no there" in refused(tmp_path, f"rediss://{at}?{ca}&password-file={tmp_path}/right")
    authority = certificates.Authority(tmp_path, "past")
    expired, key = authority.issue("expired", [], start=-20, end=-2, names="IP:127.0.0.1")
    port = free_ports(1)[0]
    old = Redis(tmp_path / "old", "--port", 0, "--tls-port", port, "--tls-cert-file", expired, "--tls-key-file", key,
                "--tls-ca-cert-file", authority.certificate, "--tls-auth-clients", "no", port=port)
    assert "certificate has expired; renew it" in refused(tmp_path, f"rediss://127.0.0.1:{port}?ca={authority.certificate}")
    old.kill()
    plain = Redis(tmp_path / "plain")
    assert "redis instead of rediss" in refused(tmp_path, f"rediss://127.0.0.1:{plain.port}?{ca}")
    plain.kill()


def test_a_connection_that_redis_has_ended_is_not_used_again_over_tls(tmp_path, guarded):
    controller = Controller(tmp_path, flags=[
        "--store", f"rediss://127.0.0.1:{guarded.port}?ca={guarded.ca}&password-file={tmp_path}/right"])
    for name in ("shop", "other", "third"):
        assert int(over_tls(guarded.port, guarded.ca, "client", "kill", "type", "normal")) > 0
        controller.do("app", "create", name)
    assert controller.do("app", "list").split() == ["other", "shop", "third"]
    assert controller.stop() == 0, controller.said()


def documented_user(password):
    """What docs/controller.md tells people to paste, with this password."""
    text = (pathlib.Path(__file__).parents[2] / "docs" / "controller.md").read_text()
    line, = re.findall(r"^ACL SETUSER sallyport .*$", text, re.MULTILINE)
    return line.replace("PASSWORD", password).split()


def test_the_user_of_the_documentation_has_the_rights_that_are_needed(tmp_path, redis):
    assert asked(redis.port, *documented_user("right")) == "OK\n"
    (tmp_path / "right").write_text("right\n")
    url = f"redis://sallyport@127.0.0.1:{redis.port}?name=user&password-file={tmp_path}/right"
    (tmp_path / "user").mkdir()
    controller = Controller(tmp_path / "user", flags=["--store", url])
    controller.do("app", "create", "shop")
    controller.put("policy", POLICY, function="checkout")
    controller.do("secret", "put", "stripe", "-a", "shop", input="sk-live-1\n")
    controller.do("secret", "drop", "stripe", "-a", "shop")
    controller.do("token", "create", "-a", "shop", "-f", "checkout")
    assert controller.alarms() == [] and controller.events() == []
    assert controller.stop() == 0, controller.said()
    denied = subprocess.run(["redis-cli", "-p", str(redis.port), "--user", "sallyport", "-a", "right", "get", "another"],
                            capture_output=True, text=True, timeout=20).stdout
    assert "NOPERM" in denied, "and none to anything else"


def test_in_a_cluster_the_node_that_has_the_shard_is_found(tmp_path):
    ports = free_ports(3)
    nodes = [Redis(tmp_path / f"node{port}", "--port", port, "--cluster-enabled", "yes", "--cluster-port",
                   free_ports(1)[0], port=port) for port in ports]
    try:
        made = subprocess.run(["redis-cli", "--cluster", "create", *[f"127.0.0.1:{port}" for port in ports],
                               "--cluster-yes"], capture_output=True, text=True, timeout=30)
        assert made.returncode == 0, made.stdout + made.stderr
        last = time.monotonic() + 20
        while "cluster_state:ok" not in subprocess.run(["redis-cli", "-p", str(ports[0]), "cluster", "info"],
                                                       capture_output=True, text=True, timeout=10).stdout:
            assert time.monotonic() < last
            time.sleep(0.1)
        (tmp_path / "one").mkdir()
        controller = Controller(tmp_path / "one", flags=["--store", f"redis+cluster://127.0.0.1:{ports[1]}"])
        until(lambda: has_all(controller), [controller])
        holders = [sum(key.endswith(":holder") for key in asked(port, "KEYS", "*").split()) for port in ports]
        assert sum(holders) == 16 and all(holders), "each shard is on the node of its slot"
        for name in ("shop", "bank", "mail"):
            controller.do("app", "create", name)
        assert controller.do("app", "list").split() == ["bank", "mail", "shop"]
        assert controller.stop() == 0, controller.said()
    finally:
        for node in nodes:
            node.kill()
