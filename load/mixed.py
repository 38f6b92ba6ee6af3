"""All kinds of load at once for some minutes, and what each proxy weighs meanwhile: does it grow?

Each kind is a loop of its own: run, rest a little, run again. They go on for all proxies alike, so a slow one gets
less done in the time; how many requests each has answered is in the result.
"""

import subprocess
import sys
import threading
import time

import peers
from lab import DOMAIN, GRPC, GRPC_PATH, HTTP1, HTTP2

REST_S = 0.5
SAMPLES_MIN = 10
SAMPLE_S_MAX = 30
IDLE_CONNECTIONS = 200
IDLE_HELD_S = 20
NAMES, NAMES_AT_ONCE = 500, 25


class Mix:
    """One proxy under all loads at once."""

    def __init__(self, proxy):
        self._proxy = proxy
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._next_name = 0
        self.requests = {}
        self.failures = {}
        kinds = {
            "keepalive": lambda: self._load("keepalive", "--connections", "32", "--requests", "2000"),
            "new connections": lambda: self._load("connections", "--requests", "50"),
            "resumed connections": lambda: self._load("connections", "--resume", "--requests", "50"),
            "names": self._names,
            "download": lambda: self._load("download", path="/bulk"),
            "upload": lambda: self._load("upload", "--bytes", str(64 << 20), path="/upload"),
            "idle": self._idle,
        }
        if HTTP2 in proxy.services:
            kinds["h2"] = lambda: self._load("streams", "--streams", "100", "--requests", "1000", service=HTTP2)
        if GRPC in proxy.services:
            kinds["grpc"] = lambda: self._load("streams", "--grpc", "1000", "--streams", "32", "--requests", "1000",
                                               service=GRPC, path=GRPC_PATH)
        self._threads = [threading.Thread(target=self._repeat, args=kind, daemon=True) for kind in kinds.items()]

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, kind, once):
        while not self._over.is_set():
            try:
                done = once()
            except (RuntimeError, subprocess.TimeoutExpired) as failure:
                # Counted and said: a run with failures in it shows less about memory.
                self.failures[kind] = self.failures.get(kind, 0) + 1
                print(f"bench: {self._proxy.name}: {failure}", file=sys.stderr)
                done = 0
            with self._lock:
                self.requests[kind] = self.requests.get(kind, 0) + done
            self._over.wait(REST_S)

    def _load(self, *arguments, service=HTTP1, **options):
        return self._proxy.load(*arguments, service=service, **options)["requests"]

    def _names(self):
        first = self._next_name
        self._next_name = (first + NAMES_AT_ONCE) % NAMES
        return self._load("names", "--domain", DOMAIN, "--first", str(first), "--requests", str(NAMES_AT_ONCE))

    def _idle(self):
        with subprocess.Popen(self._proxy.generator("idle", "--connections", str(IDLE_CONNECTIONS)),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as idle:
            opened = bool(idle.stdout.readline())
            self._over.wait(IDLE_HELD_S)
            idle.stdin.close()
            idle.wait(60)
        if not opened:
            raise RuntimeError("the idle connections could not be opened")
        return IDLE_CONNECTIONS


def measure(lab, task):
    """The series of each proxy's resident set, in MiB, and when each sample was taken."""
    proxies = [kind(lab) for kind in peers.ALL if kind.name in task["proxies"]]
    for proxy in proxies:
        proxy.start()
    time.sleep(1)
    seconds = 60 * task["mixed_minutes"]
    every = min(SAMPLE_S_MAX, seconds / SAMPLES_MIN)
    mixes = {proxy.name: Mix(proxy) for proxy in proxies}
    result = {"seconds": [], "rss_mib": {proxy.name: [] for proxy in proxies}}
    began = time.monotonic()
    for number in range(int(seconds / every) + 1):
        time.sleep(max(0, began + number * every - time.monotonic()))
        result["seconds"].append(round(time.monotonic() - began))
        for proxy in proxies:
            result["rss_mib"][proxy.name].append(round(proxy.rss_kib() / 1024, 1))
        if number == 0:
            for mix in mixes.values():
                mix.start()
    for mix in mixes.values():
        mix.stop()
    result["requests"] = {name: mix.requests for name, mix in mixes.items()}
    result["failures"] = {name: mix.failures for name, mix in mixes.items()}
    for proxy in proxies:
        proxy.stop()
    return result
