"""The chart of docs/performance.md: what each proxy's work costs beside the guard's, and calls to a far server."""

import math
import statistics
from xml.sax.saxutils import escape

from report import NOT_COMPARED, OURS, PERCENTILES, TITLES

WIDTH, LEFT, RIGHT, ROW, TOP = 860, 250, 24, 26, 64
COLOURS = {"haproxy": "#4269d0", "envoy": "#a463f2", "sslsplit": "#9c6b4e", "squid": "#efb118", "mitmproxy": "#ff725c",
           "sallyport": "#3ca951"}
ROWS = {
    "request_cpu_us": "kept-alive request",
    "connection_cpu_us": "new connection",
    "resumed_cpu_us": "new connection, session offered",
    "down_cpu_s_per_gib": "GiB down",
    "up_cpu_s_per_gib": "GiB up",
    "stream_cpu_us": "HTTP/2 request, 100 streams",
    "grpc_cpu_us": "unary gRPC call",
    "name_cpu_us": "first request to a name",
}
RATIO_MIN, RATIO_MAX = 0.25, 128
FAR_LINES = {("generator", "without"): ("OpenSSL, without the guard", "#4269d0", ""),
             ("generator", "with"): ("OpenSSL, with it", "#3ca951", ""),
             ("requests", "without"): ("requests, without the guard", "#4269d0", "6 4"),
             ("requests", "with"): ("requests, with it", "#3ca951", "6 4")}


class Drawing:
    """Lines of SVG, top to bottom. Colours are such that they are seen on white and on dark pages."""

    def __init__(self):
        self.lines = []
        self.height = 0

    def text(self, x, y, words, anchor="start", weight="normal", colour="#808080"):
        self.lines.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
                          f'fill="{colour}">{escape(words)}</text>')

    def line(self, x1, y1, x2, y2, colour="#80808060"):
        self.lines.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>')

    def dot(self, x, y, colour, words):
        self.lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="{colour}"><title>{escape(words)}</title>'
                          '</circle>')

    def path(self, points, colour, dashes):
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.lines.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2.5" '
                          f'stroke-dasharray="{dashes}"/>')

    def done(self):
        return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
                          'font-family="sans-serif" font-size="13">', *self.lines, "</svg>", ""])


def legend(drawing, names, y):
    x = LEFT
    for name in names:
        drawing.dot(x, y - 4, COLOURS[name], TITLES[name])
        drawing.text(x + 11, y, TITLES[name])
        x += 96


def costs(drawing, by_measure):
    """A row for each kind of work, a dot for each proxy, on a logarithmic scale: the guard's cost is 1."""
    scale = (WIDTH - LEFT - RIGHT) / math.log2(RATIO_MAX / RATIO_MIN)
    rows = [measure for measure in ROWS if OURS in by_measure.get(measure, {})]
    if not rows:
        return
    def across(value):
        return LEFT + scale * math.log2(min(max(value, RATIO_MIN), RATIO_MAX) / RATIO_MIN)
    drawing.text(16, 22, "CPU for the same work, in multiples of Sallyport's (left is cheaper)", weight="bold")
    legend(drawing, [name for name in TITLES if any(name in by_measure[row] for row in rows)], 44)
    bottom = TOP + ROW * len(rows)
    step = RATIO_MIN
    while step <= RATIO_MAX:
        drawing.line(across(step), TOP, across(step), bottom, "#808080" if step == 1 else "#80808050")
        drawing.text(across(step), bottom + 17, f"{step:g}", "middle")
        step *= 2
    for number, measure in enumerate(rows):
        y = TOP + ROW * (number + 0.5)
        drawing.text(LEFT - 14, y + 4, ROWS[measure], "end")
        drawing.line(LEFT, y, WIDTH - RIGHT, y)
        for name, samples in by_measure[measure].items():
            if name in NOT_COMPARED.get(measure, ()):
                continue
            pairs = [theirs / ours for theirs, ours in zip(samples, by_measure[measure][OURS]) if ours > 0]
            ratio = statistics.median(pairs)
            drawing.dot(across(ratio), y, COLOURS[name], f"{TITLES[name]}: {ratio:.2f}")
    drawing.height = bottom + 34


def far(drawing, by_measure):
    """The percentiles of a call to the far server, with the guard and without it."""
    series = {}
    for (client, way), look in FAR_LINES.items():
        cells = [by_measure.get(f"far_{client}_p{p}_ms", {}).get(way) for p in PERCENTILES]
        if all(cells):
            series[look] = [statistics.median(cell) for cell in cells]
    if not series:
        return
    top, height = drawing.height + 60, 220
    most = max(max(values) for values in series.values()) * 1.05
    drawing.text(16, top - 34, "A function that connects anew for each call, to a server 20 ms away: milliseconds of a "
                               "call", weight="bold")
    for mark in range(0, int(most) + 1, 20):
        y = top + height * (1 - mark / most)
        drawing.line(LEFT, y, WIDTH - RIGHT, y)
        drawing.text(LEFT - 8, y + 4, f"{mark}", "end")
    for percentile in PERCENTILES:
        drawing.text(_at(percentile), top + height + 18, f"p{percentile}", "middle")
    for number, ((title, colour, dashes), values) in enumerate(series.items()):
        points = [(_at(p), top + height * (1 - value / most)) for p, value in zip(PERCENTILES, values)]
        drawing.path(points, colour, dashes)
        y = top + 16 + 22 * number
        drawing.path([(16, y - 4), (44, y - 4)], colour, dashes)
        drawing.text(50, y, title)
    drawing.height = top + height + 34


def _at(percentile):
    return LEFT + (WIDTH - LEFT - RIGHT) * (percentile - PERCENTILES[0]) / (PERCENTILES[-1] - PERCENTILES[0])


def draw(by_measure):
    """The SVG; with whatever of the measures is there."""
    drawing = Drawing()
    costs(drawing, by_measure)
    far(drawing, by_measure)
    return drawing.done()
