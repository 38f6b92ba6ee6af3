"""Whoever reaches a function and says that it is another function of the application."""

import socket

import pytest

import guard
import tags
from published import ADDRESS, OUTSIDE, Published, ask

HOST, FUNCTION = "v4.example.com", "guarded"


@pytest.fixture
def serve(bench, world):
    started = []

    def make(mode="enforce", **inbound):
        (bench.folder / "key").write_text(tags.KEY.hex())
        policy = guard.policy(
            guard.endpoint(HOST),
            mode=mode,
            function=FUNCTION,
            tags={"application": "shop", "key": {"file": str(bench.folder / "key")}},
            inbound={"probes": [{"path": "/healthz", "methods": ["GET"]}]} | inbound,
        )
        started.append(Published(bench, policy))
        return started[-1]

    yield make
    for one in started:
        one.stop()


def with_tag(text, path="/message"):
    status, fields, _ = ask("GET", path, headers={tags.FIELD: text})
    return status, fields.get("sallyport-denied")


BAD = {
    "forged": lambda: tags.forged(tags.make()),
    "another application": lambda: tags.make(key=b"k" * 32, application="bank"),
    "another application under this key": lambda: tags.make(application="bank"),
    "too old": lambda: tags.make(age=1000),
    "of the future": lambda: tags.make(age=-1000),
    "no tag at all": lambda: "v1.a.b",
    "empty": lambda: "",
    "of an answer": lambda: tags.make(answer=True),
    "two in one": lambda: tags.make() + ", " + tags.make(),
    "with more behind it": lambda: tags.make() + "A",
}


def test_what_proves_nothing_is_refused(serve):
    function = serve()
    for what, make in BAD.items():
        assert with_tag(make()) == (403, "tag-invalid"), what
    assert with_tag(tags.make())[0] == 200
    assert function.stop() == 0
    assert [r["path"] for r in function.records("execution")] == ["/message"]


def test_in_audit_it_is_noted_and_means_nothing(serve):
    function = serve(mode="audit")
    for what, make in BAD.items():
        status, fields, _ = ask("GET", "/message", headers={tags.FIELD: make()})
        assert status == 200 and "sallyport-tag" not in fields, what
    function.stop()
    records = [r for r in function.records("inbound") if r["path"] == "/message"]
    assert len(records) == len(BAD)
    assert {(r["decision"], r["reason"]) for r in records} == {("would-deny", "tag-invalid")}


def test_only_the_callers_that_are_named(serve):
    serve(callers=["first", "second"])
    assert with_tag(tags.make("first"))[0] == 200 and with_tag(tags.make("second"))[0] == 200
    assert with_tag(tags.make("third")) == (403, "caller-not-allowed")
    assert ask("GET", "/message")[1]["sallyport-denied"] == "caller-not-allowed"
    assert ask("GET", "/message", headers={"Sallyport_Tag": tags.make("first")})[0] == 403
    assert ask("GET", "/healthz")[0] == 200


def test_with_external_a_bad_tag_is_worse_than_none(serve):
    serve(callers=["first"], external=True)
    assert ask("GET", "/message")[0] == 200
    assert with_tag(tags.make("third")) == (403, "caller-not-allowed")
    assert with_tag(tags.forged(tags.make("first"))) == (403, "tag-invalid")


def test_who_is_answered_can_not_speak_for_the_function(serve):
    """A copied tag gets an answer with a tag of the function itself. That is no message's: the function's own callers
    would take it for one."""
    function = serve(callers=["first"])
    answer = ask("GET", "/message", headers={tags.FIELD: tags.make("first")})[1]["sallyport-tag"]
    assert tags.read(answer, answer=True)["function"] == FUNCTION
    function.stop()
    serve(callers=[FUNCTION])
    assert with_tag(tags.make(FUNCTION))[0] == 200
    assert with_tag(answer) == (403, "tag-invalid")


def test_a_tag_that_is_there_twice_is_none(serve):
    serve(callers=["first"], external=True)
    text = tags.make("first")
    for second in (text, tags.make("first"), ""):
        with socket.create_connection((ADDRESS, OUTSIDE), timeout=20) as client:
            fields = "".join(f"Sallyport-Tag: {one}\r\n" for one in (text, second))
            client.sendall(f"GET /message HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n".encode())
            answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 403 ") and b"sallyport-denied: tag-invalid\r\n" in answer.lower(), answer


@pytest.mark.parametrize("kind", ["file", "env"])
def test_the_function_can_not_read_the_key(bench, kind):
    """With it, whoever gets past the function's guard could claim to be any function of the application."""
    file, variable = bench.folder / "key", "TAGS_KEY"
    if kind == "file":
        file.write_text(tags.KEY.hex())
    policy = guard.policy(tags={"application": "shop", "key": {kind: str(file) if kind == "file" else variable}})
    looks = f"cat {file}; env; cat /proc/*/environ | tr '\\0' '\\n'; echo SEEN"
    outcome = bench.run(["sh", "-c", looks], policy=policy, env={variable: tags.KEY.hex()} if kind == "env" else None)
    assert "hexadecimal" not in outcome.err and "could not be read" not in outcome.err, outcome.err
    assert "SEEN" in outcome.out and tags.KEY.hex() not in outcome.out + outcome.err


def test_in_audit_a_caller_that_is_not_named_gets_no_tag(serve):
    function = serve(mode="audit", callers=["first"])
    status, fields, _ = ask("GET", "/message", headers={tags.FIELD: tags.make("third")})
    assert status == 200 and "sallyport-tag" not in fields
    record = function.wait_for_record(kind="inbound", path="/message")
    assert (record["decision"], record["reason"]) == ("would-deny", "caller-not-allowed")


def test_a_tag_that_is_replayed_claims_the_same_request_again(serve):
    """For as long as it lives: it is a claim and no password (docs/executions.md). Each message is an execution of its own."""
    function = serve(callers=["first"])
    text = tags.make("first")
    assert [with_tag(text)[0] for _ in range(2)] == [200, 200]
    function.stop()
    ended = [r["execution"] for r in function.records("execution")]
    assert len(ended) == 2 and len(set(ended)) == 2
