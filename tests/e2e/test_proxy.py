"""`sallyport-proxy`: the guard alone, as in a pod. It listens; the kernel redirects to it."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest

import guard
import lab
from proxy import PORT, PROXY

RULES = f"""
table inet captured {{
  chain output {{
    type nat hook output priority -100;
    ip daddr {lab.CAPTURED_V4} tcp dport 1-65535 redirect to :{PORT}
    ip6 daddr {lab.CAPTURED_V6} tcp dport 1-65535 redirect to :{PORT}
  }}
}}
"""


POLICY = guard.policy(guard.endpoint("v4.example.com", path="/allowed"))


@pytest.fixture
def redirected(world):
    done = subprocess.run(["nft", "-f", "-"], input=RULES, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(done.stderr)
    yield
    subprocess.run(["nft", "delete", "table", "inet", "captured"], check=True)


def curl(world, path="/allowed", address=lab.CAPTURED_V4, *more):
    return subprocess.run(
        [
            "curl",
            "-sS",
            "-m",
            "20",
            "--cacert",
            world.guard_root.certificate,
            "--resolve",
            f"v4.example.com:443:{address}",
            "-w",
            "\n%{http_code}",
            *more,
            f"https://v4.example.com{path}",
        ],
        capture_output=True,
        text=True,
    )


def test_redirected_connections_are_guarded(start, bench, world, redirected):
    proxy = start(POLICY)
    proxy.wait_until_ready()
    for address in (lab.CAPTURED_V4, lab.CAPTURED_V6):
        done = curl(world, address=address)
        assert done.stdout.endswith("\n200"), done.stderr
        assert json.loads(done.stdout.split("\n")[0])["target"] == "/allowed"
    assert curl(world, "/other").stdout.endswith("\n403")
    code, err = proxy.stop()
    assert code == 0, err
    assert [r["decision"] for r in guard.exchanges(bench.records())] == ["allow", "allow", "deny"]


def test_several_workers(start, bench, world, redirected):
    proxy = start(POLICY, "--workers", 2)
    proxy.wait_until_ready()
    for _ in range(8):
        assert curl(world).stdout.endswith("\n200")
    assert proxy.stop()[0] == 0
    records = guard.exchanges(bench.records())
    assert len(records) == 8 and len({r["id"] for r in records}) == 8


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"], ids=["v4", "v6"])
def test_a_connection_straight_to_the_listener_is_refused(start, bench, world, address):
    """Its destination is the guard itself: to serve it would be a loop, or an open proxy."""
    proxy = start(guard.policy(guard.endpoint("any"), guard.endpoint("any", scheme="http", ports=["any"], name="http")))
    proxy.wait_until_ready()
    done = subprocess.run(
        [
            "curl",
            "-sSk",
            "-m",
            "10",
            "--resolve",
            f"v4.example.com:{PORT}:{address}",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            f"https://v4.example.com:{PORT}/",
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout in ("000", "403"), done.stdout
    with socket.create_connection((address, PORT), 10) as stream:
        try:
            stream.sendall(b"GET http://v4.example.com/ HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n")
            answer = stream.recv(4096)
        except ConnectionError:
            answer = b""
    assert answer == b"" or b" 403 " in answer.split(b"\r\n")[0]
    proxy.stop()
    assert not world.requests()
    assert {r["reason"] for r in bench.records()} == {"loop"}


def test_the_listener_under_another_address_of_the_machine_is_a_loop_too(start, bench, world):
    """A redirect hides which address was dialled: 10.66.0.1 is as much the guard as the loopback is."""
    proxy = start(guard.policy(guard.endpoint("any", scheme="http", ports=["any"], addresses=["0.0.0.0/0"])))
    proxy.wait_until_ready()
    rules = f"""
table inet captured {{
  chain output {{ type nat hook output priority -100; ip daddr {lab.PRIVATE} tcp dport {PORT} redirect to :{PORT}; }}
}}
"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        with socket.create_connection((lab.PRIVATE, PORT), 10) as stream:
            try:
                stream.sendall(f"GET / HTTP/1.1\r\nHost: {lab.PRIVATE}:{PORT}\r\nConnection: close\r\n\r\n".encode())
                assert stream.recv(4096) == b""
            except ConnectionError:
                pass
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "captured"], check=True)
    proxy.stop()
    assert [(r["reason"], r["host"]) for r in bench.records()] == [("loop", lab.PRIVATE)]


def test_a_port_in_use_is_said(start, world):
    with socket.create_server(("0.0.0.0", PORT)):
        proxy = start(POLICY)
        _, err = proxy.process.communicate(timeout=20)
    assert proxy.process.returncode not in (0, 2) and str(PORT) in err and "in use" in err


@pytest.mark.parametrize(
    "change, word",
    [
        ({"--policy": "/nonexistent"}, "/nonexistent"),
        ({"--ca-key": None}, "--ca-key"),
        ({"--listen": "nowhere"}, "--listen"),
        ({"--listen": "127.0.0.1:99999"}, "99999"),
        ({"--policy": None}, "--policy"),
        ({"--workers": "0"}, "workers"),
    ],
    ids=str,
)
def test_mistakes_on_the_command_line(bench, world, change, word):
    bench.write_policy(POLICY)
    flags = {
        "--policy": bench.policy_file,
        "--listen": f"127.0.0.1:{PORT}",
        "--ca-cert": world.guard_root.certificate,
        "--ca-key": world.guard_root.key,
    } | change
    arguments = [str(part) for flag, value in flags.items() if value is not None for part in (flag, value)]
    done = subprocess.run([PROXY, *arguments], capture_output=True, text=True, timeout=20, env=bench.environment)
    assert done.returncode == 2 and word in done.stderr, done.stderr


def test_it_drains_on_sigterm(start, bench, world, redirected):
    """What is under way is finished; what comes then is refused."""
    proxy = start(guard.policy(guard.endpoint("v4.example.com")))
    proxy.wait_until_ready()
    slow = subprocess.Popen(
        [
            "curl",
            "-sS",
            "--cacert",
            world.guard_root.certificate,
            "--resolve",
            f"v4.example.com:443:{lab.CAPTURED_V4}",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "https://v4.example.com/slow?ms=1000",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not world.saw("/slow"):
        time.sleep(0.02)
    proxy.process.send_signal(signal.SIGTERM)
    out, err = slow.communicate(timeout=20)
    assert out == "200", err
    proxy.process.communicate(timeout=20)
    assert proxy.process.returncode == 0
    assert [r["decision"] for r in guard.exchanges(bench.records())] == ["allow"]


def test_the_policy_is_taken_up_while_it_runs(start, bench, world, redirected):
    proxy = start(POLICY)
    proxy.wait_until_ready()
    assert curl(world, "/other").stdout.endswith("\n403")
    bench.write_policy(guard.policy(guard.endpoint("v4.example.com")))
    end = time.monotonic() + 10
    while not curl(world, "/other").stdout.endswith("\n200"):
        assert time.monotonic() < end
    proxy.stop()


def test_a_policy_behind_a_symbolic_link_is_taken_up(start, bench, world, redirected):
    """The way in which Kubernetes updates a config map: the file is a link into a folder that is itself a link."""
    for name, text in (("one", POLICY), ("two", guard.policy(guard.endpoint("v4.example.com")))):
        (bench.folder / name).mkdir()
        (bench.folder / name / "policy.yaml").write_text(text)
    (bench.folder / "data").symlink_to("one")
    bench.policy_file.symlink_to("data/policy.yaml")
    proxy = start(POLICY)
    proxy.wait_until_ready()
    assert curl(world, "/other").stdout.endswith("\n403")
    (bench.folder / "fresh").symlink_to("two")
    (bench.folder / "fresh").rename(bench.folder / "data")
    end = time.monotonic() + 10
    while not curl(world, "/other").stdout.endswith("\n200"):
        assert time.monotonic() < end
    proxy.stop()


def test_it_is_not_dumpable(start, bench, world):
    """Its memory holds keys and secrets: a process of the same user must not read it."""
    proxy = start(POLICY)
    proxy.wait_until_ready()
    assert os.stat(f"/proc/{proxy.process.pid}/mem").st_uid == 0
    limits = open(f"/proc/{proxy.process.pid}/limits").read()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size")).split()[4]
    proxy.stop()
    assert core in ("0", "1"), "1 also keeps the kernel from piping a core to a program"
