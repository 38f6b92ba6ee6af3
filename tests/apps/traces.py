"""Traces of a guard that does not write them itself: made of its records and of what the cloud saw.

The Runtime API's own exchanges are in the records: an execution lasts from the end of GET …/invocation/next to the
beginning of POST …/response or …/error. The form is that of Trace in policy-engine/api/flow.proto.
"""

import collections
import datetime
import json
import re

import guard
import lambdas

_RUNTIME_API = re.compile(r"/2018-06-01/runtime/invocation/(next|[\w-]+/(response|error))")


def _duration(seconds):
    return f"{max(seconds, 0):.6f}s"


def _times(record):
    """In seconds. A record says when it began to the millisecond, and may have begun that much later: its end is taken to
    be so much earlier, as requests that follow each other would else look as if they had been sent in parallel."""
    began = datetime.datetime.fromisoformat(record["time"]).timestamp()
    return began, began + max(record.get("duration_ms", 0) / 1000 - 0.001, 0)


def _actions(requests):
    """By method, host and path: the actions in the order in which they came."""
    found = collections.defaultdict(collections.deque)
    for each in requests:
        found[each.method, each.host, each.path].append(each.action)
    return found


def _flow(record, start, actions):
    began, ended = _times(record)
    place = record["method"], record["host"], record["path"]
    operation = {"method": record["method"], "host": record["host"], "path": record["path"]}
    if actions[place] and (action := actions[place].popleft()):
        operation["action"] = action
    flow = {"operation": operation, "began": _duration(began - start), "ended": _duration(ended - start)}
    flow["end"] = "FLOW_END_ANSWERED" if "status" in record and record["decision"] != "error" else "FLOW_END_FAILED"
    if "status" in record:
        flow["status"] = record["status"]
    return flow | {"bytesUp": str(record["bytes_up"]), "bytesDown": str(record["bytes_down"])}


def from_records(instance, requests):
    """The traces of an instance, in order; `requests` is what the cloud saw of it."""
    records = sorted(guard.exchanges(instance.bench.records()), key=lambda record: _times(record)[0])
    actions = _actions(requests)
    made, start, flows, identity = [], None, [], ""
    for record in records:
        match = _RUNTIME_API.fullmatch(record["path"]) if record["host"] == lambdas.RUNTIME_HOST else None
        if match is None:
            flows.append((record, start))
        elif match.group(1) == "next":
            start, flows, identity = _times(record)[1], [], record["id"]
        elif start is not None:
            began = datetime.datetime.fromtimestamp(start, datetime.timezone.utc)
            made.append(
                {
                    "function": instance.function.name,
                    "execution": re.sub(r"[^0-9a-f]", "", identity.lower()).zfill(32)[-32:],
                    "began": began.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                    "duration": _duration(_times(record)[0] - start),
                    "flows": [_flow(each, start, actions) for each, _ in flows],
                    "end": "EXECUTION_END_COMPLETE",
                    "attributed": True,
                }
            )
            start = None
    return made


def collect(instance, requests):
    """The lines of an instance's trace file, as its guard has written it."""
    if lambdas.guards_write_traces():
        return instance.traces.read_text().splitlines() if instance.traces.exists() else []
    return [json.dumps(trace) for trace in from_records(instance, requests)]
