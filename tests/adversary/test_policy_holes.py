"""A policy that says less than its author thought, and functions that look for the gap."""

import json

import pytest

import guard
import lab

HOST = "v4.example.com"

EMPTY = {
    "no endpoints": guard.policy(),
    "endpoints left out": json.dumps(
        {
            "apiVersion": "sallyport.dev/v1alpha1",
            "kind": "EgressPolicy",
            "metadata": {"name": "x"},
            "spec": {"mode": "enforce"},
        }
    ),
    "no rules": guard.policy(guard.endpoint(HOST, rules=[])),
    "rules left out": guard.policy(guard.endpoint(HOST, rules=None)),
    "no methods": guard.policy(guard.endpoint(HOST, methods=[])),
    "no ports": guard.policy(guard.endpoint(HOST, ports=[])),
    "an empty path": guard.policy(guard.endpoint(HOST, rules=[{"methods": ["GET"], "path": {"prefix": ""}}])),
    "an empty host": guard.policy(guard.endpoint("")),
    "a bare asterisk": guard.policy(guard.endpoint("*")),
    "a whole top-level domain": guard.policy(guard.endpoint("*.com")),
    "nothing at all": "",
    "only a comment": "# allow\n",
    "null": "null\n",
}


@pytest.mark.parametrize("what", EMPTY)
def test_an_empty_list_is_nothing(bench, world, watch, listeners, what):
    """In other guards an absent or empty list has meant that everything is allowed."""
    code = (
        "import socket, ssl\n"
        "made = ssl._create_unverified_context()\n"
        f"raw = socket.create_connection(('{lab.OUTSIDE_V4}', 443), 5)\n"
        f"stream = made.wrap_socket(raw, server_hostname='{HOST}')\n"
        f"stream.sendall(b'GET /echo HTTP/1.1\\r\\nHost: {HOST}\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "print(stream.recv(100).split()[1].decode())"
    )
    outcome = bench.run([guard.PYTHON, "-c", code], policy=EMPTY[what])
    assert outcome.out.strip() in ("", "403"), outcome.err
    assert outcome.code != 0 or outcome.out.strip() == "403"
    assert not world.requests() and listeners.heard == [] and watch.leaks() == []


@pytest.fixture(scope="module")
def session(world):
    bench = guard.Bench(world)
    policy = guard.policy(
        guard.endpoint("*.sub.example.com"),
        guard.endpoint(HOST, rules=[{"methods": ["GET"], "path": {"regex": "/v[12]/[a-z]+"}}]),
    )
    with bench.session(policy=policy) as made:
        yield made
    bench.close()


@pytest.mark.parametrize(
    "host",
    [
        "sub.example.com",
        "xsub.example.com",
        "sub.example.com.evil.example",
        "deep-sub.example.com",
        "deep.sub.example.com.",
        "deep.sub.example.org",
        "*.sub.example.com",
        ".sub.example.com",
        "deep..sub.example.com",
        "denied.example.com#.sub.example.com",
        "denied.example.com%2f.sub.example.com",
        "denied.example.com\\.sub.example.com",
    ],
)
def test_a_wildcard_covers_whole_labels_below_it(session, world, watch, listeners, host):
    """Not the name itself, nothing that only ends in the same letters, nothing that another reader would cut."""
    request = f"GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    session.ask("x", request, address=lab.OUTSIDE_V4, sni=None)
    session.ask("x", request, address=lab.OUTSIDE_V4, tls=False, port=80)
    try:
        session.get(host, "/x", address=lab.OUTSIDE_V4, verify=False)
    except (AssertionError, UnicodeError):
        pass  # a name that the client itself does not send
    seen = {r.header("host").rstrip(".") for r in world.requests()}
    assert seen <= {"deep.sub.example.com"}, seen
    assert listeners.heard == [] and watch.leaks() == []
    assert session.get("deep.sub.example.com")["status"] == 200


@pytest.mark.parametrize(
    "path", ["/v1/a/b", "/v3/a", "/x/v1/a", "/v1/a%0a", "/v1/", "/v1/A", "/v12/a", "/v1/a/../../admin", "/v1/a;x", "//v1/a"]
)
def test_an_expression_is_matched_as_a_whole(session, world, path):
    """An expression that is found somewhere in the path allows far more than it says."""
    world.forget()
    assert session.get(HOST, path)["status"] in (400, 403)
    assert not world.requests() and session.get(HOST, "/v1/abc")["status"] == 200


def test_a_client_that_refuses_the_certificate_is_not_let_through_unseen(session, world, watch, listeners):
    """Some proxies pass a host through once a client has turned their certificate down: the function could have that
    for any host, for an alert."""

    def refuse(count, address):
        alerts = 0
        for _ in range(count):
            try:
                connect("denied.example.com", address=address, verify=False).close()
                raw = dial("x", 443, address)
                ssl.create_default_context(cadata=CERTIFICATE).wrap_socket(raw, server_hostname="denied.example.com")
            except OSError:
                alerts += 1
        return alerts

    import inspect
    import textwrap

    source = textwrap.dedent(inspect.getsource(refuse)).replace(
        "CERTIFICATE", repr((world.folder / "stranger-root.pem").read_text())
    )
    world.forget()
    assert session.do_source(source, "refuse", 5, lab.OUTSIDE_V4) == 5
    assert session.get("denied.example.com", address=lab.OUTSIDE_V4)["status"] == 403
    assert not world.tls.failed_handshakes and not world.requests() and listeners.heard == [] and watch.leaks() == []


@pytest.mark.parametrize("size", [1, 1 << 16, 3 << 20])
@pytest.mark.parametrize("coding", ["", "Content-Encoding: gzip\r\n", "Content-Encoding: odd\r\n"], ids=["", "gzip", "odd"])
def test_no_body_is_too_large_or_too_odd_to_be_refused(session, world, size, coding):
    """Guards that look into bodies let through what does not fit their buffer. Here the head decides, before any of the
    body goes anywhere."""
    world.forget()
    head = f"POST /v1/abc HTTP/1.1\r\nHost: {HOST}\r\n{coding}Content-Length: {size}\r\n\r\n".encode()
    reply = session.ask(HOST, head + b"x" * size)
    assert reply["status"] == 403 and not world.requests()
    assert session.get(HOST, "/v1/abc")["status"] == 200
