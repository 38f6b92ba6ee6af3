#!/usr/bin/env python3
"""`./dev bench`: Sallyport's guard measured side by side with HAProxy and sslsplit, on this machine, in one run.

Everything happens in namespaces of its own and ends with this program; docs/performance.md says how to read it.
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import ready
from lab import GENERATOR, enter
from report import full_report

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent / "docs/performance.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
NAMES = ("haproxy", "sslsplit", "sallyport")
SECONDS_PER_ROUND_MAX = 300


def arguments():
    parser = argparse.ArgumentParser(description="Measures the guard side by side with HAProxy and sslsplit.")
    parser.add_argument("--quick", action="store_true", help="2 short rounds, to see that it works; too few to quote")
    parser.add_argument("--rounds", type=int, help="rounds to measure (default 7, or 2 with --quick)")
    parser.add_argument("--proxies", default=",".join(NAMES), help="which, separated by commas (default all)")
    parser.add_argument("--ready-runs", type=int, default=25, help="starts of `sallyport run` to time (default 25)")
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/performance.md")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 7)
    chosen.proxies = chosen.proxies.split(",")
    unknown = set(chosen.proxies) - set(NAMES)
    if unknown:
        parser.error(f"unknown proxy {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    return chosen


def machine():
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    packages = {"HAProxy": "haproxy", "sslsplit": "sslsplit", "nginx": "nginx-light", "OpenSSL": "libssl3"}
    versions = {title: subprocess.run(["dpkg-query", "--show", "--showformat", "${Version}", package],
                                      capture_output=True, text=True, check=True).stdout
                for title, package in packages.items()}
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "versions": versions,
    }


def side_by_side(chosen):
    with tempfile.TemporaryDirectory(prefix="sallyport-bench-") as folder:
        command = enter([str(HERE / "side_by_side.py"), folder, str(chosen.rounds),
                         "quick" if chosen.quick else "full", ",".join(chosen.proxies)])
        subprocess.run(command, check=True, timeout=SECONDS_PER_ROUND_MAX * chosen.rounds)
        return json.loads(Path(folder, "samples.json").read_text(encoding="utf-8"))


def revision():
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    return found.stdout.strip() or "unknown"


def write_document(report):
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{report}\n{END}{after}", encoding="utf-8")


def main():
    chosen = arguments()
    if not GENERATOR.exists():
        sys.exit(f"bench: {GENERATOR} is missing: run ./dev build")
    result = {
        "date": datetime.date.today().isoformat(),
        "revision": revision(),
        "machine": machine(),
        "rounds": chosen.rounds,
        "side_by_side": side_by_side(chosen),
        "ready": ready.measure(chosen.ready_runs) if "sallyport" in chosen.proxies else {},
    }
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "latest.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report = full_report(result)
    print(report)
    if chosen.write_docs:
        write_document(report)


if __name__ == "__main__":
    main()
