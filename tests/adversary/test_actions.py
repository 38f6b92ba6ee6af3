"""API actions that look allowed to the guard and mean another thing to the server."""

import pytest

import guard

HOST = "v4.example.com"


def endpoint(operations, actions):
    rules = [{"methods": ["GET", "POST"], "path": {"prefix": "/"}, "actions": actions}]
    return guard.endpoint(HOST, rules=rules, operations=operations)


def request(body, *headers, target="/echo"):
    body = body if isinstance(body, bytes) else body.encode()
    lines = [f"POST {target} HTTP/1.1", f"Host: {HOST}", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


AMZ, FORM, JSON = (
    f"Content-Type: {type}"
    for type in ("application/x-amz-json-1.0", "application/x-www-form-urlencoded", "application/json")
)
GET = "X-Amz-Target: D.Get"

DISGUISES = {
    "two targets": ("aws-json", request("{}", AMZ, GET, "X-Amz-Target: D.Drop")),
    "a target for CGI": ("aws-json", request("{}", AMZ, GET, "X_Amz_Target: D.Drop")),
    "a list of targets": ("aws-json", request("{}", AMZ, "X-Amz-Target: D.Get,D.Drop")),
    "a target in the query": ("aws-json", request("{}", AMZ, GET, target="/echo?X-Amz-Target=D.Drop")),
    "a form beside a target": ("aws-json", request("Action=Drop", FORM, GET)),
    "no type": ("aws-json", request("Action=Drop", GET)),
    "two types": ("aws-json", request("Action=Drop", AMZ, FORM, GET)),
    "two fields": ("aws-query", request("Action=Get&Action=Drop", FORM)),
    "a field in URL and body": ("aws-query", request("Action=Drop", FORM, target="/echo?Action=Get")),
    "an escaped field": ("aws-query", request("Action=Get&%41ction=Drop", FORM)),
    "another case": ("aws-query", request("Action=Get&action=Drop", FORM)),
    "brackets": ("aws-query", request("Action=Get&Action[]=Drop", FORM)),
    "a semicolon": ("aws-query", request("Action=Get&x=1;Action=Drop", FORM)),
    "a body of another type": ("aws-query", request("Action=Drop", "Content-Type: text/plain", target="/echo?Action=Get")),
    "another charset": ("aws-query", request("Action=Get", FORM + "; charset=ibm037")),
    "a compressed body": ("aws-query", request("Action=Get", FORM, "Content-Encoding: gzip")),
    "a target beside a form": ("aws-query", request("Action=Get", FORM, "X-Amz-Target: D.Drop")),
    "two names in JSON": ("json-rpc", request('{"method":"Get","method":"Drop"}', JSON)),
    "an escaped name in JSON": ("json-rpc", request('{"method":"Get","\\u006dethod":"Drop"}', JSON)),
    "another case in JSON": ("json-rpc", request('{"method":"Get","Method":"Drop"}', JSON)),
    "a name behind a NUL": ("json-rpc", request('{"method":"Get","method\\u0000":"Drop"}', JSON)),
    "a mixed batch": ("json-rpc", request('[{"method":"Get"},{"method":"Drop"}]', JSON)),
    "two texts": ("json-rpc", request('{"method":"Get"}{"method":"Drop"}', JSON)),
    "a comment": ("json-rpc", request('{"method":"Get"/*,"method":"Drop"*/}', JSON)),
    "UTF-16": ("json-rpc", request('{"method":"Get"}'.encode("utf-16"), JSON)),
    "an overlong byte": ("json-rpc", request(b'{"method":"Get","\xc0\xad":1}', JSON)),
    "a lone surrogate": ("json-rpc", request('{"method":"Get","\\ud800":1}', JSON)),
    "a batch of GraphQL": ("graphql", request('[{"query":"query Get{a}"},{"query":"mutation Drop{a}"}]', JSON)),
    "another operation": ("graphql", request('{"query":"mutation Drop{a}","operationName":"Get"}', JSON)),
    "two operations": ("graphql", request('{"query":"query Get{a} mutation Drop{a}"}', JSON)),
    "one operation twice": ("graphql", request('{"query":"query Get{a} mutation Get{a}","operationName":"Get"}', JSON)),
    "an operation in a comment": ("graphql", request('{"query":"#query Get{a}\\nmutation Drop{a}"}', JSON)),
    "an operation in the URL": ("graphql", request('{"query":"query Get{a}"}', JSON, target="/echo?query=mutation+Drop%7Ba%7D")),
    "a dotless letter": ("aws-query", request("Action=Get&Act%C4%B1on=Drop", FORM)),
    "a form of parts": (
        "aws-query",
        request(
            '--b\r\nContent-Disposition: form-data; name="Action"\r\n\r\nDrop\r\n--b--',
            "Content-Type: multipart/form-data; boundary=b",
            target="/echo?Action=Get",
        ),
    ),
    "compressed at last": ("aws-query", request("Action=Get", FORM, "Content-Encoding: identity, gzip")),
    "compressed for CGI": ("aws-query", request("Action=Get", FORM, "Content_Encoding: gzip")),
    "compressed in transfer": ("aws-query", request("Action=Get", FORM, "Transfer-Encoding: gzip, chunked")),
    "another protocol's own": ("aws-json", request("{}", AMZ, GET, "Smithy-Protocol: rpc-v2-cbor", target="/service/D/operation/Drop")),
    "a target that Connection takes away": ("soap", request("<x/>", "SOAPAction: Get", "Connection: SOAPAction")),
    "a byte order mark": ("json-rpc", request(b'\xef\xbb\xbf{"method":"Get"}', JSON)),
    "a name behind another underscore": ("form", request("task_kind=Get&task.kind=Drop", FORM)),
    "two SOAP actions": ("soap", request("<x/>", "SOAPAction: Get", "SOAPAction: Drop")),
    "both SOAP versions": ("soap", request("<x/>", "SOAPAction: Get", 'Content-Type: application/soap+xml; action="Drop"')),
    "two parameters": ("soap", request("<x/>", "Content-Type: application/soap+xml; action=Drop; action=Get")),
}


@pytest.fixture(scope="module")
def sessions(world):
    """One guard for each protocol."""
    running = {}
    for operations, actions in {
        "aws-json": ["D.Get"],
        "aws-query": ["Get"],
        "json-rpc": ["Get"],
        "graphql": ["Get"],
        "soap": ["Get"],
        "form": ["Get"],
    }.items():
        bench = guard.Bench(world)
        where = {"form": "task_kind"} if operations == "form" else operations
        running[operations] = bench.session(policy=guard.policy(endpoint(where, actions))), bench
    yield {operations: session for operations, (session, _) in running.items()}
    for session, bench in running.values():
        session.close()
        bench.close()


@pytest.mark.parametrize("disguise", DISGUISES)
def test_an_action_that_two_servers_read_differently_goes_nowhere(sessions, world, disguise):
    operations, attack = DISGUISES[disguise]
    reply = sessions[operations].ask(HOST, attack)
    assert reply["status"] in (400, 403), reply
    assert not world.requests()


HONEST = {
    "aws-json": request("{}", AMZ, GET),
    "aws-query": request("Action=Get", FORM),
    "json-rpc": request('{"method":"Get"}', JSON),
    "graphql": request('{"query":"query Get{a}"}', JSON),
    "soap": request("<x/>", "SOAPAction: Get"),
    "form": request("task_kind=Get&task=x", FORM),
}


def test_the_honest_requests_pass_beside_them(sessions):
    for operations, honest in HONEST.items():
        assert sessions[operations].ask(HOST, honest)["status"] == 200, operations


@pytest.mark.parametrize("operations, field", [("aws-json", "X-Amz-Target"), ("soap", "SOAPAction"), ("form", "X-Amz-Target")])
@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1", "HTTP/2"])
def test_an_action_behind_the_body_does_not_pass(sessions, world, operations, field, http2):
    """A server that joins trailers to the head would find it there."""

    def send(host, head, body, field, http2):
        if not http2:
            tail = b"%x\r\n%s\r\n0\r\n%s: D.Drop\r\n\r\n" % (len(body), body, field.encode())
            return ask(host, head.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked") + tail)["status"]
        import http2_frames as h2

        client = h2.Client(host)
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line]
        fields = [(n.lower(), v) for n, v in lines if n not in ("Host", "Connection", "Content-Length")]
        client.ask(1, h2.request(host, "/echo", "POST", *fields), end=False)
        client.data(1, body)
        client.ask(1, [(field.lower(), "D.Drop")])
        return client.until_over(1)[0]["status"]

    head, _, body = HONEST[operations].partition(b"\r\n\r\n")
    reply = sessions[operations].do(send, HOST, head + b"\r\n\r\n", body, field, http2)
    assert reply == 200
    (arrived,) = world.requests()
    assert arrived.body == body and arrived.trailers == [] and b"Drop" not in arrived.raw_head


def test_bodies_that_never_end_hold_no_more_than_their_share(bench, world):
    """100 clients announce a mebibyte each and send all but the last byte: 64 MiB are held, the others are told, and the
    guard's memory stays bounded; when they go, others are served."""

    def flood(count):
        size = 1 << 20
        head = b"POST /echo HTTP/1.1\r\nHost: v4.example.com\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        streams = []
        for _ in range(count):
            stream = connect("v4.example.com")
            streams.append(stream)
            try:
                stream.sendall(head % size + b" " * (size - 1))
            except OSError:
                pass
        told = 0
        for stream in streams:
            stream.settimeout(0.2)
            try:
                told += b" 503 " in stream.recv(64)
            except OSError:
                pass
        for stream in streams:
            stream.close()
        return told

    with bench.session(policy=guard.policy(endpoint("json-rpc", ["Get"]))) as session:
        assert session.do(flood, 100) >= 30
        with open(f"/proc/{session.process.pid}/status") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        assert peak < 400_000, f"{peak} KiB"
        assert session.ask(HOST, HONEST["json-rpc"])["status"] == 200
    assert len(world.requests()) == 1
