"""Tags in CloudEvents: functions that know each other over a broker, which passes events on and nothing else. The flow is
explicit and exact, and no function sees a tag."""

import http.client
import http.server
import json
import threading

import pytest

import tags
from controller import eventually
from members import FIRST_THEN_SECOND, PROBES, checked, flags
from members import serve, shop  # noqa: F401
from published import ask

import guard

BROKER, BROKER_PORT, BEHIND = "broker.example.com", 18095, 18092
STRUCTURED = "application/cloudevents+json"
ATTRIBUTE = "sallyporttag"


def event(**more):
    return json.dumps({"specversion": "1.0", "id": "1", "type": "order", "source": "/first"} | more, separators=(",", ":"))


def binary(**more):
    return {"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Type": "order", "Ce-Source": "/first", "Content-Type": "text/plain"} | more


class Broker(http.server.BaseHTTPRequestHandler):
    """Keeps events, and delivers them: their attributes and their data, and no other field."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kept = {n: v for n, v in self.headers.items() if n.lower() == "content-type" or n.lower().startswith("ce-")}
        self.server.got.append((kept, body.decode()))
        self.server.delivered.append(deliver(kept, body))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def deliver(fields, body):
    """(status, why it was refused)"""
    status, answer, _ = ask("POST", "/event", body, fields, port=BEHIND)
    return status, answer.get("sallyport-denied")


@pytest.fixture
def broker(world):
    world.dns.table[BROKER] = ["127.0.0.1"]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", BROKER_PORT), Broker)
    server.daemon_threads, server.got, server.delivered = True, [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def second(shop, serve):  # noqa: F811
    """It is there, and so is the application's graph."""
    probes = [*PROBES, {"path": "/seen", "methods": ["GET"]}]
    travels = {"tags": {"application": "shop", "cloudEvents": True}, "inbound": {"probes": probes}}
    endpoint = guard.endpoint(BROKER, scheme="http", ports=[BROKER_PORT], name="broker", function="second")
    shop.put("policy", guard.policy(endpoint, function="first", **travels), function="first")
    shop.put("policy", guard.policy(function="second", **travels), function="second")
    shop.put("application-graph", FIRST_THEN_SECOND)
    shop.put("settings", checked("second"))
    return serve("second", port=BEHIND)


@pytest.fixture
def send(shop, world):  # noqa: F811
    """Has the first function send events, each in an execution of its own; the status that it gets."""
    benches = []

    def make(fields, body):
        bench = guard.Bench(world)
        benches.append(bench)
        named = [part for name, value in fields.items() for part in ("-H", f"{name}: {value}")]
        outcome = bench.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-", *named,
                             f"http://{BROKER}:{BROKER_PORT}/"], flags=flags(shop, "first"), input=body)
        return int(outcome.out), outcome.records

    yield make
    for bench in benches:
        bench.close()


def seen():
    """Requests and fields, as the second function has seen them."""
    status, _, body = ask("GET", "/seen", port=BEHIND)
    assert status == 200, body
    return [each for each in json.loads(body) if "/event" in str(each)]


@pytest.mark.parametrize("form", ["structured", "binary"])
def test_a_flow_through_a_broker_is_explicit_and_no_function_sees_a_tag(shop, second, send, broker, form):  # noqa: F811
    fields, body = ({"Content-Type": STRUCTURED}, event()) if form == "structured" else (binary(), "hello")
    for _ in range(3):
        assert send(fields, body)[0] == 202
    assert broker.delivered == [(200, None)] * 3
    for kept, got in broker.got:
        tag = json.loads(got)[ATTRIBUTE] if form == "structured" else {n.lower(): v for n, v in kept.items()}["ce-" + ATTRIBUTE]
        assert tag.startswith("v1.")
    second.stop()
    told = eventually(lambda: (e := shop.events()) and sum(x["kind"] == "execution-ended" for x in e) >= 6 and e, "no end")
    began = [each for each in told if each["kind"] == "execution-began"]
    led = [each for each in began if each["function"] == "second" and each["path"] == "/event"]
    assert [each["sender"] for each in led] == ["first"] * 3
    assert {each["request"] for each in led} == {each["request"] for each in began if each["function"] == "first"}
    assert not shop.alarms()
    assert ATTRIBUTE not in json.dumps(second.records()), "nor does a record have it"


def test_what_the_function_gets_is_the_event_without_the_tag(second, send, broker):
    body = event(data={"a": [1, "x"]})
    assert send({"Content-Type": STRUCTURED}, body)[0] == send(binary(), "hello")[0] == 202
    lengths = []
    for kept, got in broker.got:
        assert "sallyport" in (got + str(kept)).lower()
    for fields in seen():
        text = json.dumps(fields).lower()
        assert "sallyport" not in text, text
        lengths.append(text)
    assert len(lengths) == 2 and f'"{len(body)}"' in lengths[0]


def test_an_attribute_of_the_functions_own_is_replaced(second, send, broker):
    own = {ATTRIBUTE: "v1.of.its-own"}
    assert send({"Content-Type": STRUCTURED}, event(**own, SallyportTag="x"))[0] == 202
    assert send(binary(**{"Ce-Sallyporttag": "v1.of.its-own", "ce_sallyporttag": "x"}), "hello")[0] == 202
    assert broker.delivered == [(200, None)] * 2
    assert "its-own" not in str(broker.got) and "SallyportTag" not in broker.got[0][1]


def test_what_can_bear_no_tag_does_not_leave(second, send, broker):
    for fields, body in [
        ({"Content-Type": "application/cloudevents-batch+json"}, f"[{event()}]"),
        ({"Content-Type": STRUCTURED, "Content-Encoding": "gzip"}, event()),
        ({"Content-Type": "application/cloudevents+protobuf"}, "x"),
        ({"Content-Type": STRUCTURED}, "{not json"),
        ({"Content-Type": STRUCTURED}, f"[{event()}]"),
        ({"Content-Type": STRUCTURED}, event(data="x" * (1 << 20))),
    ]:
        status, records = send(fields, body)
        assert status == 403, (fields, status)
        assert [each["reason"] for each in guard.exchanges(records)] == ["tag-invalid"]
    assert broker.got == []


def test_in_audit_no_function_sees_a_tag_that_proves_nothing_either(shop, second):  # noqa: F811
    probes = [*PROBES, {"path": "/seen", "methods": ["GET"]}]
    shop.put("policy", guard.policy(function="second", mode="audit", inbound={"probes": probes},
                                    tags={"application": "shop", "cloudEvents": True}), function="second")
    eventually(lambda: deliver(binary(**{"Ce-Sallyporttag": tags.make("first")}), "hello") == (200, None), "it is not in force")
    for fields, text in [
        ({"Content-Type": STRUCTURED}, event(**{ATTRIBUTE: tags.make("first")})),
        ({"Content-Type": STRUCTURED}, event(**{ATTRIBUTE: 7}, SallyportTag="x")),
        ({"Content-Type": STRUCTURED}, event(**{ATTRIBUTE: "a"})[:-1] + f',"{ATTRIBUTE}":"b"}}'),
    ]:
        assert deliver(fields, text) == (200, None), text
    shown = json.dumps(seen()).lower()
    assert len(seen()) >= 4 and "sallyport" not in shown, shown
    assert str(len(event())) in shown, "the rest of the event is as it was"


@pytest.mark.parametrize("kind", [
    "application/cloudevents+json; charset=utf-7", "application/cloudevents+json; charset=UTF-16LE",
    'multipart/related; type="application/cloudevents+json"', "application/ cloudevents+json",
])
def test_what_another_reader_could_take_for_an_event_bears_no_tag(second, send, broker, kind):
    status, records = send({"Content-Type": kind}, event())
    assert status == 403 and [each["reason"] for each in guard.exchanges(records)] == ["tag-invalid"]
    assert deliver({"Content-Type": kind}, event(**{ATTRIBUTE: tags.make("first")})) == (403, "tag-invalid")
    assert broker.got == []


def test_copies_and_forgeries_of_events_are_refused(shop, second, send, broker):  # noqa: F811
    for fields, body in (({"Content-Type": STRUCTURED}, event()), (binary(), "hello")):
        assert send(fields, body)[0] == 202
    (structured, body), (copied, data) = broker.got
    assert deliver(structured, body) == deliver(copied, data) == (403, "entry-refused")
    assert eventually(lambda: [a for a in shop.alarms() if a["kind"] == "replayed-tag"], "no alarm")
    tag = json.loads(body)[ATTRIBUTE]
    forged = {"Ce-Sallyporttag": tags.forged(tag)}
    for fields, text in [
        (structured, event(**{ATTRIBUTE: tags.forged(tag)})),
        (structured, event(**{ATTRIBUTE: 7})),
        (structured, event(**{ATTRIBUTE.upper(): tag})),
        (structured, event(**{ATTRIBUTE: tag})[:-1] + f',"{ATTRIBUTE}":"{tag}"}}'),
        (structured, event(**{ATTRIBUTE: tag}, data="x" * (1 << 20))),
        (structured | {tags.FIELD: tags.make("first")}, event(**{ATTRIBUTE: tag})),
        ({"Content-Type": "application/cloudevents-batch+json"}, f"[{event(**{ATTRIBUTE: tag})}]"),
        (binary(**forged), "hello"),
    ]:
        assert deliver(fields, text) == (403, "tag-invalid"), (fields, text[:200])
    assert deliver({"Content-Type": STRUCTURED}, event()) == (403, "entry-refused"), "without one it comes of nothing"
    assert len(seen()) == 2


def test_where_the_policy_does_not_say_so_events_are_as_other_messages(shop, second, send, broker):  # noqa: F811
    endpoint = guard.endpoint(BROKER, scheme="http", ports=[BROKER_PORT], name="broker", function="second")
    shop.put("policy", guard.policy(endpoint, function="first"), function="first")
    assert send({"Content-Type": STRUCTURED}, event())[0] == 202
    assert broker.got[0][1] == event() and broker.delivered == [(403, "entry-refused")]
