"""Holds four accounts of the same requests against each other: what their bytes mean (reading.py), what the guard
recorded, what the servers understood, and what came back."""

import collections
import dataclasses
import json

import cases
import reading
import sighting

# The guard may refuse more than has two readings. These are its words for "not a request".
_NO_REQUEST = {"malformed-http", "head-too-large", "unsupported-method", "downstream-timeout", "downstream-closed"}


@dataclasses.dataclass
class Report:
    connections: int = 0
    requests: int = 0  # written into the connections, damaged ones with them
    whole: int = 0  # of what was sent, as reading.py has it
    differences: list = dataclasses.field(default_factory=list)
    answered: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # by server
    seen: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # by server
    declined: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # by server and its status
    refused: collections.Counter = dataclasses.field(default_factory=collections.Counter)  # by the guard's reason
    stricter: collections.Counter = dataclasses.field(
        default_factory=collections.Counter
    )  # whole, and refused as no request
    endings: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def __str__(self):
        show = lambda counter: ", ".join(f"{key} {count}" for key, count in sorted(counter.items(), key=str)) or "none"
        return "\n".join(
            [
                f"{self.connections} connections with {self.requests} requests, {self.whole} of them whole",
                f"answered by a server: {sum(self.answered.values())} ({show(self.answered)})",
                f"seen by a server: {sum(self.seen.values())} ({show(self.seen)})",
                f"declined by a server itself: {sum(self.declined.values())} ({show(self.declined)})",
                f"refused by the guard: {sum(self.refused.values())} ({show(self.refused)})",
                f"refused though they can be read in one way only: {show(self.stricter)}",
                f"ends of connections: {show(self.endings)}",
                f"differences: {len(self.differences)}",
            ]
        )


class _Accounts:
    """`sure` happened, `possible` may have happened: keys to how often."""

    def __init__(self):
        self.sure, self.possible = collections.Counter(), collections.Counter()


class Comparison:
    """`records` are the guard's, `sightings` maps a server's name to what it logged."""

    def __init__(self, seed, hosts, names, records, sightings):
        self.seed, self.hosts, self.names = seed, list(hosts), names
        self.report = Report()
        self.records = [record for record in records if record["kind"] == "exchange"]
        self.by_id = {record["id"]: record for record in self.records}
        self.opaque = sum(record.get("reason") == "opaque-not-allowed" for record in records)  # connections
        self.sightings = sightings
        self.at_servers, self.in_records = _Accounts(), _Accounts()
        self.told = set()  # ids of the records that a response named
        self.unnamed = collections.Counter()  # what was told without naming a record
        self.sent = {}  # the bytes of connections that made a difference

    def differ(self, what, case=None):
        if case:
            what = f"seed {self.seed}, case {case.number} to {case.host} over {case.scheme}: {what}"
            self.sent.setdefault(what.partition(": ")[0], case.data())
        self.report.differences.append(what)

    def server_of(self, host):
        name = host.partition(":")[0]
        return self.names[self.hosts.index(name)] if name in self.hosts else None

    def conversation(self, number, at, scheme, responses, ended):
        case = cases.make(self.seed, number, self.hosts, at, scheme)
        expected, reading_ended, begun = reading.read(case.data(), scheme, case.host)
        report = self.report
        report.connections += 1
        report.requests += case.requests
        report.whole += len(expected)
        report.endings[ended if ended in ("cut", "done", "end", "broken") else ended.partition(":")[0]] += 1
        closed = False
        first = (expected or [begun])[0]
        odd_start = first is None or len(first.method) > 32 or case.data().startswith(b"\r\n")
        if not responses and ended in ("end", "ConnectionResetError") and self.opaque > 0 and odd_start:
            self.opaque -= 1  # not taken for HTTP at all: closed without a word, if need be with a reset
            self.report.refused["opaque-not-allowed"] += 1
            self.report.stricter["opaque-not-allowed"] += bool(expected)
            return
        waiting = expected[len(responses)] if len(responses) < len(expected) else None
        if ended == "timeout" and waiting and self.server_was_silent(scheme, waiting):
            # Node does so over TLS: after an upgrade that it ignored, what it can't parse gets no answer.
            self.report.declined[self.server_of(waiting.host), "silence"] += 1
            self.may_have_happened(scheme, waiting)
            expected = expected[: len(responses)]
        elif ended not in ("cut", "done", "end", "broken"):
            self.differ(f"the connection ended with {ended}", case)
        for index, response in enumerate(responses):
            if closed:
                self.differ(f"a response behind the last one: {response}", case)
            closed = response[4]
            if index < len(expected):
                self.one_response(case, scheme, expected[index], response)
            elif index > len(expected) or reading_ended != "refused":
                self.differ(f"a response to no request: {response}", case)
            else:
                self.refusal(case, begun, response)
        if ended == "broken" and responses[-1][1:3] != [None, None]:
            self.differ("a response that was given, and broken off", case)
        for request in expected[len(responses) :]:
            if ended == "cut":
                self.may_have_happened(scheme, request)
            elif not closed:
                self.differ(f"no response to {request.method} {request.target}", case)
        if begun:
            self.in_records.possible[self.record_key(scheme, begun)] += 1

    def server_was_silent(self, scheme, request):
        """Whether the guard's record says that it had sent the request on, and waited."""
        return any(
            "upstream" in record and record["decision"] == "error" and record["duration_ms"] > 10_000
            for record in self.records
            if (record["scheme"], record["host"], record.get("method"), record.get("path"))
            == self.record_key(scheme, request)
        )

    def record_key(self, scheme, request):
        return (scheme, request.host, request.method, request.target.partition("?")[0])

    def may_have_happened(self, scheme, request):
        if request.host is None:
            return
        self.at_servers.possible[self.server_of(request.host), request.seen()] += 1
        self.in_records.possible[self.record_key(scheme, request)] += 1

    def one_response(self, case, scheme, request, response):
        status, seen, denied, identity, _ = response
        if denied:
            self.denial(case, response)
            if denied in _NO_REQUEST and request.host is not None:
                self.report.stricter[self.by_id[identity]["text"] if identity in self.by_id else denied] += 1
            elif denied.startswith("upstream-"):
                self.may_have_happened(scheme, request)
            return
        if request.host is None:
            self.differ(f"answered with {status}, though it names two destinations: {request}", case)
            return
        server = self.server_of(request.host)
        if seen is None:
            self.report.declined[server, status] += 1
            self.may_have_happened(scheme, request)
            return
        line = sighting.line(request.method, request.target, request.host, request.body)
        if sighting.name(line) != seen:
            self.differ(f"{request.method} {request.target} got the response to another request", case)
        self.report.answered[server] += 1
        self.at_servers.sure[server, request.seen()] += 1
        self.in_records.sure[*self.record_key(scheme, request), status, len(request.body)] += 1

    def refusal(self, case, begun, response):
        """The response to what is no whole request."""
        status, seen, denied, _, _ = response
        if denied:
            self.denial(case, response)
        elif seen or not begun:
            self.differ(f"answered with {status} by a server, though it is no whole request", case)
        else:  # a server that did not wait for the body
            self.report.declined[self.server_of(begun.host), status] += 1

    def denial(self, case, response):
        status, _, denied, identity, _ = response
        self.report.refused[denied] += 1
        if identity is None:  # HEAD: the record's name would be in the body
            self.unnamed[denied, status] += 1
            return
        record = self.by_id.get(identity)
        if record is None or (record["reason"], record["status"]) != (denied, status) or record["decision"] == "allow":
            self.differ(f"a denial ({response}) whose record says otherwise: {record}", case)
        self.told.add(identity)

    def finish(self):
        self.compare_sightings()
        self.compare_records()
        return self.report

    def explain(self, at_most=10):
        """The first differences, and what was sent on their connections."""
        shown = self.report.differences[:at_most]
        for where in dict.fromkeys(what.partition(": ")[0] for what in shown):
            if where in self.sent:
                shown.append(f"{where}, sent {self.sent[where]!r}")
        return "\n".join(shown)

    def compare_sightings(self):
        seen = collections.Counter((name, s) for name, lines in self.sightings.items() for s in lines)
        for (server, what), count in seen.items():
            self.report.seen[server] += count
            sure, possible = self.at_servers.sure[server, what], self.at_servers.possible[server, what]
            if count > sure + possible:
                self.differ(f"{server} saw {count} times what was sent {sure} to {sure + possible} times: {what}")
        for (server, what), count in self.at_servers.sure.items():
            if seen[server, what] < count:
                self.differ(f"{server} saw {seen[server, what]} times what it answered {count} times: {what}")

    def compare_records(self):
        left = collections.Counter(self.in_records.sure)
        possible = collections.Counter(self.in_records.possible)
        for record in self.records:
            if record["decision"] == "deny" or record["id"] in self.told:
                continue
            port = record["port"]
            host = record["host"] + ("" if port == {"http": 80, "https": 443}[record["scheme"]] else f":{port}")
            key = (record["scheme"], host, record.get("method", ""), record.get("path", ""))
            full = (*key, record.get("status"), record["bytes_up"])
            if record["decision"] == "allow" and left[full] > 0:
                left[full] -= 1
            elif possible[key] > 0:
                possible[key] -= 1
            elif self.unnamed[record.get("reason"), record.get("status")] > 0:
                self.unnamed[record["reason"], record["status"]] -= 1
            else:
                self.differ(f"a record of what did not happen: {json.dumps(record)}")
        for key, count in left.items():
            if count:
                self.differ(f"{count} requests without a record: {key}")
