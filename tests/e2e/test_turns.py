"""Each piece of a body is passed on as it comes, in either direction and whichever version of HTTP either side speaks.
Shown by order and not by time: who sends next has seen what was sent before it, so that one piece held back would stop
everything."""

import threading

import pytest

import guard
import http2_frame_server
import lab

HTTP1, HTTP2 = ("v4.example.com", 443), ("api.example.com", 9443)
POLICY = guard.policy(
    guard.endpoint(HTTP1[0]),
    guard.endpoint(HTTP1[0], scheme="http", name="plain"),
    guard.endpoint(HTTP2[0], ports=[HTTP2[1]]),
)
SHARES_TRAFFIC = True
PIECES = 5


@pytest.fixture(scope="module")
def speak(world):
    """Set by the test when the client has reported a piece: servers wait for it before the next."""
    event = threading.Event()
    world.tls.speak = world.plain.speak = event

    def handle(stream):
        stream.respond(("content-type", "text/event-stream"))
        path = dict(stream.fields)[":path"]
        number = 0
        while True:
            if path == "/in-turns":
                piece = stream.read()
                if piece is None:
                    break
                stream.write(piece)
            else:
                stream.write(b"data: %d\n\n" % number)
                number += 1
                event.wait(30)
                event.clear()
                if number == PIECES:
                    break
        stream.write(b"", end=True)

    certificate, key = world.good
    server = http2_frame_server.Origin(lab.ORIGIN_V4, HTTP2[1], certificate, key, handle)
    yield event
    server.close()


# What the client does, in either version: begin(), then piece() for each, then finish().
CLIENT = """
import builtins

class Http1:
    def __init__(self, host, port, path, upload):
        self.stream = connect(host, port) if port != 80 else dial(host, port)
        where = "Host: " + host + ("" if port in (80, 443) else f":{port}")
        framing = "Transfer-Encoding: chunked\\r\\n" if upload else ""
        line = "POST" if upload else "GET"
        self.stream.sendall(f"{line} {path} HTTP/1.1\\r\\n{where}\\r\\n{framing}\\r\\n".encode())
        self.reader, self.head = Reader(self.stream), None

    def send(self, data):
        self.stream.sendall(b"%x\\r\\n%s\\r\\n" % (len(data), data) if data else b"0\\r\\n\\r\\n")

    def receive(self):
        if self.head is None:
            self.head = self.reader.head()
        size = int(self.reader.line(), 16)
        data = self.reader.exactly(size)
        self.reader.exactly(2)
        return data


class Http2:
    def __init__(self, host, port, path, upload):
        import http2_frames as h2

        self.client = h2.Client(host, tls=port != 80, **({"port": port} if port != 80 else {}))
        authority = host if port in (80, 443) else f"{host}:{port}"
        fields = h2.request(authority, path, "POST" if upload else "GET", scheme="http" if port == 80 else "https")
        self.client.ask(1, fields, end=not upload)
        self.seen = 0

    def send(self, data):
        self.client.data(1, data, end=not data)

    def receive(self):
        over = lambda c: len(c.of(1)["body"]) > self.seen or c.of(1)["ended"] or c.of(1)["reset"] is not None
        self.client.run(over, 20)
        assert over(self.client), self.client.of(1)
        assert self.client.of(1)["reset"] is None and not self.client.ended, self.client.of(1)
        data = self.client.of(1)["body"][self.seen :]
        self.seen += len(data)
        return data


def begin(version, *arguments):
    builtins.kept = (Http1 if version == 1 else Http2)(*arguments)

def send(data):
    builtins.kept.send(data)

def receive():
    return builtins.kept.receive()
"""


@pytest.fixture(params=["TLS", "without TLS"])
def client(session, request):
    class Client:
        plain = request.param == "without TLS"

        def begin(self, version, server, path, upload):
            host, port = server
            session.do_source(CLIENT, "begin", version, host, 80 if self.plain else port, path, upload)

        def send(self, data):
            session.do_source(CLIENT, "send", data)

        def receive(self):
            return session.do_source(CLIENT, "receive")

    return Client()


VERSIONS = pytest.mark.parametrize(
    "version, server", [(1, HTTP1), (2, HTTP1), (1, HTTP2), (2, HTTP2)], ids=["1 to 1", "2 to 1", "1 to 2", "2 to 2"]
)


def skip_what_there_is_not(client, server):
    if client.plain and server == HTTP2:
        pytest.skip("the guard speaks HTTP/2 to servers where they agree on it within TLS")


@VERSIONS
def test_events_arrive_before_the_next_is_made(client, speak, version, server):
    skip_what_there_is_not(client, server)
    speak.clear()
    client.begin(version, server, "/events-in-turns", False)
    for number in range(PIECES):
        assert client.receive() == b"data: %d\n\n" % number
        speak.set()
    assert client.receive() == b""


@VERSIONS
def test_both_directions_take_turns(client, speak, version, server):
    """Each piece is sent only when the one before it has come back: so it had reached the server, and its echo the
    client."""
    skip_what_there_is_not(client, server)
    client.begin(version, server, "/in-turns", True)
    for number in range(PIECES):
        client.send(b"piece %d" % number)
        assert client.receive() == b"piece %d" % number
    client.send(b"")
    assert client.receive() == b""
