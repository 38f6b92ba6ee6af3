"""h2spec, the conformance suite for HTTP/2 and HPACK, in the place of the function: every case of it, strict ones too,
with servers of either version behind the guard, over TLS and by prior knowledge."""

import functools
import xml.etree.ElementTree

import pytest

import clients
import fixtures
import guard

H2SPEC = clients.MADE / "h2spec" / "h2spec"
NGINX = "nginx.example.com"
POLICY = guard.policy(
    guard.endpoint("v4.example.com"),
    guard.endpoint("v4.example.com", scheme="http", name="plain"),
    guard.endpoint(NGINX, ports=[8443]),
)
# Host, port, path and flags.
TARGETS = {
    "TLS, a server of HTTP/1": ("v4.example.com", 443, "/echo", ["-t", "-k"]),
    "TLS, a server of HTTP/2": (NGINX, 8443, "/answer", ["-t", "-k"]),
    "prior knowledge": ("v4.example.com", 80, "/echo", []),
}
CASES = 146
# What the guard does otherwise, and why: section and case to the reason; and what holds for one target alone.
_IGNORED = "ignored: nghttp2 keeps nothing of closed streams, which bounds memory, and tells of such DATA to nobody"
EXCEPTIONS = {
    ("http2/5.3.1", "Sends PRIORITY frame that depend on itself"): "RFC 9113 section 5.3.2: priorities are not read",
    ("http2/5.1", "closed: Sends a DATA frame"): _IGNORED,
    ("http2/5.1", "closed: Sends a DATA frame after sending RST_STREAM frame"): _IGNORED,
}
EXCEPTIONS_OF = {
    "prior knowledge": {
        ("http2/3.5", "Sends invalid connection preface"): "what is not the preface is not HTTP/2: it gets 400 as HTTP/1",
    },
}
# Whether the answer or the DATA is first is a race: behind the answer the stream is closed.
RACES = {("http2/5.1", "half closed (remote): Sends a DATA frame"): _IGNORED}


@pytest.fixture(scope="module")
def results(world):
    """Section and case of each, to what it wanted and got instead; empty where it passed."""
    if lacking := clients.not_made("h2spec"):
        fixtures.missing(lacking)
    fixtures.need("nginx")
    world.start_nginx()

    @functools.cache
    def run(name):
        host, port, path, flags = TARGETS[name]
        bench = guard.Bench(world)
        report = bench.folder / "report.xml"
        command = [H2SPEC, "-h", host, "-p", port, "-P", path, "-S", "-o", 1, "-j", report, *flags]
        outcome = bench.run(command, policy=POLICY, timeout=400)
        assert report.is_file(), outcome.out + outcome.err
        found = {}
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            said = [part for kind in ("failure", "error", "skipped") for part in case.iter(kind)]
            found[case.get("package"), case.get("classname")] = " ".join(" ".join(part.itertext()) or part.tag for part in said)
        bench.close()
        return found, outcome

    return run


@pytest.mark.parametrize("name", TARGETS)
def test_every_case_passes_or_is_an_exception_with_a_reason(results, name):
    found, outcome = results(name)
    failed = {case: text for case, text in found.items() if text}
    excepted = EXCEPTIONS | EXCEPTIONS_OF.get(name, {})
    assert set(failed) - set(RACES) == set(excepted), "\n".join(map(repr, failed.items()))
    assert len(found) == CASES, len(found)


@pytest.mark.parametrize("name", TARGETS)
def test_each_request_of_it_left_its_record(results, name):
    """Whatever was wrong with it: the guard did not lose count, and did not let anything past."""
    _, outcome = results(name)
    records = outcome.exchanges
    assert sum(r["protocol"] == "HTTP/2" for r in records) > 50
    others = [r["status"] for r in records if r["protocol"] != "HTTP/2"]
    assert others == ([400] if name in EXCEPTIONS_OF else []), "the preface that is none"
    assert {r["decision"] for r in records} <= {"allow", "deny", "error"}
    assert not [r for r in records if r.get("reason") == "internal"]
