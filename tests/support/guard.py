"""Runs `sallyport run` the way a person would, and hands back what a person would see."""

import ast
import dataclasses
import inspect
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import textwrap
import time

import lab

SALLYPORT = str(lab.BIN / "sallyport")
PYTHON = "/usr/bin/python3"
_SANITIZER = re.compile(r"ERROR: \w+Sanitizer|runtime error:|WARNING: ThreadSanitizer|LeakSanitizer")


def endpoint(host, methods=("any",), path="/", **more):
    """An endpoint that lets some methods through below a path prefix, at the lab's addresses."""
    made = {
        "name": host.replace("*", "any").replace(".", "-").replace(":", "-"),
        "host": host,
        "addresses": lab.ADDRESSES,
        "rules": [{"methods": list(methods), "path": {"prefix": path}}],
    }
    made.update(more)
    return {key: value for key, value in made.items() if value is not None}


def policy(*endpoints, mode="enforce", credentials=(), function="tested", **more):
    """The text of a policy document: JSON is YAML. `more`: other fields of its spec."""
    spec = {"function": function, "mode": mode, "endpoints": list(endpoints)} | more
    if credentials:
        spec["credentials"] = list(credentials)
    return json.dumps(
        {"apiVersion": "sallyport.dev/v1alpha1", "kind": "EgressPolicy", "metadata": {"name": "test"}, "spec": spec},
        indent=1,
    )


def read_records(path):
    """Every record of the file; a line that is not one JSON object is an error."""
    try:
        text = pathlib.Path(path).read_text()
    except FileNotFoundError:
        return []
    lines = text.split("\n")
    return [json.loads(line) for line in lines[:-1]]  # an unfinished last line is still being written


def exchanges(records):
    return [r for r in records if r["kind"] == "exchange"]


@dataclasses.dataclass
class Outcome:
    code: int
    out: str
    err: str
    records: list

    @property
    def exchanges(self):
        return exchanges(self.records)


def user_options(user):
    """For subprocess: root is who runs the tests; "ordinary" has no privilege at all."""
    if user == "ordinary":
        return {"user": lab.ORDINARY_UID, "group": lab.ORDINARY_UID, "extra_groups": []}
    return {}


class Bench:
    """A folder for one guard: its policy, its records, its sockets, its environment."""

    def __init__(self, world, user="root"):
        self.world, self.user = world, user
        self.folder = lab.folder()
        self.record = self.folder / "record.jsonl"
        self.policy_file = self.folder / "policy.yaml"
        self.admin = self.folder / "admin.sock"
        home = self.folder / "home"
        home.mkdir()
        home.chmod(0o777)
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(lab.SUPPORT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SALLYPORT_LAB": os.environ["SALLYPORT_LAB"],
        }
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                self.environment[name] = os.environ[name]

    def write_policy(self, text):
        """Writes the policy in place: `sallyport run` takes up no other file that its command could have put there."""
        self.policy_file.write_text(text)
        self.policy_file.chmod(0o644)

    def replace_policy(self, text):
        """Replaces the policy in one step, as editors and config maps do."""
        fresh = self.policy_file.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.rename(self.policy_file)

    def arguments(self, command, flags=(), policy=None, trust=True, record=True):
        made = [SALLYPORT, "run"]
        if policy is not None:
            self.write_policy(policy)
            made += ["--policy", str(self.policy_file)]
        if trust:
            made += ["--upstream-ca", str(self.world.root)]
        if record:
            made += ["--record", str(self.record)]
        return [*made, *map(str, flags), "--", *map(str, command)]

    def start(self, command, flags=(), policy=None, env=None, trust=True, record=True, **options):
        """Popen of a guarded command."""
        environment = self.environment | (env or {})
        options = (
            {
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "cwd": self.folder,
                "text": True,
            }
            | user_options(self.user)
            | options
        )
        return subprocess.Popen(self.arguments(command, flags, policy, trust, record), env=environment, **options)

    def run(self, command, flags=(), policy=None, env=None, trust=True, record=True, timeout=60, input=None, **options):
        """Runs a guarded command to its end."""
        if input is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(command, flags, policy, env, trust, record, **options)
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"no end after {timeout} s\nstdout: {out}\nstderr: {err}")
        no_sanitizer_report(err)
        return Outcome(process.returncode, out, err, read_records(self.record))

    def python(self, code, *arguments, **options):
        """Runs Python code, given as text, as the guarded command."""
        return self.run([PYTHON, "-c", textwrap.dedent(code), *arguments], **options)

    def session(self, **options):
        return Session(self, **options)

    def records(self):
        return read_records(self.record)

    def metrics(self, path="/metrics"):
        """(status, text) of the admin socket."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(10)
            stream.connect(str(self.admin))
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while part := stream.recv(65536):
                data += part
        head, _, body = data.decode().partition("\r\n\r\n")
        if "chunked" in head.lower():
            body = "".join(re.split(r"\r?\n?[0-9a-f]+\r\n", body))
        return int(head.split(" ")[1]), body

    def sample(self, name, **labels):
        """The value of the one sample of sallyport_`name` that has the labels; nothing where there is none."""
        found = [line for line in self.metrics()[1].splitlines() if line.startswith(f"sallyport_{name}{{")
                 and all(f'{key}="{value}"' in line for key, value in labels.items())]
        assert len(found) < 2, found
        return float(found[0].rsplit(" ", 1)[1]) if found else None

    def close(self):
        lab.remove(self.folder)


def no_sanitizer_report(err):
    text = err if isinstance(err, str) else err.decode(errors="replace")
    assert not _SANITIZER.search(text), text


class Session:
    """A guarded command that does what the test asks of it until the test is through: the agent of inside.py."""

    def __init__(self, bench, policy=None, flags=(), env=None, guarded=True, **options):
        self.bench = bench
        self._errors = open(bench.folder / "stderr.txt", "w+")
        options = {"stdin": subprocess.PIPE, "stderr": self._errors} | options
        agent = [PYTHON, str(lab.SUPPORT / "inside.py")]
        if guarded:
            self.process = bench.start(agent, flags, policy, env, **options)
        else:  # for showing that an attack works where nothing guards against it
            self.process = subprocess.Popen(
                agent,
                env=bench.environment,
                cwd=bench.folder,
                stdout=subprocess.PIPE,
                text=True,
                **user_options(bench.user),
                **options,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def do(self, function, *arguments, **options):
        """Runs a function of the test inside, and returns what it returned. Only its source travels: it reaches the
        names of inside.py and what it imports itself."""
        if callable(function):
            source, name = textwrap.dedent(inspect.getsource(function)), function.__name__
        else:
            source, name = "", function
        return self.do_source(source, name, *arguments, **options)

    def do_source(self, source, name, *arguments, **options):
        """The same for source text that the test has put together; `name` is the function in it to call."""
        try:
            self.process.stdin.write(repr((source, name, arguments, options)) + "\n")
            self.process.stdin.flush()
            assert select.select([self.process.stdout], [], [], 90)[0], f"no answer in 90 s; stderr: {self.stderr()}"
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        assert line, f"the command ended with {self.process.wait(20)}; stderr: {self.stderr()}"
        kind, result = ast.literal_eval(line)
        assert kind == "ok", result
        return result

    def ask(self, *arguments, **options):
        return self.do("ask", *arguments, **options)

    def get(self, *arguments, **options):
        return self.do("get", *arguments, **options)

    def stderr(self):
        return pathlib.Path(self._errors.name).read_text()

    def guards(self):
        """The processes that run our executable."""
        return [pid for pid in [self.process.pid, *lab.children(self.process.pid)] if lab.runs_sallyport(pid)]

    def wait_for_records(self, condition, what="the records did not come", timeout=10):
        """The records, once `condition(records)` holds."""
        end = time.monotonic() + timeout
        while True:
            records = self.bench.records()
            if condition(records):
                return records
            assert time.monotonic() < end, f"{what}: {records}"
            time.sleep(0.05)

    def wait_for_stderr(self, pattern, timeout=10):
        end = time.monotonic() + timeout
        while not re.search(pattern, self.stderr()):
            assert time.monotonic() < end, f"{pattern!r} is not in: {self.stderr()}"
            time.sleep(0.05)

    def close(self, timeout=30):
        """Ends the command in good order; returns the exit code."""
        if self.process.stdin and not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"the guard did not end; stderr: {self.stderr()}")
        self.process.stdout.close()
        no_sanitizer_report(self.stderr())
        return code
