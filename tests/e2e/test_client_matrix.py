"""Every client of the matrix in docs/clients.md, unchanged, under guard. What is asserted is what the guard recorded and
what the origin saw; the client's own word comes on top."""

import dataclasses
import functools
import hashlib
import json
import os
import re
import select
import subprocess

import pytest

import clients
import guard
import lab
import services
from fixtures import missing

# A client runs once, and each of its tests looks at what came of it.
SHARES_TRAFFIC = True

BODY = os.urandom(1 << 20) * 10  # 10 MiB
BODY_SHA256 = hashlib.sha256(BODY).hexdigest()

API, OTHER, DENIED, BAD = (
    f"https://{name}.example.com" for name in ("api", "other", "denied", "expired")
)
STRAY = "https://learned.example.com"  # the world has it, the policy does not
STORE = f"https://{services.S3_HOST}"

# What each kind of client is asked to do: step, method, URLs.
STEPS = {
    "http": [
        ("get", "GET", [f"{API}/echo/get"]),
        ("post", "POST", [f"{API}/sink/post"]),
        ("keep-alive", "GET", [f"{API}/echo/keep-alive/{n}" for n in range(5)]),
        ("redirect", "GET", [f"{API}/redirect/followed?to={OTHER}/echo/landed"]),
        ("redirect-denied", "GET", [f"{API}/redirect/strayed?to={STRAY}/echo/stray"]),
        ("redirect-denied-path", "GET", [f"{API}/redirect/off?to={OTHER}/secret/redirected"]),
        ("denied-host", "GET", [f"{DENIED}/echo/denied"]),
        ("denied-path", "GET", [f"{API}/secret/asked"]),
        ("bad-certificate", "GET", [f"{BAD}/echo/bad"]),
        ("get-again", "GET", [f"{API}/echo/get-again"]),
    ],
    "s3": [
        ("put", "PUT", [f"{STORE}/bucket/small"]),
        ("get", "GET", [f"{STORE}/bucket/small"]),
        ("multipart", "MULTIPART", [f"{STORE}/bucket/large"]),
        ("get-multipart", "GET", [f"{STORE}/bucket/large"]),
        ("list", "LIST", [f"{STORE}/bucket/"]),
        ("keep-alive", "GET", [f"{STORE}/bucket/small"] * 5),
        ("denied-host", "GET", [f"{DENIED}/bucket/denied"]),
        ("denied-path", "GET", [f"{STORE}/secret/asked"]),
        ("bad-certificate", "GET", [f"{BAD}/bucket/bad"]),
    ],
    "git": [
        ("clone", "CLONE", [f"{API}/git/a.git"]),
        ("push", "PUSH", [f"{API}/git/a.git"]),
        ("keep-alive", "CLONE", [f"{API}/git/b.git"]),
        ("redirect", "CLONE", [f"{API}/moved/b.git"]),
        ("redirect-denied", "CLONE", [f"{API}/strayed/b.git"]),
        ("denied-host", "CLONE", [f"{DENIED}/git/b.git"]),
        ("denied-path", "CLONE", [f"{API}/secret/b.git"]),
        ("bad-certificate", "CLONE", [f"{BAD}/git/b.git"]),
    ],
}


def below(*prefixes):
    return [{"methods": ["any"], "path": {"prefix": prefix}} for prefix in prefixes]


POLICY = guard.policy(
    guard.endpoint("api.example.com", rules=below("/echo/", "/sink/", "/redirect/", "/git/", "/moved/", "/strayed/")),
    guard.endpoint("other.example.com", rules=below("/echo/", "/git/")),
    guard.endpoint("expired.example.com"),
    guard.endpoint(services.S3_HOST, rules=below("/bucket")),
)


@dataclasses.dataclass
class Step:
    status: int
    text: str
    connections: int  # that the guard accepted meanwhile


@dataclasses.dataclass
class Run:
    steps: dict
    records: list
    requests: list  # that the origin saw
    folder: object

    def exchanges(self, path, host=None):
        """The records of what was asked for below a path."""
        return [
            r for r in guard.exchanges(self.records) if r["path"].startswith(path) and host in (None, r["host"])
        ]

    def seen(self, path):
        """The requests that came to the origin for something below a path."""
        return [r for r in self.requests if r.path.startswith(path)]

    def refused_name(self, host):
        return [r for r in self.records if r["kind"] == "dns" and r["host"] == host]


class Conversation:
    """One guarded client program that is given its steps one by one."""

    def __init__(self, bench, client):
        self.bench = bench
        self.errors = open(bench.folder / "stderr.txt", "w+")
        self.process = bench.start(
            client.command,
            ["--admin", bench.admin],
            POLICY,
            dict(client.environment) | {"BODY": str(bench.folder / "body")},
            stdin=subprocess.PIPE,
            stderr=self.errors,
        )

    def why(self):
        self.errors.seek(0)
        return self.errors.read()

    def accepted(self):
        _, text = self.bench.metrics()
        return int(
            next(float(line.split()[-1]) for line in text.splitlines() if line.startswith("sallyport_connections_total"))
        )

    def ask(self, step, method, urls):
        self.process.stdin.write(" ".join([step, method, *urls]) + "\n")
        self.process.stdin.flush()
        assert select.select([self.process.stdout], [], [], 120)[0], f"no answer to {step}: {self.why()}"
        line = self.process.stdout.readline()
        assert line, f"the client ended at {step}: {self.why()}"
        answer = json.loads(line)
        assert answer["step"] == step
        return answer

    def close(self):
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        guard.no_sanitizer_report(self.why())
        assert code == 0, self.why()


def run(world, client):
    bench = guard.Bench(world)
    (bench.folder / "body").write_bytes(BODY)
    world.forget()
    conversation = Conversation(bench, client)
    steps = {}
    try:
        for step, method, urls in STEPS[client.kind]:
            # The program starts with its first line; the guard's admin socket is there by then.
            before = conversation.accepted() if steps else 0
            answer = conversation.ask(step, method, urls)
            steps[step] = Step(answer["status"], answer["text"] or "", conversation.accepted() - before)
    finally:
        conversation.close()
    return Run(steps, bench.records(), world.requests(), bench.folder)


@pytest.fixture(scope="module")
def ran(world):
    """Runs each client once, when the first of its tests asks for it."""

    @functools.cache
    def once(client):
        if client.kind == "git":
            server = git_server(world)
        if client.kind == "s3":
            object_store(world)
        made = run(world, client)
        if client.kind == "git":
            made.server = server
        return made

    def ran(client):
        if lacking := client.missing():
            missing(lacking)
        return once(client)

    return ran


@functools.cache
def git_server(world):
    server = services.GitServer(lab.folder(), OTHER, STRAY)
    for name in ("a.git", "b.git"):
        server.create(name)
    return server


@functools.cache
def object_store(world):
    return services.ObjectStore(world, clients.MADE / "python")


def documented(title):
    """The rows of the first table below a title of docs/clients.md: the client to its other cells."""
    text = (clients.REPOSITORY / "docs" / "clients.md").read_text()
    rows = re.search(r"\n\|.*?\n\n", text[text.index(f"## {title}") :], re.S)[0].strip().split("\n")[2:]
    cells = [[cell.strip() for cell in re.split(r" \| |^\| | \|$", row) if cell] for row in rows]
    return {name: rest for name, *rest in cells}


def of_kind(*kinds):
    chosen = [client for client in clients.CLIENTS if client.kind in kinds]
    return pytest.mark.parametrize("client", chosen, ids=lambda client: client.name.replace(" ", "-"))


def allowed(record, status=200):
    return (record["decision"], record["status"]) == ("allow", status)


@of_kind("http")
def test_get(ran, client):
    done = ran(client)
    assert done.steps["get"].status == 200, done.steps["get"]
    (record,) = done.exchanges("/echo/get", "api.example.com")[:1]
    assert allowed(record) and record["endpoint"] == "api-example-com"
    (request,) = [r for r in done.seen("/echo/get") if r.path == "/echo/get"]
    assert (request.method, request.sni, request.header("host")) == ("GET", "api.example.com", "api.example.com")


@of_kind("http")
def test_post_of_ten_mebibytes(ran, client):
    done = ran(client)
    assert done.steps["post"].status == 200, done.steps["post"]
    (record,) = done.exchanges("/sink/post")
    assert allowed(record) and record["method"] == "POST" and record["bytes_up"] == len(BODY)
    (request,) = done.seen("/sink/post")
    assert (request.body_size, request.body_sha256) == (len(BODY), BODY_SHA256)
    assert json.loads(done.steps["post"].text) == {"bytes": len(BODY), "sha256": BODY_SHA256}


@of_kind("http")
def test_connections_are_kept(ran, client):
    done = ran(client)
    step = done.steps["keep-alive"]
    assert step.status == 200, step
    records = done.exchanges("/echo/keep-alive")
    assert len(records) == 5 and all(map(allowed, records))
    if client.keeps_alive:
        # One; a client that dials both families at once may open a second.
        assert step.connections <= 2, "the client must be able to keep its connection to the guard"
    else:
        assert step.connections == 5
    # The guard keeps its own in any case: it makes another only for requests that come at once, by a second connection.
    at_once = max(step.connections, 1) if client.keeps_alive else 1
    assert sum(not record["reused"] for record in records) < at_once
    assert len({request.connection.id for request in done.seen("/echo/keep-alive")}) <= at_once


@of_kind("http")
def test_each_hop_of_a_redirect_is_decided_by_itself(ran, client):
    done = ran(client)
    step = done.steps["redirect"]
    (first,) = done.exchanges("/redirect/followed")
    assert allowed(first, 302) and first["host"] == "api.example.com"
    second = done.exchanges("/echo/landed")
    if not client.follows:
        assert step.status == 302 and not second
        return
    assert step.status == 200, step
    (second,) = second
    assert allowed(second) and (second["host"], second["endpoint"]) == ("other.example.com", "other-example-com")
    assert second["id"] != first["id"]
    assert [request.sni for request in done.seen("/echo/landed")] == ["other.example.com"]


@of_kind("http", "git")
def test_a_redirect_to_a_denied_host_leads_nowhere(ran, client):
    done = ran(client)
    (first,) = done.exchanges("/strayed/" if client.kind == "git" else "/redirect/strayed")
    assert allowed(first, 302)
    assert not [request for request in done.requests if request.sni == "learned.example.com"]
    if client.follows:
        assert done.steps["redirect-denied"].status is None, done.steps["redirect-denied"]
        names = done.refused_name("learned.example.com")
        assert names and {(r["decision"], r["reason"]) for r in names} == {("deny", "host-not-allowed")}


@of_kind("http")
def test_a_redirect_to_a_denied_path_is_refused(ran, client):
    done = ran(client)
    assert allowed(done.exchanges("/redirect/off")[0], 302)
    assert not done.seen("/secret")
    if client.follows:
        assert done.steps["redirect-denied-path"].status == 403
        (second,) = done.exchanges("/secret/redirected")
        assert (second["decision"], second["reason"], second["host"]) == ("deny", "path-not-allowed", "other.example.com")


@of_kind("http", "s3", "git")
def test_a_denied_host_does_not_resolve(ran, client):
    done = ran(client)
    step = done.steps["denied-host"]
    assert step.status is None and step.text
    names = done.refused_name("denied.example.com")
    assert names and {(r["decision"], r["reason"]) for r in names} == {("deny", "host-not-allowed")}
    assert not [request for request in done.requests if request.sni == "denied.example.com"]


@of_kind("http", "s3", "git")
def test_a_denied_path_is_refused(ran, client):
    done = ran(client)
    step = done.steps["denied-path"]
    if client.kind == "http":
        assert step.status == 403 and json.loads(step.text.strip())["reason"] == "path-not-allowed", step
    else:
        assert step.status == 403 or client.kind == "git" and "403" in step.text, step
    records = done.exchanges("/secret/", "s3.example.com" if client.kind == "s3" else "api.example.com")
    assert records and {(r["decision"], r["reason"], r["status"]) for r in records} == {
        ("deny", "path-not-allowed", 403)
    }
    assert not done.seen("/secret")


@of_kind("http", "s3", "git")
def test_an_upstream_with_a_bad_certificate_is_refused(ran, client):
    done = ran(client)
    step = done.steps["bad-certificate"]
    if client.kind == "http":
        assert step.status == 502 and json.loads(step.text.strip())["reason"] == "upstream-expired", step
    else:
        assert step.status == 502 or client.kind == "git" and "502" in step.text, step
    records = done.exchanges("/", "expired.example.com")
    assert records and {(r["decision"], r["reason"], r["status"]) for r in records} == {
        ("error", "upstream-expired", 502)
    }
    assert not [request for request in done.requests if request.sni == "expired.example.com"]


@of_kind("http")
def test_a_client_goes_on_after_refusals(ran, client):
    done = ran(client)
    assert done.steps["get-again"].status == 200, done.steps["get-again"]
    assert len(done.seen("/echo/get-again")) == 1


@of_kind("s3")
def test_s3_stores_and_gives_back(ran, client):
    done = ran(client)
    for step in ("put", "multipart", "list"):
        assert done.steps[step].status == 200, done.steps[step]
    for step in ("get", "get-multipart", "keep-alive"):
        assert (done.steps[step].status, done.steps[step].text) == (200, BODY_SHA256), done.steps[step]
    assert done.steps["put"].text.strip('"') == hashlib.md5(BODY).hexdigest()
    assert sorted(done.steps["list"].text.split()) == ["large", "small"]
    records = done.exchanges("/bucket", services.S3_HOST)
    assert all(map(allowed, records)), records
    (put,) = [r for r in records if r["path"] == "/bucket/small" and r["method"] == "PUT"]
    assert put["bytes_up"] >= len(BODY)  # the signed form puts checksums beside it
    parts = [r for r in records if r["path"] == "/bucket/large" and r["method"] == "PUT"]
    assert len(parts) == 2 and all(r["bytes_up"] >= 5 << 20 for r in parts)
    assert len([r for r in records if r["path"] == "/bucket/large" and r["method"] == "POST"]) == 2


@of_kind("s3")
def test_s3_connections_are_kept(ran, client):
    done = ran(client)
    assert done.steps["keep-alive"].connections <= 2


@of_kind("git")
def test_git_clones_and_pushes(ran, client):
    done = ran(client)
    for step in ("clone", "push"):
        assert done.steps[step].status == 200, done.steps[step]
    server = done.server
    tip = server.git("rev-parse", "main", cwd=server.folder / "a.git")
    assert done.steps["push"].text == tip != done.steps["clone"].text
    stored = subprocess.run(
        ["git", "show", "main:body"], cwd=server.folder / "a.git", capture_output=True, check=True, timeout=60
    ).stdout
    assert hashlib.sha256(stored).hexdigest() == BODY_SHA256
    records = done.exchanges("/git/a.git", "api.example.com")
    assert all(map(allowed, records)), records
    pushes = [r for r in records if r["path"].endswith("/git-receive-pack")]
    assert pushes and sum(r["bytes_up"] for r in pushes) > len(BODY) // 10


@of_kind("git")
def test_git_keeps_its_connection(ran, client):
    done = ran(client)
    assert done.steps["keep-alive"].status == 200, done.steps["keep-alive"]
    assert len(done.exchanges("/git/b.git", "api.example.com")) >= 3
    assert done.steps["keep-alive"].connections <= 2


@of_kind("git")
def test_git_follows_a_redirect_to_an_allowed_host(ran, client):
    done = ran(client)
    assert done.steps["redirect"].status == 200, done.steps["redirect"]
    (first,) = done.exchanges("/moved/b.git")
    assert allowed(first, 302)
    after = done.exchanges("/git/b.git", "other.example.com")
    assert len(after) >= 2 and all(map(allowed, after))


@pytest.mark.parametrize("title", ["The matrix", "What a refusal looks like"])
def test_the_documents_tables_have_each_client(title):
    assert list(documented(title)) == [client.name for client in clients.CLIENTS]


@of_kind("http", "s3", "git")
def test_the_document_names_the_setting_that_the_client_trusts(client):
    """That it obeys this setting is shown by test_client_trust.py."""
    _, setting, unchanged = documented("The matrix")[client.name]
    assert setting == f"`{client.trust}`" if client.trust else "`" not in setting
    assert (unchanged == "yes") == (client.name != "Mono HttpClient")  # the one whose command does something first


@of_kind("http", "s3", "git")
def test_the_document_says_what_a_developer_sees(ran, client):
    """What stands in code marks is what the client said."""
    steps = ran(client).steps
    for cell, step in zip(
        documented("What a refusal looks like")[client.name], ("denied-host", "denied-path", "bad-certificate")
    ):
        said = f"{steps[step].status} {steps[step].text}"
        for quoted in re.findall("`([^`]+)`", cell):
            known = quoted.startswith(("--", "ignore_errors", "error.$"))  # words of the client's manual
            assert known or quoted in said, (step, quoted, said)
