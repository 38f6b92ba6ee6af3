"""A real controller for tests: the process, its admin API, and the commands of people that go to it."""

import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time

BIN = pathlib.Path(os.environ.get("SALLYPORT_BIN", "build/dev/bin"))
START_TIMEOUT_S = 20


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def eventually(condition, what, timeout=20):
    """What the condition gives as soon as it holds. `what` is said if it does not: a text, or what makes one."""
    last = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < last, what() if callable(what) else what
        time.sleep(0.05)
    return found


class Controller:
    def __init__(self, folder, flags=(), config=None, env=None, wait=True, ports=None):
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.ports = ports or free_ports(3)
        self.port, self.admin_port, self.metrics_port = self.ports
        self.url = f"wss://127.0.0.1:{self.port}"
        self.admin_url = f"https://127.0.0.1:{self.admin_port}"
        self.flags = list(map(str, flags))
        self.env = {**os.environ, **(env or {})}
        self.log = self.folder / "controller.log"
        if config is not None:
            (self.folder / "controller.yaml").write_text(config)
            self.flags += ["--config", str(self.folder / "controller.yaml")]
        self.process = None
        self.start(wait)

    def start(self, wait=True):
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [BIN / "sallyport-controller", "--data", self.data, "--listen", f"127.0.0.1:{self.port}",
                 "--admin-listen", f"127.0.0.1:{self.admin_port}", "--metrics-listen", f"127.0.0.1:{self.metrics_port}",
                 *self.flags], stderr=log, env=self.env)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self):
        last = time.monotonic() + START_TIMEOUT_S
        while not self.ready():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < last, self.said()
            time.sleep(0.02)

    def ready(self):
        try:
            return self.scrape("/readyz")[0] == 200
        except OSError:
            return False

    def scrape(self, path="/metrics"):
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def metric(self, name, **labels):
        """The sum of the samples that have the labels; None if there is none."""
        values = []
        for line in self.scrape()[1].splitlines():
            if line.split("{")[0].split(" ")[0] == f"sallyport_controller_{name}" and all(
                    f'{key}="{value}"' in line for key, value in labels.items()):
                values.append(float(line.rsplit(" ", 1)[1]))
        return sum(values) if values else None

    def said(self):
        return self.log.read_text()

    def token(self):
        return (self.data / "admin-token").read_text().strip()

    def api(self, method, target, body=None, token=None, headers=()):
        """The status, the headers, and the body: read from JSON where it is that."""
        context = ssl.create_default_context(cafile=self.data / "ca.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", self.admin_port, context=context, timeout=20)
        sent = {"Authorization": f"Bearer {token or self.token()}", **dict(headers)}
        connection.request(method, target, body=body, headers=sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        is_json = answer.getheader("content-type") == "application/json"
        return answer.status, answer.headers, json.loads(text) if is_json else text

    def cli(self, *arguments, input=None):
        environment = {**os.environ, "SALLYPORT_ADMIN_URL": self.admin_url,
                       "SALLYPORT_ADMIN_CA": str(self.data / "ca.pem"),
                       "SALLYPORT_ADMIN_TOKEN_FILE": str(self.data / "admin-token")}
        return subprocess.run([BIN / "sallyport", *map(str, arguments)], capture_output=True, text=True, timeout=60,
                              input=input, env=environment, cwd=self.folder)

    def do(self, *arguments, input=None):
        """As cli(), for what has to succeed: what it printed."""
        done = self.cli(*arguments, input=input)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def put(self, kind, text, application="shop", function=None):
        """kind: policy, graph, application-graph, settings."""
        command = {"policy": ["policy", "put"], "graph": ["function", "put-graph"],
                   "application-graph": ["app", "put-graph"], "settings": ["app", "put-settings"]}[kind]
        of = ["-f", function] if function else []
        return self.do(*command, "-", "-a", application, *of, input=text)

    def events(self, application="shop", *filters):
        lines = self.do("events", "-a", application, "-o", "json", *filters).splitlines()
        return [json.loads(line) for line in lines]

    def alarms(self, application="shop"):
        return json.loads(self.do("alarm", "list", "-a", application, "-o", "json"))["alarms"]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=20)
