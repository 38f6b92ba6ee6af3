"""Real clients under guard, as root and as an ordinary user, over IPv4 and IPv6, with nothing changed in their
code."""

import hashlib
import json
import os

import pytest

import guard
import lab
from fixtures import need

BODY = os.urandom(1 << 20) * 10  # 10 MiB
BODY_SHA256 = hashlib.sha256(BODY).hexdigest()
API = guard.policy(
    guard.endpoint("api.example.com"), guard.endpoint("v4.example.com"), guard.endpoint("v6.example.com")
)

# Which family the client dials, and a name that leads to that family upstream too.
FAMILIES = pytest.mark.parametrize(
    "family, host",
    [("4", "v4.example.com"), ("6", "v6.example.com"), ("", "api.example.com")],
    ids=["v4", "v6", "both"],
)


@pytest.fixture
def body_file(user_bench):
    path = user_bench.folder / "body"
    path.write_bytes(BODY)
    path.chmod(0o644)
    return path


def only_exchange(outcome):
    assert len(outcome.exchanges) == 1, outcome.records
    return outcome.exchanges[0]


@FAMILIES
def test_curl_gets(user_bench, world, family, host):
    outcome = user_bench.run(
        ["curl", "-sS", *([f"-{family}"] if family else []), f"https://{host}/echo?q=1"], policy=API
    )
    assert outcome.code == 0, outcome.err
    seen = json.loads(outcome.out)
    assert seen["method"] == "GET" and seen["target"] == "/echo?q=1" and seen["sni"] == host
    record = only_exchange(outcome)
    assert (record["decision"], record["host"], record["path"], record["status"]) == ("allow", host, "/echo", 200)


@FAMILIES
def test_curl_posts_ten_mebibytes(user_bench, world, body_file, family, host):
    outcome = user_bench.run(
        [
            "curl",
            "-sS",
            *([f"-{family}"] if family else []),
            "--data-binary",
            f"@{body_file}",
            "-H",
            "Expect:",
            f"https://{host}/sink",
        ],
        policy=API,
    )
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out) == {"bytes": len(BODY), "sha256": BODY_SHA256}
    assert only_exchange(outcome)["bytes_up"] == len(BODY)


def test_curl_waits_for_its_100_continue(user_bench, world, body_file):
    outcome = user_bench.run(["curl", "-sSv", "--http1.1", "-T", body_file, "https://v4.example.com/sink"], policy=API)
    assert json.loads(outcome.out)["sha256"] == BODY_SHA256
    assert "< HTTP/1.1 100 Continue" in outcome.err


def test_curl_keeps_its_connection(user_bench, world):
    outcome = user_bench.run(["curl", "-sSv", *["https://v4.example.com/echo"] * 5], policy=API)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("Re-using existing connection") == 4
    assert len(world.tls.requests) == 5
    assert len({r.connection.id for r in world.tls.requests}) == 1, "the guard must keep its upstream connection too"
    assert [r.get("reused", False) for r in outcome.exchanges] == [False, True, True, True, True]


def test_curl_resolves_and_verifies_without_any_flag(user_bench, world):
    """Neither -k nor --cacert: the command trusts the guard's root through its environment."""
    outcome = user_bench.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{ssl_verify_result} %{http_code}", "https://api.example.com/echo"],
        policy=API,
    )
    assert (outcome.code, outcome.out) == (0, "0 200"), outcome.err


def test_plain_http_where_the_policy_says_so(user_bench, world):
    policy = guard.policy(guard.endpoint("v4.example.com", scheme="http"))
    outcome = user_bench.run(["curl", "-sS", "http://v4.example.com/echo"], policy=policy)
    assert json.loads(outcome.out)["target"] == "/echo"
    assert only_exchange(outcome)["scheme"] == "http" and only_exchange(outcome)["port"] == 80


def test_another_port_where_the_policy_says_so(user_bench, world):
    policy = guard.policy(guard.endpoint("v4.example.com", ports=[443, 8443]))
    outcome = user_bench.run(["curl", "-sS", "https://v4.example.com:8443/echo"], policy=policy)
    assert outcome.code == 0, outcome.err
    assert world.tls_8443.requests[0].header("host") == "v4.example.com:8443"
    assert only_exchange(outcome)["port"] == 8443


URLLIB = """
    import hashlib, json, os, urllib.request
    print(urllib.request.urlopen("https://{host}/echo", timeout=20).status)
    body = open("body", "rb").read()
    answer = urllib.request.urlopen(urllib.request.Request("https://{host}/sink", data=body, method="POST"), timeout=30)
    print(json.load(answer)["sha256"])
    answer = urllib.request.urlopen("https://{host}/download?bytes=10485760", timeout=30).read()
    print(len(answer))
"""


@FAMILIES
def test_python_urllib(user_bench, world, body_file, family, host):
    outcome = user_bench.python(URLLIB.format(host=host), policy=API)
    assert outcome.out.split() == ["200", BODY_SHA256, str(10 << 20)], outcome.err


REQUESTS = """
    import requests
    session = requests.Session()
    print(session.get("https://{host}/echo").status_code)
    print(session.post("https://{host}/sink", data=open("body", "rb")).json()["sha256"])
    def pieces():
        for _ in range(10):
            yield b"x" * 1000
    print(session.post("https://{host}/sink", data=pieces()).json()["bytes"])
    print(session.get("https://{host}/gzip").text.count("squeezed"))
    print(len(session.get("https://{host}/chunked?chunks=7").text.split(";")))
"""


@FAMILIES
def test_python_requests(user_bench, world, body_file, family, host):
    outcome = user_bench.python(REQUESTS.format(host=host), policy=API)
    assert outcome.out.split() == ["200", BODY_SHA256, "10000", "100", "8"], outcome.err
    assert len(outcome.exchanges) == 5


NODE_FETCH = """
const fs = require("fs");
(async () => {
  const host = process.argv[1];
  console.log((await fetch(`https://${host}/echo`)).status);
  const body = fs.readFileSync("body");
  console.log((await (await fetch(`https://${host}/sink`, {method: "POST", body})).json()).sha256);
  const stream = new ReadableStream({
    start(c) { for (let i = 0; i < 10; i++) c.enqueue(new Uint8Array(1000)); c.close(); }
  });
  const sent = await fetch(`https://${host}/sink`, {method: "POST", body: stream, duplex: "half"});
  console.log((await sent.json()).bytes);
  console.log((await (await fetch(`https://${host}/download?bytes=10485760`)).arrayBuffer()).byteLength);
})();
"""

NODE_HTTPS = """
const https = require("https"), fs = require("fs");
const host = process.argv[1], agent = new https.Agent({keepAlive: true});
function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const request = https.request({host, path, method, agent}, (response) => {
      let text = ""; response.on("data", (d) => text += d); response.on("end", () => resolve({response, text}));
    });
    request.on("error", reject); request.end(body);
  });
}
(async () => {
  console.log((await call("GET", "/echo")).response.statusCode);
  console.log(JSON.parse((await call("POST", "/sink", fs.readFileSync("body"))).text).sha256);
  console.log((await call("GET", "/chunked?trailers=1")).response.trailers["x-sum"]);
  agent.destroy();
})();
"""


@FAMILIES
def test_node_fetch(user_bench, world, body_file, family, host):
    need("node")
    outcome = user_bench.run(["node", "-e", NODE_FETCH, host], policy=API)
    assert outcome.out.split() == ["200", BODY_SHA256, "10000", str(10 << 20)], outcome.err


@FAMILIES
def test_node_https(user_bench, world, body_file, family, host):
    need("node")
    outcome = user_bench.run(["node", "-e", NODE_HTTPS, host], policy=API)
    assert outcome.out.split() == ["200", BODY_SHA256, "42"], outcome.err


def test_a_cold_request_of_a_client_without_nodelay_does_not_stall(bench, world):
    """Python's ssl leaves Nagle's algorithm on: a guard that stays silent after the client's Finished costs it 40
    ms."""
    policy = API
    with bench.session(policy=policy) as session:
        session.get("v4.example.com")  # mints the leaf, opens the upstream connection

        def durations():
            taken = []
            for _ in range(15):
                stream = connect("v4.example.com")
                start = time.monotonic()
                stream.sendall(b"GET /echo HTTP/1.1\r\nHost: v4.example.com\r\n\r\n")
                Reader(stream).response()
                taken.append((time.monotonic() - start) * 1000)
                stream.close()
            return taken

        taken = sorted(session.do(durations))
    assert taken[len(taken) // 4] < 30, taken  # not the slowest ones: the machine may be busy


def test_nginx_as_the_upstream(user_bench, world):
    need("nginx")
    world.start_nginx()
    policy = guard.policy(guard.endpoint("nginx.example.com"))
    outcome = user_bench.python(
        """
        import hashlib, requests
        session, plain = requests.Session(), {"Accept-Encoding": "identity"}
        print(session.get("https://nginx.example.com/answer").text.strip())
        answer = session.get("https://nginx.example.com/file")
        print(len(answer.content), answer.headers.get("content-encoding"))
        print(session.get("https://nginx.example.com/file", headers=plain | {"Range": "bytes=5-9"}).content.decode())
        print(session.head("https://nginx.example.com/file", headers=plain).headers["content-length"])
        print(session.get("https://nginx.example.com/file",
                          headers={"If-Modified-Since": answer.headers["last-modified"]}).status_code)
        print(session.post("https://nginx.example.com/answer", data=b"x" * 3000000).status_code)
    """,
        policy=policy,
    )
    assert outcome.out.splitlines() == ["nginx here", "1000000 gzip", "56789", "1000000", "304", "200"], outcome.err
    assert [r["status"] for r in outcome.exchanges] == [200, 200, 206, 200, 304, 200]


@pytest.mark.parametrize("resolver", [lab.RESOLVER, lab.LOCAL_RESOLVER], ids=["remote", "on-loopback"])
def test_names_resolve_whatever_resolv_conf_says(user_bench, world, resolver):
    """Many machines have their resolver on loopback (systemd-resolved): the command must get the guard's all the
    same."""
    lab.set_resolver(resolver)
    try:
        outcome = user_bench.run(
            ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "https://v4.example.com/echo"], policy=API
        )
    finally:
        lab.set_resolver(lab.RESOLVER)
    assert outcome.out == "200", outcome.err


def test_a_name_of_the_hosts_file_is_found(user_bench, world):
    outcome = user_bench.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "https://in-hosts-file.example.com/echo"],
        policy=guard.policy(guard.endpoint("in-hosts-file.example.com")),
    )
    assert outcome.out == "200", outcome.err


def test_wildcard_endpoints_reach_names_below_but_not_the_apex(bench, world):
    policy = guard.policy(guard.endpoint("*.example.com"))
    outcome = bench.python(
        """
        import socket, urllib.request
        print(urllib.request.urlopen("https://deep.sub.example.com/echo").status)
        try:
            print(socket.getaddrinfo("example.com", 443))
        except socket.gaierror:
            print("no such name")
    """,
        policy=policy,
    )
    assert outcome.out.splitlines() == ["200", "no such name"], outcome.err


def test_an_address_as_endpoint(bench, world):
    policy = guard.policy(
        guard.endpoint("192.0.2.80", scheme="http", addresses=["192.0.2.80/32"]),
        guard.endpoint("2001:db8::80", scheme="http", addresses=["2001:db8::80/128"]),
    )
    outcome = bench.python(
        """
        import json, sys
        from inside import ask
        for host, dialled in (("192.0.2.80", "192.0.2.80"), ("[2001:db8::80]", "2001:db8::80")):
            request = f"GET /echo HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n".encode()
            print(ask(dialled, request, tls=False, port=80)["status"])
    """,
        policy=policy,
    )
    # Nothing listens there; that it was allowed is seen in the answer that says so.
    assert outcome.out.split() == ["502", "502"], outcome.err
    assert [r["reason"] for r in outcome.exchanges] == ["unreachable", "unreachable"]
