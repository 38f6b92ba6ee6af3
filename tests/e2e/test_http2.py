"""HTTP/2 between the function and the guard, with servers that speak HTTP/1. One guard for all."""

import json
import time

import pytest

import fixtures
import guard

SHARES_TRAFFIC = True
HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST), guard.endpoint("api.example.com", methods=["GET"], path="/open"),
                      guard.endpoint("api.example.com", methods=["GET"], path="/open", scheme="http", name="plain"),
                      guard.endpoint(HOST, scheme="http", name="plain-too"))


@pytest.fixture(autouse=True)
def clean(world):
    world.forget()


def h2_get(*arguments, **options):
    import http2_frames as h2

    return h2.get(*arguments, **options)


def test_a_request_and_its_record(session, world):
    reply = session.do(h2_get, HOST, "/echo?q=1", "GET", ("x-a", "b"))
    assert (reply["status"], reply["agreed"], reply["ended"]) == (200, "h2", True)
    request = world.requests()[0]
    assert request.version == "HTTP/1.1" and request.header("x-a") == "b" and request.header("host") == HOST
    record = session.wait_for_records(lambda r: guard.exchanges(r))[-1]
    assert (record["protocol"], record["status"], record["path"], record["decision"]) == ("HTTP/2", 200, "/echo", "allow")


def test_without_tls_by_prior_knowledge(session, world):
    reply = session.do(h2_get, "api.example.com", "/open", tls=False)
    assert reply["status"] == 200 and world.plain.requests[-1].header("host") == "api.example.com"
    assert session.do(h2_get, "api.example.com", "/shut", tls=False)["status"] == 403


def test_a_denial_can_be_read(session, world):
    reply = session.do(h2_get, "api.example.com", "/shut")
    assert reply["status"] == 403 and reply["headers"]["sallyport-denied"] == "path-not-allowed"
    assert json.loads(reply["body"])["reason"] == "path-not-allowed" and not world.requests()


def test_a_denied_upload_ends_with_its_answer(session):
    def upload():
        import http2_frames as h2

        client = h2.Client("api.example.com")
        client.ask(1, h2.request("api.example.com", "/open", "POST"), end=False)
        client.data(1, b"x" * 1000)
        client.run(lambda c: c.of(1)["reset"] is not None, 12)
        client.ask(3, h2.request("api.example.com", "/open"))
        return client.of(1), client.until_over(3)[0]["status"]

    first, second = session.do(upload)
    assert (first["status"], first["ended"], first["reset"]) == (403, True, 0) and second == 200


def test_what_was_on_its_way_when_a_stream_was_reset_is_no_fault(session):
    def late():
        import http2_frames as h2

        client = h2.Client("api.example.com")
        client.ask(1, h2.request("api.example.com", "/open", "POST"), end=False)
        client.run(lambda c: c.of(1)["reset"] is not None, 5)
        client.data(1, b"x" * 1000)
        client.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, h2.block([("x-sum", "1")])))
        client.ask(3, h2.request("api.example.com", "/open"))
        return client.until_over(3)[0]["status"], client.goaway

    assert session.do(late) == (200, None)


@pytest.mark.parametrize("first, second", [(1, 1), (5, 3)], ids=["one that is over", "one that was passed over"])
def test_a_request_for_a_closed_stream_ends_the_connection(session, world, first, second):
    """Else it would vanish without an answer and without a record."""

    def twice(first, second):
        import http2_frames as h2

        client = h2.Client("v4.example.com")
        client.ask(first, h2.request("v4.example.com"))
        client.until_over(first)
        client.ask(second, h2.request("v4.example.com", "/again"))
        client.run(timeout=5)
        return client.of(first)["status"], client.goaway, client.ended

    assert session.do(twice, first, second) == (200, 5, "end")
    assert not world.saw("/again")
    session.wait_for_records(lambda r: any("a frame for a stream that is closed" in x.get("text", "") for x in r))


@pytest.mark.parametrize(
    "how, framing",
    [
        ("length", ("content-length", "5")),
        ("none", ("content-length", "5")),  # all of it was there: its length is known
        ("slow", ("transfer-encoding", "chunked")),
        ("trailers", ("transfer-encoding", "chunked")),
        ("empty", ("content-length", "0")),
    ],
)
def test_request_bodies(session, world, how, framing):
    def post(how):
        import http2_frames as h2

        client = h2.Client("v4.example.com")
        more = [("content-length", "5")] if how == "length" else []
        head = h2.block(h2.request("v4.example.com", "/body", "POST", *more))
        if how in ("length", "none"):  # in one piece: the guard has the whole request when it looks at it
            client.send(
                h2.frame(h2.HEADERS, h2.END_HEADERS, 1, head) + h2.frame(h2.DATA, h2.END_STREAM, 1, b"hello")
            )
            return client.until_over(1)[0]
        client.send(h2.frame(h2.HEADERS, h2.END_HEADERS | (how == "empty"), 1, head))
        if how == "slow":
            for part in (b"he", b"ll", b"o"):
                client.data(1, part)
                time.sleep(0.1)
            client.data(1, b"", True)
        elif how == "trailers":
            client.data(1, b"hello")
            trailers = h2.block([("x-sum", "1"), ("authorization", "no")])
            client.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, trailers))
        return client.until_over(1)[0]

    reply = session.do(post, how)
    request = world.requests()[0]
    assert (reply["status"], reply["ended"]) == (200, True) and request.complete
    assert reply["body"] == (b"" if how == "empty" else b"hello") and request.header(framing[0]) == framing[1]
    assert request.trailers == ([("x-sum", "1")] if how == "trailers" else [])


def test_cookie_crumbs_are_joined(session, world):
    session.do(h2_get, HOST, "/echo", "GET", ("cookie", "a=1"), ("x-between", "1"), ("cookie", "b=2"), ("cookie", "c=3"))
    assert [v for n, v in world.requests()[0].headers if n.lower() == "cookie"] == ["a=1; b=2; c=3"]


@pytest.mark.parametrize("path, method, status, body", [
    ("/status/204", "GET", 204, b""), ("/status/304", "GET", 304, b""), ("/status/404", "GET", 404, b"status 404"),
    ("/status/200", "HEAD", 200, b""), ("/close-delimited", "GET", 200, b"until the end"),
    ("/chunked?chunks=2", "GET", 200, b"part 0;part 1;"), ("/download?bytes=0", "GET", 200, b""),
])
def test_responses(session, path, method, status, body):
    reply = session.do(h2_get, HOST, path, method)
    assert (reply["status"], reply["body"], reply["ended"], reply["reset"]) == (status, body, True, None)
    assert not {"connection", "transfer-encoding", "keep-alive"} & set(reply["headers"])


def test_trailers_hints_and_cookies_of_a_response(session):
    assert session.do(h2_get, HOST, "/chunked?trailers=1")["trailers"] == [("x-sum", "42")]
    hinted = session.do(h2_get, HOST, "/hints")
    assert hinted["informational"] == [103] and hinted["body"] == b"after hints"
    fields = session.do(h2_get, HOST, "/cookies")["fields"]
    assert [v for n, v in fields if n == "set-cookie"] == ["a=1", "b=2"]


@pytest.mark.parametrize("path", ["/cut", "/cut-chunked", "/hang-up", "/reset"])
def test_a_broken_response_does_not_look_complete(session, path):
    reply = session.do(h2_get, HOST, path)
    if path in ("/hang-up", "/reset"):
        assert reply["status"] == 502 and reply["ended"]
    else:
        assert reply["status"] == 200 and not reply["ended"] and reply["reset"] == 2


def test_first_byte_as_soon_as_it_is_there(session):
    def listen():
        import http2_frames as h2

        client = h2.Client("v4.example.com")
        client.ask(1, h2.request("v4.example.com", "/events"))
        begun, times = time.monotonic(), []
        for number in range(3):
            client.run(lambda c: c.of(1)["body"].count(b"data:") > number)
            times.append(time.monotonic() - begun)
        return times

    times = session.do(listen)
    assert times[0] < 0.35 and 0.2 < times[1] - times[0] < 0.7 and 0.2 < times[2] - times[1] < 0.7, times


def test_streams_do_not_wait_for_each_other(session, world):
    def many():
        import http2_frames as h2

        client = h2.Client("v4.example.com")
        client.ask(1, h2.request("v4.example.com", "/slow?ms=1500"))
        begun = time.monotonic()
        others = list(range(3, 103, 2))
        for stream in others:
            client.ask(stream, h2.request("v4.example.com", f"/echo?n={stream}"))
        replies = client.until_over(*others)
        quick = time.monotonic() - begun
        slow = client.until_over(1)[0]
        return [r["status"] for r in replies], quick, slow["status"]

    statuses, quick, slow = session.do(many)
    assert statuses == [200] * 50 and quick < 1.4 and slow == 200
    assert len(world.requests()) == 51


def test_a_reader_that_rests_holds_up_nobody_else(session):
    """One stream gives no window for its response, one server reads nothing of its upload: the rest goes on."""

    def stall():
        import http2_frames as h2

        client = h2.Client("v4.example.com", credit=False)
        client.ask(1, h2.request("v4.example.com", "/download?bytes=40000"))  # under the window of the connection
        client.run(lambda c: len(c.of(1)["body"]) == 40000)
        client.send(h2.frame(h2.WINDOW_UPDATE, 0, 0, (1 << 20).to_bytes(4, "big")))
        client.ask(3, h2.request("v4.example.com", "/download?bytes=1000000"))
        client.run(lambda c: len(c.of(3)["body"]) >= 65535, 5)
        client.run(lambda c: False, 0.5)
        stuck = len(client.of(3)["body"])
        client.ask(5, h2.request("v4.example.com", "/deaf", "POST"), end=False)
        # Fills what the origin's and the guard's sockets take, until the guard opens the window no more.
        sent, block = 0, b"u" * 16384
        while True:
            room = 65535 + client.granted.get(5, 0) - sent
            if room < len(block):
                client.run(lambda c: 65535 + c.granted.get(5, 0) - sent >= len(block), 2)
                if 65535 + client.granted.get(5, 0) - sent < len(block):
                    break
            client.data(5, block)
            sent += len(block)
            assert sent < 64 << 20
        client.ask(7, h2.request("v4.example.com", "/echo"))
        reply = client.until_over(7)[0]
        client.send(h2.frame(h2.WINDOW_UPDATE, 0, 3, (1 << 20).to_bytes(4, "big")))
        late = client.until_over(3)[0]
        return stuck, reply["status"], len(late["body"])

    stuck, status, late = session.do(stall)
    assert stuck == 65535 and status == 200 and late == 1000000


def test_a_cancelled_stream_cancels_its_request(session, world):
    def cancel():
        import http2_frames as h2

        client = h2.Client("v4.example.com")
        client.ask(1, h2.request("v4.example.com", "/mute"))
        client.run(lambda c: False, 0.5)
        client.send(h2.frame(h2.RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
        client.ask(3, h2.request("v4.example.com"))
        return client.until_over(3)[0]["status"]

    assert session.do(cancel) == 200
    records = session.wait_for_records(lambda r: any(x.get("path") == "/mute" for x in guard.exchanges(r)))
    record = next(r for r in records if r.get("path") == "/mute")
    assert (record["decision"], record["reason"]) == ("error", "downstream-closed")


def test_large_bodies_both_ways(session):
    def bulk():
        import hashlib
        import http2_frames as h2

        client = h2.Client("v4.example.com")
        size = 8 << 20
        client.ask(1, h2.request("v4.example.com", "/sink", "POST", ("content-length", str(size))), end=False)
        window, connection, sent, block = 65535, client.settings.get(4, 65535), 0, b"0123456789abcdef" * 1000
        seen = 0
        while sent < size:
            part = block[: min(size - sent, len(block))]
            while True:
                granted = {0: 65535 + client.granted.get(0, 0), 1: 65535 + client.granted.get(1, 0)}
                if min(granted.values()) - sent >= len(part):
                    break
                seen = len(client.frames)
                client.run(lambda c: len(c.frames) > seen)
                assert len(client.frames) > seen, (sent, granted)
            sent += len(part)
            client.data(1, part, sent == size)
        reply = client.until_over(1, timeout=60)[0]
        client.ask(3, h2.request("v4.example.com", f"/download?bytes={size}"))
        down = client.until_over(3, timeout=60)[0]
        return reply["body"].decode(), hashlib.sha256(down["body"]).hexdigest(), len(down["body"]), down["ended"]

    import hashlib

    told, digest, size, ended = session.do(bulk)
    whole = b"0123456789abcdef" * 1000
    assert json.loads(told)["sha256"] == hashlib.sha256(_repeated(whole)).hexdigest()
    assert size == 8 << 20 and ended


def _repeated(block, size=8 << 20):
    whole = block * (size // len(block))
    return whole + block[: size - len(whole)]


def test_curl(bench, world):
    fixtures.need("curl")
    outcome = bench.run(
        ["curl", "-sS", "--http2", "--max-time", "20", "-d", "hello", "-w", "%{http_version}", f"https://{HOST}/body"],
        policy=POLICY,
    )
    assert outcome.out == "hello2", outcome
    command = "curl -sS --http2-prior-knowledge --max-time 20 -w %{http_version} -o /dev/null"
    plain = bench.run([*command.split(), f"http://{HOST}/echo"], policy=POLICY)
    assert plain.out == "2", plain


def test_nghttp_and_h2load(bench, world):
    fixtures.need("nghttp", "h2load")
    outcome = bench.run(["nghttp", "-nv", f"https://{HOST}/echo"], policy=POLICY)
    assert ":status: 200" in outcome.out, outcome
    loaded = bench.run(["h2load", "-n", "2000", "-c", "4", "-m", "50", f"https://{HOST}/echo"], policy=POLICY, timeout=120)
    assert "2000 succeeded, 0 failed" in loaded.out, loaded.out
    assert len(loaded.exchanges) == 2000 + 1


def test_node(bench, world):
    fixtures.need("node")
    script = """
      const http2 = require('http2');
      const client = http2.connect('https://v4.example.com', {ca: require('fs').readFileSync(process.env.NODE_EXTRA_CA_CERTS)});
      let left = 20, good = 0;
      for (let i = 0; i < 20; i++) {
        const request = client.request({':method': 'POST', ':path': '/body'});
        let body = '';
        request.on('data', part => body += part);
        request.on('end', () => { if (body === 'n' + i) good++; if (--left === 0) { console.log(good); client.close(); } });
        request.end('n' + i);
      }
      client.on('error', error => { console.log(error); process.exit(1); });
    """
    outcome = bench.run(["node", "-e", script], policy=POLICY)
    assert outcome.out.strip() == "20", outcome
    assert {r["protocol"] for r in outcome.exchanges} == {"HTTP/2"}


NGINX = guard.policy(guard.endpoint("nginx.example.com", ports=[8443]))


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_server_of_http2(bench, world, version):
    """Whatever the function speaks, the server is spoken to in its own version."""
    fixtures.need("nginx", "curl")
    world.start_nginx()
    url = "https://nginx.example.com:8443"
    outcome = bench.run(
        ["curl", "-sS", version, "--max-time", "30", "-b", "a=1; b=2", "-H", "X-A: b", f"{url}/protocol"], policy=NGINX
    )
    assert outcome.out == "HTTP/2.0 b a=1; b=2", outcome
    command = f"for i in 1 2 3; do curl -sS {version} --max-time 30 {url}/file -o file || exit 1; cksum < file; done"
    loaded = bench.run(["sh", "-c", command + f"; curl -sS {version} -I {url}/file; curl -sS {version} {url}/missing"],
                       policy=NGINX, timeout=120)
    assert loaded.code == 0 and loaded.out.count("2881818396 1000000\n") == 3 and "content-length: 1000000" in loaded.out.lower()
    assert "404 Not Found" in loaded.out
    records = [r for r in loaded.exchanges if r["path"] == "/file"]
    assert [r["reused"] for r in records[-4:]] == [False, True, True, True]


def test_many_streams_on_both_sides(bench, world):
    fixtures.need("nginx", "h2load")
    world.start_nginx()
    url = "https://nginx.example.com:8443/answer"
    loaded = bench.run(["h2load", "-n", "3000", "-c", "4", "-m", "60", url], policy=NGINX, timeout=120)
    assert "3000 succeeded, 0 failed" in loaded.out and "3000 2xx" in loaded.out, loaded.out


def test_a_client_that_keeps_to_the_bound_is_never_refused(bench, world):
    """It asks anew as soon as it has an answer, while the guard still does the last steps of that exchange."""
    fixtures.need("nginx", "h2load")
    world.start_nginx()
    url = "https://nginx.example.com:8443/file"
    load = ["h2load", "-n", "1000", "-c", "1", "-m", "128", "-w", "30", "-W", "30", url]
    loaded = bench.run(load, policy=NGINX, timeout=120)
    assert "1000 succeeded, 0 failed" in loaded.out and "1000 2xx" in loaded.out, loaded.out
