"""What curl can do, with the guard and without: what it prints and how it ends must be the same, and be what was meant."""

import os
import subprocess

import pytest

import guard
import lab
from fixtures import need

HOST, NGINX = "v4.example.com", "nginx.example.com"
POLICY = guard.policy(
    guard.endpoint(HOST),
    guard.endpoint(HOST, scheme="http", name="plain"),
    guard.endpoint("other.example.com", methods=["GET"], path="/echo"),
    guard.endpoint(NGINX, ports=[443, 8443]),
)
_METHOD = """grep -o '"method": "[A-Z]*"'"""
# What is asked of the shell, and what must be in what it prints. CURL has the flags that all of them share.
CASES = {
    "HTTP/1.0": ("$CURL --http1.0 -d hello $V4/body -w ' %{response_code}'", "hello 200"),
    "HTTP/1.1": ("$CURL --http1.1 -d hello $V4/body -w ' %{http_version}'", "hello 1.1"),
    "HTTP/2 to a server of it": ("$CURL --http2 $N2/protocol -w ' %{http_version}'", "HTTP/2.0   2"),
    "HTTP/2 without a word before": ("$CURL --http2-prior-knowledge $N2/protocol -w ' %{http_version}'", "HTTP/2.0   2"),
    "a body that waits for its 100": (
        "head -c 2000000 /dev/zero >big; $CURL --http1.1 --expect100-timeout 30 -H 'Expect: 100-continue'"
        " --data-binary @big $V4/sink -w ' %{time_total}' | awk '{print $1, $2, ($NF < 20)}'",
        '{"bytes": 2000000, 1',
    ),
    "an expectation that is refused": (
        "head -c 2000000 /dev/zero >big; $CURL --http1.1 -H 'Expect: 100-continue' --data-binary @big $V4/expect-refused"
        " -w ' %{response_code} %{size_upload}'",
        "no 417 0",
    ),
    "an upload from a pipe, in chunks": ("head -c 300001 /dev/zero | $CURL --http1.1 -T - $V4/sink", '"bytes": 300001'),
    "an upload from a pipe": ("head -c 300001 /dev/zero | $CURL -T - $V4/sink", '"bytes": 300001'),
    "an upload of a file": ("head -c 300001 /dev/zero >file; $CURL -T file $V4/sink", '"bytes": 300001'),
    "JSON": (f"$CURL --json '{{}}' $V4/echo | {_METHOD}", "POST"),
    "compressed": ("$CURL --compressed $V4/gzip | cksum", " 800"),
    "compressed by nginx": ("$CURL --compressed $N/file -w ' %{size_download}' | tail -c 8 | cut -d ' ' -f 2", ""),
    "resumed": ("$CURL -r 0-499999 -o part $N/file; $CURL -C - -o part $N/file; cksum <part", "2881818396 1000000"),
    "a range": ("$CURL -r 10-19 $N/file -w ' %{response_code}'", "0123456789 206"),
    "the last bytes": ("$CURL -r -3 $N/file -w ' %{response_code}'", "789 206"),
    "two ranges": ("$CURL -r 0-1,5-6 $N/file | grep -a -c 'Content-Range: bytes'", "2"),
    "a range beyond the end": ("$CURL -r 2000000- $N/file -o /dev/null -w '%{response_code}'", "416"),
    "a redirect": (f"$CURL -L '$V4/redirect?to=https://other.example.com/echo' | {_METHOD}", "GET"),
    "a redirect of a POST": (f"$CURL -L -d x '$V4/redirect?to=https://other.example.com/echo' | {_METHOD}", "GET"),
    "a redirect of a POST that stays one": (f"$CURL -L --post302 -d x '$V4/redirect?to=$V4/echo' | {_METHOD}", "POST"),
    "more redirects than are wanted": ("$CURL -L --max-redirs 0 '$V4/redirect?to=/echo' -o /dev/null 2>/dev/null; echo $?", "47"),
    "many at one time": ("$CURL -Z $(for i in 1 2 3 4 5 6; do echo $N/file -o $i; done); cat ? | cksum", " 6000000"),
    "a form": ("head -c 100000 /dev/zero >f; $CURL -F a=1 -F f=@f $V4/sink | grep -o '.bytes.: [0-9]*'", "10"),
    "TCP fast open": ("$CURL --tcp-fastopen -d hello $V4/body", "hello"),
    "TLS 1.2": ("$CURL --tlsv1.2 --tls-max 1.2 -d hello $V4/body", "hello"),
    "TLS 1.3": ("$CURL --tlsv1.3 -d hello $V4/body", "hello"),
    "a cipher of TLS 1.3": ("$CURL --tlsv1.3 --tls13-ciphers TLS_CHACHA20_POLY1305_SHA256 -d hello $V4/body", "hello"),
    "a cipher of TLS 1.2": ("$CURL --tls-max 1.2 --ciphers ECDHE-ECDSA-AES128-GCM-SHA256 -d hello $V4/body", "hello"),
    "trailers": ("$CURL --http1.1 -D head $V4/chunked?trailers=1 -o /dev/null; grep -i x-sum: head", "42"),
    "HEAD": ("$CURL -I $N/file | tr 'A-Z\\r' 'a-z ' | grep content-length:", "1000000"),
    "no body at all": ("$CURL $V4/status/204 -w '%{response_code} %{size_download}'", "204 0"),
    "a condition": ("$CURL -R -o f $N/file; $CURL -z f -o f $N/file -w '%{response_code} %{size_download}'", "304 0"),
    "given up after a second": ("$CURL --max-time 1 $V4/mute 2>/dev/null; echo $?", "28"),
    "slower than is wanted": ("$CURL -Y 1000 -y 2 $V4/half -o /dev/null 2>/dev/null; echo $?", "28"),
    "broken off": ("$CURL $V4/cut -o /dev/null 2>/dev/null; test $? = 18 -o $? = 56 -o $? = 92; echo $?", "0"),
    "the same connection again": (
        "$CURL $V4/echo -o /dev/null $V4/echo -o /dev/null -w '%{num_connects} %{time_connect}\\n' | tail -n 1",
        "0 0.000",
    ),
    "cookies": ("$CURL -c jar $V4/cookies -o /dev/null; $CURL -b jar $V4/echo | grep -o 'a=1; b=2'", "a=1; b=2"),
    "digest": ("$CURL --digest -u 'user:pass word' $V4/digest -w ' %{response_code}'", "welcome 200"),
    "digest with a wrong word": ("$CURL --digest -u 'user:word' $V4/digest -w ' %{response_code}'", "who is it? 401"),
    "basic": ("$CURL -u 'user:word' $V4/echo | grep -o 'Basic [A-Za-z0-9=]*'", "Basic dXNlcjp3b3Jk"),
    "plain HTTP": ("$CURL -d hello http://v4.example.com/body", "hello"),
    "events as they come": ("$CURL -N $V4/events | grep -c data:", "3"),
    "failing on a status": ("$CURL --fail $V4/status/404 2>/dev/null; echo $?", "22"),
    "a retry": ("$CURL --retry 1 --retry-delay 0 $V4/status/503 2>/dev/null -w ' %{response_code}'", "503"),
    "a large field": ("$CURL -H \"X-Large: $(head -c 30000 /dev/zero | tr '\\0' a)\" $V4/echo | grep -o 'a*' | wc -L", "30000"),
}


@pytest.fixture(scope="module")
def world_with_nginx(world):
    need("curl", "nginx")
    world.start_nginx()
    return world


def without(world, script, folder):
    """The same at the same servers, where nothing guards it."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", "CURL_CA_BUNDLE": str(world.root)}
    places = [f"{host}:{port}:{lab.ORIGIN_V4}" for host in (HOST, "other.example.com") for port in (80, 443)]
    places += [f"{NGINX}:{port}:{lab.NGINX_V4}" for port in (443, 8443)]
    flags = " ".join(f"--resolve {place}" for place in places)
    done = subprocess.run(
        ["sh", "-c", script.replace("$CURL", f"$CURL {flags}")], env=environment | SHARED, cwd=folder, text=True,
        capture_output=True, timeout=60,
    )
    return done.returncode, done.stdout


SHARED = {
    "CURL": "curl -sS --max-time 40",
    "V4": f"https://{HOST}",
    "N": f"https://{NGINX}",
    "N2": f"https://{NGINX}:8443",
}


@pytest.mark.parametrize("case", CASES)
def test_with_the_guard_and_without(bench, world_with_nginx, case):
    script, meant = CASES[case]
    script = script.replace("'$V4", "'" + SHARED["V4"]).replace("=$V4", "=" + SHARED["V4"])  # within quotes
    folder = bench.folder / "without"
    folder.mkdir()
    expected = without(world_with_nginx, script, folder)
    os.makedirs(bench.folder / "with")
    outcome = bench.run(["sh", "-c", f"cd with; {script}"], policy=POLICY, env=SHARED)
    assert (outcome.code, outcome.out) == expected, outcome.err
    assert meant in outcome.out, outcome.out
    assert outcome.exchanges
    assert not [r for r in outcome.records if r["decision"] == "deny"], outcome.records


def test_who_speaks_before_tls_is_refused(bench, world_with_nginx):
    """The PROXY protocol would tell a server where a connection is from: the function has nothing to say about that."""
    outcome = bench.run(["curl", "-sS", "--haproxy-protocol", f"https://{HOST}/echo"], policy=POLICY)
    assert outcome.code != 0 and not world_with_nginx.requests()
    assert [r["decision"] for r in outcome.records if r["kind"] != "dns"] == ["deny"], outcome.records


def test_tls_1_1_is_refused_though_the_server_would_take_it(bench, world_with_nginx):
    old = "$CURL --tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0 -d hello $V4/body"
    assert without(world_with_nginx, old, bench.folder) == (0, "hello")
    world_with_nginx.forget()
    outcome = bench.run(["sh", "-c", old], policy=POLICY, env=SHARED)
    assert (outcome.code, outcome.out) == (35, "") and not world_with_nginx.requests()
    assert [r["reason"] for r in outcome.records] == ["downstream-tls"], outcome.records


@pytest.mark.parametrize("url", [f"https://{HOST}", f"http://{HOST}"])
def test_http2_to_a_server_that_has_only_the_first(bench, world_with_nginx, url):
    flag = "--http2" if url.startswith("https") else "--http2-prior-knowledge"
    outcome = bench.run(["curl", "-sS", flag, "-d", "hello", "-w", " %{http_version}", f"{url}/body"], policy=POLICY)
    assert outcome.out == "hello 2", outcome
    assert world_with_nginx.requests()[0].version == "HTTP/1.1"
