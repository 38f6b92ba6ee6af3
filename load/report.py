"""Turns samples into the tables that are printed and that docs/performance.md holds between its markers."""

import statistics

OURS = "sallyport"
TITLES = {"haproxy": "HAProxy", "envoy": "Envoy", "sslsplit": "sslsplit", "squid": "Squid", "mitmproxy": "mitmproxy",
          "sallyport": "Sallyport"}

# measure: what a reader sees, the digits after the point, and whether a ratio of it says something.
MEASURES = {
    "request_cpu_us": ("CPU per kept-alive request (32 connections, 1 KiB), µs", 1, True),
    "connection_cpu_us": ("CPU per new connection with one request, µs", 0, True),
    "resumed_cpu_us": ("the same, the client offers its TLS session, µs", 0, True),
    "resumed_percent": ("of these took it up, %", 0, False),
    "down_cpu_s_per_gib": ("CPU per GiB down, s", 2, True),
    "up_cpu_s_per_gib": ("CPU per GiB up, s", 2, True),
    "stream_cpu_us": ("CPU per HTTP/2 request (100 streams, 1 KiB), µs", 1, True),
    "grpc_cpu_us": ("CPU per unary gRPC call (32 streams, 100 bytes), µs", 1, True),
    "grpc_one_cpu_us": ("the same, one call after the other, µs", 1, True),
    "name_cpu_us": ("CPU per first request to a name (500 names), µs", 0, True),
    "name_added_cpu_us": ("of that, more than a new connection to a known name, µs", 0, True),
    "name_rss_kib": ("RSS per name, KiB", 1, False),
    "system_calls_per_request": ("system calls per kept-alive request", 1, True),
    "start_ms": ("exec to accepting, ms", 1, True),
    "rss_start_mib": ("RSS at start, MiB", 1, True),
    "rss_idle_kib": ("RSS per idle intercepted connection (of 1,000), KiB", 1, True),
    "added_p50_us": ("added latency, 1 connection, p50, µs", 0, True),
    "added_p99_us": ("added latency, 1 connection, p99, µs", 0, True),
    "c32_p50_us": ("latency, 32 connections, p50, µs", 0, True),
    "c32_p99_us": ("latency, 32 connections, p99, µs", 0, True),
    "stream_p50_us": ("latency, 100 streams, p50, µs", 0, True),
    "stream_p99_us": ("latency, 100 streams, p99, µs", 0, True),
    "grpc_one_p50_us": ("latency of a unary gRPC call, one after the other, p50, µs", 0, True),
    "connection_p50_ms": ("new connection with one request, p50, ms", 2, True),
    "connection_no_delay_p50_ms": ("the same, the client sets TCP_NODELAY, ms", 2, True),
    "name_p50_ms": ("first request to a name, p50, ms", 2, True),
}
# Who does no such work is no measure for it.
NOT_COMPARED = {"name_cpu_us": ("haproxy", "envoy"), "name_added_cpu_us": ("haproxy", "envoy"),
                "name_p50_ms": ("haproxy", "envoy")}
FAR_TITLES = {"generator": "OpenSSL client", "requests": "Python requests"}
PERCENTILES = (10, 25, 50, 75, 90, 99)


def table(rows):
    """Markdown: the first row is the header, and all columns but the first are numbers."""
    ruled = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in ruled)


def ratios(samples, peer):
    """Ours divided by the peer's, round by round; none where one of the two is not above 0."""
    pairs = zip(samples.get(OURS, []), samples.get(peer, []))
    return [ours / theirs for ours, theirs in pairs if min(ours, theirs) > 0]


def costs_table(by_measure):
    """A cell is the median of the rounds."""
    proxies = [name for name in TITLES if any(name in samples for samples in by_measure.values())]
    rows = [["", *(TITLES[name] for name in proxies)]]
    for measure, (title, digits, _) in MEASURES.items():
        samples = by_measure.get(measure)
        if samples:
            rows.append([title, *(f"{statistics.median(samples[name]):.{digits}f}" if name in samples else "–"
                                  for name in proxies)])
    return table(rows)


def ratios_table(by_measure):
    """A cell is the median of the rounds' ratios and, in brackets, the least and the greatest."""
    peers = [name for name in TITLES if name != OURS and any(name in samples for samples in by_measure.values())]
    rows = [["Sallyport divided by", *(TITLES[name] for name in peers)]]
    for measure, (title, _, compared) in MEASURES.items():
        if not compared or measure not in by_measure:
            continue
        cells = []
        for peer in peers:
            found = [] if peer in NOT_COMPARED.get(measure, ()) else ratios(by_measure[measure], peer)
            cells.append(f"**{statistics.median(found):.2f}** ({min(found):.2f}–{max(found):.2f})" if found else "–")
        rows.append([title.rsplit(", ", 1)[0], *cells])
    return table(rows) if len(rows) > 1 and peers else ""


def far_table(by_measure):
    """Milliseconds of a call to the far server, the median of the rounds of each percentile."""
    rows = [["a call to a server 20 ms away, ms", *(f"p{p}" for p in PERCENTILES)]]
    for client, title in FAR_TITLES.items():
        for way in ("without", "with"):
            cells = [by_measure.get(f"far_{client}_p{p}_ms", {}).get(way) for p in PERCENTILES]
            if all(cells):
                rows.append([f"{title}, {way} the guard", *(f"{statistics.median(cell):.1f}" for cell in cells)])
    return table(rows) if len(rows) > 1 else ""


def ready_table(samples):
    titles = {"exec": "`date` alone", "unshare": "`unshare -rn date`, the floor",
              "sallyport run": "`sallyport run -- date`"}
    rows = [["exec to the command's first action", "median, ms", "minimum, ms"]]
    for name, values in samples.items():
        rows.append([titles[name], f"{statistics.median(values):.1f}", f"{min(values):.1f}"])
    return table(rows)


def mixed_table(result):
    """The resident sets of `--mixed`, about a dozen of the moments."""
    seconds, by_proxy = result["seconds"], result["rss_mib"]
    step = max(1, (len(seconds) - 1) // 10)
    chosen = sorted({*range(0, len(seconds), step), len(seconds) - 1})
    rows = [["RSS in MiB after minutes of mixed load", *(f"{seconds[i] / 60:.1f}" for i in chosen), "requests"]]
    for name, series in by_proxy.items():
        requests = sum(result["requests"][name].values())
        rows.append([TITLES[name], *(f"{series[i]:.1f}" for i in chosen), f"{requests:,}"])
    failures = [f"{TITLES[name]} broke {count} loads of the kind `{kind}` off."
                for name, counts in result["failures"].items() for kind, count in counts.items()]
    return "\n\n".join([table(rows), *failures])


def machine_line(result):
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rounds = f"{result['rounds']} {'short ' if result.get('quick') else ''}rounds"
    return (f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, Linux {machine['kernel']}; "
            f"{versions}; {rounds}, {result['date']}, revision {result['revision']}.")


def full_report(result):
    by_measure = result.get("side_by_side", {})
    parts = [machine_line(result)]
    if by_measure:
        parts += [ratios_table(by_measure), costs_table(by_measure), far_table(by_measure)]
    if result.get("ready"):
        parts.append(ready_table(result["ready"]))
    if result.get("mixed"):
        parts.append(mixed_table(result["mixed"]))
    return "\n\n".join(part for part in parts if part)
