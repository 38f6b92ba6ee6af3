"""WebSocket over HTTP/2 (RFC 8441) on either side of the guard, with Node's http2 and the websockets package as peers."""

import asyncio
import json
import select
import ssl
import subprocess
import threading

import pytest

import fixtures
import guard
import http2_origin
import lab

OLD, OLD_V4 = "old-frames.example.com", "127.0.0.47"  # speaks HTTP/1 only
NEW, NEW_V4 = "new-frames.example.com", "127.0.0.48"  # speaks HTTP/2 only
BOTH, BOTH_V4 = "frames-by-hand.example.com", "127.0.0.49"
SERVERS = {"http1": OLD, "http2": NEW}
SHARES_TRAFFIC = True


@pytest.fixture(scope="module")
def peers(world):
    """The websockets package on HTTP/1, Node on HTTP/2: each echoes whole messages, and is strict about frames."""
    fixtures.need("node")
    try:
        import websockets
    except ImportError:
        fixtures.missing("python3-websockets")
    world.dns.table.update({OLD: [OLD_V4], NEW: [NEW_V4]})
    certificate, key = world.authority.issue("frames2", [OLD, NEW])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    ready = threading.Event()

    async def echo(socket, path):
        async for message in socket:
            await socket.send(message)

    async def serve():
        async with websockets.serve(echo, OLD_V4, 443, ssl=context, max_size=None, subprotocols=["chat"]):
            ready.set()
            await asyncio.Future()

    threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
    node = subprocess.Popen(
        ["node", str(lab.SUPPORT / "websocket_server.js"), NEW_V4, "443", str(certificate), str(key)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lab.die_with_parent,
    )
    assert ready.wait(20) and select.select([node.stdout], [], [], 20)[0] and "ready" in node.stdout.readline()
    yield
    node.kill()
    node.wait()


@pytest.fixture(scope="module")
def by_hand(world):
    return http2_origin.Origin(world, BOTH_V4, BOTH)


POLICY = guard.policy(guard.endpoint(OLD, methods=["GET"]), guard.endpoint(NEW, methods=["GET"]))

OVER_HTTP1 = """
    import asyncio, os, sys, websockets
    async def main():
        async with websockets.connect(f"wss://{sys.argv[1]}/chat", max_size=None, subprotocols=["chat"]) as socket:
            assert socket.subprotocol == "chat"
            for size in (0, 1, 125, 126, 65535, 65536, 3_000_000):
                message = os.urandom(size)
                await socket.send(message)
                assert await socket.recv() == message, size
            await (await socket.ping())
            await socket.close(1000)
        print("good", socket.close_code)
    asyncio.run(main())
"""

OVER_HTTP2 = """
const http2 = require('http2'), crypto = require('crypto'), fs = require('fs');
const host = process.argv[1];
const client = http2.connect('https://' + host, {ca: fs.readFileSync(process.env.NODE_EXTRA_CA_CERTS)});
client.on('error', error => { console.log('' + error); process.exit(1); });
function frame(first, payload) {
  const size = payload.length, long = size > 65535 ? 8 : size > 125 ? 2 : 0;
  const head = Buffer.alloc(2 + long + 4);
  head[0] = first;
  head[1] = 0x80 | (long === 8 ? 127 : long === 2 ? 126 : size);
  if (long === 2) head.writeUInt16BE(size, 2);
  if (long === 8) head.writeBigUInt64BE(BigInt(size), 2);
  const mask = crypto.randomBytes(4);
  mask.copy(head, 2 + long);
  const masked = Buffer.from(payload);
  for (let i = 0; i < size; ++i) masked[i] ^= mask[i & 3];
  return Buffer.concat([head, masked]);
}
client.once('remoteSettings', settings => {
  if (!settings.enableConnectProtocol) { console.log('not offered'); process.exit(1); }
  const stream = client.request({':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat',
                                 'sec-websocket-version': '13', 'sec-websocket-protocol': 'chat'});
  let bytes = Buffer.alloc(0), waiting = null;
  stream.on('data', part => { bytes = Buffer.concat([bytes, part]); if (waiting) waiting(); });
  stream.on('error', error => { console.log('' + error); process.exit(1); });
  const ended = new Promise(resolve => stream.on('end', resolve));
  async function exactly(count) {
    while (bytes.length < count) await new Promise(resolve => { waiting = resolve; });
    const taken = bytes.subarray(0, count);
    bytes = bytes.subarray(count);
    return taken;
  }
  async function message() {
    const head = await exactly(2);
    let size = head[1];
    if (size === 126) size = (await exactly(2)).readUInt16BE(0);
    else if (size === 127) size = Number((await exactly(8)).readBigUInt64BE(0));
    return [head[0], await exactly(size)];
  }
  stream.on('response', async headers => {
    const odd = Object.keys(headers).filter(name => ['sec-websocket-accept', 'upgrade', 'connection'].includes(name));
    if (headers[':status'] !== 200 || odd.length || headers['sec-websocket-protocol'] !== 'chat') {
      console.log('answered', headers[':status'], odd, headers['sec-websocket-protocol']);
      process.exit(1);
    }
    for (const size of [0, 1, 125, 126, 65535, 65536, 3000000]) {
      const sent = crypto.randomBytes(size);
      stream.write(frame(0x82, sent));
      const [first, got] = await message();
      if (first !== 0x82 || !got.equals(sent)) { console.log('wrong', size, first, got.length); process.exit(1); }
    }
    stream.write(frame(0x89, Buffer.from('ping')));
    const pong = await message();
    stream.write(frame(0x88, Buffer.from([3, 232])));
    const closing = await message();
    stream.end();
    await ended;
    console.log('good', pong[0] === 0x8a && '' + pong[1] === 'ping', closing[0] === 0x88, closing[1].readUInt16BE(0));
    client.close();
  });
});
"""


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("function", ["http1", "http2"])
def test_messages_pass_whatever_each_side_speaks(bench, peers, function, server):
    host = SERVERS[server]
    if function == "http1":
        outcome = bench.python(OVER_HTTP1, host, policy=POLICY)
        assert outcome.out == "good 1000\n", outcome.err + outcome.out
    else:
        outcome = bench.run(["node", "-e", OVER_HTTP2, host], policy=POLICY)
        assert outcome.out == "good true true 1000\n", outcome.err + outcome.out
    [record] = outcome.exchanges
    assert (record["decision"], record["method"], record["path"], record["protocol"]) == (
        "allow", "GET", "/chat", "WebSocket",
    )
    assert record["status"] == (101 if function == "http1" else 200)
    assert record["bytes_up"] > 3_100_000 and record["bytes_down"] > 3_100_000


def shake(host, path="/chat", frames=(), more=(), settle=0.0, count=1):
    """Extended CONNECT over one connection: statuses, denials, and everything that came until the stream's end."""
    import time

    import http2_frames as h2

    client = h2.Client(host, timeout=10)
    replies = []
    for stream in range(1, 2 * count, 2):
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", host), (":path", path)]
        client.ask(stream, pseudo + [("sec-websocket-version", "13"), *more], end=False)
        client.run(lambda c: c.of(stream)["status"] or c.of(stream)["reset"] is not None, 10)
        time.sleep(settle)
        for one in frames:
            client.data(stream, one)
        if frames or client.of(stream)["status"] != 200:
            client.until_over(stream)
        replies.append(client.of(stream))
    client.close()
    return replies, client.settings.get(8)


CLOSE = b"\x88\x80\0\0\0\0"


def records_of(session, path):
    return [r for r in guard.exchanges(session.bench.records()) if r.get("path") == path]


def by_hand_session(bench, mode="enforce", **more):
    return bench.session(policy=guard.policy(guard.endpoint(BOTH, methods=["GET"], **more), mode=mode))


def test_the_policy_decides_it_as_a_get(bench, by_hand):
    by_hand.reset()
    with bench.session(policy=guard.policy(guard.endpoint(BOTH, methods=["GET"], path="/chat"))) as session:
        [good], offered = session.do(shake, BOTH, "/chat", [CLOSE])
        assert offered == 1 and (good["status"], good["body"], good["ended"]) == (200, b"\x88\x00", True)
        [bad], _ = session.do(shake, BOTH, "/other")
        assert bad["status"] == 403 and bad["headers"]["sallyport-denied"] == "path-not-allowed"
    assert [path for _, path, _ in by_hand.requests] == ["/chat"]
    fields = by_hand.requests[0][2]
    assert (fields[":method"], fields[":protocol"], fields[":scheme"]) == ("CONNECT", "websocket", "https")


@pytest.mark.parametrize("by", ["endpoint", "method"])
def test_a_websocket_that_is_not_allowed(bench, by_hand, by):
    by_hand.reset()
    endpoint = guard.endpoint(BOTH, websocket={"allow": False}) if by == "endpoint" else guard.endpoint(BOTH, methods=["POST"])
    with bench.session(policy=guard.policy(endpoint)) as session:
        [reply], _ = session.do(shake, BOTH)
    assert reply["status"] == 403 and not by_hand.requests
    assert json.loads(reply["body"])["reason"] == ("websocket-not-allowed" if by == "endpoint" else "method-not-allowed")


@pytest.mark.parametrize("function", ["http1", "http2"])
def test_messages_have_the_size_that_the_policy_allows(bench, by_hand, function):
    by_hand.reset()
    large = b"\x82\xfe\x03\xe9\0\0\0\0" + b"x" * 1001
    with by_hand_session(bench, websocket={"messageBytesMax": 1000}) as session:
        if function == "http2":
            [reply], _ = session.do(shake, BOTH, "/quiet", [large])
            assert (reply["status"], reply["body"]) == (200, b"\x88\x02\x03\xf1")
        else:
            assert session.do(upgraded, BOTH, "/quiet", large) == (101, b"\x88\x02\x03\xf1")
        [record] = session.wait_for_records(lambda r: guard.exchanges(r))
    assert (record["decision"], record["reason"]) == ("deny", "malformed-websocket")
    heard = by_hand.received["/quiet"]
    assert b"xx" not in heard and heard[:2] == b"\x88\x82"


def upgraded(host, path, *frames):
    """The handshake of HTTP/1, the frames, and everything that comes until the end."""
    stream = connect(host)
    stream.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    reader = Reader(stream)
    reply = reader.response()
    if reply["status"] == 101:
        assert reply["headers"]["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", reply
    for one in frames:
        stream.sendall(one)
    return reply["status"], reader.buffer + read_all(stream)[0]


def test_the_key_is_answered_for_a_server_that_never_saw_it(bench, by_hand):
    """RFC 8441 section 5: over HTTP/2 there is no key; what a server puts in its answer's place is not passed on."""
    by_hand.reset()
    with by_hand_session(bench) as session:
        assert session.do(upgraded, BOTH, "/accept", CLOSE) == (101, b"\x88\x00")
        [reply], _ = session.do(shake, BOTH, "/accept", [CLOSE])
    assert reply["status"] == 200 and "sec-websocket-accept" not in reply["headers"]
    assert all("sec-websocket-key" not in fields for _, _, fields in by_hand.requests) and len(by_hand.requests) == 2
    assert by_hand.agreed == ["h2"], "the second shares the first one's connection"


def test_a_server_without_extended_connect_gets_http1(bench, by_hand):
    """The first finds it out, the second knows it; other requests go over HTTP/2 all the while."""
    by_hand.reset(settings=())
    with by_hand_session(bench) as session:
        replies, _ = session.do(shake, BOTH, "/chat", [CLOSE], (), 0.0, 2)
        assert [(r["status"], r["body"]) for r in replies] == [(200, b"\x88\x00")] * 2
        assert session.do(upgraded, BOTH, "/chat", CLOSE) == (101, b"\x88\x00")
        assert session.get(BOTH, "/plain")["body"] == b"http2"
    assert sorted(by_hand.agreed) == ["h2", "http/1.1", "http/1.1", "http/1.1"]
    keys = [fields["sec-websocket-key"] for version, _, fields in by_hand.requests if version == "http/1.1"]
    assert len(set(keys)) == 3, "a key of the guard's own for each handshake of HTTP/2"


def test_a_refused_handshake_is_an_ordinary_answer(bench, by_hand):
    by_hand.reset()
    with by_hand_session(bench) as session:
        [reply], _ = session.do(shake, BOTH, "/status/403")
        assert (reply["status"], reply["headers"].get("sallyport-denied")) == (403, None)
        assert session.do(upgraded, BOTH, "/status/404")[0] == 404


def test_a_policy_that_comes_to_forbid_it_ends_it(bench, by_hand):
    source = """
import builtins
def begin(host):
    import http2_frames as h2
    builtins.kept = client = h2.Client(host)
    pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", host), (":path", "/chat")]
    client.ask(1, pseudo, end=False)
    client.run(lambda c: c.of(1)["status"])
    return client.of(1)["status"]
def wait():
    reply = builtins.kept.until_over(1)[0]
    return reply["ended"], reply["reset"]
"""
    by_hand.reset()
    with by_hand_session(bench) as session:
        assert session.do_source(source, "begin", BOTH) == 200
        bench.write_policy(guard.policy(guard.endpoint(BOTH, websocket={"allow": False})))
        assert session.do_source(source, "wait") == (False, 8)
        [record] = session.wait_for_records(lambda r: guard.exchanges(r))
    assert (record["decision"], record["reason"]) == ("deny", "websocket-not-allowed")
    assert by_hand.ended["/chat"] == 8, "the server is told by RST_STREAM, too"


def test_half_a_close_is_passed_on(bench, by_hand):
    """END_STREAM ends one direction; the other one goes on until it has ended, too."""
    def half(host):
        import http2_frames as h2

        client = h2.Client(host)
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", host), (":path", "/says?8100")]
        client.ask(1, pseudo, end=False)
        client.run(lambda c: c.of(1)["ended"])
        client.data(1, b"\x82\x82\0\0\0\0ok")
        client.data(1, b"", end=True)
        client.run(lambda c: c.of(1)["reset"] is not None, 1)
        return client.of(1)["body"], client.of(1)["reset"]

    by_hand.reset()
    with by_hand_session(bench) as session:
        assert session.do(half, BOTH) == (b"\x81\x00", None)
        [record] = session.wait_for_records(lambda r: guard.exchanges(r))
    assert record["decision"] == "allow" and record["bytes_up"] == 8
    assert by_hand.received["/says?8100"] == b"\x82\x82\0\0\0\0ok" and by_hand.ended["/says?8100"] == "end"


def test_a_reset_is_a_reset_on_the_other_side(bench, by_hand):
    """RST_STREAM and a reset of TCP stand for each other (RFC 8441 section 5)."""
    def give_up(host):
        import http2_frames as h2

        client = h2.Client(host)
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", host), (":path", "/chat/1")]
        client.ask(1, pseudo, end=False)
        client.run(lambda c: c.of(1)["status"])
        client.data(1, b"\x82\x85\0\0\0\0ab")
        client.run(lambda c: False, 0.3)
        client.send(h2.frame(h2.RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
        client.run(lambda c: False, 0.3)

    def reset_tcp(host):
        import struct

        stream = connect(host)
        stream.sendall(
            f"GET /chat/2 HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        Reader(stream).response()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()

    by_hand.reset()
    with by_hand_session(bench) as session:
        session.do(give_up, BOTH)
        session.do(reset_tcp, BOTH)
        [reply], _ = session.do(shake, BOTH, "/reset", [b"\x82\x80\0\0\0\0"])
        assert (reply["status"], reply["body"], reply["ended"], reply["reset"]) == (200, b"\x82\x05ab", False, 8)
        session.wait_for_records(lambda r: len(guard.exchanges(r)) == 3)
    assert by_hand.ended["/chat/1"] == 8 and by_hand.ended["/chat/2"] == 8
