"""A small cloud under the names of the real one: functions, S3 with notifications, Step Functions, CodePipeline; moto
answers the rest. All of it is one HTTPS server of the lab's world."""

import collections
import dataclasses
import io
import itertools
import json
import os
import re
import sys
import threading
import time
import traceback
import urllib.parse
import xml.etree.ElementTree
import zlib

import clients
import lab
import lambdas
import origin
import workflows

_S3_HOST = re.compile(rf"(?:([a-z0-9.-]+)\.)?s3(?:\.{lambdas.REGION})?\.amazonaws\.com")
_SERVICES = ("cloudformation", "codepipeline", "dynamodb", "lambda", "states", "sts")
_SETTLE_S = 300
OPERATOR = "OPERATOR"  # who runs the tests, as a caller and as a key


class Moto:
    """moto's server as a WSGI application in this process: one call after the other, as it is not made for more."""

    def __init__(self):
        sys.path.append(str(clients.MADE / "python"))
        os.environ["S3_IGNORE_SUBDOMAIN_BUCKETNAME"] = "true"
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._application = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()

    def reset(self):
        from moto.moto_api._internal.models import moto_api_backend

        with self._lock:
            moto_api_backend.reset()

    def call(self, request, host, path):
        """(status line, fields, body)"""
        query = request.target.partition("?")[2]
        environment = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": urllib.parse.unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "REQUEST_URI": path + ("?" + query if query else ""),
            "RAW_URI": path + ("?" + query if query else ""),
            "SERVER_NAME": host,
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers:
            name = name.upper().replace("-", "_")
            environment[name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + name] = value
        environment["HTTP_HOST"] = host
        environment["CONTENT_LENGTH"] = str(len(request.body))
        environment.pop("HTTP_TRANSFER_ENCODING", None)  # what was chunked is here as a whole
        answered = []
        with self._lock:
            parts = self._application(environment, lambda status, fields, _=None: answered.append((status, fields)))
            body = b"".join(parts)
        status, fields = answered[0]
        return status, fields, body


class Work:
    """Counts what has begun and not ended."""

    def __init__(self):
        self._open = 0
        self._changed = threading.Condition()

    def begin(self):
        with self._changed:
            self._open += 1

    def end(self):
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def wait_for_the_end(self, timeout_s):
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, timeout_s)


@dataclasses.dataclass(frozen=True)
class Request:
    """What came to a service. `caller` is the name of an instance, or OPERATOR; empty where no key says it."""

    caller: str
    method: str
    host: str
    path: str
    action: str


class Cloud:
    """`pace` is how long a second of the cloud is: waits that take long on the real one are short here."""

    def __init__(self, world, pace=0.01):
        self.world, self.pace = world, pace
        self.guarding = lambdas.Guarding()
        self.functions = {}
        self.work = Work()
        self.states = workflows.StepFunctions(self)
        self.pipelines = workflows.CodePipeline(self)
        self._handlers = {
            f"cloudformation.{lambdas.REGION}.amazonaws.com": self._cloudformation,
            f"lambda.{lambdas.REGION}.amazonaws.com": self._lambda,
            f"states.{lambdas.REGION}.amazonaws.com": self._states,
            f"codepipeline.{lambdas.REGION}.amazonaws.com": self._codepipeline,
        }
        self._ports = itertools.count()
        self._lock = threading.Lock()
        self._requests, self._faults = [], []
        self._notifications = collections.defaultdict(list)
        self._ready_at = {}
        self._moto = Moto()
        names = [f"{each}.{lambdas.REGION}.amazonaws.com" for each in (*_SERVICES, "s3")] + ["s3.amazonaws.com"]
        buckets = [f"*.s3.{lambdas.REGION}.amazonaws.com", "*.s3.amazonaws.com"]
        certificate = world.authority.issue("cloud", [*names, *buckets, "*.example.com"])
        origin.Origin([lab.CLOUD_V4], 443, {"": certificate}, handler=self._answer)
        for each in names:
            world.dns.table[each] = [lab.CLOUD_V4]

    def serve(self, host, handler):
        """A service beside the cloud's own, as `handler(connection, request)`; `host` is a name of example.com."""
        self._handlers[host] = handler
        self.world.dns.table[host] = [lab.CLOUD_V4]

    def clear(self, guarding):
        """Forgets what was here; what is deployed from now on is guarded like that."""
        self.guarding = guarding
        self.functions = {}
        self._notifications.clear()
        self._moto.reset()
        with self._lock:
            self._requests, self._faults = [], []

    def next_port(self, first):
        return first + next(self._ports)

    def sleep(self, seconds):
        time.sleep(seconds * self.pace)

    def fault(self, text):
        """Something that no application should be able to bring about: the tests ask for these."""
        with self._lock:
            self._faults.append(text)

    def faults(self):
        with self._lock:
            return list(self._faults)

    def deploy(self, specification, kind=lambdas.Function):
        self.functions[specification.name] = kind(self, specification)
        return self.functions[specification.name]

    def create_bucket(self, name):
        """A bucket whose name can be looked up: the lab's name server has no wildcards."""
        for suffix in (f"s3.{lambdas.REGION}.amazonaws.com", "s3.amazonaws.com"):
            self.world.dns.table[f"{name}.{suffix}"] = [lab.CLOUD_V4]
        self.client("s3").create_bucket(Bucket=name)

    def client(self, service):
        """boto3 for who operates the cloud: not through a guard."""
        import boto3

        return boto3.client(
            service,
            region_name=lambdas.REGION,
            aws_access_key_id=OPERATOR,
            aws_secret_access_key=OPERATOR,
            verify=str(self.world.root),
        )

    def settle(self, timeout_s=_SETTLE_S):
        """Waits until every invocation, execution and pipeline has ended."""
        end = time.monotonic() + timeout_s
        while not self.work.wait_for_the_end(1):
            assert not self.faults(), "something went wrong"
            assert time.monotonic() < end, f"something is still running after {timeout_s} s"

    def requests(self):
        """What came, in that order, but for the operator's."""
        with self._lock:
            return list(self._requests)

    def _instances(self):
        return [instance for function in self.functions.values() for instance in function.instances]

    def _caller(self, request):
        """The name of the instance whose key the request shows, whether it is signed with it or has it as a token."""
        key = re.search(r"Credential=(\w+)/|^Bearer (\w+)$", request.header("authorization") or "")
        shown = key and (key.group(1) or key.group(2))
        if shown == OPERATOR:
            return OPERATOR
        return next((each.name for each in self._instances() if each.access_key == shown), "")

    def _answer(self, c, request):
        host = request.header("host")
        note = Request(self._caller(request), request.method, host, request.path, _action(request))
        if note.caller != OPERATOR:
            with self._lock:
                self._requests.append(note)
        try:
            if host in self._handlers:
                self._handlers[host](c, request)
            elif match := _S3_HOST.fullmatch(host):
                self._s3(c, request, match.group(1))
            else:
                self._forward(c, request, host)
        except (origin.Gone, OSError):
            raise
        except Exception:
            self.fault(f"{note}: {traceback.format_exc()}")
            c.answer(b"", "500 Internal Server Error")

    def _forward(self, c, request, host):
        _reply(c, request, *self._moto.call(request, host, request.path))

    def _s3(self, c, request, bucket):
        """Buckets are host names, as clients have them, and a path for moto. Notifications are kept here: moto would
        have them run its own functions."""
        path = request.path if bucket is None else f"/{bucket}{request.path}"
        bucket, _, key = path[1:].partition("/")
        query = urllib.parse.parse_qs(request.target.partition("?")[2], keep_blank_values=True)
        if request.method == "PUT" and "notification" in query:
            self._notifications[bucket] = _notifications(request.body)
            c.answer()
            return
        status, fields, body = self._moto.call(request, f"s3.{lambdas.REGION}.amazonaws.com", path)
        if request.method == "PUT" and key and status.startswith("200") and set(query) <= {"x-id"}:
            self._notify(bucket, urllib.parse.unquote(key), request.body_size)
        _reply(c, request, status, fields, body)

    def _notify(self, bucket, key, size):
        for function, prefix, suffix in self._notifications[bucket]:
            if not key.startswith(prefix) or not key.endswith(suffix):
                continue
            record = {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": lambdas.REGION,
                "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
                "eventName": "ObjectCreated:Put",
                "s3": {
                    "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
                    "object": {"key": urllib.parse.quote_plus(key, safe="/"), "size": size},
                },
            }
            self.functions[function].invoke(json.dumps({"Records": [record]}).encode(), event=True)

    def _lambda(self, c, request):
        """Invoke."""
        match = re.fullmatch(r"/2015-03-31/functions/([^/]+)/invocations", request.path)
        function = self.functions.get(lambdas.name_in(urllib.parse.unquote(match.group(1)))) if match else None
        if function is None or request.method != "POST":
            told = {"Type": "User", "Message": f"Function not found: {request.path}"}
            c.answer(told, "404 Not Found", [("x-amzn-ErrorType", "ResourceNotFoundException")])
            return
        payload = request.body or b"{}"
        if request.header("x-amz-invocation-type") == "Event":
            function.invoke(payload, event=True)
            c.answer(b"", "202 Accepted")
            return
        result, failed = function.call(payload)
        fields = [("Content-Type", "application/json"), ("X-Amz-Executed-Version", "$LATEST")]
        if failed:
            fields.append(("X-Amz-Function-Error", "Unhandled"))
        c.answer(result, headers=fields)

    def _cloudformation(self, c, request):
        """moto is through with a stack or a change set at once; who asks is told for up to half a minute that it is
        still being made."""
        host = request.header("host")
        status, fields, body = self._moto.call(request, host, request.path)
        form = urllib.parse.parse_qs(request.body.decode("latin-1"))
        made = tuple(form.get(name, [""])[0] for name in ("StackName", "ChangeSetName"))
        action, now = form.get("Action", [""])[0], time.monotonic()
        if action in ("CreateStack", "CreateChangeSet"):
            self._ready_at[made] = now + zlib.crc32(repr(made).encode()) % 30 * self.pace
        elif action in ("DescribeStacks", "DescribeChangeSet") and now < self._ready_at.get(made, 0):
            body = re.sub(rb"(<(?:Stack)?Status>)CREATE_COMPLETE<", rb"\1CREATE_IN_PROGRESS<", body)
        _reply(c, request, status, fields, body)

    def _states(self, c, request):
        action = (request.header("x-amz-target") or "").removeprefix("AWSStepFunctions.")
        fields = [("Content-Type", "application/x-amz-json-1.0")]
        try:
            c.answer(json.dumps(self.states.call(action, json.loads(request.body))).encode(), headers=fields)
        except workflows.Refused as error:
            told = {"__type": error.kind, "message": error.message}
            c.answer(json.dumps(told).encode(), "400 Bad Request", fields)

    def _codepipeline(self, c, request):
        """Smithy's RPC v2 in CBOR, in which newer SDKs speak with it, and JSON 1.1."""
        fields = [("Content-Type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")]
        match = re.fullmatch(r"/service/CodePipeline_20150709/operation/(\w+)", request.path)
        try:
            if match:
                self.pipelines.call(match.group(1), _read_cbor(request.body))
                c.answer(b"\xa0", headers=fields)
            else:
                action = (request.header("x-amz-target") or "").removeprefix("CodePipeline_20150709.")
                c.answer(self.pipelines.call(action, json.loads(request.body)))
        except workflows.Refused as error:
            told = {"__type": error.kind, "message": error.message}
            c.answer(
                _write_cbor(told) if match else json.dumps(told).encode(), "400 Bad Request", fields if match else []
            )


def _reply(c, request, status, fields, body):
    if request.method == "HEAD" or status.startswith(("204", "304")):
        c.answer(b"", status, fields, length=False)
    else:
        c.answer(body, status, [field for field in fields if field[0].lower() != "content-length"])


def _action(request):
    """The API's name for what is asked, where there is one beside the path."""
    if target := request.header("x-amz-target"):
        return target
    if (request.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
        return urllib.parse.parse_qs(request.body.decode("latin-1")).get("Action", [""])[0]
    return ""


def _notifications(document):
    """(function, prefix, suffix) of each configuration in the XML of PutBucketNotificationConfiguration."""
    found = []
    for configuration in xml.etree.ElementTree.fromstring(document):
        rules, function = {"prefix": "", "suffix": ""}, None
        for element in configuration.iter():
            tag = element.tag.rpartition("}")[2]
            if tag in ("CloudFunction", "LambdaFunctionArn"):
                function = lambdas.name_in(element.text)
            elif tag == "FilterRule":
                name, value = [child.text or "" for child in element]
                rules[name.lower()] = value
        found.append((function, rules["prefix"], rules["suffix"]))
    return found


def _read_cbor(data):
    from botocore.parsers import RpcV2CBORParser

    parser = RpcV2CBORParser()
    return parser.parse_data_item(parser.get_peekable_stream_from_bytes(data))


def _write_cbor(texts):
    """A map of short texts."""

    def item(kind, data):
        return bytes([kind << 5 | 24, len(data)]) + data

    made = b"".join(item(3, name.encode()) + item(3, text.encode()[:255]) for name, text in texts.items())
    return bytes([5 << 5 | len(texts)]) + made
