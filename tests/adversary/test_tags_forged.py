"""The field in which guards tag messages for each other: a function can neither send one nor see one."""

import json

import pytest

import guard

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST))
SPELLINGS = ["Sallyport-Tag", "sallyport-tag", "SALLYPORT-TAG", "Sallyport_Tag", "sAlLyPoRt_tAg", "Sallyport-Tag-2"]


def is_tag(name):
    return name.lower().replace("_", "-").startswith("sallyport-")


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_tag_of_the_functions_own_is_taken_out_over_http1(session, name):
    request = (
        f"POST /echo HTTP/1.1\r\nHost: {HOST}\r\n{name}: v1.a.b\r\nX-Kept: 1\r\n{name}: v1.c.d\r\nTransfer-Encoding: chunked\r\n"
        f"Connection: close\r\n\r\n1\r\nx\r\n0\r\n{name}: v1.e.f\r\nX-Sum: 1\r\n\r\n"
    )
    told = json.loads(session.ask(HOST, request.encode())["body"])
    assert not [n for n, _ in told["headers"] + told["trailers"] if is_tag(n)], told
    assert [n for n, _ in told["headers"] if n.lower() == "x-kept"] and [n.lower() for n, _ in told["trailers"]] == ["x-sum"]


def test_a_tag_of_the_functions_own_is_taken_out_over_http2(session):
    def ask(host, names):
        import http2_frames as h2

        client = h2.Client(host)
        for number, name in enumerate(names):
            stream = 2 * number + 1
            client.ask(stream, h2.request(host, "/echo", "POST", (name, "v1.a.b"), ("x-kept", "1")), end=False)
            client.data(stream, b"x")
            client.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, h2.block([(name, "v1.c.d"), ("x-sum", "1")])))
        return [reply["body"] for reply in client.until_over(*range(1, 2 * len(names), 2))]

    for body in session.do(ask, HOST, ["sallyport-tag", "sallyport_tag", "sallyport-tag-2"]):
        told = json.loads(body)
        assert not [n for n, _ in told["headers"] + told["trailers"] if is_tag(n)], told
        assert [n for n, _ in told["headers"] if n == "x-kept"] and [n.lower() for n, _ in told["trailers"]] == ["x-sum"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_connection_cannot_hide_a_tag_nor_a_tag_hide_behind_it(session, world, name):
    request = f"GET /echo HTTP/1.1\r\nHost: {HOST}\r\nConnection: close, {name}\r\n{name}: v1.a.b\r\n\r\n"
    session.ask(HOST, request.encode())
    assert not [n for r in world.requests() for n, _ in r.headers if is_tag(n)]


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_function_sees_no_tag_of_a_response(session, name):
    answer = (
        f"HTTP/1.1 103 Early Hints\r\n{name}: v1.a.b\r\nX-Early: 1\r\n\r\n"
        f"HTTP/1.1 200 OK\r\n{name}: v1.c.d\r\nX-Kept: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        f"1\r\nx\r\n0\r\n{name}: v1.e.f\r\nX-Sum: 1\r\n\r\n"
    )
    target = f"/raw?bytes={answer.encode().hex()}"
    request = f"GET {target} HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n"
    reply = session.ask(HOST, request.encode())
    assert reply["status"] == 200 and reply["complete"], reply
    seen = [*reply["fields"], *reply["trailers"], *[field for _, fields in reply["informational"] for field in fields]]
    assert not [n for n, _ in seen if is_tag(n)], reply
    assert {"x-kept", "x-early", "x-sum"} <= {n.lower() for n, _ in seen}

    def ask(host, target):
        import http2_frames as h2

        client = h2.Client(host)
        client.ask(1, h2.request(host, target))
        reply = client.until_over(1)[0]
        return reply["status"], reply["fields"] + reply["trailers"]

    status, fields = session.do(ask, HOST, target)
    assert status == 200 and not [n for n, _ in fields if is_tag(n)], fields
