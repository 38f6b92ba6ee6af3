"""What the functions of attacks/ try, as the guard sees it, and where in their graphs they stand when they do."""

import dataclasses
import re

S3 = "s3.us-east-1.amazonaws.com"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A request of a hijacked function. `expected` is some of what its graph has at that point, as the refusal tells it.
    `nowhere`: the graph has no such request at any point."""

    function: str
    method: str
    url: str  # a regular expression: host and path
    expected: str
    action: str = ""
    nowhere: bool = False

    def is_in(self, record):
        """A record of an exchange."""
        return record["function"] == self.function and self._is(record["method"], record.get("action", ""), record)

    def came(self, request):
        """To a service, as a cloud.Request."""
        return request.caller.startswith(self.function + "-") and self._is(
            request.method, request.action, {"host": request.host, "path": request.path}
        )

    def _is(self, method, action, place):
        same = (method, action) == (self.method, self.action)
        return same and re.fullmatch(self.url, place["host"] + place["path"]) is not None


@dataclasses.dataclass(frozen=True)
class Attack:
    """The functions of an application that are in an attacker's hand."""

    hijacked: dict  # function to the module of attacks/
    attempts: tuple
    options: dict = dataclasses.field(default_factory=dict)  # of the application
    round: dict = dataclasses.field(default_factory=dict)  # of each round


_DROP = rf"attackers-drop\.{S3}/loot"
_LOAD = "GET photos"
_STORE = f"PUT photo-renditions.{S3}/16/{{int}}/{{uuid}}.ppm"
_DYNAMODB = r"dynamodb\.us-east-1\.amazonaws\.com/"
_ORDER = "GET payments.example.com/v1/customers/cus_{hex}, POST payments.example.com/v1/refunds, or the end"
_MODEL = "POST llm.example.com/v1/chat/completions"
_INPUT = "GET crawl-data"
_REVISION = "GET codepipeline-us-east-1-{int}"
_CLOUDFORMATION = r"cloudformation\.us-east-1\.amazonaws\.com/"
_CODEPIPELINE = r"codepipeline\.us-east-1\.amazonaws\.com/"
_STATES = r"states\.us-east-1\.amazonaws\.com/"
_JOB = rf"mapreduce-jobs\.{S3}/job-\w+"
_END = "the end"

NONE = Attack({}, ())
ATTACKS = {  # by application
    "images": Attack(
        {"renditions": "on_renditions"},
        (
            Attempt("renditions", "PUT", rf"photo-renditions\.{S3}/16/7/.*", _LOAD),
            Attempt("renditions", "PUT", _DROP, _STORE, nowhere=True),
            Attempt("renditions", "PUT", rf"photos\.{S3}/archive/.*", _STORE, nowhere=True),
            Attempt("renditions", "PUT", rf"photo-renditions\.{S3}/256/.*", _STORE, nowhere=True),
            Attempt("renditions", "GET", rf"photos\.{S3}/uploads/.*", _END),
            Attempt("renditions", "POST", _DYNAMODB, _END, "DynamoDB_20120810.PutItem"),
            Attempt("renditions", "POST", _DYNAMODB, _END, "DynamoDB_20120810.DeleteItem", nowhere=True),
        ),
    ),
    "webhook": Attack(
        {"receiver": "on_receiver"},
        (
            Attempt("receiver", "POST", r"chat\.example\.com/api/chat\.postMessage", ""),
            Attempt("receiver", "GET", r"payments\.example\.com/v1/customers", _ORDER, nowhere=True),
            Attempt("receiver", "POST", r"payments\.example\.com/v1/payment_intents", "the end"),
            Attempt("receiver", "POST", r"payments\.example\.com/v1/refunds", _END),
        ),
        options={"failing": 0},
        round={"kind": "order.placed"},
    ),
    "agent": Attack(
        {"agent": "on_agent"},
        (
            Attempt("agent", "GET", r"orders\.example\.com/v1/orders/\d+", ""),
            Attempt("agent", "DELETE", r"orders\.example\.com/v1/orders/4711", _MODEL, nowhere=True),
            Attempt("agent", "POST", r"llm\.example\.com/v1/chat/completions", ", or the end"),
        ),
        options={"failing": 0},
    ),
    "mapreduce": Attack(
        {"mapper": "on_mapper"},
        (
            Attempt("mapper", "PUT", rf"{_JOB}/result", _INPUT, nowhere=True),
            Attempt("mapper", "PUT", rf"{_JOB}/task/mapper/99", _INPUT),
            Attempt("mapper", "PUT", _DROP, _END, nowhere=True),
            Attempt("mapper", "PUT", rf"mapreduce-jobs\.{S3}/", _END, nowhere=True),
            Attempt("mapper", "PUT", rf"{_JOB}/task/mapper/\d", _END),
            Attempt("mapper", "GET", rf"crawl-data\.{S3}/.*", _END),
        ),
    ),
    "codepipeline": Attack(
        {"create-change-set": "on_create_change_set", "trigger": "on_trigger"},
        (
            Attempt("create-change-set", "POST", _CLOUDFORMATION, "", "CreateChangeSet"),
            Attempt("create-change-set", "POST", _CLOUDFORMATION, _END, "ExecuteChangeSet", nowhere=True),
            Attempt("create-change-set", "POST", _CLOUDFORMATION, _END, "DeleteStack", nowhere=True),
            Attempt("create-change-set", "PUT", _DROP, _END, nowhere=True),
            Attempt("trigger", "POST", _CODEPIPELINE, _REVISION, "CodePipeline_20150709.PutJobSuccessResult"),
            Attempt("trigger", "POST", _STATES, _END, "AWSStepFunctions.StartExecution"),
            Attempt("trigger", "POST", _STATES, _END, "AWSStepFunctions.StopExecution", nowhere=True),
        ),
        round={"path": "refuse"},
    ),
}


def complaints(attack, outcome):
    """What is wrong with a run in which each attempt is to be refused for the reason it has here, and nothing else."""
    refused = [each for each in outcome.records if each["kind"] == "exchange" and each["decision"] == "deny"]
    found = []
    for attempt in attack.attempts:
        tried = [each for each in refused if attempt.is_in(each)]
        if not tried:
            found.append(f"never refused: {attempt}")
        told = "is nowhere in the flow graph;" if attempt.nowhere else "may not come now;"
        for text in {each["text"] for each in tried}:
            before, _, expected = text.partition(" expected: ")
            if not before.endswith(told) or attempt.expected not in expected.partition("; at: ")[0]:
                found.append(f"told otherwise: {text}")
        if attempt.nowhere:
            found += [f"it came: {each}" for each in outcome.requests if attempt.came(each)]
    for each in refused:
        if each["reason"] != "flow-not-allowed" or not any(attempt.is_in(each) for attempt in attack.attempts):
            found.append(f"refused, but no attempt: {each}")
    return found
