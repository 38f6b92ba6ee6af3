"""Who would have the traces of a function say something else than what happened, or nothing at all: a file that cannot be
read teaches nothing."""

import json
import subprocess

import pytest

import guard
import http2_frames
import inside
import published
from published import ADDRESS, OUTSIDE, Published

HOST = "v4.example.com"
OPEN = guard.endpoint(HOST, query="keep", operations={"header": "X-Op"}, allowEncodedSlashes=True)


def traces(file):
    """What `sallyport flow traces` says of a file; and that it can be read."""
    done = subprocess.run([guard.SALLYPORT, "flow", "traces", "-v", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


ODD_REQUESTS = {
    "a long method": "X" * 70 + " /odd HTTP/1.1",
    "a method of marks": "!#$%&'*+-.^_`|~ /odd HTTP/1.1",
    "the server itself": "OPTIONS * HTTP/1.1",
    "marks in the path": "GET /odd/\"<>^`{|}\\ HTTP/1.1",
    "bytes in the path": "GET /odd/\xe9\xff HTTP/1.1",
    "marks in the query": "GET /odd?a=\"<>^`{|}\\'[] HTTP/1.1",
    "bytes in the query": "GET /odd?a=\xe9\xff HTTP/1.1",
    "a long target": "GET /odd/" + "%c3%a9" * 5000 + "?" + "%c3%a9" * 300 + " HTTP/1.1",
    "escapes": "GET /odd/%2F%00%0a%7f%80?%00%0a%7f%80 HTTP/1.1",
}

ODD_REDIRECTS = ["/" + "a" * 3900, "http://x{y}.example/", "//u@h/", "/\xe9\xff", '?"<>', "http://a_b.example:99999/", "http://[::1]:0/"]


@pytest.mark.parametrize("form", ["jsonl", "pb"])
def test_no_request_of_the_function_makes_its_traces_unreadable(bench, world, form):
    """Whatever it sends and is answered, allowed or refused, also in a mode that lets everything through."""
    file = bench.folder / f"traces.{form}"

    def send(host, lines, redirects):
        def one(line, *fields):
            ask(host, "\r\n".join([line, f"Host: {host}", "Connection: close", *fields, "", ""]).encode("latin-1"))

        for line in lines:
            one(line)
            one(line, "X-Op: <<<")
        for target in redirects:
            answer = f"HTTP/1.1 307 Go\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
            one(f"GET /raw?bytes={answer.hex()} HTTP/1.1", "X-Op: a")

    for mode in ("enforce", "learn"):
        with bench.session(policy=guard.policy(OPEN, mode=mode), flags=["--traces", file]) as session:
            session.do(send, HOST, list(ODD_REQUESTS.values()), ODD_REDIRECTS)
            assert session.get(HOST, "/honest", "X-Op: a\r\n")["status"] == 200
        assert "lost" not in session.stderr()
    assert traces(file).count("/honest") == 2


ODD_MESSAGES = [
    [(":method", "GET"), (":scheme", "http"), (":path", "/no-authority")],
    [(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "f")],
    [(":method", "GET"), (":scheme", "https"), (":path", "/https"), (":authority", "f")],
]


def test_no_message_to_the_function_makes_its_traces_unreadable(bench, world):
    """Over HTTP/1 and HTTP/2, with hosts that are none, and without any."""

    def send(head):
        with published.connect(timeout=2) as stream:
            stream.sendall(head.encode("latin-1"))
            inside.read_all(stream)

    function = Published(bench, guard.policy(guard.endpoint(HOST)))
    try:
        for line in ODD_REQUESTS.values():
            for host in ("f", "A_b!$&'()*+,;=", "*.x", "[::1]", ""):
                send(f"{line}\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        send("GET /old HTTP/1.0\r\n\r\n")
        send("GET /old HTTP/1.1\r\n\r\n")
        for fields in ODD_MESSAGES:
            client = http2_frames.Client("127.0.0.1", tls=False, address=ADDRESS, port=OUTSIDE)
            client.ask(1, fields)
            client.until_over(1, timeout=3)
            client.close()
        assert published.ask("GET", "/honest")[0] == 200
    finally:
        function.stop()
    assert "lost" not in function.stderr()
    traces(function.traces_file)
    inbound = [json.loads(line).get("inbound", {}) for line in function.traces_file.read_text().splitlines()]
    assert {} in inbound, "OPTIONS * has no operation"
    assert "/honest" in [one.get("path") for one in inbound]
