#!/usr/bin/env python3
"""`./dev bench`: Sallyport's guard measured side by side with other proxies, on this machine, in one run.

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

import chart
import loads
import peers
import ready
from lab import GENERATOR, GRPC_ORIGIN, enter
from report import full_report

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent / "docs/performance.md"
CHART = HERE.parent / "docs/performance.svg"
LATEST = HERE / "results/latest.json"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
SECONDS_PER_ROUND_MAX = 900
MIXED_PROXIES = "squid,sallyport"
QUICK_PROXIES = "haproxy,envoy,sallyport"


def one_of(parser, what, text, known):
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in known]
    if unknown:
        parser.error(f"unknown {what} {', '.join(unknown)}: there are {', '.join(known)}")
    return chosen


def arguments():
    parser = argparse.ArgumentParser(description="Measures the guard side by side with other proxies.")
    parser.add_argument("--quick", action="store_true",
                        help="2 short rounds with some proxies, to see that it works; too few to quote")
    parser.add_argument("--rounds", type=int, help="rounds to measure (default 5, or 2 with --quick)")
    parser.add_argument("--proxies", help=f"which, separated by commas: {', '.join(peers.NAMES)} (default all)")
    parser.add_argument("--loads", default=",".join(loads.ALL),
                        help=f"which, separated by commas: {', '.join(loads.ALL)} (default all)")
    parser.add_argument("--mixed", type=float, metavar="MINUTES", default=0,
                        help=f"all kinds of load at once for so long, and the memory meanwhile (of {MIXED_PROXIES})")
    parser.add_argument("--ready-runs", type=int, default=25, help="starts of `sallyport run` to time (default 25)")
    parser.add_argument("--results", type=Path, default=LATEST, metavar="FILE",
                        help="where the samples go (default load/results/latest.json)")
    parser.add_argument("--write-docs", action="store_true",
                        help="put tables and chart into docs, of this run and of what else was measured last")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 5)
    usual = MIXED_PROXIES if chosen.mixed else QUICK_PROXIES if chosen.quick else ",".join(peers.NAMES)
    chosen.proxies = one_of(parser, "proxy", chosen.proxies or usual, peers.NAMES)
    chosen.loads = one_of(parser, "load", chosen.loads, loads.ALL)
    return chosen


def without_missing(names):
    """Those that are installed; the others are said."""
    reasons = {name: peers.missing(name) for name in names}
    for name, reason in reasons.items():
        if reason:
            print(f"bench: {name} is left out: {reason}", file=sys.stderr)
    return [name for name in names if not reasons[name]]


def package_version(package):
    done = subprocess.run(["dpkg-query", "--show", "--showformat", "${Version}", package],
                          capture_output=True, text=True, check=False)
    return done.stdout or "none"


def versions():
    packages = {"HAProxy": "haproxy", "sslsplit": "sslsplit", "Squid": "squid-openssl", "nginx": "nginx-light",
                "gRPC": "libgrpc++1.51", "OpenSSL": "libssl3"}
    found = {title: package_version(package) for title, package in packages.items()}
    for title, requirements in {"Envoy": "envoy.txt", "mitmproxy": "mitmproxy.txt"}.items():
        pinned = (HERE / "peers" / requirements).read_text(encoding="utf-8")
        found[title] = re.search(rf"^{title.lower()}(?:-server)?==(\S+)", pinned, re.M)[1]
    return found


def machine():
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "versions": versions(),
    }


def in_the_lab(chosen):
    """Runs side_by_side.py in namespaces of its own, and returns what it has found."""
    with tempfile.TemporaryDirectory(prefix="sallyport-bench-") as folder:
        task = {"quick": chosen.quick, "rounds": chosen.rounds, "proxies": chosen.proxies, "loads": chosen.loads,
                "mixed_minutes": chosen.mixed}
        task_file = Path(folder, "task.json")
        task_file.write_text(json.dumps(task), encoding="utf-8")
        limit_s = SECONDS_PER_ROUND_MAX * chosen.rounds + 60 * chosen.mixed
        subprocess.run(enter([str(HERE / "side_by_side.py"), folder, str(task_file)]), check=True, timeout=limit_s)
        return json.loads(Path(folder, "samples.json").read_text(encoding="utf-8"))


def revision():
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    return found.stdout.strip() or "unknown"


def measured(chosen):
    """This run's results, with those of the last run that this one did not measure anew."""
    kept = json.loads(chosen.results.read_text(encoding="utf-8")) if chosen.results.exists() else {}
    result = {"date": datetime.date.today().isoformat(), "revision": revision(), "machine": machine()}
    if chosen.mixed:
        result["rounds"] = kept.get("rounds", 0)
        result["quick"] = kept.get("quick", False)
        result["side_by_side"] = kept.get("side_by_side", {})
        result["ready"] = kept.get("ready", {})
        result["mixed"] = in_the_lab(chosen)
    else:
        result["rounds"] = chosen.rounds
        result["quick"] = chosen.quick
        result["side_by_side"] = in_the_lab(chosen)
        wanted = "ready" in chosen.loads and "sallyport" in chosen.proxies
        result["ready"] = ready.measure(chosen.ready_runs) if wanted else {}
        result["mixed"] = kept.get("mixed", {})
    return result


def write_document(result, report):
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{report}\n{END}{after}", encoding="utf-8")
    CHART.write_text(chart.draw(result["side_by_side"]), encoding="utf-8")


def main():
    chosen = arguments()
    if not GENERATOR.exists() or ("grpc" in chosen.loads and not GRPC_ORIGIN.exists()):
        sys.exit("bench: the benchmark's programs are missing: run ./dev bench, which builds them")
    chosen.proxies = without_missing(chosen.proxies)
    result = measured(chosen)
    chosen.results.parent.mkdir(exist_ok=True)
    chosen.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report = full_report(result)
    print(report)
    if chosen.write_docs:
        write_document(result, report)


if __name__ == "__main__":
    main()
