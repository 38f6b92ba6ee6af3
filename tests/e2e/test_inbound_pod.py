"""Messages to a function in a pod: `sallyport-proxy --inbound`, in a network namespace that it shares with the function, where
the kernel redirects what comes from outside (docs/executions.md)."""

import json
import os
import subprocess
import time

import pytest

import guard
import lab
import published
from proxy import PORT

OUTER, POD = "10.77.0.1", "10.77.0.2"
INBOUND, FUNCTION = 18080, 8080
HOST = "v4.example.com"
POLICY = guard.policy(
    guard.endpoint(HOST, addresses=[*lab.ADDRESSES, f"{OUTER}/32"]),
    guard.endpoint("any", scheme="http", ports=["any"], addresses=["0.0.0.0/0"], name="plain"),
    inbound={"probes": [{"path": "/healthz", "methods": ["GET"]}]},
)
# As a pod's init container makes them: from outside to the guard, and all that the function's user sends.
RULES = f"""
table inet pod {{
  chain arrive {{
    type nat hook prerouting priority -100;
    iifname "eth0" tcp dport {{ {FUNCTION}, 9999 }} redirect to :{INBOUND}
  }}
  chain leave {{
    type nat hook output priority -100;
    oifname "lo" accept
    meta skuid {lab.ORDINARY_UID} meta l4proto tcp redirect to :{PORT}
  }}
}}
"""


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, (command, done.stderr)


class Pod:
    """A network namespace with one way out, to the lab."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], preexec_fn=lab.die_with_parent)
        mine, end = os.readlink("/proc/self/ns/net"), time.monotonic() + 10
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == mine:
            assert time.monotonic() < end
            time.sleep(0.01)
        self.prefix = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        run("ip", "link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", self.holder.pid)
        run("ip", "address", "add", f"{OUTER}/24", "dev", "pod0")
        run("ip", "link", "set", "pod0", "up")
        for line in (f"address add {POD}/24 dev eth0", "link set eth0 up", "link set lo up", f"route add default via {OUTER}"):
            run(*self.prefix, "ip", *line.split())
        run(*self.prefix, "nft", "-f", "-", input=RULES)

    def popen(self, *command, user=True, **options):
        drop = ["setpriv", f"--reuid={lab.ORDINARY_UID}", f"--regid={lab.ORDINARY_UID}", "--clear-groups"] if user else []
        return subprocess.Popen([*self.prefix, *drop, *map(str, command)], preexec_fn=lab.die_with_parent, text=True, **options)

    def ask(self, address, port, path):
        """What a process of the function's user gets: the status, or nothing."""
        asking = self.popen(
            "curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}:{port}{path}", stdout=subprocess.PIPE
        )
        return asking.communicate()[0]

    def close(self):
        run("ip", "link", "delete", "pod0")  # the kernel takes its time over it when the namespace ends
        self.holder.kill()
        self.holder.wait()


@pytest.fixture
def pod(world):
    made = Pod()
    yield made
    made.close()


@pytest.fixture
def function(pod, bench, start):
    """The guard and its function, in the pod."""
    bench.traces_file = bench.folder / "traces.jsonl"
    flags = ["--listen", f"0.0.0.0:{PORT}", "--inbound", f"0.0.0.0:{INBOUND}={FUNCTION}", "--traces", bench.traces_file]
    guarding = start(POLICY, *flags, prefix=pod.prefix)
    guarding.wait_until_ready()
    environment = bench.environment | {"SSL_CERT_FILE": str(bench.world.guard_root.certificate)}
    serving = pod.popen(guard.PYTHON, lab.SUPPORT / "function_server.py", FUNCTION, env=environment)
    end = time.monotonic() + 20
    while ask("/healthz") != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    yield guarding
    serving.kill()
    serving.wait()


def ask(path, port=FUNCTION):
    try:
        return published.ask("GET", path, address=POD, port=port)[0]
    except OSError:
        return None


def begun(bench, guarding):
    assert guarding.stop()[0] == 0
    return [json.loads(line)["inbound"]["path"] for line in bench.traces_file.read_text().splitlines()]


def test_what_comes_from_outside_is_an_execution(bench, world, function):
    """Also straight to the guard's port, as from a Service; the function listens on its loopback alone."""
    assert ask("/one") == 200 and ask("/two", INBOUND) == 200
    status, _, _ = published.ask(
        "POST", "/run", json.dumps({"paths": ["/sent"], "host": OUTER, "tls": False, "port": 8099}), address=POD, port=FUNCTION
    )
    assert status == 200
    assert begun(bench, function) == ["/one", "/two", "/run"]
    sent = [r for r in guard.exchanges(bench.records()) if r["path"] == "/sent"]
    inbound = [r for r in bench.records() if r["kind"] == "inbound" and r["path"] == "/run"]
    assert sent[0]["execution"] == inbound[0]["execution"] and sent[0]["attributed"] == "only"


def test_the_function_begins_no_execution_of_itself(bench, world, pod, function):
    """At the guard's listener under each of the pod's addresses; through its guard, which would lead it there; and to
    itself, where it meets no guard."""
    for address in ("127.0.0.1", "127.0.0.9", POD):
        assert pod.ask(address, INBOUND, "/straight") in ("000", "403"), address
    outer = published.ask(
        "POST",
        "/run",
        json.dumps({"paths": ["/through"], "host": POD, "tls": False, "port": INBOUND}),
        address=POD,
        port=FUNCTION,
    )
    assert outer[0] == 200
    assert pod.ask("127.0.0.1", FUNCTION, "/itself") == "200"
    assert begun(bench, function) == ["/run"]
    assert "loop" in {r.get("reason") for r in bench.records()}


def test_a_port_that_was_not_meant_is_refused(bench, world, function):
    """A rule that redirects more than it should leads to no other port of the function."""
    assert ask("/other", 9999) is None
    assert begun(bench, function) == []
    assert [r["reason"] for r in bench.records() if r["kind"] == "connection"] == ["loop"]


@pytest.mark.parametrize("value", ["18080=8080", "0.0.0.0:8080=8080", "0.0.0.0:18080", "name:1=2"])
def test_what_is_no_inbound_port_is_refused(start, world, value):
    proxy = start(POLICY, "--listen", f"127.0.0.1:{PORT}", "--inbound", value)
    _, err = proxy.process.communicate(timeout=20)
    assert proxy.process.returncode == 2 and "--inbound" in err
