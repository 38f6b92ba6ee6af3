"""The loads: each is put on every proxy that can take it, one right after the other, and adds its samples.

A load's function is called with a Bench, a proxy and the Sizes. What it adds is in the units of its measure's name.
"""

import re
import signal
import subprocess
import sys
import time

from lab import BULK_BYTES, DOMAIN, GRPC, GRPC_PATH, HTTP1, HTTP2, ORIGIN_NUMBER
from proxies import process_tree

GIB = 1024 ** 3
SETTLE_S = 0.05  # the scheduler's clock of a running thread is brought up to date when it sleeps
STREAMS = 100
GRPC_STREAMS = 32
GRPC_BYTES = 100


class Sizes:
    """How much of each there is in one round."""

    def __init__(self, quick):
        self.requests = 6_000 if quick else 12_000
        self.sequential = 1_000 if quick else 4_000
        self.connections = 100 if quick else 300
        self.names = 100 if quick else 500
        self.idle = 300 if quick else 1_000
        self.traced = 2_000
        self.far = 20 if quick else 100


class Samples:
    """Numbers by measure and proxy, in the order of the rounds."""

    def __init__(self):
        self.by_measure = {}

    def add(self, measure, proxy, value):
        self.by_measure.setdefault(measure, {}).setdefault(proxy, []).append(round(value, 4))


def measure_start(samples, proxy, _sizes):
    """A fresh process: how soon it accepts, and what it weighs."""
    samples.add("start_ms", proxy.name, proxy.start())
    time.sleep(0.3)
    samples.add("rss_start_mib", proxy.name, proxy.rss_kib() / 1024)


def measure_idle(samples, proxy, sizes):
    """What each intercepted connection weighs that has had one answer and does nothing now."""
    proxy.load("connections", "--requests", "20")
    connections = proxy.share_of(sizes.idle)
    before = proxy.rss_kib()
    with subprocess.Popen(proxy.generator("idle", "--connections", str(connections)), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as idle:
        if not idle.stdout.readline():
            raise RuntimeError(f"{proxy.name}: {connections} idle connections could not be opened")
        time.sleep(0.3)
        samples.add("rss_idle_kib", proxy.name, (proxy.rss_kib() - before) / connections)
        idle.stdin.close()
        idle.wait(30)


def cpu_of(proxy, *arguments, **options):
    """The generator's figures, and the microseconds of CPU that the proxy spent on them."""
    for left in reversed(range(proxy.attempts)):
        before = proxy.cpu_us()
        try:
            figures = proxy.load(*arguments, **options)
            break
        except RuntimeError as failure:
            if left == 0:
                raise
            print(f"bench: once more: {proxy.name}: {failure}", file=sys.stderr)
    time.sleep(SETTLE_S)
    return figures, proxy.cpu_us() - before


def measure_keep_alive(samples, proxy, sizes):
    requests = proxy.share_of(sizes.requests)
    arguments = ("keepalive", "--connections", "32", "--requests")
    proxy.load(*arguments, "64")  # so that its connections to the origin are there
    figures, cpu = cpu_of(proxy, *arguments, str(requests))
    samples.add("request_cpu_us", proxy.name, cpu / requests)
    samples.add("requests_per_s", proxy.name, requests / figures["seconds"])
    samples.add("c32_p50_us", proxy.name, figures["p50_us"])
    samples.add("c32_p99_us", proxy.name, figures["p99_us"])


def measure_connections(samples, proxy, sizes):
    connections = proxy.share_of(sizes.connections)
    figures, cpu = cpu_of(proxy, "connections", "--requests", str(connections))
    samples.add("connection_cpu_us", proxy.name, cpu / connections)
    samples.add("connection_p50_ms", proxy.name, figures["p50_us"] / 1e3)
    at_once = proxy.load("connections", "--no-delay", "--requests", str(proxy.share_of(sizes.connections / 3)))
    samples.add("connection_no_delay_p50_ms", proxy.name, at_once["p50_us"] / 1e3)


def measure_resumed(samples, proxy, sizes):
    connections = proxy.share_of(sizes.connections)
    figures, cpu = cpu_of(proxy, "connections", "--resume", "--requests", str(connections))
    samples.add("resumed_cpu_us", proxy.name, cpu / connections)
    samples.add("resumed_percent", proxy.name, 100 * figures["resumed"] / (connections - 1))


def measure_names(samples, proxy, sizes):
    """The first request to each of many names, and what it costs more than one more to a name that is known."""
    known = proxy.share_of(sizes.connections / 2)
    _, known_cpu = cpu_of(proxy, "connections", "--requests", str(known))
    names = proxy.share_of(sizes.names)
    before_kib = proxy.rss_kib()
    figures, cpu = cpu_of(proxy, "names", "--domain", DOMAIN, "--requests", str(names))
    samples.add("name_cpu_us", proxy.name, cpu / names)
    samples.add("name_added_cpu_us", proxy.name, cpu / names - known_cpu / known)
    samples.add("name_p50_ms", proxy.name, figures["p50_us"] / 1e3)
    samples.add("name_rss_kib", proxy.name, (proxy.rss_kib() - before_kib) / names)


def measure_down(samples, proxy, _sizes):
    _, cpu = cpu_of(proxy, "download", path="/bulk")
    samples.add("down_cpu_s_per_gib", proxy.name, cpu / 1e6 * GIB / BULK_BYTES)


def measure_up(samples, proxy, _sizes):
    _, cpu = cpu_of(proxy, "upload", "--bytes", str(BULK_BYTES), path="/upload")
    samples.add("up_cpu_s_per_gib", proxy.name, cpu / 1e6 * GIB / BULK_BYTES)


def measure_streams(samples, proxy, sizes):
    requests = proxy.share_of(sizes.requests / 2)
    arguments = ("streams", "--streams", str(STREAMS), "--requests")
    proxy.load(*arguments, str(2 * STREAMS), service=HTTP2)
    figures, cpu = cpu_of(proxy, *arguments, str(requests), service=HTTP2)
    samples.add("stream_cpu_us", proxy.name, cpu / requests)
    samples.add("stream_p50_us", proxy.name, figures["p50_us"])
    samples.add("stream_p99_us", proxy.name, figures["p99_us"])


def measure_grpc(samples, proxy, sizes):
    calls = proxy.share_of(sizes.requests / 2)
    arguments = ("streams", "--grpc", str(GRPC_BYTES), "--streams")
    options = {"service": GRPC, "path": GRPC_PATH}
    proxy.load(*arguments, str(GRPC_STREAMS), "--requests", str(2 * GRPC_STREAMS), **options)
    figures, cpu = cpu_of(proxy, *arguments, str(GRPC_STREAMS), "--requests", str(calls), **options)
    samples.add("grpc_cpu_us", proxy.name, cpu / calls)
    samples.add("grpc_p99_us", proxy.name, figures["p99_us"])
    one_at_a_time = proxy.share_of(sizes.sequential / 4)
    figures, cpu = cpu_of(proxy, *arguments, "1", "--requests", str(one_at_a_time), **options)
    samples.add("grpc_one_cpu_us", proxy.name, cpu / one_at_a_time)
    samples.add("grpc_one_p50_us", proxy.name, figures["p50_us"])


def measure_latency(samples, proxies, sizes):
    """What a proxy adds to one request after the other on one connection, over the same without a proxy."""
    arguments = ("keepalive", "--connections", "1", "--requests")
    direct = proxies[0].lab.load(ORIGIN_NUMBER, "origin-root", *arguments, str(sizes.sequential))
    for proxy in proxies:
        figures = proxy.load(*arguments, str(proxy.share_of(sizes.sequential)))
        for share in ("p50_us", "p99_us"):
            samples.add(f"added_{share}", proxy.name, figures[share] - direct[share])


def count_system_calls(samples, proxy, sizes):
    """Exact where times are not: system calls per kept-alive request, at 32 connections, as strace counts them."""
    table = proxy.folder / f"{proxy.name}.strace"
    requests = proxy.share_of(sizes.traced)
    arguments = ("keepalive", "--connections", "32", "--requests")
    proxy.load(*arguments, "64")
    attach = [argument for pid in process_tree(proxy.pid()) for argument in ("-p", str(pid))]
    with subprocess.Popen(["strace", "-f", "-c", "-U", "calls,name", "-o", str(table), *attach],
                          stderr=subprocess.DEVNULL) as tracer:
        time.sleep(0.5)
        proxy.load(*arguments, str(requests))
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
    total = re.search(r"^\s*(\d+) total$", table.read_text(), re.M)
    samples.add("system_calls_per_request", proxy.name, int(total[1]) / requests)


# By name: what it needs of a proxy, and what it does. They follow each other in this order.
ON_EACH = {
    "idle": (HTTP1, measure_idle),
    "keepalive": (HTTP1, measure_keep_alive),
    "connections": (HTTP1, measure_connections),
    "resumed": (HTTP1, measure_resumed),
    "down": (HTTP1, measure_down),
    "up": (HTTP1, measure_up),
    "h2": (HTTP2, measure_streams),
    "grpc": (GRPC, measure_grpc),
    "names": (HTTP1, measure_names),  # last: what it leaves behind is in no other figure
}
ALL = ("start", *ON_EACH, "latency", "calls", "far", "ready")
