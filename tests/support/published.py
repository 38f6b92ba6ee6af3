"""A function whose port is published, as those outside see it."""

import http.client
import json
import signal
import socket
import subprocess
import time

import guard
import lab

ADDRESS, OUTSIDE, INSIDE = "127.0.0.1", 18080, 8080


def connect(address=ADDRESS, port=OUTSIDE, timeout=20):
    return socket.create_connection((address, port), timeout)


def ask(method, path, body=None, headers=None, address=ADDRESS, port=OUTSIDE, timeout=20):
    """(status, fields by lower-case name, body) of one request on a connection of its own."""
    client = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        client.request(method, path, body, headers or {})
        response = client.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        client.close()


def run(paths, headers=None, **task):
    """Has the function send requests."""
    status, _, body = ask("POST", "/run", json.dumps({"paths": paths} | task), headers)
    assert status == 200, (status, body)
    return json.loads(body)


class Published:
    """`sallyport run --publish … -- COMMAND`, until the test is through."""

    def __init__(self, bench, policy, *flags, command=None, publish=f"{ADDRESS}:{OUTSIDE}:{INSIDE}", env=None, ready=True):
        self.bench = bench
        self.traces_file = bench.folder / "home" / "traces.jsonl"
        command = command or [guard.PYTHON, str(lab.SUPPORT / "function_server.py"), INSIDE]
        self.errors = open(bench.folder / "stderr.txt", "w+")
        self.process = bench.start(
            command,
            policy=policy,
            flags=["--publish", publish, "--traces", self.traces_file, *flags],
            env=env,
            stderr=self.errors,
            stdout=subprocess.DEVNULL,
        )
        if ready:
            self.wait_until_ready()

    def wait_until_ready(self, path="/healthz", port=OUTSIDE):
        end = time.monotonic() + 30
        while True:
            assert self.process.poll() is None and time.monotonic() < end, self.stderr()
            try:
                if ask("GET", path, port=port)[0] != 502:
                    return
            except OSError:
                pass
            time.sleep(0.05)

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read()

    def records(self, kind=None):
        return [r for r in self.bench.records() if kind in (None, r["kind"])]

    def wait_for(self, condition, what="the records did not come", timeout=15):
        end = time.monotonic() + timeout
        while not condition(self.bench.records()):
            assert time.monotonic() < end, (what, self.bench.records())
            time.sleep(0.05)
        return self.bench.records()

    def wait_for_record(self, timeout=15, **fields):
        """The one record that has these fields."""
        matching = lambda records: [r for r in records if all(r.get(k) == v for k, v in fields.items())]
        return matching(self.wait_for(matching, f"no record has {fields}", timeout))[0]

    def traces(self):
        """What was noted, once everything has ended."""
        self.stop()
        text = self.traces_file.read_text() if self.traces_file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"no end after SIGTERM: {self.stderr()}")
        guard.no_sanitizer_report(self.stderr())
        return self.process.returncode
