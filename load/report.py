"""Turns samples into the tables that are printed and that docs/performance.md holds between its markers."""

import statistics

REFERENCE = "haproxy"
TITLES = {"haproxy": "HAProxy", "sslsplit": "sslsplit", "sallyport": "Sallyport"}

# measure: what a reader sees, and the digits after the point.
MEASURES = {
    "request_cpu_us": ("CPU per kept-alive request (32 connections, 1 KiB), µs", 1),
    "connection_cpu_us": ("CPU per new connection with one request, µs", 0),
    "resumed_cpu_us": ("the same, the client resumes its TLS session, µs", 0),
    "down_cpu_s_per_gib": ("CPU per GiB down, s", 2),
    "up_cpu_s_per_gib": ("CPU per GiB up, s", 2),
    "system_calls_per_request": ("system calls per kept-alive request", 1),
    "start_ms": ("exec to accepting, ms", 1),
    "rss_start_mib": ("RSS at start, MiB", 1),
    "rss_idle_kib": ("RSS per idle intercepted connection (of 1,000), KiB", 1),
    "added_p50_us": ("added latency, 1 connection, p50, µs", 0),
    "added_p99_us": ("added latency, 1 connection, p99, µs", 0),
    "c32_p50_us": ("latency, 32 connections, p50, µs", 0),
    "c32_p99_us": ("latency, 32 connections, p99, µs", 0),
    "connection_p50_ms": ("new connection with one request, p50, ms", 2),
}


def ratio(samples, proxy):
    """Against the reference: the median of the rounds' ratios, and the ratio of the minima."""
    ours, theirs = samples[proxy], samples.get(REFERENCE)
    if not theirs or min(theirs) <= 0 or min(ours) <= 0:
        return "", ""
    pairs = [a / b for a, b in zip(ours, theirs)]
    return f"{statistics.median(pairs):.2f}", f"{min(ours) / min(theirs):.2f}"


def side_by_side_table(by_measure):
    """Markdown. A cell is the median of the rounds and, in brackets, their minimum."""
    proxies = [name for name in TITLES if any(name in samples for samples in by_measure.values())]
    compared = [name for name in proxies if name != REFERENCE and REFERENCE in proxies]
    header = ["", *(TITLES[name] for name in proxies), *(f"{TITLES[name]} / {TITLES[REFERENCE]}" for name in compared)]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for measure, (title, digits) in MEASURES.items():
        samples = by_measure.get(measure)
        if not samples:
            continue
        cells = [f"{statistics.median(samples[name]):.{digits}f} ({min(samples[name]):.{digits}f})" for name in proxies]
        ratios = []
        for name in compared:
            median, minimum = ratio(samples, name)
            ratios.append(f"{median} ({minimum})" if median else "n/a")
        rows.append([title, *cells, *ratios])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def ready_table(samples):
    titles = {"exec": "`date` alone", "unshare": "`unshare -rn date`, the floor",
              "sallyport run": "`sallyport run -- date`"}
    rows = ["| exec to the command's first action | median, ms | minimum, ms |", "|---|---:|---:|"]
    for name, values in samples.items():
        rows.append(f"| {titles[name]} | {statistics.median(values):.1f} | {min(values):.1f} |")
    return "\n".join(rows)


def machine_line(result):
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, Linux {machine['kernel']}; "
            f"{versions}; {result['rounds']} rounds, {result['date']}, revision {result['revision']}.")


def full_report(result):
    parts = [machine_line(result), side_by_side_table(result["side_by_side"])]
    if result.get("ready"):
        parts.append(ready_table(result["ready"]))
    return "\n\n".join(parts)
