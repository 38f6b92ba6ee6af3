#!/usr/bin/env python3
"""How long `sallyport run` takes from its own exec to its command's exec, against `unshare -rn` as the floor.

The command is `date +%s%N`: it prints the clock as soon as it runs, so its own start (about a millisecond) is in every
figure, and the line for it alone says how much that is. Run by bench.py, or alone.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from lab import BIN
from proxies import policy_of

SALLYPORT = BIN / "sallyport"
CLOCK = ["date", "+%s%N"]


def milliseconds_to_command(command):
    """From just before the exec of `command` to the moment that its last part, CLOCK, prints."""
    reader, writer = os.pipe()
    began_ns = time.time_ns()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    with os.fdopen(reader) as output:
        printed = output.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {status}")
    return (int(printed) - began_ns) / 1e6


def measure(runs):
    """Samples in milliseconds by kind of start, taken in turn after one that is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder, "policy.yaml")
        policy.write_text(policy_of(50) + "\n")
        commands = {
            "exec": CLOCK,
            "unshare": ["unshare", "--map-root-user", "--net", *CLOCK],
            "sallyport run": [str(SALLYPORT), "run", "--quiet", "--policy", str(policy), "--", *CLOCK],
        }
        if not SALLYPORT.exists():
            del commands["sallyport run"]
        samples = {name: [] for name in commands}
        for number in range(runs + 1):
            for name, command in commands.items():
                sample = milliseconds_to_command(command)
                if number > 0:
                    samples[name].append(round(sample, 3))
    return samples


def main():
    for name, samples in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 20).items():
        print(f"{name:>14}: median {statistics.median(samples):6.1f} ms, min {min(samples):6.1f}, "
              f"max {max(samples):6.1f}  ({len(samples)} runs)")


if __name__ == "__main__":
    main()
