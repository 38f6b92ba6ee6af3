"""nghttp2's own client, server and load through the guard: uploads, many requests on one connection, 100 before a body,
trailers in both directions, with a server of HTTP/1 and with nghttpd."""

import hashlib
import re
import subprocess
import time

import pytest

import fixtures
import guard
import lab

OLD = "v4.example.com"
ADDRESS, NEW = "127.0.0.72", "nghttpd.example.com"
POLICY = guard.policy(guard.endpoint(OLD), guard.endpoint(NEW), guard.endpoint("nginx.example.com", ports=[8443]))
SHARES_TRAFFIC = True


@pytest.fixture(autouse=True)
def clean(world):
    fixtures.need("nghttp", "h2load")
    world.forget()


@pytest.fixture(scope="module")
def nghttpd(world, tmp_path_factory):
    """Says back what is uploaded, with a trailer."""
    fixtures.need("nghttpd")
    world.dns.table[NEW] = [ADDRESS]
    certificate, key = world.authority.issue("nghttpd", [NEW])
    folder = tmp_path_factory.mktemp("nghttpd")
    (folder / "file").write_bytes(b"0123456789" * 10_000)
    log = open(folder / "log", "w+")
    server = subprocess.Popen(
        ["nghttpd", "-v", "-a", ADDRESS, "-d", str(folder), "--echo-upload", "--trailer", "x-after: told", "443", str(key),
         str(certificate)],
        stdout=log, stderr=subprocess.STDOUT, preexec_fn=lab.die_with_parent,
    )
    end = time.monotonic() + 20
    while "listen" not in (folder / "log").read_text():
        assert server.poll() is None and time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.02)
    yield (folder / "log").read_text
    server.kill()
    server.wait()


def uncoloured(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def said(out, stream=13):
    """What nghttp says that it got on a stream, in order: "name: value" of the fields. Its first stream is the 13th."""
    return re.findall(rf"recv \(stream_id={stream}\) ([^\n]*)", uncoloured(out))


OPTIONS = ["", "--no-content-length", "-b 200", "--expect-continue", "--no-content-length --expect-continue"]
SIZES = [0, 1, 100_000, 3_000_000]


@pytest.mark.parametrize("host, path", [(OLD, "/body"), (NEW, "/up")])
def test_uploads_come_back(bench, nghttpd, host, path):
    digests = []
    for size in SIZES:
        data = (bytes(n * 31 & 255 for n in range(1009)) * (size // 1009 + 1))[:size]
        (bench.folder / f"data{size}").write_bytes(data)
        digests.append(hashlib.sha256(data).hexdigest())
    script = "".join(
        f"nghttp {options} -d data{size} https://{host}{path} > came && sha256sum < came\n" for options in OPTIONS for size in SIZES
    )
    outcome = bench.run(["sh", "-c", script], policy=POLICY, timeout=120)
    assert re.findall(r"^(\w{64})  -$", outcome.out, re.M) == digests * len(OPTIONS), (outcome.out, outcome.err)
    assert {(r["decision"], r["status"], r["protocol"]) for r in outcome.exchanges} == {("allow", 200, "HTTP/2")}
    assert all(r["bytes_up"] >= size for r, size in zip(outcome.exchanges, SIZES * len(OPTIONS), strict=True))


def test_100_comes_from_the_server_before_anything_is_sent(bench, world, nghttpd):
    (bench.folder / "data").write_bytes(b"x" * 100_000)
    before = uncoloured(nghttpd()).count(":status: 100")
    for host, path in ((OLD, "/continue-late"), (NEW, "/up")):
        outcome = bench.run(["nghttp", "-v", "--expect-continue", "-d", "data", f"https://{host}{path}"], policy=POLICY)
        text = uncoloured(outcome.out)
        assert [field for field in said(text) if field.startswith(":status")] == [":status: 100", ":status: 200"], text
        assert text.index(":status: 100") < text.index("send DATA frame")
        assert host == NEW or '"early": 0' in text
    assert uncoloured(nghttpd()).count(":status: 100") == before + 1
    [request] = world.requests()
    assert request.header("expect") == "100-continue"


def test_a_refusal_in_the_place_of_100_keeps_the_body(bench, nghttpd):
    (bench.folder / "data").write_bytes(b"x" * 100_000)
    outcome = bench.run(["nghttp", "-nv", "--expect-continue", "-d", "data", f"https://{OLD}/expect-refused"], policy=POLICY)
    assert [field for field in said(outcome.out) if field.startswith(":status")] == [":status: 417"]
    [record] = outcome.exchanges
    assert (record["status"], record["bytes_up"]) == (417, 0)


def test_trailers_pass_both_ways(bench, world, nghttpd):
    (bench.folder / "data").write_bytes(b"x" * 100_000)
    command = ["nghttp", "-nv", "-d", "data", "--trailer", "x-sum: 42", "--no-content-length"]
    outcome = bench.run([*command, f"https://{NEW}/up"], policy=POLICY)
    assert said(outcome.out)[-1] == "x-after: told" and ":status: 200" in said(outcome.out)
    assert re.search(r"recv \(stream_id=\d+\) x-sum: 42\n", uncoloured(nghttpd()))
    outcome = bench.run([*command, f"https://{OLD}/chunked?trailers=1"], policy=POLICY)
    assert said(outcome.out)[-1] == "x-sum: 42" and ":status: 200" in said(outcome.out)
    [request] = world.requests()
    assert [(name.lower(), value) for name, value in request.trailers] == [("x-sum", "42")]
    assert request.header("transfer-encoding") == "chunked" and request.body_size == 100_000


@pytest.mark.parametrize("host, path", [(OLD, "/echo"), (NEW, "/file")])
def test_many_requests_on_one_connection(bench, world, nghttpd, host, path):
    before = uncoloured(nghttpd()).count("handshake completed")
    uris = [f"https://{host}{path}?{n}" for n in range(90)]
    outcome = bench.run(["nghttp", "-nv", *uris], policy=POLICY)
    text = uncoloured(outcome.out)
    assert text.count("Connected") == 1 and len(re.findall(r"recv \(stream_id=\d+\) :status: 200", text)) == 90
    assert "RST_STREAM" not in text
    assert sorted(r["path"] for r in outcome.exchanges) == [path] * 90
    if host == OLD:
        assert sorted(r.target for r in world.requests()) == sorted(f"{path}?{n}" for n in range(90))
    else:
        assert uncoloured(nghttpd()).count("handshake completed") == before + 1


@pytest.mark.parametrize("options", ["-c 1 -m 100", "-c 4 -m 100 -d data", "-c 1 -m 100 -w 16 -W 16"])
def test_ten_thousand_requests_in_a_hundred_streams(bench, world, options):
    fixtures.need("nginx")
    world.start_nginx()
    (bench.folder / "data").write_bytes(b"x" * 2000)
    command = ["h2load", "-n", "10000", *options.split(), "https://nginx.example.com:8443/answer"]
    loaded = bench.run(command, policy=POLICY, timeout=120)
    assert "10000 succeeded, 0 failed, 0 errored, 0 timeout" in loaded.out and "10000 2xx" in loaded.out, loaded.out
    assert len(loaded.exchanges) == 10_000
    assert {(r["decision"], r["status"], r["protocol"]) for r in loaded.exchanges} == {("allow", 200, "HTTP/2")}
