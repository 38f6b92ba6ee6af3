"""A guard with few descriptors, and so with few places for connections."""

import os
import pathlib
import re
import resource
import time

import guard

HOST = "v4.example.com"
DESCRIPTORS = 256
_LEFT = DESCRIPTORS - DESCRIPTORS // 4  # a fourth is for the rest
RESERVE = _LEFT // 16  # for those that are only told that there is no place
PLACES = (_LEFT - RESERVE) // 2  # two each


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Guarded:
    """A guard with few descriptors, unless it is for a big crowd."""

    def __init__(self, world, policy, big=False):
        self.bench = guard.Bench(world)
        limit = {} if big else {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, DESCRIPTORS))}
        self.session = self.bench.session(policy=policy, flags=["--quiet", "--admin", self.bench.admin], **limit)
        assert self.session.get(HOST)["status"] == 200
        self.pid = self.session.process.pid

    def metric(self, name):
        return float(re.search(rf"^{name}{{[^}}]*}} (\S+)$", self.bench.metrics()[1], re.MULTILINE).group(1))

    def wait_for_open(self, good, timeout=20):
        end = time.monotonic() + timeout
        while not good(found := self.metric("sallyport_connections_open")):
            assert time.monotonic() < end, found
            time.sleep(0.05)
        return found

    def close(self):
        try:
            self.session.close()
        finally:
            self.bench.close()
