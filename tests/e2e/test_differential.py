"""Random and damaged requests, read by five servers: what each has understood is what the guard decided and recorded,
and what came back belongs to it. tests/differential/README.md says how, and how to run it for longer."""

import json
import pathlib
import sys

import pytest

import guard
import lab
from fixtures import need, need_root

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "differential"))

import compare  # noqa: E402
import servers as servers_module  # noqa: E402

CLIENT = pathlib.Path(servers_module.__file__).with_name("client.py")
ADDRESSES = {name: f"127.0.0.{31 + at}" for at, name in enumerate(servers_module.NAMES)}
HOSTS = [f"{name}.example.com" for name in servers_module.NAMES]
WORKERS = 6


def endpoint(host, scheme):
    return guard.endpoint(host, path="/t/", scheme=scheme, name=f"{scheme}-{host.partition('.')[0]}")


POLICY = guard.policy(*[endpoint(host, scheme) for host in HOSTS for scheme in ("http", "https")])


@pytest.fixture(scope="module")
def servers(world):
    need(*servers_module.PROGRAMS)
    need_root()  # Apache gives it up, and does not run without having had it
    world.dns.table.update({host: [ADDRESSES[name]] for host, name in zip(HOSTS, servers_module.NAMES)})
    certificate, key = world.authority.issue("differential", HOSTS)
    made = servers_module.Servers(lab.folder(), ADDRESSES, certificate, key)
    yield made
    made.stop()


def test_the_guard_and_five_servers_read_every_request_in_the_same_way(world, servers, request):
    option = request.config.getoption
    seed, amount, first = option("--seed"), option("--requests"), option("--first")
    bench = guard.Bench(world)
    output = bench.folder / "conversations"
    command = [guard.PYTHON, CLIENT, output, seed, first, amount, 10, WORKERS, *HOSTS]
    outcome = bench.run(command, policy=POLICY, flags=["--quiet"], timeout=300 + amount / 20)
    assert outcome.code == 0, outcome.err
    servers.stop()
    comparison = compare.Comparison(
        seed, HOSTS, servers_module.NAMES, outcome.records, {name: servers.sightings(name) for name in ADDRESSES}
    )
    for worker in range(WORKERS):
        with open(f"{output}.{worker}") as lines:
            for line in lines:
                comparison.conversation(*json.loads(line))
    bench.close()
    report = comparison.finish()
    print(f"seed {seed}, {amount} requests for each server, from case {first}\n{report}")
    assert not report.differences, comparison.explain()
    assert all(report.seen[name] > amount / 4 for name in servers_module.NAMES), "too few came through to say anything"
