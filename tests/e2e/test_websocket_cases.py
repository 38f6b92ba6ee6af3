"""The cases that Autobahn's test suite has for WebSockets, through the guard and beside it, at a strict library's server.
Frames and ends are the same both ways, and those that are right (support/websocket_cases.py has them).

The guard does not look into payloads: whether text is UTF-8 is for the ends to say, and what is not passes, so that both
see the server's 1007 (group 6). Compressed messages, groups 12 and 13, are what a library's client says."""

import socket
import ssl
import struct
import threading

import pytest

import guard
import websocket_cases
from fixtures import missing

ADDRESS, HOST = "127.0.0.71", "cases.example.com"
POLICY = guard.policy(guard.endpoint(HOST))
SHARES_TRAFFIC = True


def make_echo():
    """A connection of the websockets package that says each message back before it looks at what follows, so that it can
    be said what comes. (Its asyncio server forgets what it has not answered when a close frame comes.)"""
    import codecs

    from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
    from websockets.frames import Frame, Opcode
    from websockets.server import ServerConnection

    class Echo(ServerConnection):
        def __init__(self):
            super().__init__(max_size=None, extensions=[ServerPerMessageDeflateFactory()])
            self.opcode, self.parts, self.decoder = None, [], None

        def recv_frame(self, frame):
            super().recv_frame(frame)
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                self.opcode, self.parts = frame.opcode, []
                self.decoder = codecs.getincrementaldecoder("utf-8")()
            elif frame.opcode is not Opcode.CONT:
                return
            if self.opcode is Opcode.TEXT:
                self.decoder.decode(frame.data, frame.fin)
            self.parts.append(frame.data)
            if frame.fin:
                self.send_frame(Frame(self.opcode, b"".join(self.parts)))

    return Echo()


def serve_one(stream):
    """Until the end of the library's connection, and the client's behind it: no reset may hide what was said."""
    connection, over = make_echo(), False
    while not over and (data := stream.recv(1 << 17)):
        connection.receive_data(data)
        for event in connection.events_received():
            if hasattr(event, "path"):
                connection.send_response(connection.accept(event))
        for data in connection.data_to_send():
            over = over or data == b""
            stream.sendall(data)
    try:
        stream.unwrap()  # sends close_notify; what still comes may be anything
    except OSError:
        pass
    with socket.socket(fileno=stream.detach()) as rest:
        rest.settimeout(10)
        rest.shutdown(socket.SHUT_WR)
        while rest.recv(1 << 17):
            pass


@pytest.fixture(scope="module")
def server(world):
    try:
        import websockets.server  # noqa: F401
    except ImportError:
        missing("python3-websockets")
    world.dns.table[HOST] = [ADDRESS]
    certificate, key = world.authority.issue("cases", [HOST])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def serve(raw):
        try:
            raw.settimeout(40)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            serve_one(context.wrap_socket(raw, server_side=True))
        except OSError:
            raw.close()  # the client sees it, and the test by what it hears

    def accept(listener):
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    listener = socket.create_server((ADDRESS, 443), backlog=100)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()


def play(group, host, version):
    import websocket_cases

    return websocket_cases.outcomes(group, host, None, version)


def is_right(case, outcome):
    """Every frame, and then an orderly end; of a close frame with a reason of the server's own only the code counts."""
    frames, end = outcome
    if end != "end" or not frames or frames[:-1] != case.frames or frames[-1][0] != 0x88:
        return False
    closed = frames[-1][1]
    return closed == case.closed if isinstance(case.closed, bytes) else closed[:2] == struct.pack(">H", case.closed)


def wrong_ones(cases, outcomes):
    assert cases and outcomes
    return {name: (outcome, cases[name].closed) for name, outcome in outcomes.items() if not is_right(cases[name], outcome)}


def told_1002(case, outcome):
    """The guard's own close frame, behind whole frames of those that were to come, and an orderly end."""
    frames, end = outcome
    return end == "end" and frames[-1] == (0x88, b"\x03\xea") and frames[:-1] == case.frames[: len(frames) - 1]


UNLIKE = ("stricter", "not waited for")
ALIKE = [group for group in websocket_cases.GROUPS if group not in UNLIKE]


@pytest.mark.parametrize("group", ALIKE)
def test_a_group_of_cases_beside_the_guard_and_through_it(session, server, group):
    cases = {case.name: case for case in websocket_cases.GROUPS[group]()}
    assert len(cases) > 8
    alone = websocket_cases.outcomes(group, HOST, ADDRESS)
    assert wrong_ones(cases, alone) == {} and alone.keys() == cases.keys()
    guarded = session.do(play, group, HOST, 1)
    assert wrong_ones(cases, guarded) == {} and guarded.keys() == cases.keys()


@pytest.mark.parametrize("group", ALIKE[:-1])
def test_a_group_of_cases_over_http2(session, server, group):
    cases = {case.name: case for case in websocket_cases.GROUPS[group]()}
    guarded = session.do(play, group, HOST, 2)
    assert wrong_ones(cases, guarded) == {} and len(guarded) > 8


@pytest.mark.parametrize("version", [1, 2])
def test_the_guard_is_stricter_about_lengths(session, server, version):
    cases = {case.name: case for case in websocket_cases.GROUPS["stricter"]()}
    assert wrong_ones(cases, websocket_cases.outcomes("stricter", HOST, ADDRESS)) == {}
    guarded = session.do(play, "stricter", HOST, version)
    assert {name: outcome for name, outcome in guarded.items() if outcome != ([(0x88, b"\x03\xea")], "end")} == {}
    assert guarded.keys() == cases.keys()


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_wrong_right_behind_messages_halves_none(session, server, version):
    cases = {case.name: case for case in websocket_cases.GROUPS["not waited for"]()}
    assert wrong_ones(cases, websocket_cases.outcomes("not waited for", HOST, ADDRESS)) == {}
    guarded = session.do(play, "not waited for", HOST, version)
    assert {name: outcome for name, outcome in guarded.items() if not told_1002(cases[name], outcome)} == {}
    assert len(guarded) >= 4


COMPRESSED = """
import asyncio, json, os, websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
OFFERS = [{}, {"server_no_context_takeover": True, "client_no_context_takeover": True},
          {"server_max_window_bits": 9, "client_max_window_bits": 9}, {"client_max_window_bits": True},
          {"server_max_window_bits": 15, "server_no_context_takeover": True}]
async def main():
    for offer in OFFERS:
        extensions = [ClientPerMessageDeflateFactory(**offer)]
        async with websockets.connect("wss://cases.example.com/", extensions=extensions, compression=None, max_size=None) as peer:
            assert [extension.name for extension in peer.extensions] == ["permessage-deflate"]
            for size in (0, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072):
                for message in (os.urandom(size), json.dumps({"a": "b" * size}), "\\u03ba" * size):
                    for _ in range(3):
                        await peer.send(message)
                        assert await peer.recv() == message
            pieces = [b"a" * 5000, os.urandom(5000), b"", b"c"]
            await peer.send(pieces)
            assert await peer.recv() == b"".join(pieces)
            await peer.close(3001)
            assert peer.close_code == 3001
    print("all")
asyncio.run(main())
"""


def test_compression_in_each_form_that_can_be_agreed_on(bench, server):
    """Groups 12 and 13: windows and contexts are for the ends; the guard relays what they compressed."""
    outcome = bench.python(COMPRESSED, policy=POLICY, timeout=120)
    assert outcome.out == "all\n", outcome.err
    assert {(r["status"], r["protocol"], r["decision"]) for r in outcome.exchanges} == {(101, "WebSocket", "allow")}
    assert len(outcome.exchanges) == 5
