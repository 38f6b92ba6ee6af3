"""What every proxy under test has in common: where it listens, how it is started, and what it has used.

All end the client's TLS and speak TLS to the origins, behind the same redirect; peers.py says how each is set up.
"""

import os
import signal
import socket
import time
from pathlib import Path

from lab import BIN, DOMAIN, GRPC, GRPC_PATH, HTTP1, HTTP2, SERVICES

START_TIMEOUT_S = 20


def process_tree(pid):
    """A process and all of its descendants."""
    pids = [pid]
    for parent in pids:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            pids.extend(int(child) for child in children.read_text().split())
    return pids


def status_kib(pid, field):
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{field}:")), 0)


class Proxy:
    """One proxy. Subclasses say their command line."""

    name = ""
    number = 0  # the last part of its addresses
    services = (HTTP1,)  # the origins that it can stand before
    mints = True  # a certificate for each name
    attempts = 1  # at a load; more only for a peer that is known to fail at times
    share = 1.0  # of the requests of a load, for one that would take minutes over them

    def __init__(self, lab):
        self.lab = lab
        self.folder = lab.folder
        self.port = 8000 + self.number
        self._pid = 0
        self._log = lab.folder / f"{self.name}.log"
        lab.redirect(self.number, self.port)

    def command(self):
        """Makes its files anew, so that nothing of the start before is known, and returns the command line."""
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def start(self):
        """Starts it and returns the milliseconds from exec until it accepts a connection."""
        command = self.command()
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        log = [(os.POSIX_SPAWN_OPEN, fd, str(self._log), append, 0o600) for fd in (1, 2)]
        log.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))
        began = time.monotonic()
        self._pid = os.posix_spawnp(command[0], command, self.environment(), file_actions=log)
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
        """Ends it and its helpers; whoever does not end in time is killed."""
        pids = process_tree(self._pid)
        os.kill(self._pid, signal.SIGTERM)
        deadline = time.monotonic() + 5
        while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.005)
        for pid in pids[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def cpu_us(self):
        """Microseconds of CPU of all of its threads so far, in user and kernel, from the scheduler's own clock."""
        total_ns = 0
        for pid in process_tree(self._pid):
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                total_ns += int(task.read_text().split()[0])
        return total_ns / 1e3

    def rss_kib(self):
        """The resident set of its largest process, and what the others have for themselves alone."""
        pids = sorted(process_tree(self._pid), key=lambda pid: status_kib(pid, "VmRSS"), reverse=True)
        return status_kib(pids[0], "VmRSS") + sum(status_kib(pid, "RssAnon") for pid in pids[1:])

    def pid(self):
        return self._pid

    def share_of(self, count):
        return max(20, int(count * self.share))

    def load(self, *arguments, **options):
        return self.lab.load(self.number, "proxy-root", *arguments, **options)

    def generator(self, *arguments, **options):
        return self.lab.generator(self.number, "proxy-root", *arguments, **options)


class Sallyport(Proxy):
    name, number = "sallyport", 16
    services = SERVICES

    def command(self):
        (self.folder / "secret").write_text("bench-credential-0123456789abcdef")
        (self.folder / "secret").chmod(0o600)
        (self.folder / "policy.yaml").write_text(policy(self.folder))
        return [str(BIN / "sallyport-proxy"), "--policy", f"{self.folder}/policy.yaml",
                "--listen", f"0.0.0.0:{self.port}", "--ca-cert", f"{self.folder}/proxy-root.pem",
                "--ca-key", f"{self.folder}/proxy-root.key", "--upstream-ca", f"{self.folder}/origin-root.pem",
                "--record", f"{self.folder}/records.jsonl", "--admin", f"{self.folder}/admin.sock", "--workers", "1"]


def policy_of(endpoints):
    """The beginning of a policy, with so many endpoints."""
    lines = "\n".join(f"  - {{name: other-{i}, host: host-{i}.{DOMAIN}, "
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
    """50 endpoints, of which the last four are the origins, with a credential for each request's header."""
    def endpoint(name, host, *rules):
        return (f"  - {{name: {name}, host: \"{host}\", addresses: [10.200.0.0/14], credential: origin, "
                f"rules: [{', '.join(rules)}]}}\n")
    get = "{methods: [GET], path: {prefix: /}}"
    return f"""{policy_of(46)}
{endpoint("origin", HTTP1.name, get, "{methods: [POST], path: {exact: /upload}}")}\
{endpoint("h2", HTTP2.name, get)}\
{endpoint("grpc", GRPC.name, f"{{methods: [POST], path: {{exact: {GRPC_PATH}}}}}")}\
{endpoint("names", f"*.{DOMAIN}", get)}\
  credentials:
  - {{name: origin, secret: {{file: {folder}/secret}}, inject: {{header: Authorization, format: "Bearer {{}}"}}}}
"""
