"""Functions as AWS Lambda runs them: each instance is a process under a guard of its own (`sallyport run`), which asks
for invocations at the Runtime API. Instances are kept between invocations, and one more is started when all are
busy."""

import collections
import dataclasses
import json
import pathlib
import re
import secrets
import select
import subprocess
import threading
import time
import uuid

import clients
import guard
import lab
import membership
import origin

_HERE = pathlib.Path(__file__).resolve().parent
RUNTIME = _HERE / "runtime.py"
ATTACKS = _HERE / "attacks"
REGION, ACCOUNT = "us-east-1", "123456789012"
_FIRST_PORT = 9001
_TIMEOUT_S = 300
_RETRIES = 2  # of an event whose function failed
_STOP_S = 60


def arn(name):
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def name_in(text):
    """The name of a function in an ARN, or as it is."""
    match = re.fullmatch(r"arn:aws:lambda:[\w-]+:\d+:function:([\w-]+)(:[\w$-]+)?", text)
    return match.group(1) if match else text


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A host that a function calls. `operations` and `query` are the policy's fields of those names."""

    host: str
    operations: str | None = None
    query: str | None = None


# What is done to a bucket beside its objects is in the query: ?notification, ?policy.
S3 = Endpoint(f"*.s3.{REGION}.amazonaws.com", query="sort")
LAMBDA = Endpoint(f"lambda.{REGION}.amazonaws.com")
STATES = Endpoint(f"states.{REGION}.amazonaws.com", "aws-json")
CODEPIPELINE = Endpoint(f"codepipeline.{REGION}.amazonaws.com", "aws-json")
DYNAMODB = Endpoint(f"dynamodb.{REGION}.amazonaws.com", "aws-json")
CLOUDFORMATION = Endpoint(f"cloudformation.{REGION}.amazonaws.com", "aws-query")


@dataclasses.dataclass(frozen=True)
class Specification:
    """What a user deploys. `concurrency` is how many instances there may be."""

    name: str
    handler: str  # MODULE.NAME in `folder`
    folder: pathlib.Path
    endpoints: tuple = ()
    environment: dict = dataclasses.field(default_factory=dict)
    concurrency: int = 1


@dataclasses.dataclass(frozen=True)
class Guarding:
    """How guards decide, and which functions they guard against."""

    mode: str = "learn"
    graphs: dict = dataclasses.field(default_factory=dict)  # function to the text of its flow graph; empty: any order
    hijacked: dict = dataclasses.field(default_factory=dict)  # function to the module of attacks/ that has come into it
    member: membership.Membership | None = None  # of whose controller guards have their policies


class Invocation:
    def __init__(self, payload, event):
        self.id = str(uuid.uuid4())
        self.payload = payload
        self.event = event  # nobody waits for its result; it is tried again when the function fails
        self.attempts = 0
        self.done = threading.Event()
        self.result, self.failed = b"null", False

    def end(self, result, failed):
        self.result, self.failed = result, failed
        self.done.set()


class Function:
    """The instances of one function, and the invocations that wait for one."""

    def __init__(self, cloud, specification):
        self.cloud, self.specification = cloud, specification
        self.name = specification.name
        self.instances = []
        self._queue = collections.deque()
        self._changed = threading.Condition()
        self._idle = 0
        self.stopped = False

    def invoke(self, payload, event=False):
        """Starts an invocation of the function with these bytes."""
        invocation = Invocation(payload, event)
        self.cloud.work.begin()
        self._enqueue(invocation)
        return invocation

    def call(self, payload):
        """Invokes the function and waits for its result: (the result, whether the function failed)."""
        invocation = self.invoke(payload)
        end = time.monotonic() + _TIMEOUT_S
        while not invocation.done.wait(1):
            if self.cloud.faults() or time.monotonic() > end:
                told = {"errorMessage": f"{self.name} did not answer", "errorType": "Sandbox.Timedout"}
                return json.dumps(told).encode(), True
        return invocation.result, invocation.failed

    def give_up(self, invocation):
        """For one that its guard has taken from the Runtime API and refused: nobody will end it."""
        invocation.end(b"", True)
        self.cloud.work.end()

    def _enqueue(self, invocation):
        with self._changed:
            self._queue.append(invocation)
            if len(self._queue) > self._idle and len(self.instances) < self.specification.concurrency:
                self.instances.append(Instance(self, len(self.instances)))
                self.instances[-1].start()
            self._changed.notify()

    def next(self, alive):
        """The next invocation, for an instance that waits for one; None when the function is stopped, or the instance
        has gone (`alive`)."""
        with self._changed:
            self._idle += 1
            try:
                while not self.stopped:
                    if self._queue and alive():
                        invocation = self._queue.popleft()
                        invocation.attempts += 1
                        return invocation
                    if not alive():
                        return None
                    self._changed.wait(1)
                return None
            finally:
                self._idle -= 1

    def ended(self, invocation, result, failed):
        if failed and invocation.event and invocation.attempts <= _RETRIES:
            self._enqueue(invocation)
            return
        invocation.end(result, failed)
        self.cloud.work.end()

    def stop(self):
        """Lets the instances end in good order, and waits for them."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()
        for instance in self.instances:
            instance.wait()

    def requests(self):
        """What the instances have sent, in the order in which it came to the cloud."""
        names = {instance.name for instance in self.instances}
        return [request for request in self.cloud.requests() if request.caller in names]


class Instance:
    """One process of a function under its guard, and the Runtime API that it talks to."""

    def __init__(self, function, number):
        self.function, self.cloud = function, function.cloud
        self.name = f"{function.name}-{number}"
        self._guarding = self.cloud.guarding
        self.access_key = "ASIA" + secrets.token_hex(8).upper()
        self.port = self.cloud.next_port(_FIRST_PORT)
        self.bench = guard.Bench(self.cloud.world)
        self._traces = self.bench.folder / "traces.jsonl"
        self._errors = self.bench.folder / "stderr.txt"
        self._invocations = {}
        self.process = None
        self.listen()

    def listen(self):
        origin.Origin([lab.CLOUD_V4], self.port, handler=self._answer)

    def command(self, handler):
        return [guard.PYTHON, RUNTIME, handler]

    def flags(self):
        return ["--runtime-api", f"{lab.CLOUD_V4}:{self.port}"]

    def start(self):
        specification = self.function.specification
        handler = "hijacked.handler" if self.function.name in self._guarding.hijacked else specification.handler
        policy, flags = self._policy(), ["--mode", self._guarding.mode]
        if self._guarding.member:
            graph = self._guarding.graphs.get(self.function.name)
            flags, policy = self._guarding.member.flags(self.function.name, policy, graph), None
        with open(self._errors, "w") as errors:
            self.process = self.bench.start(
                self.command(handler),
                [*flags, "--quiet", "--traces", self._traces, *self.flags()],
                policy,
                self._environment(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=specification.folder,
            )

        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        """A function whose process ends leaves those who wait for it without an answer: the round is to end, too."""
        code = self.process.wait()
        if not self.function.stopped:
            self.cloud.fault(f"{self.name} ended with {code}: {self.stderr()[-1000:]}")

    def wait(self, is_right=lambda code: code == 0):
        code = self.process.wait(_STOP_S)
        guard.no_sanitizer_report(self.stderr())
        assert is_right(code), f"{self.name} ended with {code}: {self.stderr()}"

    def stderr(self):
        """What the function printed, and what its guard said."""
        return self._errors.read_text(errors="replace")

    def traces(self):
        """The lines that its guard has written, one for each invocation that has ended."""
        return self._traces.read_text().splitlines() if self._traces.exists() else []

    def _policy(self):
        allowed = self.function.specification.endpoints
        endpoints = [guard.endpoint(each.host, operations=each.operations, query=each.query) for each in allowed]
        document = json.loads(guard.policy(*endpoints, function=self.function.name, mode=self._guarding.mode))
        if self._guarding.graphs and not self._guarding.member:
            (self.bench.folder / "function.graph.yaml").write_text(self._guarding.graphs[self.function.name])
            document["spec"]["flow"] = "function.graph.yaml"
        return json.dumps(document)

    def _environment(self):
        specification = self.function.specification
        folders = [specification.folder, clients.MADE / "python"]
        attacks = {}
        if module := self._guarding.hijacked.get(self.function.name):
            folders.insert(0, ATTACKS)
            attacks = {"HIJACKED": specification.handler, "ATTACKS": module}
        return {
            **attacks,
            "PYTHONPATH": ":".join(map(str, folders)),
            "AWS_LAMBDA_FUNCTION_NAME": specification.name,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional",
            "AWS_EC2_METADATA_DISABLED": "true",
            # By its key the cloud knows whose request one is.
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
            "AWS_SESSION_TOKEN": secrets.token_hex(20),
            "API_TOKEN": self.access_key,  # for services beside the cloud's own
            **specification.environment,
        }

    def _alive(self, connection):
        """Whether somebody still waits at this connection: a guard gives up after some minutes without an answer, and
        the function then asks anew."""
        poll = select.poll()
        poll.register(connection.raw, select.POLLRDHUP)
        return self.process.poll() is None and not poll.poll(0)

    def _answer(self, c, request):
        """The Runtime API, version 2018-06-01."""
        path = request.path.removeprefix("/2018-06-01/runtime")
        if request.method == "GET" and path == "/invocation/next":
            self._give(c)
        elif match := re.fullmatch(r"/invocation/([\w-]+)/(response|error)", path):
            self._take(c, match.group(1), request.body, match.group(2) == "error")
        elif path == "/init/error":
            self.cloud.fault(f"{self.name} could not be started: {request.body.decode()}")
            c.answer({"status": "OK"}, "202 Accepted")
        else:
            c.answer({"errorType": "InvalidPath"}, "404 Not Found")

    def _give(self, c):
        invocation = self.function.next(lambda: self._alive(c))
        if invocation is None:
            c.answer(status="410 Gone")
            return
        self._invocations[invocation.id] = invocation
        fields = [
            ("Lambda-Runtime-Aws-Request-Id", invocation.id),
            ("Lambda-Runtime-Deadline-Ms", str(int((time.time() + _TIMEOUT_S) * 1000))),
            ("Lambda-Runtime-Invoked-Function-Arn", arn(self.function.name)),
            ("Content-Type", "application/json"),
        ]
        c.answer(invocation.payload, headers=fields)

    def _take(self, c, identity, result, failed):
        invocation = self._invocations.pop(identity, None)
        if invocation is None:
            c.answer({"errorType": "InvalidRequestID"}, "400 Bad Request")
            return
        c.answer({"status": "OK"}, "202 Accepted")
        self.function.ended(invocation, result, failed)
