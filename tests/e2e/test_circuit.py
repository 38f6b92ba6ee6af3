"""A destination that cannot be connected to, again and again, is left alone for a while, and that is said at once."""

import time

import guard
import tcp_services

HOST, SERVER_V4 = "circuit.example.com", "127.0.0.46"
POLICY = guard.policy(guard.endpoint(HOST, scheme="http", ports=[80, 81]), guard.endpoint("v4.example.com"))


def answer(stream):
    stream.recv(4096)
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nback")


def test_it_fails_fast_and_comes_back(bench, world):
    world.dns.table[HOST] = [SERVER_V4]
    with bench.session(policy=POLICY) as session:

        def ask(port=80):
            reply = session.get(HOST, "/", port=port, tls=False)
            return reply["status"], reply["headers"].get("sallyport-denied")

        assert [ask() for _ in range(5)] == [(502, "unreachable")] * 5
        began = time.monotonic()
        assert ask() == (502, "upstream-failing")
        text = session.get(HOST, "/", port=80, tls=False)["body"].decode()
        if time.monotonic() - began < 0.9:
            assert "failed 5 times in a row, lastly: can't connect to" in text
        assert ask(81) == (502, "unreachable"), "another port is another destination"
        assert session.get("v4.example.com", "/echo")["status"] == 200
        server = tcp_services.Server(SERVER_V4, 80, answer)
        end = time.monotonic() + 20
        while (seen := ask())[0] != 200:
            assert seen == (502, "upstream-failing") and time.monotonic() < end
            time.sleep(0.2)
        assert [ask() for _ in range(3)] == [(200, None)] * 3
        server.close()


def test_a_new_policy_tries_again(bench, world):
    world.dns.table[HOST] = [SERVER_V4]
    with bench.session(policy=POLICY) as session:
        while session.get(HOST, "/", port=81, tls=False)["headers"]["sallyport-denied"] != "upstream-failing":
            pass
        bench.write_policy(POLICY + "\n")
        session.wait_for_stderr("the changed policy is in force")
        assert session.get(HOST, "/", port=81, tls=False)["headers"]["sallyport-denied"] == "unreachable"
