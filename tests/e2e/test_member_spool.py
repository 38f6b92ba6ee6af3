"""What a guard tells while its controller is away: of a whole guard with several workers, in its metrics and afterwards in
the controller's store. Nothing is told twice, and where there is no room what matters most is kept."""

import collections
import subprocess

import pytest

import guard
from controller import Controller, eventually, free_ports
from members import HOST, end, filled, flags, guards
from proxy import PROXY

# By their paths alone more than the spool has room for (32 MiB).
LONG, CLIENTS, EACH = "x" * 6_000, 4, 1_600
DENIED = 20


@pytest.fixture
def shop(tmp_path):
    made = filled(Controller(tmp_path))
    made.put("policy", guard.policy(guard.endpoint(HOST, name="api", path="/ok"), function="first"), function="first")
    (tmp_path / "root.pem").write_text(made.do("app", "get-ca", "-a", "shop"))
    yield made
    end(made)


@pytest.fixture
def proxy(shop, bench):
    (port,) = free_ports(1)
    process = subprocess.Popen([PROXY, *map(str, flags(shop, "first")), "--proxy-listen", f"127.0.0.1:{port}", "--upstream-ca",
                                bench.world.root, "--admin", bench.admin, "--workers", "3"], stderr=subprocess.PIPE,
                               text=True, env=bench.environment)
    eventually(lambda: bench.admin.exists() and bench.metrics("/readyz")[0] == 200, "it is not ready")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    _, err = process.communicate(timeout=30)
    guard.no_sanitizer_report(err)
    assert process.returncode == 0, err


def lost(bench):
    return sum(bench.sample("events_dropped_total", of=which) for which in ("denial", "other"))


def clients(shop, proxy, urls):
    """Runs a client for each, at the same time; how often they got which status."""
    fetch = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}\n", "-x", proxy, "--cacert", shop.folder / "root.pem"]
    started = [subprocess.Popen([*fetch, url], stdout=subprocess.PIPE, text=True) for url in urls]
    return collections.Counter(line for each in started for line in each.communicate(timeout=120)[0].split())


def told(shop):
    return [each for each in shop.events() if each["kind"] == "exchange"]


def test_the_metrics_say_how_a_guard_stands_with_its_controller(shop, proxy, bench):
    assert bench.sample("link_connected") == 1
    generation = bench.sample("update_generation", which="in-force")
    assert clients(shop, proxy, [f"https://{HOST}/ok/a[1-10]"]) == {"200": 10}
    eventually(lambda: bench.sample("events_acknowledged_total") == 11, "the execution's begin and the exchanges are not taken")
    shop.kill()
    eventually(lambda: bench.sample("link_connected") == 0, "it is still connected")
    assert clients(shop, proxy, [f"https://{HOST}/ok/b[1-10]"]) == {"200": 10}
    eventually(lambda: bench.sample("spool_events") == 10, "they do not wait")
    shop.start()
    eventually(lambda: bench.sample("spool_events") == 0, "they are not told")
    assert bench.sample("link_connected") == 1 and lost(bench) == 0
    assert bench.sample("update_generation", which="in-force") >= generation > 0
    assert collections.Counter(each["path"] for each in told(shop)) == {f"/ok/{x}{i}": 1 for x in "ab" for i in range(1, 11)}


def test_of_more_than_there_is_room_for_refusals_are_kept_and_the_rest_is_counted(shop, proxy, bench):
    shop.kill()
    eventually(lambda: bench.sample("link_connected") == 0, "it is still connected")
    assert clients(shop, proxy, [f"https://{HOST}/denied/[1-{DENIED}]"]) == {"403": DENIED}
    many = [f"https://{HOST}/ok/{client}-[1-{EACH}]-{LONG}" for client in range(CLIENTS)]
    assert clients(shop, proxy, many) == {"200": CLIENTS * EACH}, "traffic goes on"
    eventually(lambda: lost(bench), "nothing was dropped")
    shop.start()
    eventually(lambda: bench.sample("spool_events") == 0, "they are not told", 60)
    dropped = lost(bench)
    paths = collections.Counter(each["path"] for each in told(shop) if each["path"].endswith(LONG))
    assert set(paths.values()) == {1}, "none twice"
    assert len(paths) == CLIENTS * EACH - dropped, "each is told or counted"
    refused = collections.Counter(each["path"] for each in told(shop) if each["decision"] == "deny")
    assert refused == {f"/denied/{i}": 1 for i in range(1, DENIED + 1)}
    alarm = eventually(lambda: [each for each in shop.alarms() if each["kind"] == "events-lost"], "no alarm")
    assert alarm[0]["function"] == "first"
    assert len(guards(shop)) == 1, "it has kept its id"
