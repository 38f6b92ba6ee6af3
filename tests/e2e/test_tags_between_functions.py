"""Tags between the guards of one application (docs/executions.md): made, shown to functions of the application alone,
believed when they prove something, and never seen by a function."""

import http.server
import json
import threading
import time

import pytest

import guard
import published
import tags
from published import Published, ask

NEXT, NEXT_PORT = "next.example.com", 18091
HOST = "v4.example.com"
PROBES = [{"path": "/healthz", "methods": ["GET"]}]


def rules(function, *endpoints, mode="enforce", key=tags.KEY, folder=None, **inbound):
    file = folder / f"{function}.key"
    file.write_text(key.hex() + "\n")
    return guard.policy(
        guard.endpoint(HOST),
        *endpoints,
        mode=mode,
        function=function,
        tags={"application": "shop", "key": {"file": str(file)}},
        inbound={"probes": PROBES} | inbound,
    )


def next_function(port=NEXT_PORT, name="second"):
    return guard.endpoint(NEXT, scheme="http", ports=[port], name="next", function=name)


@pytest.fixture
def benches(world):
    world.dns.table[NEXT] = ["127.0.0.1"]
    made = [guard.Bench(world), guard.Bench(world)]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def serve(benches):
    started = []

    def make(which, policy, **options):
        started.append(Published(benches[which], policy, **options))
        return started[-1]

    yield make
    for one in started:
        one.stop()


def answer_of(*args, **fields):
    return tags.make(*args, **fields, answer=True)


class Next(http.server.BaseHTTPRequestHandler):
    """Another function's guard: keeps what it gets, and answers with the tag that the path asks for."""

    def do_GET(self):
        got = self.headers.get_all(tags.FIELD) or []
        self.server.got.append((self.path, got))
        request = tags.read(got[0])["request"] if got else None
        kind = self.path.strip("/")
        tag = {
            "right": lambda: answer_of("second", request=request),
            "another-request": lambda: answer_of("second"),
            "another-function": lambda: answer_of("third", request=request),
            "another-application": lambda: answer_of("second", request=request, key=b"k" * 32, application="bank"),
            "old": lambda: answer_of("second", request=request, age=1000),
            "forged": lambda: tags.forged(answer_of("second", request=request)),
            "of-a-message": lambda: tags.make("second", request=request),
            "the-requests-own": lambda: got[0],
        }.get(kind, lambda: None)()
        self.send_response(200)
        if tag:
            self.send_header(tags.FIELD, tag)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@pytest.fixture
def another():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", NEXT_PORT), Next)
    server.daemon_threads, server.got = True, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


TO_NEXT = {"host": NEXT, "tls": False, "port": NEXT_PORT}


def test_two_functions_know_each_other_by_their_guards(serve, benches, world):
    """curl → guard A → function A → guard B → function B; neither function, nor who asked the first, sees a tag."""
    first = serve(0, rules("first", next_function(), folder=benches[0].folder))
    second = serve(
        1,
        rules("second", folder=benches[1].folder, callers=["first"]),
        publish=f"127.0.0.1:{NEXT_PORT}:{published.INSIDE}",
        ready=False,
    )
    second.wait_until_ready(port=NEXT_PORT)
    answer = published.run(["/asked"], **TO_NEXT)
    assert answer["statuses"] == [200]
    status, fields, body = ask("GET", "/fields", headers={"X-Kept": "1"})
    assert status == 200 and not [n for n in fields if n.startswith("sallyport")]
    refused = ask("GET", "/straight", port=NEXT_PORT)
    assert refused[0] == 403 and refused[1]["sallyport-denied"] == "caller-not-allowed"
    seen = json.loads(ask("GET", "/seen")[2])
    assert not [n for _, fields in seen for n, _ in fields if n.lower().startswith("sallyport")]
    sent = first.wait_for_record(kind="exchange", path="/asked")
    assert (sent["decision"], sent["endpoint"], sent["status"]) == ("allow", "next", 200)
    got = second.wait_for_record(kind="inbound", path="/asked")
    assert (got["decision"], got["status"]) == ("allow", 200) and got["execution"] != sent["execution"]
    assert [t["inbound"]["path"] for t in second.traces()] == ["/asked"]


def test_a_request_is_tagged_with_what_it_is_part_of(serve, benches, another):
    function = serve(0, rules("first", next_function(), folder=benches[0].folder))
    assert published.run(["/one", "/two"], **TO_NEXT)["statuses"] == [200, 200]
    asked = tags.make("caller")
    published.run(["/three"], {tags.FIELD: asked}, **TO_NEXT)
    told = [tags.read(tag) for _, (tag,) in another.got]
    assert {(t["application"], t["function"]) for t in told} == {("shop", "first")}
    assert len({t["guard"] for t in told}) == 1 and all(abs(t["issued"] - time.time()) < 30 for t in told)
    executions = [function.wait_for_record(kind="exchange", path=path)["execution"] for path in ("/one", "/two")]
    assert [t["request"].hex() for t in told[:2]] == executions, "the first of its request, which has the number of its execution"
    assert told[2]["request"] == tags.read(asked)["request"], "of the request that the caller is part of"


def test_nobody_else_is_shown_a_tag(serve, benches, another, world):
    serve(0, rules("first", next_function(), folder=benches[0].folder))
    assert published.run(["/elsewhere"])["statuses"] == [200]
    (seen,) = world.saw("/elsewhere")
    assert not [n for n, _ in seen.headers if n.lower().startswith("sallyport")]


def test_whoever_shows_a_tag_gets_one_with_the_answer(serve, benches):
    serve(0, rules("first", folder=benches[0].folder))
    asked = tags.make("caller")
    fields = ask("GET", "/fields", headers={tags.FIELD: asked})[1]
    answered = tags.read(fields["sallyport-tag"], answer=True)
    assert answered["request"] == tags.read(asked)["request"] and answered["function"] == "first"
    assert "sallyport-tag" not in ask("GET", "/fields")[1]


GOOD, BAD = ["none", "right"], ["another-request", "another-function", "another-application", "old", "forged"]
BAD += ["of-a-message", "the-requests-own"]


@pytest.mark.parametrize("mode", ["enforce", "audit"])
def test_an_answer_with_the_wrong_tag_is_refused(serve, benches, another, mode):
    function = serve(0, rules("first", next_function(), mode=mode, folder=benches[0].folder))
    statuses = published.run([f"/{kind}" for kind in GOOD + BAD], **TO_NEXT)["statuses"]
    assert statuses == [200] * len(GOOD) + [403 if mode == "enforce" else 200] * len(BAD)
    for kind in BAD:
        record = function.wait_for_record(kind="exchange", path=f"/{kind}")
        assert (record["decision"], record["reason"]) == ("deny" if mode == "enforce" else "would-deny", "tag-mismatch")
    for kind in GOOD:
        assert function.wait_for_record(kind="exchange", path=f"/{kind}")["decision"] == "allow"


def test_without_the_key_nothing_is_sent_nor_taken(serve, benches, another):
    text = rules("first", next_function(), folder=benches[0].folder)
    (benches[0].folder / "first.key").write_text("too short\n")
    function = serve(0, text)
    assert "hexadecimal" in function.stderr()
    assert published.run(["/sent"], **TO_NEXT)["statuses"] == [502] and not another.got
    assert ask("GET", "/x", headers={tags.FIELD: tags.make()})[0] == 403


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda spec: spec.pop("tags"), "'tags'"),
        (lambda spec: spec["tags"].update(application="Shop"), "Shop"),
        (lambda spec: spec["tags"].pop("key"), "key"),
        (lambda spec: spec["inbound"].update(callers=["A_B"]), "A_B"),
        (lambda spec: spec["inbound"].update(callers=[]), "callers"),
        (lambda spec: spec["inbound"].update(external=True), "external"),
        (lambda spec: spec["endpoints"][1].update(host="*.example.com"), "one host"),
    ],
    ids=["no tags", "application", "no key", "caller", "no callers", "external alone", "wildcard"],
)
def test_mistakes_in_the_policy_are_told(bench, world, change, word):
    document = json.loads(rules("first", next_function(), folder=bench.folder))
    change(document["spec"])
    outcome = bench.run(["true"], policy=json.dumps(document))
    assert outcome.code == 2 and word in outcome.err, outcome.err
