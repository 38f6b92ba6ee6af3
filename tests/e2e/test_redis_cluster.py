"""A controller whose Redis is a cluster with replicas, with a user that has the rights that docs/controller.md asks for: what
it stores moves to another node meanwhile, and nothing is lost or stored twice."""

import os
import shutil
import subprocess

import pytest

import guard
import published
from controller import Controller, eventually, free_ports
from members import flags
from published import ask
from test_controller_faults import messages_told, prepared
from test_controller_redis import Redis, documented_user

pytestmark = [
    pytest.mark.skipif(not os.environ.get("SALLYPORT_BIN"),
                       reason="SALLYPORT_BIN does not name the folder of the built programs"),
    pytest.mark.skipif(not shutil.which("redis-server") and not os.environ.get("CI"),
                       reason="redis-server is not installed (./dev test installs it)"),
]

KEYS = "sallyport:{test/0}:"


class Cluster:
    """Three primaries with a replica each."""

    def __init__(self, folder, endpoint):
        ports = free_ports(12)
        self.nodes = [Redis(folder / f"node{port}", "--cluster-enabled", "yes", "--cluster-port", bus,
                            "--cluster-preferred-endpoint-type", endpoint, "--repl-diskless-sync-delay", "0", port=port)
                      for port, bus in zip(ports[:6], ports[6:])]
        self.ports = ports[:6]
        made = subprocess.run(["redis-cli", "--cluster", "create", *[f"127.0.0.1:{port}" for port in self.ports],
                               "--cluster-replicas", "1", "--cluster-yes"], capture_output=True, text=True, timeout=120)
        assert made.returncode == 0, made.stdout + made.stderr
        self.primaries = self.ports[:3]
        for port in self.ports:
            eventually(lambda: "cluster_state:ok" in self.asked(port, "cluster", "info"), "the cluster is not made", 60)
        for port in self.primaries:
            eventually(lambda: "state=online" in self.asked(port, "info", "replication"), "there is no replica", 60)

    def asked(self, port, *command):
        done = subprocess.run(["redis-cli", "-p", str(port), *map(str, command)], capture_output=True, text=True,
                              timeout=30)
        return done.stdout.strip()

    def did(self, port, *command):
        assert self.asked(port, *command) == "OK", command

    def moved(self, source, target, *names):
        keys = [KEYS + name for name in names] or self.asked(source, "keys", KEYS + "*").split()
        self.did(source, "migrate", "127.0.0.1", target, "", 0, 5000, "keys", *keys)

    def kill(self):
        for node in self.nodes:
            node.kill()


@pytest.fixture(params=["ip", "unknown-endpoint"])
def cluster(tmp_path, request):
    """With both ways in which nodes tell of each other: by address, and as another port of the same host."""
    made = Cluster(tmp_path, request.param)
    yield made
    made.kill()


def test_nothing_is_lost_or_doubled_while_what_is_stored_moves_to_another_node(cluster, tmp_path, world):
    slot = cluster.asked(cluster.ports[0], "cluster", "keyslot", KEYS)
    source = next(port for port in cluster.primaries if "MOVED" not in cluster.asked(port, "get", KEYS + "holder"))
    target, other = (port for port in cluster.primaries if port != source)
    for port in cluster.ports:
        cluster.did(port, *documented_user("right"))
    (tmp_path / "password").write_text("right\n")
    url = f"redis+cluster://sallyport@127.0.0.1:{other}?name=test&shards=1&replicas=1&password-file={tmp_path}/password"
    shop = prepared(Controller(tmp_path, flags=["--store", url]))
    bench = guard.Bench(world)
    first = published.Published(bench, None, *flags(shop, "first"))
    sent = 0

    def send():
        nonlocal sent
        sent += 1
        assert ask("GET", f"/m/{sent}")[0] == 200

    def stored(port):
        return int(cluster.asked(port, "get", KEYS + "rows") or 0)

    for _ in range(3):
        send()
    eventually(lambda: len(messages_told(shop, "/m/")) == sent, "it is not told")
    ids = {port: cluster.asked(port, "cluster", "myid") for port in cluster.primaries}
    cluster.did(target, "cluster", "setslot", slot, "importing", ids[source])
    cluster.did(source, "cluster", "setslot", slot, "migrating", ids[target])

    # A part of it is there already: neither node can write, and guards keep what they have to tell.
    cluster.moved(source, target, "journal")
    send()
    eventually(lambda: "the cluster is moving what is stored: TRYAGAIN" in shop.said(), "it is not said why", 60)
    assert shop.process.poll() is None

    # All of it is there, while the cluster still says that it is here.
    cluster.moved(source, target)
    before = stored_by_asking(cluster, target, "rows")
    send()
    eventually(lambda: stored_by_asking(cluster, target, "rows") > before, "nobody asks where it is now", 60)
    send()

    for port in (target, source, other):
        cluster.did(port, "cluster", "setslot", slot, "node", ids[target])
    send()
    eventually(lambda: len(messages_told(shop, "/m/")) == sent, "it was lost", 60)
    first.stop()
    assert stored(target) > 0
    assert set(messages_told(shop, "/m/").values()) == {1} and len(messages_told(shop, "/m/")) == sent
    bench.close()
    assert shop.stop() == 0, shop.said()
    guard.no_sanitizer_report(shop.said())


def stored_by_asking(cluster, port, name):
    """What a node has of a slot that is not its own yet."""
    done = subprocess.run(["redis-cli", "-p", str(port)], input=f"asking\nget {KEYS}{name}\n", capture_output=True,
                          text=True, timeout=30)
    return int(done.stdout.split()[-1])
