"""The function tries to get at the credential that it does not hold, to have it sent elsewhere, or to have its own key
count in its place. The witnesses are the origins: what each of them saw."""

import base64

import pytest

import guard

HOST = "v4.example.com"
OTHER = "other.example.com"
SECRET = "sk-live-7a11ed5eC3e7c0ffee"
SECOND = "sk-live-5ec0d5eC3e70000000"


@pytest.fixture(scope="module")
def session(world):
    bench = guard.Bench(world)
    for name, secret in (("one", SECRET), ("two", SECOND)):
        (bench.folder / name).write_text(secret)
    policy = guard.policy(
        guard.endpoint(HOST, path="/paid/", credential="one", name="paid"),
        guard.endpoint(HOST, path="/free/", name="free"),
        guard.endpoint("api.example.com", credential="two", name="second"),
        guard.endpoint(OTHER),
        guard.endpoint("v6.example.com", scheme="http", name="plain"),
        guard.endpoint("unknown-root.example.com", credential="one", name="badly-proved"),
        credentials=[
            {
                "name": "one",
                "secret": {"file": str(bench.folder / "one")},
                "inject": {"header": "X-Api-Key"},
                "placeholder": {"env": "ONE"},
                "foreign": "deny",
            },
            {
                "name": "two",
                "secret": {"file": str(bench.folder / "two")},
                "inject": {"header": "Authorization", "format": "Bearer {}"},
                "placeholder": {"env": "TWO"},
            },
        ],
    )
    with bench.session(policy=policy) as made:
        yield made
    bench.close()


def held(name):
    return os.environ[name]


def places_of_secrets(world):
    """(host, field) of every place in which an origin saw a secret."""
    found = set()
    for request in world.requests():
        for name, value in request.headers + request.trailers:
            if SECRET in value or SECOND in value:
                found.add((request.header("host"), name.lower()))
        if SECRET in request.target or SECRET.encode() in request.body or SECOND.encode() in request.body:
            found.add((request.header("host"), "elsewhere"))
    return found


def only_where_bound(session, world):
    """The attack gained nothing, and an honest request has its credential afterwards."""
    assert places_of_secrets(world) <= {(HOST, "x-api-key"), ("api.example.com", "authorization")}
    for request in world.requests():
        keys = [value for name, value in request.headers if name.lower().replace("_", "-") == "x-api-key"]
        assert keys in ([], [SECRET]) and not [n for n, _ in request.trailers if n.lower() == "x-api-key"]
    world.forget()
    assert session.get(HOST, "/paid/status")["status"] == 200
    assert [r.header("x-api-key") for r in world.requests()] == [SECRET]


def wire(*lines, body=b""):
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def percent(text):
    return "".join(f"%{ord(c):02X}" for c in text)


# name: (host, path, header lines) from the placeholders one and two. All are refused.
MISPLACED = {
    "of the other credential": lambda one, two: (HOST, "/paid/x", f"X-Api-Key: {two}\r\n"),
    "both in one field": lambda one, two: (HOST, "/paid/x", f"X-Api-Key: {one} {two}\r\n"),
    "a second time, in a cookie": lambda one, two: (HOST, "/paid/x", f"X-Api-Key: {one}\r\nCookie: k={one}\r\n"),
    "at another path of its host": lambda one, two: (HOST, "/free/x", f"X-Api-Key: {one}\r\n"),
    "at another host": lambda one, two: (OTHER, "/x", f"X-Api-Key: {one}\r\n"),
    "as a name of a field": lambda one, two: (OTHER, "/x", f"{one}: x\r\n"),
    "in Basic, as the password": lambda one, two: (OTHER, "/x", f"Authorization: Basic {encoded('u:' + one)}\r\n"),
    "in Basic, in the bound field": lambda one, two: (HOST, "/paid/x", f"Authorization: Basic {encoded('u:' + one)}\r\n"),
    "percent-encoded thrice": lambda one, two: (OTHER, "/x?k=" + percent(percent(percent(one))), ""),
    "in the referer": lambda one, two: (OTHER, "/x", f"Referer: https://x/?{one}\r\n"),
    "in the path of a denied host's neighbour": lambda one, two: (OTHER, f"/a/{one}", ""),
    "in the fragment of a query": lambda one, two: (OTHER, f"/a?b=c&d={one}&e", ""),
}


@pytest.mark.parametrize("how", MISPLACED)
def test_a_placeholder_where_it_does_not_belong(session, world, how):
    """What stands for a secret is sent where its owner's server would not be the one to read it."""
    host, path, headers = MISPLACED[how](session.do(held, "ONE"), session.do(held, "TWO"))
    reply = session.get(host, path, headers)
    assert reply["status"] == 403, reply
    assert reply["headers"]["sallyport-denied"] in ("placeholder-misuse", "foreign-credential"), reply
    assert not world.requests()
    only_where_bound(session, world)


# name: the bytes of a request, from the placeholder. They may pass: a placeholder is worth nothing, and stays one.
CARRIED = {
    "in a body": lambda one: wire(
        "POST /x HTTP/1.1", f"Host: {OTHER}", f"Content-Length: {len(one)}", "Connection: close", body=one.encode()
    ),
    "JSON-escaped in a body": lambda one: wire(
        "POST /x HTTP/1.1",
        f"Host: {OTHER}",
        f"Content-Length: {6 * len(one)}",
        "Connection: close",
        body="".join(f"\\u{ord(c):04x}" for c in one).encode(),
    ),
    "in chunks, split": lambda one: wire(
        "POST /x HTTP/1.1",
        f"Host: {OTHER}",
        "Transfer-Encoding: chunked",
        "Connection: close",
        body=b"".join(b"1\r\n%c\r\n" % c for c in one.encode()) + b"0\r\n\r\n",
    ),
    "in a trailer": lambda one: wire(
        "POST /x HTTP/1.1",
        f"Host: {OTHER}",
        "Transfer-Encoding: chunked",
        "Connection: close",
        body=f"0\r\nX-Note: {one}\r\n\r\n".encode(),
    ),
    "in the extension of a chunk": lambda one: wire(
        "POST /x HTTP/1.1",
        f"Host: {OTHER}",
        "Transfer-Encoding: chunked",
        "Connection: close",
        body=f"1;{one}\r\nx\r\n0\r\n\r\n".encode(),
    ),
    "over two fields": lambda one: wire(
        "GET /x HTTP/1.1", f"Host: {OTHER}", f"X-A: {one[:20]}", f"X-A: {one[20:]}", "Connection: close"
    ),
    "reversed": lambda one: wire("GET /x HTTP/1.1", f"Host: {OTHER}", f"X-A: {one[::-1]}", "Connection: close"),
    "in another case": lambda one: wire("GET /x HTTP/1.1", f"Host: {OTHER}", f"X-A: {one.upper()}", "Connection: close"),
}


@pytest.mark.parametrize("how", CARRIED)
def test_a_placeholder_is_nowhere_turned_into_its_secret_but_in_its_field(session, world, how):
    """If any text that looks like it were replaced, the secret could be had sent to any allowed host."""
    session.ask(OTHER, CARRIED[how](session.do(held, "ONE")))
    assert places_of_secrets(world) == set()
    only_where_bound(session, world)


@pytest.mark.parametrize("method", ["TRACE", "TRACK"])
@pytest.mark.parametrize("hops", ["", "Max-Forwards: 0\r\n"], ids=["", "at the first hop"])
def test_a_request_that_is_sent_back_carries_no_credential(session, world, method, hops):
    """TRACE asks a server, or with Max-Forwards one on the way, to answer with the request as it got it."""
    for host, path in ((HOST, "/paid/x"), ("api.example.com", "/x")):
        request = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{hops}Connection: close\r\n\r\n".encode()
        reply = session.ask(host, request)
        assert SECRET.encode() not in reply["body"] and SECOND.encode() not in reply["body"]
        assert reply["status"] == 403, reply
    assert not world.requests()
    only_where_bound(session, world)


OWN_KEYS = {
    "in the bound field": "X-Api-Key: sk-attacker\r\n",
    "in the bound field, written as CGI would": "X_Api_Key: sk-attacker\r\n",
    "behind the placeholder": None,
    "as Authorization": "Authorization: Bearer sk-attacker\r\n",
    "as Authorization, in small letters": "authorization: bearer sk-attacker\r\n",
    "as Basic": "Authorization: Basic c2stYXR0YWNrZXI6\r\n",
    "as Api-Key": "Api-Key: sk-attacker\r\n",
    "as X-Auth-Token": "X-Auth-Token: sk-attacker\r\n",
    "as X-Goog-Api-Key": "X-Goog-Api-Key: sk-attacker\r\n",
    "as Private-Token": "PRIVATE-TOKEN: sk-attacker\r\n",
}


@pytest.mark.parametrize("how", OWN_KEYS)
def test_the_functions_own_key_at_a_bound_endpoint(session, world, how):
    """With the attacker's key the data goes into the attacker's account, at a host that the policy allows."""
    headers = OWN_KEYS[how] or f"X-Api-Key: {session.do(held, 'ONE')}\r\nX-Api-Key: sk-attacker\r\n"
    reply = session.get(HOST, "/paid/x", headers)
    assert reply["status"] == 403 and reply["headers"]["sallyport-denied"] == "foreign-credential", reply
    assert not world.requests()
    only_where_bound(session, world)


@pytest.mark.parametrize("field", ["X-Api-Key", "x-api-key", "Authorization", "X_Api_Key", "Cookie"])
def test_a_key_behind_the_body(session, world, field):
    """Servers that join trailers to the head would find a second key there, and some let the last one count."""
    request = wire(
        "POST /paid/x HTTP/1.1",
        f"Host: {HOST}",
        "Transfer-Encoding: chunked",
        f"Trailer: {field}",
        "Connection: close",
        body=f"2\r\nab\r\n0\r\n{field}: sk-attacker\r\n\r\n".encode(),
    )
    session.ask(HOST, request)
    assert all(r.trailers == [] for r in world.requests()) and not world.saw("sk-attacker")
    only_where_bound(session, world)


@pytest.mark.parametrize("named", ["x-api-key", "X-Api-Key, close", "authorization, x-api-key", "x_api_key", "host"])
def test_connection_takes_the_credential_out(session, world, named):
    """A field that Connection names goes no further than the next hop: the request would come without its key."""
    session.get(HOST, "/paid/x", f"Connection: {named}\r\n")
    assert all(r.header("x-api-key") == SECRET for r in world.requests())
    only_where_bound(session, world)


def test_a_redirect_takes_the_credential_along(session, world):
    """A real client follows to another host and keeps its key, as --location-trusted makes it: the guard follows
    nothing, and the placeholder is not good there."""

    def follow(host, to, key):
        import subprocess

        return subprocess.run(
            ["curl", "-sS", "-L", "--location-trusted", "-m", "20", "-H", "Authorization: Bearer " + key]
            + ["-o", "/dev/null", "-w", "%{http_code} %{num_redirects}", f"https://{host}/redirect?to={to}"],
            capture_output=True,
            text=True,
        ).stdout

    to = f"https://{OTHER}/caught"
    assert session.do(follow, "api.example.com", to, session.do(held, "TWO")) == "403 1"
    assert [r.header("host") for r in world.requests()] == ["api.example.com"]
    only_where_bound(session, world)


def test_what_a_connection_carried_before_is_not_carried_on(session, world):
    """One connection, five requests: the credential of the first must not stick to it, here or towards the server."""

    def several():
        replies = []
        with connect("v4.example.com") as stream:
            reader = Reader(stream)
            for path in ("/paid/1", "/free/2", "/paid/3", "/denied/4", "/free/5"):
                stream.sendall(f"GET {path} HTTP/1.1\r\nHost: v4.example.com\r\n\r\n".encode())
                replies.append(reader.response()["status"])
        return replies

    assert session.do(several) == [200, 200, 200, 403, 200]
    assert [(r.target, r.header("x-api-key")) for r in world.requests()] == [
        ("/paid/1", SECRET),
        ("/free/2", None),
        ("/paid/3", SECRET),
        ("/free/5", None),
    ]
    by_connection = {}
    for request in world.requests():
        by_connection.setdefault(request.connection.id, set()).add(request.header("x-api-key"))
    assert all(len(keys) == 1 for keys in by_connection.values()), "one connection upstream, one identity"
    only_where_bound(session, world)


def test_pipelined_over_a_denial(session, world):
    """Four requests in one write: the second is refused, and its body looks like a request of its own."""
    inner = wire("GET /paid/inner HTTP/1.1", f"Host: {HOST}")
    requests = (
        wire("GET /paid/1 HTTP/1.1", f"Host: {HOST}")
        + wire("POST /denied/2 HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(inner)}", body=inner)
        + wire("GET /paid/3 HTTP/1.1", f"Host: {HOST}", "Connection: close")
    )
    replies = session.ask(HOST, requests, count=3)
    assert [r["status"] for r in replies[:2]] == [200, 403]
    assert not world.saw("/paid/inner") and not world.saw("/denied")
    only_where_bound(session, world)


@pytest.mark.parametrize(
    "host, where",
    [
        (HOST, {"port": 8443}),
        (HOST, {"port": 80, "tls": False}),
        ("api.example.com", {"port": 80, "tls": False}),
        ("unknown-root.example.com", {}),
    ],
    ids=["another port", "without TLS", "another host without TLS", "a server that proves nothing"],
)
def test_the_bound_host_in_another_way(session, world, host, where):
    """The same name, where somebody else may be listening."""
    reply = session.get(host, "/paid/x", **where)
    assert reply["status"] in (None, 403, 502), reply
    assert not world.requests()
    only_where_bound(session, world)


OVERRIDES = [
    "X-HTTP-Method-Override: DELETE",
    "X-HTTP-Method: DELETE",
    "X-Method-Override: DELETE",
    "X_HTTP_METHOD_OVERRIDE: DELETE",
    "x-http_method-override: DELETE",
    "X-Original-URL: /paid/admin",
    "X-Rewrite-URL: /paid/admin",
    "X_Original_Url: /paid/admin",
]


@pytest.mark.parametrize("line", OVERRIDES)
@pytest.mark.parametrize("where", ["head", "trailer"])
def test_a_field_makes_it_another_request(session, world, line, where):
    """Frameworks that obey these do something else than what method and path said when they were decided."""
    if where == "head":
        session.get(OTHER, "/x", line + "\r\n")
    else:
        session.ask(
            OTHER,
            wire("POST /x HTTP/1.1", f"Host: {OTHER}", "Transfer-Encoding: chunked", "Connection: close")
            + f"0\r\n{line}\r\n\r\n".encode(),
        )
    assert world.requests() and not world.saw("DELETE") and not world.saw("admin")
    assert all(r.trailers == [] for r in world.requests())
    only_where_bound(session, world)


@pytest.mark.parametrize("name", ["Sallyport-Tag", "sallyport_tag", "SALLYPORT-DENIED"])
def test_the_guards_own_fields_are_forged(session, world, name):
    """What only a guard says, other guards will believe."""
    session.get(OTHER, "/x", f"{name}: v1.forged\r\n")
    assert world.requests() and not world.saw("forged")
    only_where_bound(session, world)


def test_the_secret_is_not_in_the_memory_of_what_the_function_can_read(session, world):
    """Whatever of the function's own memory there is after an answer came: environment, heap, files of its /proc."""

    def search(front, back):
        needle = (front + back).encode()
        del front, back
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) == os.getpid():
                continue  # it has just put the secret together to look for it
            for name in ("environ", "cmdline", "mem"):
                try:
                    with open(f"/proc/{pid}/{name}", "rb") as file:
                        if name != "mem":
                            if needle in file.read():
                                found.append((pid, name))
                            continue
                        for line in open(f"/proc/{pid}/maps"):
                            first, last = (int(x, 16) for x in line.split()[0].split("-"))
                            if line.split()[1].startswith("r") and last - first < 1 << 26:
                                file.seek(first)
                                if needle in file.read(last - first):
                                    found.append((pid, name))
                except (OSError, ValueError, OverflowError):
                    pass
        return found

    session.get(HOST, "/paid/x")
    assert session.do(search, SECRET[:8], SECRET[8:]) == []
    only_where_bound(session, world)
