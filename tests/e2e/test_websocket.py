"""WebSocket: HTTP until the upstream's 101, then every frame both ways, and a record when it ends."""

import asyncio
import json
import ssl
import threading
import time

import pytest

import guard
from fixtures import missing

HOST = "v4.example.com"
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
POLICY = guard.policy(guard.endpoint(HOST, methods=["GET"]))


def talk(upgrade, rounds, size):
    """The handshake, the greeting, then frames of the size back and forth."""
    stream = connect("v4.example.com")
    stream.sendall(f"GET /websocket HTTP/1.1\r\nHost: v4.example.com\r\n{upgrade}\r\n".encode())
    reader = Reader(stream)
    reply = reader.response()
    greeting = reader.exactly(7)
    frame = b"\x82\xfe" + (size).to_bytes(2, "big") + b"\0\0\0\0" + b"w" * size
    answer = b"\x82\x7e" + (size).to_bytes(2, "big") + b"w" * size
    echoed = 0
    for _ in range(rounds):
        stream.sendall(frame)
        echoed += reader.exactly(len(answer)) == answer
    stream.close()
    return reply, greeting, echoed


def test_frames_pass_both_ways_after_the_101(user_bench, world):
    with user_bench.session(policy=POLICY) as session:
        reply, greeting, echoed = session.do(talk, UPGRADE, 20, 60000)
        assert reply["status"] == 101
        # RFC 6455 section 1.3: the accept value for this key.
        assert reply["headers"]["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert reply["headers"]["upgrade"] == "websocket"
        assert greeting == b"\x81\x05hello" and echoed == 20
        record = guard.exchanges(session.wait_for_records(lambda r: guard.exchanges(r)))[0]
    assert record["status"] == 101 and record["decision"] == "allow"
    assert record["bytes_up"] >= 20 * 60000 and record["bytes_down"] >= 20 * 60000


def test_a_refused_upgrade_is_an_ordinary_answer(bench, world):
    with bench.session(policy=POLICY) as session:
        reply = session.get(HOST, "/no-websocket", headers=UPGRADE)
    assert reply["status"] == 426 and reply["body"] == b"not here"


def test_the_connection_stays_http_when_the_upstream_answers_200(bench, world):
    """CVE-2024-23326, CVE-2026-2833: a tunnel before the 101 would let the next request pass undecided."""

    def try_to_tunnel(upgrade):
        stream = connect("v4.example.com", timeout=5)
        stream.sendall(
            f"GET /ignores-upgrade HTTP/1.1\r\nHost: v4.example.com\r\n{upgrade}\r\n".encode()
            + b"DELETE /tunnelled HTTP/1.1\r\nHost: v4.example.com\r\n\r\n"
        )
        reader = Reader(stream)
        return reader.response(), reader.response()

    with bench.session(policy=POLICY) as session:
        first, second = session.do(try_to_tunnel, UPGRADE)
    assert first["status"] == 200 and first["body"] == b"still http"
    assert second["status"] in (403, None)
    assert not world.saw("tunnelled")


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.0", "websocket, h2c", "connect-udp"])
def test_other_upgrades_never_reach_the_origin(bench, world, protocol):
    with bench.session(policy=POLICY) as session:
        reply = session.get(
            HOST,
            "/upgrade-me",
            headers=f"Upgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
            "Connection: Upgrade, HTTP2-Settings\r\n",
        )
    assert reply["status"] in (200, 403), reply
    if reply["status"] == 403:
        assert reply["headers"]["sallyport-denied"] == "upgrade-not-allowed"
    assert all(r.header("upgrade") is None and r.header("http2-settings") is None for r in world.saw("upgrade-me"))


def test_a_websocket_on_a_denied_path_gets_no_tunnel(bench, world):
    policy = guard.policy(guard.endpoint(HOST, path="/only"))
    with bench.session(policy=policy) as session:
        reply = session.get(HOST, "/websocket", headers=UPGRADE)
    assert reply["status"] == 403 and not world.requests()


LIBRARY_V4, LIBRARY = "127.0.0.45", "frames.example.com"


@pytest.fixture(scope="module")
def library(world):
    """A server of the websockets package, which says back what it hears; it is strict about every frame."""
    try:
        import websockets
    except ImportError:
        missing("python3-websockets")
    world.dns.table[LIBRARY] = [LIBRARY_V4]
    certificate, key = world.authority.issue("frames", [LIBRARY])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    closed, ready = [], threading.Event()

    async def echo(socket, path):
        try:
            async for message in socket:
                if message == "close with 4001":
                    await socket.close(4001, "as asked")
                    break
                if message == "in pieces":
                    await socket.send(["in ", "many ", "", "pieces"])
                else:
                    await socket.send(message)
        finally:
            await socket.wait_closed()
            closed.append((socket.close_code, socket.close_reason))

    async def serve():
        async with websockets.serve(echo, LIBRARY_V4, 443, ssl=context, max_size=None, subprotocols=["chat"]):
            ready.set()
            await asyncio.Future()

    threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
    assert ready.wait(20)
    return closed


CLIENT = """
    import asyncio, os, sys, websockets
    async def main():
        options = {"max_size": None, "compression": sys.argv[1] if sys.argv[1] != "none" else None, "subprotocols": ["chat"]}
        async with websockets.connect("wss://frames.example.com/", **options) as socket:
            assert socket.subprotocol == "chat"
            for size in (0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 3_000_000):
                for message in (os.urandom(size), "\\u00e9" * (size // 2)):
                    await socket.send(message)
                    assert await socket.recv() == message, size
            await socket.send([b"a" * 70000, b"", b"b"])
            assert await socket.recv() == b"a" * 70000 + b"b"
            await socket.send("in pieces")
            assert await socket.recv() == "in many pieces"
            for _ in range(50):
                await (await socket.ping())
            await asyncio.gather(*(socket.send(b"%d" % n) for n in range(500)))
            assert sorted([int(await socket.recv()) for _ in range(500)]) == list(range(500))
            await socket.close(3999, "enough")
        async with websockets.connect("wss://frames.example.com/") as socket:
            await socket.send("close with 4001")
            try:
                await socket.recv()
            except websockets.ConnectionClosed as closed:
                print(closed.code, closed.reason)
    asyncio.run(main())
"""


@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_the_frames_of_a_strict_library(bench, library, compression):
    library.clear()
    outcome = bench.python(CLIENT, compression, policy=guard.policy(guard.endpoint(LIBRARY)))
    assert outcome.out == "4001 as asked\n", outcome.err
    assert [r["decision"] for r in outcome.exchanges] == ["allow", "allow"]
    assert [r.get("text") for r in outcome.exchanges] == [
        "the function closed the WebSocket with code 3999",
        "the function closed the WebSocket with code 4001",
    ]
    end = time.monotonic() + 10
    while len(library) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert library[0] == (3999, "enough")


def upgraded(path, *frames):
    """Upgrades, sends the frames, and returns everything that comes until the end."""
    stream = connect("v4.example.com")
    stream.sendall(
        f"GET {path} HTTP/1.1\r\nHost: v4.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    reader = Reader(stream)
    status = reader.response()["status"]
    for one in frames:
        stream.sendall(one)
    return status, reader.buffer + read_all(stream)[0]


def masked(first, size):
    return bytes([first, 0xFE]) + size.to_bytes(2, "big") + b"\0\0\0\0" + b"x" * size


@pytest.mark.parametrize("closes", [True, False])
def test_a_reset_takes_nothing_from_a_close_frame(bench, world, closes):
    """Who has closed may go in any way; who breaks off without a word is seen to do so."""

    def listen(sent):
        import time

        stream = connect("v4.example.com")
        stream.sendall(
            f"GET /websocket-says?bytes={sent}&reset=0.2 HTTP/1.1\r\nHost: v4.example.com\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        reader = Reader(stream)
        reader.response()
        time.sleep(1)  # the reset is older than what is read now
        came, how = read_all(stream)
        return reader.buffer + came, how

    sent = b"\x81\x05hello" + (b"\x88\x02\x03\xe8" if closes else b"")
    with bench.session(policy=POLICY) as session:
        came, how = session.do(listen, sent.hex())
        assert came == sent if closes else sent.startswith(came)
        assert (how == "end") == closes, how
        [record] = guard.exchanges(session.wait_for_records(lambda r: guard.exchanges(r)))
    assert ("reset" in record.get("text", "")) == (not closes), record


def test_a_message_has_the_size_that_the_policy_allows(bench, world):
    """It counts over its fragments; what is too large does not pass, and both ends are told: 1009."""
    policy = guard.policy(guard.endpoint(HOST, websocket={"messageBytesMax": 1000}))
    with bench.session(policy=policy) as session:
        good = session.do(upgraded, "/websocket", masked(0x82, 1000), b"\x88\x80\0\0\0\0")
        assert good == (101, b"\x81\x05hello\x82\x7e\x03\xe8" + b"x" * 1000 + b"\x88\x00")
        for frames in ([masked(0x82, 1001)], [masked(0x02, 600), masked(0x80, 401)]):
            status, came = session.do(upgraded, "/websocket-says", *frames)
            assert (status, came) == (101, b"\x88\x02\x03\xf1")
        [_, whole, pieces] = session.wait_for_records(lambda r: len(guard.exchanges(r)) == 3)
        # The server's last word can be the one that is too large.
        big = (b"\x82\x7e" + (1001).to_bytes(2, "big") + b"y" * 1001).hex()
        assert session.do(upgraded, f"/websocket-says?bytes={big}") == (101, b"\x88\x02\x03\xf1")
        server = session.wait_for_records(lambda r: len(guard.exchanges(r)) == 4)[-1]
    for record in (whole, pieces):
        assert (record["decision"], record["reason"]) == ("deny", "malformed-websocket")
        assert "larger than the policy allows" in record["text"]
    assert (server["decision"], server["reason"]) == ("error", "upstream-malformed")
    assert all(b"x" * 601 not in r.body for r in world.requests() if r.path == "/websocket-says")


def test_an_endpoint_may_forbid_it(bench, world):
    policy = guard.policy(guard.endpoint(HOST, websocket={"allow": False}))
    with bench.session(policy=policy) as session:
        reply = session.get(HOST, "/websocket", headers=UPGRADE)
        assert reply["status"] == 403 and reply["headers"]["sallyport-denied"] == "websocket-not-allowed"
        assert "websocket: {allow: false}" in json.loads(reply["body"])["text"]
        assert not world.requests()
        assert session.get(HOST, "/echo")["status"] == 200


def test_audit_lets_a_forbidden_one_through(bench, world):
    policy = guard.policy(guard.endpoint(HOST, websocket={"allow": False}), mode="audit")
    with bench.session(policy=policy) as session:
        assert session.do(upgraded, "/websocket", b"\x88\x80\0\0\0\0") == (101, b"\x81\x05hello\x88\x00")
        record = session.wait_for_records(lambda r: guard.exchanges(r))[0]
    assert (record["decision"], record["reason"]) == ("would-deny", "websocket-not-allowed")


def test_a_policy_that_comes_to_forbid_it_ends_it(bench, world):
    source = """
import builtins
def begin(upgrade):
    builtins.kept = connect("v4.example.com")
    builtins.kept.sendall(f"GET /websocket HTTP/1.1\\r\\nHost: v4.example.com\\r\\n{upgrade}\\r\\n".encode())
    return Reader(builtins.kept).response()["status"]
def wait():
    return read_all(builtins.kept)[1]
"""
    with bench.session(policy=guard.policy(guard.endpoint(HOST))) as session:
        assert session.do_source(source, "begin", UPGRADE) == 101
        bench.write_policy(guard.policy(guard.endpoint(HOST, websocket={"allow": False})))
        assert session.do_source(source, "wait") != "timeout"
        record = session.wait_for_records(lambda r: guard.exchanges(r))[0]
    assert (record["decision"], record["reason"]) == ("deny", "websocket-not-allowed")
