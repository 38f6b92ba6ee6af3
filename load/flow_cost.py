#!/usr/bin/env python3
"""What following a flow graph costs: `load/flow_cost.py --rounds 20`

Two guards side by side in one lab, of which one asks a graph of 1,000 nodes about each request: the CPU of a request on
a connection that is kept alive, user and kernel. In each round both take the same load one right after the other, in
an order that alternates; what is printed is the median of the rounds' ratios, and the ratios' quartiles.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import loads
from lab import HTTP1, Lab, enter
from proxies import Sallyport

NODES = 1_000
TIMES_MAX = 1_000_000


class Following(Sallyport):
    """The same guard, with a graph: a thousand requests that may follow each other, of which the load's is one."""

    name, number = "sallyport-flow", 17

    def __init__(self, lab, retries=0):
        super().__init__(lab)
        self.retries = retries
        self.folder = lab.folder / self.name
        self.folder.mkdir()
        for file in lab.folder.glob("*-root.*"):
            (self.folder / file.name).symlink_to(file)

    def command(self):
        made = super().command()
        nodes = [{"name": f"n{i}", "request": f"GET {HTTP1.name}/v1/items{i}/{{int}}", "times": 2,
                  "next": [f"n{i + 1}"]} for i in range(NODES - 1)]
        nodes.append({"name": f"n{NODES - 1}", "request": f"GET {HTTP1.name}/*", "times": TIMES_MAX, "next": ["exit"]})
        for node in nodes:
            node["retries"] = self.retries
        graph = {"apiVersion": "sallyport.dev/v1alpha1", "kind": "FlowGraph", "metadata": {"name": "bench"},
                 "spec": {"entry": ["n0", f"n{NODES - 1}"], "nodes": nodes}}
        (self.folder / "graph.yaml").write_text(json.dumps(graph))
        policy = self.folder / "policy.yaml"
        policy.write_text(policy.read_text().replace("  mode: enforce\n", "  mode: enforce\n  flow: graph.yaml\n"))
        return made


def in_the_lab(folder, rounds, requests, retries):
    lab = Lab(folder)
    proxies = [Sallyport(lab), Following(lab, retries)]
    for proxy in proxies:
        proxy.start()
    ratios = []
    for number in range(rounds + 1):  # the first is not counted
        cpu = {}
        for proxy in proxies[::-1] if number % 2 else proxies:
            used = loads.cpu_of(proxy, "keepalive", "--connections", "8", "--requests", str(requests))[1]
            cpu[proxy.name] = used / requests
        print(f"  {cpu['sallyport']:.1f} → {cpu['sallyport-flow']:.1f} µs", file=sys.stderr, flush=True)
        if number > 0:
            ratios.append(cpu["sallyport-flow"] / cpu["sallyport"])
    low, median, high = statistics.quantiles(ratios, n=4)
    print(f"CPU of a request with a flow graph of {NODES} nodes, {retries} retries each, in multiples of that without: "
          f"{median:.3f} ({low:.3f} to {high:.3f}; {rounds} rounds of {requests} requests)")
    for proxy in proxies:
        proxy.stop()
    lab.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=6_000, help="in a round (default 6,000)")
    parser.add_argument("--retries", type=int, default=0, help="of each node; learned graphs have 2 (default 0)")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if (options.rounds + 1) * options.requests > TIMES_MAX:
        parser.error(f"more than {TIMES_MAX} requests in all are more than a node may count")
    if options.folder:
        in_the_lab(options.folder, options.rounds, options.requests, options.retries)
        return
    with tempfile.TemporaryDirectory(prefix="sallyport-flow-") as folder:
        arguments = [str(Path(__file__).resolve()), "--folder", folder, "--rounds", str(options.rounds)]
        began = time.monotonic()
        arguments += ["--requests", str(options.requests), "--retries", str(options.retries)]
        subprocess.run(enter(arguments), check=True, env=os.environ)
        print(f"({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
