"""The proxies under test. Each ends the client's TLS and speaks TLS to the origin; all sit behind the same redirect.

HAProxy does less than the guard: one static certificate with the right name, one fixed and verified backend, no
records, no policy. sslsplit mints leaves as the guard does, and relays bytes without reading HTTP; it opens one
upstream connection per client connection and does not verify the origin.
"""

import os
import signal
import socket
import time
from pathlib import Path

from lab import DIRECT, NAME, PORT, GENERATOR

START_TIMEOUT_S = 10


def process_tree(pid):
    """A process and all of its descendants."""
    pids = [pid]
    for parent in pids:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            pids.extend(int(child) for child in children.read_text().split())
    return pids


class Proxy:
    """One proxy: where it listens, how it is started, and what it has used. Subclasses say their command line."""

    name = ""
    address = ""
    port = 0

    def __init__(self, lab):
        self._lab = lab
        self._pid = 0
        self._log = lab.folder / f"{self.name}.log"
        lab.redirect(self.address, self.port)

    def command(self):
        raise NotImplementedError

    def start(self):
        """Starts it and returns the milliseconds from exec until it accepts a connection."""
        command = self.command()
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        log = [(os.POSIX_SPAWN_OPEN, fd, str(self._log), append, 0o600) for fd in (1, 2)]
        log.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))
        began = time.monotonic()
        self._pid = os.posix_spawnp(command[0], command, os.environ, file_actions=log)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return (time.monotonic() - began) * 1e3
            except ConnectionRefusedError:
                time.sleep(0.0002)
            exited = os.waitpid(self._pid, os.WNOHANG)[0] != 0
            if exited or time.monotonic() - began > START_TIMEOUT_S:
                raise RuntimeError(f"{self.name} did not start:\n{self._log.read_text()[-2000:]}")

    def stop(self):
        os.kill(self._pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.005)

    def cpu_us(self):
        """Microseconds of CPU of all of its threads so far, in user and kernel, from the scheduler's own clock."""
        total_ns = 0
        for pid in process_tree(self._pid):
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                total_ns += int(task.read_text().split()[0])
        return total_ns / 1e3

    def rss_kib(self):
        """The resident set of its largest process."""
        sizes = []
        for pid in process_tree(self._pid):
            status = Path(f"/proc/{pid}/status").read_text()
            sizes += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")]
        return max(sizes)

    def pid(self):
        return self._pid

    def load(self, *arguments, **options):
        return self._lab.load(self.address, "proxy-root", *arguments, **options)

    def generator(self, *arguments):
        return self._lab.generator(self.address, "proxy-root", *arguments)


class HaProxy(Proxy):
    name, address, port = "haproxy", "10.200.0.11", 8011

    def command(self):
        folder = self._lab.folder
        config = folder / "haproxy.cfg"
        config.write_text(f"""
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout client 300s
  timeout server 300s
  timeout connect 10s
  timeout http-keep-alive 300s
  http-reuse always
frontend function
  bind 0.0.0.0:{self.port} ssl crt {folder}/static.pem alpn http/1.1
  default_backend origin
backend origin
  server origin {DIRECT}:{PORT} ssl verify required ca-file {folder}/origin-root.pem sni str({NAME}) verifyhost {NAME}
""")
        return ["haproxy", "-db", "-f", str(config)]


class SslSplit(Proxy):
    name, address, port = "sslsplit", "10.200.0.12", 8012

    def command(self):
        folder = self._lab.folder
        # A leaf key of the same kind as everybody's: its own default is RSA.
        return ["sslsplit", "-u", "root", "-k", f"{folder}/proxy-root.key", "-c", f"{folder}/proxy-root.pem",
                "-K", f"{folder}/static.key", "ssl", "0.0.0.0", str(self.port)]


class Sallyport(Proxy):
    name, address, port = "sallyport", "10.200.0.13", 8013

    def command(self):
        folder = self._lab.folder
        (folder / "secret").write_text("bench-credential-0123456789abcdef")
        (folder / "secret").chmod(0o600)
        (folder / "policy.yaml").write_text(policy(folder))
        return [str(GENERATOR.with_name("sallyport-proxy")), "--policy", f"{folder}/policy.yaml",
                "--listen", f"0.0.0.0:{self.port}", "--ca-cert", f"{folder}/proxy-root.pem",
                "--ca-key", f"{folder}/proxy-root.key", "--upstream-ca", f"{folder}/origin-root.pem",
                "--record", f"{folder}/records.jsonl", "--admin", f"{folder}/admin.sock", "--workers", "1"]


def policy_of(endpoints):
    """The beginning of a policy, with so many endpoints."""
    lines = "\n".join(f"  - {{name: other-{i}, host: host-{i}.bench.example, "
                      f"rules: [{{methods: [GET], path: {{prefix: /v{i}/}}}}]}}" for i in range(endpoints))
    return f"""apiVersion: sallyport.dev/v1alpha1
kind: EgressPolicy
metadata: {{name: bench}}
spec:
  function: bench
  mode: enforce
  endpoints:
{lines}"""


def policy(folder):
    """50 endpoints, of which the last is the origin, with a credential that is put into a header of each request."""
    return f"""{policy_of(49)}
  - name: origin
    host: {NAME}
    addresses: [{DIRECT}/32]
    credential: origin
    rules:
    - {{methods: [GET], path: {{prefix: /}}}}
    - {{methods: [POST], path: {{exact: /upload}}}}
  credentials:
  - {{name: origin, secret: {{file: {folder}/secret}}, inject: {{header: Authorization, format: "Bearer {{}}"}}}}
"""


ALL = (HaProxy, SslSplit, Sallyport)
