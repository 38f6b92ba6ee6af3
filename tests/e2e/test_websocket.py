"""WebSocket: HTTP until the upstream's 101, then every frame both ways, and a record when it ends."""

import pytest

import guard

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
    echoed = 0
    for _ in range(rounds):
        stream.sendall(frame)
        echoed += reader.exactly(len(frame)) == frame
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
