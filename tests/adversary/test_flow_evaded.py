"""A hijacked function wants a request through that its flow graph does not expect: by another spelling, by a race, by
another way to speak HTTP, or by changing the graph."""

import pytest

import flows
import guard
from own_files import give, owned_folder, run

HOST = "v4.example.com"
OPEN = guard.endpoint(HOST)
ONCE = flows.graph(flows.node("once", f"GET {HOST}/echo/once"))


def statuses_of(session, *paths, method="GET"):
    def send(host, method, paths):
        out = []
        for path in paths:
            head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
            out.append(ask(host, head.encode("latin-1"), method=method)["status"])  # noqa: F821
        return out

    return session.do(send, HOST, method, list(paths))


SPELLINGS = (
    "/echo/./once", "/echo//once", "/echo/%6Fnce", "/echo/once/", "/echo/once;a=1", "/echo/x/../once", "/echo/onc%65",
    "/ECHO/once", "/echo/once%00", "/echo/once%2F", f"https://{HOST}/echo/once", "/echo/once?again=1", "/echo/once?",
    "/echo/once#x", "*",
)  # fmt: skip


def test_no_spelling_of_a_request_makes_it_another_one(bench, world):
    with bench.session(policy=flows.policy(bench, ONCE, OPEN)) as session:
        assert statuses_of(session, "/echo/once") == [200]
        for path in SPELLINGS:
            assert statuses_of(session, path)[0] in (400, 403), path
        for method in ("HEAD", "POST", "OPTIONS", "get", "PROPFIND"):
            assert statuses_of(session, "/echo/once", method=method)[0] in (400, 403, 501), method
    assert len(world.requests()) == 1


def test_a_query_is_part_of_the_request_where_the_policy_keeps_it(bench, world):
    graph = flows.graph(flows.node("a", f"GET {HOST}/echo?id={{int}}", times=9))
    with bench.session(policy=flows.policy(bench, graph, guard.endpoint(HOST, query="keep"))) as session:
        assert statuses_of(session, "/echo?id=1", "/echo?id=1&x=2", "/echo?id=x", "/echo") == [200, 403, 403, 403]


def test_requests_at_once_get_through_as_often_as_the_graph_says(bench, world):
    """Over connections of their own, and all at the same moment."""

    def race(host, count):
        import threading

        results, ready = [], threading.Barrier(count)

        def one():
            stream = connect(host)  # noqa: F821
            ready.wait()
            stream.sendall(f"GET /echo/once HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            results.append(Reader(stream).response()["status"])  # noqa: F821

        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(results)

    with bench.session(policy=flows.policy(bench, ONCE, OPEN)) as session:
        assert session.do(race, HOST, 24) == [200] + [403] * 23
    assert len(world.requests()) == 1


def test_pipelined_requests_are_counted_one_by_one(bench, world):
    def pipeline(host):
        stream = connect(host)  # noqa: F821
        stream.sendall(f"GET /echo/once HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * 3)
        reader = Reader(stream)  # noqa: F821
        return [reader.response()["status"] for _ in range(3)]

    with bench.session(policy=flows.policy(bench, ONCE, OPEN)) as session:
        assert session.do(pipeline, HOST) == [200, 403, 403]
    assert len(world.requests()) == 1


def test_streams_of_one_http2_connection_are_counted_one_by_one(bench, world):
    command = ["curl", "-sS", "--http2", "-Z"]
    for _ in range(20):
        command += [f"https://{HOST}/echo/once", "-o", "/dev/null", "-w", "%{http_code}\\n"]
    outcome = bench.run(command, policy=flows.policy(bench, ONCE, OPEN))
    assert sorted(outcome.out.split()) == ["200"] + ["403"] * 19, outcome.err
    assert len(world.requests()) == 1


def test_a_failure_that_the_function_makes_itself_is_no_retry_without_end(bench, world):
    """A request that it breaks off has had no answer: it may come again as often as its retries say, and no more."""
    graph = flows.graph(flows.node("a", f"POST {HOST}/sink", retries=2))

    def break_off(host, times):
        statuses = []
        for _ in range(times):
            stream = connect(host)  # noqa: F821
            stream.sendall(f"POST /sink HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\nhalf".encode())
            stream.settimeout(0.5)
            try:
                statuses.append(stream.recv(12).decode())
            except TimeoutError:
                statuses.append("open")
            stream.close()
            time.sleep(0.2)  # noqa: F821
        return statuses

    with bench.session(policy=flows.policy(bench, graph, OPEN)) as session:
        got = session.do(break_off, HOST, 6)
    assert got == ["open"] * 3 + ["HTTP/1.1 403"] * 3


@pytest.mark.parametrize(
    "headers",
    [
        ["traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
        ["Sallyport-Tag: v1.AAAA.BBBB"],
        ["X-HTTP-Method-Override: DELETE"],
        ["X-Original-URL: /echo/other"],
        ["Expect: 100-continue"],
        ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"],
        ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
    ],
    ids=lambda headers: headers[0].split(":")[0] + headers[0].split()[-1][:4],
)
def test_no_header_makes_room_for_another_request(bench, world, headers):
    def send(host, lines):
        head = f"GET /echo/once HTTP/1.1\r\nHost: {host}\r\n" + "".join(line + "\r\n" for line in lines) + "\r\n"
        return ask(host, head.encode())["status"]  # noqa: F821

    with bench.session(policy=flows.policy(bench, ONCE, OPEN)) as session:
        assert statuses_of(session, "/echo/once") == [200]
        assert session.do(send, HOST, headers) in (400, 403, 501)
    assert len(world.requests()) == 1


REWRITES = {
    "written": "cat $W >$G",
    "replaced": "cp $W $D/new; mv -f $D/new $G; touch $P",
    "removed and made again": "rm -f $G; cp $W $G",
    "in another folder of its name": "mv $D $D.away; mkdir $D; cp $D.away/policy.yaml $D/; cp $W $G; touch $D.away/noise",
    "a link in place of its folder": "mv $D $D.away; cp -r $D.away $D.mine; cat $W >$D.mine/graph.yaml; ln -s $D.mine $D",
    "uncovered in namespaces inside": "unshare -Urm bash -c \"umount $G; umount -l $G; cat $W >$G\"",
}


@pytest.mark.parametrize("user, how", [("ordinary", how) for how in REWRITES] + [("root", "written")], indirect=["user"])
def test_the_command_writes_its_own_graph(user_bench, world, how):
    """And begins a new execution, if it can: here the whole process is one, so that a graph is none before the next."""
    bench = user_bench
    folder = owned_folder(bench, "config")
    bench.policy_file = folder / "policy.yaml"
    policy = flows.policy(bench, ONCE, OPEN)
    bench.write_policy(policy)
    wide = bench.folder / "wide.yaml"
    wide.write_text(flows.graph(flows.node("once", f"GET {HOST}/*", times=1000)))
    give(bench, folder, bench.policy_file, folder / "graph.yaml", wide)
    with bench.session(policy=policy) as session:
        assert statuses_of(session, "/echo/once") == [200]
        script = f"D={folder} P={bench.policy_file} G={folder}/graph.yaml W={wide}; {REWRITES[how]}"
        said = session.do(run, script)
        session.do_source("import time\ndef wait():\n    time.sleep(0.6)", "wait")
        assert statuses_of(session, "/echo/once") == [403], said
        assert "the changed policy is in force" not in session.stderr()
    assert len(world.requests()) == 1


def test_the_graph_as_a_standard_stream_of_the_command_is_refused(bench, world):
    policy = flows.policy(bench, ONCE, OPEN)
    with open(bench.policy_file.with_name("graph.yaml"), "r+") as graph:
        process = bench.start(["sh", "-c", "echo changed >/proc/self/fd/0"], policy=policy, stdin=graph)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2 and "as a standard stream" in err and "nothing was run" in err


def test_a_process_that_was_left_behind_has_nothing_left(bench, world):
    """A request of a process that the command left behind still belongs to the one execution."""
    ask_once = f"curl -sS -o /dev/null https://{HOST}/echo/once"
    script = f"{ask_once}; setsid sh -c 'sleep 0.3; {ask_once}; touch asked' & until [ -e asked ]; do sleep 0.1; done"
    outcome = bench.run(["sh", "-c", script], policy=flows.policy(bench, ONCE, OPEN))
    assert flows.refused(outcome.records) == ["/echo/once"] and len(world.requests()) == 1


def test_many_refusals_at_once_do_not_slow_what_is_allowed(bench, world):
    """Refused by the thousand: the graph stays where it is, and answers within its time."""
    graph = flows.graph(flows.node("a", f"GET {HOST}/echo/a", times=50), flows.node("b", f"GET {HOST}/echo/b"))
    graph = graph.replace('"next": ["exit"]', '"next": ["b", "exit"]', 1)
    with bench.session(policy=flows.policy(bench, graph, OPEN)) as session:
        assert statuses_of(session, *["/echo/no"] * 300, *["/echo/a"] * 3) == [403] * 300 + [200] * 3
