"""Paths that look allowed to one reader and lead elsewhere for another: what was matched is what is sent."""

import re

import pytest

import guard

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST, path="/allowed/"))


def one_reading(target):
    """Whether no server could take this target for anything but a path below /allowed/."""
    path = target.partition("?")[0]
    return path.startswith("/allowed/") and not re.search(
        r"\\|%2f|%5c|%00|%2e|;|#|(^|/)\.\.?(/|$)", path, re.IGNORECASE
    )


OUTSIDE = [
    "/allowed/../denied",
    "/allowed/../../denied",
    "/allowed/x/../../denied",
    "/allowed/..",
    "/allowed/%2e%2e/denied",
    "/allowed/%2E%2e/denied",
    "/allowed/.%2e/denied",
    "/allowed/%2e./denied",
    "/allowed/..%2fdenied",
    "/allowed/..%5cdenied",
    "/allowed/..\\denied",
    "\\allowed\\..\\denied",
    "/allowed/..;/denied",
    "/allowed/..;x=y/denied",
    "/allowed/.;/../denied",
    "/allowed/%2e%2e;/denied",
    "/allowed%2f..%2fdenied",
    "/allowed%2fx",
    "//allowed/x",
    "//denied/allowed/",
    "/./denied",
    "/denied",
    "/denied/../denied",
    "/allowed",
    "/Allowed/x",
    "/ALLOWED/x",
    "/allowe%64/../denied",
    "/%61llowed/../denied",
    "/allowed/%00/../denied",
    "/allowed/x%00",
    "/allowed/%0d%0aX:%20y",
    "/allowed/%",
    "/allowed/%2",
    "/allowed/%zz",
    "/allowed/%u002e",
    "/allowed/#/../denied",
    "/allowed/x#frag",
    "/../denied",
    "/allowed/../allowed/../denied",
    "/;/allowed/../denied",
    "/allowed/%252e%252e/denied/../..",
    "/denied?/allowed/",
    "/denied?x=/allowed/../",
    "/denied;/allowed/",
    "/denied/%2e%2e/allowed/../denied",
    "/allowed/\u00e9",
    "/allowed/%c0%ae%c0%ae/../../denied",
    "/allowed//../../denied",
    "/allowed///../denied",
    "/allowed/.../../../denied",
    "/allowed/..%c0%af../denied/../..",
    "/allowed/x/..%2f..%2f..%2fdenied",
    "/allowed/x%2f%2e%2e%2f%2e%2e%2fdenied",
]


@pytest.mark.parametrize("path", OUTSIDE, ids=ascii)
def test_no_spelling_leads_out_of_the_allowed_prefix(session, world, path):
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode("latin-1")
    reply = session.ask(HOST, request)
    assert all(one_reading(r.target) for r in world.requests()), [r.target for r in world.requests()]
    if not world.requests():
        assert reply["status"] in (400, 403), reply
        assert reply["headers"]["sallyport-denied"] in ("path-not-allowed", "malformed-target", "malformed-http")


SAME = {
    "/allowed/x": "/allowed/x",
    "/allowed/./x": "/allowed/x",
    "/allowed/y/../x": "/allowed/x",
    "/denied/../allowed/x": "/allowed/x",
    "/%61llowed/%78": "/allowed/x",
    "/allowed/a%20b": "/allowed/a%20b",
    "/allowed/a%c3%a9": "/allowed/a%C3%A9",
    "/allowed/x?": "/allowed/x",
    "/allowed/x?a=%2e%2e/%2f&b=../..": None,
    "/allowed/x?next=https://denied.example.com/": "/allowed/x?next=https://denied.example.com/",
    "/allowed/...": "/allowed/...",
    "/allowed/.hidden": "/allowed/.hidden",
    "/allowed/a:b@c,d+e!$&'()*=": "/allowed/a:b@c,d+e!$&'()*=",
}


@pytest.mark.parametrize("path", SAME)
def test_what_was_matched_is_what_is_sent(session, world, path):
    reply = session.get(HOST, path)
    assert reply["status"] == 200, reply
    sent = world.requests()[0].target
    assert sent.startswith("/allowed/") if SAME[path] is None else sent == SAME[path]
    record = session.wait_for_records(
        lambda r: guard.exchanges(r) and guard.exchanges(r)[-1].get("path") == sent.partition("?")[0]
    )[-1]
    assert record["decision"] == "allow"


def test_encoded_slashes_only_where_the_endpoint_allows_them(bench, world):
    policy = guard.policy(guard.endpoint(HOST, path="/allowed/", allowEncodedSlashes=True))
    with bench.session(policy=policy) as session:
        assert session.get(HOST, "/allowed/a%2Fb")["status"] == 200
        assert world.requests()[0].target == "/allowed/a%2Fb", "let stand, never decoded"
        assert session.get(HOST, "/allowed/..%2Fdenied")["status"] in (200, 400, 403)
        assert session.get(HOST, "/allowed%2Fx")["status"] == 403
    assert all(r.target.startswith("/allowed/") for r in world.requests())


def test_slashes_are_merged_only_where_the_endpoint_says_so(bench, world):
    policy = guard.policy(guard.endpoint(HOST, path="/allowed/", mergeSlashes=True))
    with bench.session(policy=policy) as session:
        assert session.get(HOST, "/allowed//x///y")["status"] == 200
        assert world.requests()[0].target == "/allowed/x/y"
        session.get(HOST, "/allowed//../denied")
    assert [r.target for r in world.requests()] == ["/allowed/x/y"]


@pytest.mark.parametrize(
    "path",
    ["/allowed/" + "a/" * 10000, "/allowed/" + "../" * 3000, "/allowed/" + "%2e/" * 5000, "/allowed/x?" + "q" * 30000],
)
def test_long_paths_take_no_long_time(session, world, path):
    import time

    start = time.monotonic()
    reply = session.get(HOST, path, timeout=10)
    assert reply["status"] in (200, 400, 403, 414, 431) and time.monotonic() - start < 5
