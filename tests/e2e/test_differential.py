"""Random and damaged requests, over HTTP/1 and HTTP/2, read by servers of both: what each has understood is what the
guard decided and recorded, and what came back belongs to it. tests/differential/README.md says how, and how to run it
for longer."""

import json
import pathlib
import sys

import pytest

import guard
import lab
from fixtures import missing, need, need_root

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "differential"))

import clients  # noqa: E402
import compare  # noqa: E402
import http2_compare  # noqa: E402
import servers as servers_module  # noqa: E402

FOLDER = pathlib.Path(servers_module.__file__).parent
NAMES = servers_module.NAMES
ALL_NAMES = NAMES + servers_module.HTTP2_NAMES
ADDRESSES = {name: f"127.0.0.{31 + at}" for at, name in enumerate(ALL_NAMES)}
HOST_OF = {name: f"{name}.example.com" for name in ALL_NAMES}
WORKERS = 6


def endpoint(host, scheme):
    return guard.endpoint(host, path="/t/", scheme=scheme, name=f"{scheme}-{host.partition('.')[0]}")


def started(world, names):
    need(*servers_module.PROGRAMS)
    need_root()  # Apache gives it up, and does not run without having had it
    world.dns.table.update({HOST_OF[name]: [ADDRESSES[name]] for name in names})
    certificate, key = world.authority.issue("differential", [HOST_OF[name] for name in names])
    return servers_module.Servers(lab.folder(), {name: ADDRESSES[name] for name in names}, certificate, key)


def compared(world, servers, request, program, option, comparison):
    """Sends the cases through a guard, and holds the accounts against each other."""
    seed, amount, first = (request.config.getoption(name) for name in ("--seed", "--requests", "--first"))
    names = list(servers.addresses)
    hosts = [HOST_OF[name] for name in names]
    policy = guard.policy(*[endpoint(host, scheme) for host in hosts for scheme in ("http", "https")])
    bench = guard.Bench(world)
    output = bench.folder / "conversations"
    command = [guard.PYTHON, FOLDER / program, output, seed, first, amount, option, WORKERS, *hosts]
    outcome = bench.run(command, policy=policy, flags=["--quiet"], timeout=300 + amount / 10)
    assert outcome.code == 0, outcome.err
    servers.stop()
    made = comparison(seed, hosts, names, outcome.records, {name: servers.sightings(name) for name in names})
    for worker in range(WORKERS):
        with open(f"{output}.{worker}") as lines:
            for line in lines:
                made.conversation(*json.loads(line))
    bench.close()
    report = made.finish()
    print(f"seed {seed}, {amount} requests for each server, from case {first}\n{report}")
    assert not report.differences, made.explain()
    assert all(report.seen[name] > amount / 4 for name in names), "too few came through to say anything"


def test_the_guard_and_five_servers_read_every_request_in_the_same_way(world, request):
    servers = started(world, NAMES)
    try:
        compared(world, servers, request, "client.py", 10, compare.Comparison)
    finally:
        servers.stop()


def test_what_comes_over_http2_is_read_in_the_same_way_by_servers_of_both_versions(world, request):
    if not (clients.MADE / "go.made").is_file():
        missing("the server that tests/clients/prepare.sh makes with Go")
    servers = started(world, ALL_NAMES)
    try:
        compared(world, servers, request, "http2_client.py", len(NAMES), http2_compare.Comparison)
    finally:
        servers.stop()
