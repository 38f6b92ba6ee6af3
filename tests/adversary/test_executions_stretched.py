"""A hijacked function that would use in one execution what another was allowed, or go on where its own has ended: with
requests, connections, streams and uploads that span both. Its executions are invocations of AWS Lambda's Runtime API,
which it asks for and answers itself, as a runtime does."""

import inspect
import itertools
import textwrap

import pytest

import flows
import guard
from runtime_api import RuntimeApi

HOST = "v4.example.com"
OPEN = guard.endpoint(HOST)
ONCE = flows.graph(flows.node("once", f"GET {HOST}/echo/once"))

# What the attacks have besides inside.py.
INSIDE = f'''
HOST, API = {HOST!r}, "runtime-api.sallyport.internal"


def api(method, path, body=b""):
    head = f"{{method}} /2018-06-01/runtime/invocation/{{path}} HTTP/1.1\\r\\nHost: {{API}}\\r\\nConnection: close\\r\\n"
    return ask(API, f"{{head}}Content-Length: {{len(body)}}\\r\\n\\r\\n".encode() + body, tls=False, port=80)


def begin():
    """The next execution: its name."""
    return api("GET", "next")["headers"]["lambda-runtime-aws-request-id"]


def finish(name):
    assert api("POST", name + "/response", b"{{}}")["status"] == 202


def head(path, method="GET", *fields):
    return "\\r\\n".join([f"{{method}} {{path}} HTTP/1.1", f"Host: {{HOST}}", *fields, "", ""]).encode()


def once(trace=None):
    return get(HOST, "/echo/once", f"traceparent: 00-{{trace}}-00f067aa0ba902b7-01\\r\\n" if trace else "")["status"]
'''


@pytest.fixture
def attack(bench, world):
    """attack(graph, function, invocations…): what the function returned, run inside."""

    def run(graph, function, *invocations, traces=(), **options):
        api = RuntimeApi()
        for name, trace in itertools.zip_longest(invocations, traces):
            api.invoke(name, trace=trace and f"Root=1-{trace[:8]}-{trace[8:]}")
        source = INSIDE + textwrap.dedent(inspect.getsource(function))
        try:
            with bench.session(policy=flows.policy(bench, graph, OPEN), flags=["--runtime-api", api.address]) as session:
                return session.do_source(source, function.__name__, **options)
        finally:
            api.close()

    return run


def arrived(world, path):
    return [r for r in world.requests() if r.path == path]


def test_a_request_that_waits_behind_another_is_of_the_execution_that_is_open_when_it_is_read(attack, world):
    """Pipelined in the first, behind one whose answer comes when the first has been answered itself."""
    members = [{"request": f"GET {HOST}/slow"}, {"request": f"GET {HOST}/echo/once"}]
    graph = flows.graph({"name": "all", "set": members, "next": ["exit"]})

    def pipelined():
        first = begin()
        stream = connect(HOST)
        stream.sendall(head("/slow?ms=1200") + head("/echo/once"))
        time.sleep(0.4)
        finish(first)
        reader = Reader(stream)
        return [reader.response()["status"], reader.response()["status"]]

    assert attack(graph, pipelined, "one") == [200, 403]
    assert not arrived(world, "/echo/once")


def test_a_head_counts_where_it_is_complete(attack, world):
    """Half of it before the execution, or behind its end."""

    def halves():
        def half():
            stream = connect(HOST)
            stream.sendall(head("/echo/once")[:-2])
            time.sleep(0.2)
            return stream

        def rest(stream):
            stream.sendall(b"\r\n")
            return Reader(stream).response()["status"]

        finish(begin())  # what is before the first is an execution of its own
        early = half()
        second = begin()
        late = half()
        said = [rest(early), once()]
        finish(second)
        said.append(rest(late))
        third = begin()
        said += [once(), once()]
        finish(third)
        return said

    assert attack(ONCE, halves, "one", "two", "three") == [200, 403, 403, 200, 403]
    assert len(arrived(world, "/echo/once")) == 2


def test_an_upload_that_spans_two_executions_is_one_request_of_the_first(attack, world):
    """Whatever becomes of it in the second opens nothing there, and nothing of the second is used up by it."""
    graph = flows.graph(flows.node("a", f"POST {HOST}/sink", retries=1))

    def upload():
        def chunked():
            stream = connect(HOST)
            stream.sendall(head("/sink", "POST", "Transfer-Encoding: chunked") + b"5\r\nfirst\r\n")
            time.sleep(0.2)
            return stream

        def post():
            return ask(HOST, head("/sink", "POST", "Content-Length: 2", "Connection: close") + b"ab")["status"]

        said = []
        name = begin()
        for ends in ("whole", "broken"):
            stream = chunked()
            finish(name)
            said.append(post())  # belongs to none
            name = begin()
            said.append(post())
            if ends == "whole":
                stream.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
                said.append(Reader(stream).response()["status"])
            else:
                stream.close()
                time.sleep(0.3)
            said.append(post())
            finish(name)
            name = begin()
        return said

    assert attack(graph, upload, *"12345") == [403, 200, 200, 403, 403, 200, 403]
    whole = [r for r in arrived(world, "/sink") if r.complete]
    assert sorted(r.body for r in whole) == [b"ab", b"ab", b"firstsecond"]


def test_streams_of_one_connection_are_of_the_execution_that_is_open_when_they_come(attack, world):
    def streams():
        import http2_frames

        client = http2_frames.Client(HOST)
        numbers = iter(range(1, 99, 2))

        def stream():
            number = next(numbers)
            client.ask(number, http2_frames.request(HOST, "/echo/once"))
            return client.until_over(number)[0]["status"]

        said = []
        for _ in range(2):
            name = begin()
            said += [stream(), stream()]
            finish(name)
            said.append(stream())
        return said

    assert attack(ONCE, streams, "one", "two") == [200, 403, 403] * 2
    assert len(arrived(world, "/echo/once")) == 2


def test_a_websocket_that_outlives_its_execution_opens_nothing(attack, world):
    """Its messages go on, as nobody looks into them; another one needs an execution that may open it."""
    graph = flows.graph(flows.node("a", f"GET {HOST}/websocket"))

    def sockets():
        def handshake():
            stream = connect(HOST)
            fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
            stream.sendall(head("/websocket", "GET", *fields, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
            return stream, Reader(stream).head()[0]

        name = begin()
        stream, status = handshake()
        said = [status, handshake()[1]]
        finish(name)
        said.append(handshake()[1])
        name = begin()
        stream.sendall(b"\x81\x81\0\0\0\0x")
        said.append(stream.recv(3) != b"")
        said += [handshake()[1], handshake()[1]]
        finish(name)
        return said

    assert attack(graph, sockets, "one", "two") == [101, 403, 403, True, 101, 403]
    assert len(arrived(world, "/websocket")) == 2


A, B = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_trace_of_another_execution_uses_up_what_that_one_has(attack, world):
    """Under each trace, under none, under one that nobody has: in all not once more than the executions may."""

    def borrowing(a, b):
        first, second = begin(), begin()
        said = [once(a), once(a), once("f" * 32)]  # the third is the second's, as it can be nobody else's
        said += [once(b), once(), once(a)]
        finish(first)
        finish(second)
        third, fourth = begin(), begin()
        said += [once(b), once(a), once(b)]  # of two that have ended: a trace that nobody has
        finish(third)
        said.append(once())
        finish(fourth)
        return said

    said = attack(ONCE, borrowing, *"1234", traces=[A, B, "1" * 32, "2" * 32], a=A, b=B)
    assert said == [200, 403, 200, 403, 403, 403, 200, 200, 403, 403]
    assert len(arrived(world, "/echo/once")) == 4


def test_what_is_left_of_an_execution_is_not_inherited(attack, world):
    """Two are open, one of them sends nothing and ends: the other has its own."""

    def lending():
        first, second = begin(), begin()
        finish(first)
        said = [once(), once()]
        third = begin()
        finish(second)
        said += [once(), once()]
        finish(third)
        return said + [once()]

    assert attack(ONCE, lending, *"123") == [200, 403, 200, 403, 403]
    assert len(arrived(world, "/echo/once")) == 2


RETRIED = flows.graph(flows.node("a", f"GET {HOST}/slow", retries=2))


def test_a_retry_needs_an_answer_and_not_only_room(attack, world):
    """Three at once, pipelined and as streams, where two retries are left: the first has not failed."""

    def at_once(http2):
        name = begin()
        if http2:
            import http2_frames

            client = http2_frames.Client(HOST)
            for number in (1, 3, 5):
                client.ask(number, http2_frames.request(HOST, "/slow"))
            said = [reply["status"] for reply in client.until_over(1, 3, 5)]
        else:
            streams = [connect(HOST) for _ in range(3)]
            for stream in streams:
                stream.sendall(head("/slow"))
            said = [Reader(stream).response()["status"] for stream in streams]
        finish(name)
        return sorted(said)

    for http2 in (False, True):
        assert attack(RETRIED, at_once, "one", http2=http2) == [200, 403, 403]
    assert len(arrived(world, "/slow")) == 2


def test_streams_that_the_function_takes_back_are_failures_and_counted(attack, world):
    """Each has gone to the server and is reset before its answer: as often as there are retries, and no more."""

    def taken_back():
        import http2_frames

        name = begin()
        client = http2_frames.Client(HOST)
        for number in range(1, 13, 2):
            client.ask(number, http2_frames.request(HOST, "/slow?ms=3000"))
            client.run(lambda c, number=number: number in c.streams, timeout=0.3)
            client.send(http2_frames.frame(http2_frames.RST_STREAM, 0, number, b"\0\0\0\x08"))
            client.run(timeout=0.3)  # until the guard has seen it
        said = [client.of(number)["status"] for number in range(1, 13, 2)]
        finish(name)
        return said

    assert attack(RETRIED, taken_back, "one") == [None] * 3 + [403] * 3
    assert len(arrived(world, "/slow")) == 3


def test_an_informational_response_is_no_answer(attack, world):
    """The server says 103, and the function asks again."""
    graph = flows.graph(flows.node("a", f"GET {HOST}/raw", retries=1))

    def again():
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".hex()
        name = begin()
        stream = connect(HOST)
        stream.sendall(head("/raw?bytes=" + hints))
        said = [Reader(stream).head()[0], get(HOST, "/raw?bytes=" + hints)["status"]]
        stream.close()
        finish(name)
        return said

    assert attack(graph, again, "one") == [103, 403]
    assert len(arrived(world, "/raw")) == 1


def test_content_that_was_announced_and_never_sent_is_a_request_all_the_same(attack, world):
    """Expect: 100-continue, and the function goes when it is told to go on."""
    graph = flows.graph(flows.node("a", f"POST {HOST}/sink", retries=1))

    def announce():
        name, said = begin(), []
        for _ in range(4):
            stream = connect(HOST)
            stream.sendall(head("/sink", "POST", "Expect: 100-continue", "Content-Length: 9"))
            said.append(Reader(stream).head()[0])
            stream.close()
            time.sleep(0.3)
        finish(name)
        return said

    assert attack(graph, announce, "one") == [100, 100, 403, 403]
    assert len(arrived(world, "/sink")) == 2
