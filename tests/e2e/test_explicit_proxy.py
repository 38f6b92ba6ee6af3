"""`sallyport-proxy --proxy-listen`: for clients that are told of a proxy, where nothing can be redirected."""

import json
import signal
import socket
import subprocess
import time

import pytest

import clients
import guard
import tcp_services
from fixtures import missing, need
from proxy import PROXY as PROGRAM

PORT = 15002
PROXY = f"http://127.0.0.1:{PORT}"
LISTEN = ("--proxy-listen", f"127.0.0.1:{PORT}")
POLICY = guard.policy(
    guard.endpoint("v4.example.com", path="/allowed"),
    guard.endpoint("v4.example.com", path="/allowed", scheme="http", name="plain"),
    guard.endpoint("other.example.com", path="/allowed", scheme="http", ports=[80], name="other-plain"),
    guard.endpoint("db.example.com", protocol="tcp", ports=[7001], rules=None),
)
DATABASE_V4 = "127.0.0.38"
# By the names of tests/support/clients.py: those that read the usual variables.
TOLD_BY_VARIABLES = [
    "curl",
    "wget",
    "Python urllib",
    "Python requests",
    "Python httpx",
    "Go net/http",
    "PHP curl",
    "Perl HTTP::Tiny",
]


@pytest.fixture
def proxy(start):
    running = start(POLICY, *LISTEN)
    running.wait_until_ready()
    return running


def curl(world, url, *more, proxy=PROXY):
    return subprocess.run(
        ["curl", "-sS", "-m", "20", "-x", proxy, "--cacert", world.guard_root.certificate, "-w", "\n%{http_code}"]
        + [*more, url],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", TOLD_BY_VARIABLES)
def test_clients_that_are_told_by_variables(proxy, bench, world, name):
    [client] = [one for one in clients.CLIENTS if one.name == name]
    if why := client.missing():
        missing(why)
    environment = bench.environment | dict(client.environment)
    for variable in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        environment[variable] = PROXY
    trust = str(world.guard_root.certificate)
    if client.trust == "PHP_INI_SCAN_DIR":
        (bench.folder / "trust.ini").write_text(f"curl.cainfo={trust}\n")
        environment["PHP_INI_SCAN_DIR"] = f":{bench.folder}"
    else:
        environment[client.trust or "SSL_CERT_FILE"] = trust
    if name == "wget":
        environment["WGETRC"] = str(bench.folder / "wgetrc")
        (bench.folder / "wgetrc").write_text(f"ca_certificate={trust}\n")
    done = subprocess.run(
        list(map(str, client.command)),
        input="a GET https://v4.example.com/allowed\nb GET https://v4.example.com/other\n"
        "c GET http://v4.example.com/allowed\nd GET http://v4.example.com/other\n",
        env=environment,
        cwd=bench.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    answers = {a["step"]: a.get("status") for a in map(json.loads, done.stdout.splitlines())}
    assert answers == {"a": 200, "b": 403, "c": 200, "d": 403}, done.stdout + done.stderr
    assert [r.sni for r in world.requests()] == ["v4.example.com", None]
    assert all(r.target == "/allowed" and r.header("host") == "v4.example.com" for r in world.requests())
    assert not [r for r in world.requests() if r.header("proxy-connection") or r.header("proxy-authorization")]
    assert proxy.stop()[0] == 0


NODE = """
const http = require("http"), https = require("https");
const [, , port, ...urls] = process.argv;
function one(url) {
  const to = new URL(url);
  return new Promise((done) => {
    const finish = (response) => { response.resume(); response.on("end", () => done(response.statusCode)); };
    if (to.protocol === "http:") {
      return http.get({ host: "127.0.0.1", port, path: url, headers: { host: to.host } }, finish);
    }
    const host = to.hostname + ":443";
    const connect = http.request({ host: "127.0.0.1", port, method: "CONNECT", path: host, headers: { host } });
    connect.on("connect", (answer, socket) =>
      https.get({ socket, agent: false, servername: to.hostname, host: to.hostname, path: to.pathname }, finish));
    connect.end();
  });
}
(async () => { const out = []; for (const url of urls) out.push(await one(url)); console.log(out.join(" ")); })();
"""


def test_node(proxy, bench, world):
    need("node")
    urls = [f"{scheme}://v4.example.com/{path}" for scheme in ("https", "http") for path in ("allowed", "other")]
    done = subprocess.run(
        ["node", "-e", NODE, "-", str(PORT), *urls],
        env=bench.environment | {"NODE_EXTRA_CA_CERTS": str(world.guard_root.certificate)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["200", "403", "200", "403"], done.stderr


def test_a_denied_host_is_told_inside_the_tunnel(proxy, bench, world):
    done = curl(world, "https://denied.example.com/")
    body, _, status = done.stdout.rpartition("\n")
    assert status == "403" and json.loads(body)["reason"] == "host-not-allowed", done.stderr
    assert proxy.stop()[0] == 0
    [record] = bench.records()
    assert (record["kind"], record["host"], record["decision"]) == ("exchange", "denied.example.com", "deny")
    assert not world.requests() and "denied.example.com" not in world.dns.names_asked()


def test_each_request_of_a_connection_names_its_destination(proxy, bench, world):
    """A client keeps one connection to its proxy, whatever hosts it asks."""
    with socket.create_connection(("127.0.0.1", PORT), 10) as stream:
        reader = stream.makefile("rb")
        for host, path, expected in [
            ("v4.example.com", "/allowed", 200),
            ("other.example.com", "/allowed", 200),
            ("other.example.com", "/not", 403),
            ("denied.example.com", "/", 403),
            ("v4.example.com", "/allowed", 200),
        ]:
            stream.sendall(f"GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert int(reader.readline().split(b" ")[1]) == expected
            fields = dict(line.split(b": ", 1) for line in iter(lambda: reader.readline().strip(), b""))
            reader.read(int(fields[b"Content-Length" if b"Content-Length" in fields else b"content-length"]))
    assert [(r.header("host"), r.target) for r in world.requests()] == [
        ("v4.example.com", "/allowed"),
        ("other.example.com", "/allowed"),
        ("v4.example.com", "/allowed"),
    ]
    assert proxy.stop()[0] == 0
    assert [r["decision"] for r in bench.records()] == ["allow", "allow", "deny", "deny", "allow"]


def test_bytes_to_a_relayed_host(proxy, bench, world):
    world.dns.table["db.example.com"] = [DATABASE_V4]
    server = tcp_services.Server(DATABASE_V4, 7001, tcp_services.answers_at_the_end)
    with socket.create_connection(("127.0.0.1", PORT), 10) as stream:
        stream.sendall(b"CONNECT db.example.com:7001 HTTP/1.1\r\nHost: db.example.com:7001\r\n\r\n")
        assert stream.recv(4096) == b"HTTP/1.1 200 Connection Established\r\n\r\n"
        stream.sendall(b"\x00\x01\x02")
        stream.shutdown(socket.SHUT_WR)
        assert tcp_services.read_to_end(stream) == b"got 3 bytes"
    server.close()
    assert proxy.stop()[0] == 0
    [record] = bench.records()
    assert (record["host"], record["endpoint"], record["protocol"]) == ("db.example.com", "db-example-com", "TCP")
    assert (record["bytes_up"], record["bytes_down"]) == (3, 11)


def test_both_listeners_at_once(start, bench, world):
    running = start(POLICY, *LISTEN, "--listen", "127.0.0.1:15003")
    running.wait_until_ready()
    assert curl(world, "https://v4.example.com/allowed").stdout.endswith("\n200")
    # The other one takes redirected connections only.
    assert curl(world, "https://v4.example.com/allowed", proxy="http://127.0.0.1:15003").stdout.endswith("000")
    assert running.stop()[0] == 0
    assert sorted(r["decision"] for r in bench.records()) == ["allow", "deny"]
    assert "loop" in [r.get("reason") for r in bench.records()]


def test_it_drains_on_sigterm(proxy, bench, world):
    bench.write_policy(guard.policy(guard.endpoint("v4.example.com")))
    end = time.monotonic() + 10
    while not curl(world, "https://v4.example.com/x").stdout.endswith("\n200"):
        assert time.monotonic() < end
    slow = subprocess.Popen(
        ["curl", "-sS", "-x", PROXY, "--cacert", world.guard_root.certificate, "-o", "/dev/null", "-w", "%{http_code}"]
        + ["https://v4.example.com/slow?ms=1000"],
        stdout=subprocess.PIPE,
        text=True,
    )
    while not world.saw("/slow"):
        time.sleep(0.02)
    proxy.process.send_signal(signal.SIGTERM)
    assert slow.communicate(timeout=20)[0] == "200"
    proxy.process.communicate(timeout=20)
    assert proxy.process.returncode == 0


def test_an_address_is_needed(bench, world):
    bench.write_policy(POLICY)
    flags = ["--policy", bench.policy_file, "--ca-cert", world.guard_root.certificate]
    flags += ["--ca-key", world.guard_root.key]
    done = subprocess.run([PROGRAM, *map(str, flags)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "--listen or --proxy-listen" in done.stderr
