"""The rounds of the benchmark, run inside of the lab's namespaces.

bench.py starts it with a folder, the number of rounds, "quick" or "full" and the proxies' names, and reads
FOLDER/samples.json when it is done.

The speed of a shared machine drifts by tens of per cent within seconds, so in each round every proxy is measured right
after the other, in an order that rotates; ratios are made within a round.
"""

import json
import re
import signal
import subprocess
import sys
import time

from lab import BULK_BYTES, DIRECT, Lab
from proxies import ALL, process_tree

GIB = 1024 ** 3
SETTLE_S = 0.05  # the scheduler's clock of a running thread is brought up to date when it sleeps


class Sizes:
    """How much of each there is in one round."""

    def __init__(self, quick):
        self.requests = 6_000 if quick else 12_000
        self.sequential = 1_000 if quick else 4_000
        self.connections = 100 if quick else 300
        self.idle = 1_000
        self.traced = 2_000


def measure_start(samples, proxy, sizes):
    """A fresh process: how soon it accepts, what it weighs, and what each idle intercepted connection adds."""
    samples.add("start_ms", proxy.name, proxy.start())
    time.sleep(0.3)
    samples.add("rss_start_mib", proxy.name, proxy.rss_kib() / 1024)
    proxy.load("connections", "--requests", "20")
    before = proxy.rss_kib()
    command = proxy.generator("idle", "--connections", str(sizes.idle))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as idle:
        if not idle.stdout.readline():
            raise RuntimeError(f"{proxy.name}: {sizes.idle} idle connections could not be opened")
        time.sleep(0.3)
        samples.add("rss_idle_kib", proxy.name, (proxy.rss_kib() - before) / sizes.idle)
        idle.stdin.close()
        idle.wait(30)


def cpu_of(proxy, *arguments, **options):
    """The generator's figures, and the microseconds of CPU that the proxy spent on them."""
    before = proxy.cpu_us()
    figures = proxy.load(*arguments, **options)
    time.sleep(SETTLE_S)
    return figures, proxy.cpu_us() - before


def measure_keep_alive(samples, proxy, sizes):
    figures, cpu = cpu_of(proxy, "keepalive", "--connections", "32", "--requests", str(sizes.requests))
    samples.add("request_cpu_us", proxy.name, cpu / sizes.requests)
    samples.add("requests_per_s", proxy.name, sizes.requests / figures["seconds"])
    samples.add("c32_p50_us", proxy.name, figures["p50_us"])
    samples.add("c32_p99_us", proxy.name, figures["p99_us"])


def measure_connections(samples, proxy, sizes):
    figures, cpu = cpu_of(proxy, "connections", "--requests", str(sizes.connections))
    samples.add("connection_cpu_us", proxy.name, cpu / sizes.connections)
    samples.add("connection_p50_ms", proxy.name, figures["p50_us"] / 1e3)


def measure_resumed(samples, proxy, sizes):
    figures, cpu = cpu_of(proxy, "connections", "--resume", "--requests", str(sizes.connections))
    samples.add("resumed_cpu_us", proxy.name, cpu / sizes.connections)
    samples.add("resumed_share", proxy.name, figures["resumed"] / sizes.connections)


def measure_down(samples, proxy, _sizes):
    _, cpu = cpu_of(proxy, "download", path="/bulk")
    samples.add("down_cpu_s_per_gib", proxy.name, cpu / 1e6 * GIB / BULK_BYTES)


def measure_up(samples, proxy, _sizes):
    _, cpu = cpu_of(proxy, "upload", "--bytes", str(BULK_BYTES), path="/upload")
    samples.add("up_cpu_s_per_gib", proxy.name, cpu / 1e6 * GIB / BULK_BYTES)


def measure_latency(samples, lab, proxies, sizes):
    """What a proxy adds to one request after the other on one connection, over the same without a proxy."""
    arguments = ("keepalive", "--connections", "1", "--requests", str(sizes.sequential))
    direct = lab.load(DIRECT, "origin-root", *arguments)
    for proxy in proxies:
        figures = proxy.load(*arguments)
        for share in ("p50_us", "p99_us"):
            samples.add(f"added_{share}", proxy.name, figures[share] - direct[share])


def count_system_calls(samples, lab, proxy, sizes):
    """Exact where times are not: system calls per kept-alive request, at 32 connections, as strace counts them."""
    table = lab.folder / f"{proxy.name}.strace"
    attach = [argument for pid in process_tree(proxy.pid()) for argument in ("-p", str(pid))]
    with subprocess.Popen(["strace", "-f", "-c", "-U", "calls,name", "-o", str(table), *attach],
                          stderr=subprocess.DEVNULL) as tracer:
        time.sleep(0.5)
        proxy.load("keepalive", "--connections", "32", "--requests", str(sizes.traced))
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
    total = re.search(r"^\s*(\d+) total$", table.read_text(), re.M)
    samples.add("system_calls_per_request", proxy.name, int(total[1]) / sizes.traced)


class Samples:
    def __init__(self):
        self.by_measure = {}

    def add(self, measure, proxy, value):
        self.by_measure.setdefault(measure, {}).setdefault(proxy, []).append(round(value, 4))


def main(folder, rounds, quick, names):
    sizes = Sizes(quick)
    lab = Lab(folder)
    proxies = [kind(lab) for kind in ALL if kind.name in names]
    samples = Samples()
    for number in range(rounds):
        began = time.monotonic()
        turn = number % len(proxies)
        proxies = proxies[turn:] + proxies[:turn]
        for proxy in proxies:
            measure_start(samples, proxy, sizes)
        for measure in (measure_keep_alive, measure_connections, measure_resumed, measure_down, measure_up):
            for proxy in proxies:
                measure(samples, proxy, sizes)
        measure_latency(samples, lab, proxies, sizes)
        if number == rounds - 1:
            for proxy in proxies:
                count_system_calls(samples, lab, proxy, sizes)
        for proxy in proxies:
            proxy.stop()
        print(f"round {number + 1} of {rounds}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    lab.close()
    (lab.folder / "samples.json").write_text(json.dumps(samples.by_measure), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "quick", sys.argv[4].split(","))
