"""Attacks on an application between its functions, while it runs: somebody in the network between two of them has copied
tags, and uses them. Each is refused, and is an alarm of its own; the application goes on."""

import concurrent.futures
import re
import socket
import threading

import pytest

import published
import tags
from controller import eventually
from members import FIRST_THEN_SECOND, NEXT, NEXT_PORT, TO_NEXT, checked, flags, policy
from members import serve, shop  # noqa: F401
from published import ask

import guard

BEHIND = 18092  # where `second` is in truth


class Wire:
    """Between first and second: passes everything on, and keeps the tags of requests."""

    def __init__(self):
        self.tags = []
        self.first = lambda tag: None  # is called with each tag before it is passed on
        self._server = socket.create_server(("127.0.0.1", NEXT_PORT), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", BEHIND), 20)
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source, target, requests):
        try:
            while data := source.recv(65536):
                for tag in re.findall(rb"(?i)\r\nsallyport-tag: ([^\r\n]+)", data) if requests else ():
                    self.tags.append(tag.decode())
                    self.first(tag.decode())
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def last(self):
        return self.tags[-1]

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def between(shop, serve):  # noqa: F811
    """first and second, both running under the application graph, and what is between them."""
    shop.put("application-graph", FIRST_THEN_SECOND)
    shop.put("settings", checked("first", "second"))
    wire = Wire()
    serve("second", port=BEHIND)
    serve("first")
    yield wire
    wire.close()


def goes_on(count=1):
    for turn in range(count):
        assert published.run([f"/on{turn}"], **TO_NEXT)["statuses"] == [200]


def refused(path, tag, port=BEHIND):
    status, fields, _ = ask("GET", path, headers={tags.FIELD: tag} if tag else None, port=port)
    assert status == 403, (status, fields)
    return fields["sallyport-denied"]


def alarm(shop, kind):  # noqa: F811
    return eventually(lambda: [each for each in shop.alarms() if each["kind"] == kind], f"no alarm {kind}: {shop.alarms()}")


def test_a_tag_that_is_used_again_is_refused(shop, between):  # noqa: F811
    goes_on()
    assert refused("/again", between.last()) == "entry-refused"
    assert alarm(shop, "replayed-tag")[0]["function"] == "second"
    goes_on()


def test_a_forged_tag_is_refused(shop, between):  # noqa: F811
    goes_on()
    assert refused("/forged", tags.forged(between.last())) == "tag-invalid"
    assert refused("/made-up", tags.make("first")) == "tag-invalid"
    denied = alarm(shop, "denied")
    assert any("tag-invalid" in each["about"] for each in denied), denied
    goes_on()


def test_a_tag_for_one_function_is_refused_by_another(shop, between):  # noqa: F811
    goes_on()
    assert refused("/elsewhere", between.last(), port=published.OUTSIDE) == "entry-refused"
    assert alarm(shop, "foreign-sender")[0]["function"] == "first"
    goes_on()


def test_a_tag_of_another_application_is_refused(shop, world, between, tmp_path):  # noqa: F811
    """Of the same controller: its functions have the same names, and their own key."""
    shop.do("app", "create", "bank")
    text = policy("first", guard.endpoint(NEXT, scheme="http", ports=[NEXT_PORT], name="next", function="second"))
    shop.put("policy", text, application="bank", function="first")
    token = tmp_path / "bank.token"
    token.write_text(shop.do("token", "create", "-a", "bank", "-f", "first"))
    theirs = ["bank" if each == "shop" else token if str(each).endswith(".token") else each for each in flags(shop, "first")]
    bench = guard.Bench(world)
    outcome = bench.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{NEXT}:{NEXT_PORT}/theirs"], flags=theirs)
    bench.close()
    assert outcome.out == "403", "the bank's own function is refused"
    (tag,) = between.tags
    assert refused("/theirs-again", tag) == "tag-invalid"
    assert any("tag-invalid" in each["about"] for each in alarm(shop, "denied"))
    goes_on()


def test_who_comes_before_the_legitimate_message_takes_its_place_and_is_told(shop, between):  # noqa: F811
    """Somebody who can hold messages back lets a copy go first: of the two that bear the tag the second is refused, and
    that is told."""
    raced = []

    def overtake(tag):
        if not raced:
            raced.append(ask("GET", "/stolen", headers={tags.FIELD: tag}, port=BEHIND)[0])

    between.first = overtake
    assert published.run(["/legitimate"], **TO_NEXT)["statuses"] == [403] and raced == [200]
    assert alarm(shop, "replayed-tag")[0]["function"] == "second"
    goes_on()


def test_hundreds_of_copies_beside_hundreds_of_users(shop, between):  # noqa: F811
    """None of the copies passes, and none of the users is refused for it."""
    goes_on()
    stolen = between.last()
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        attacks = [pool.submit(refused, f"/copy{i}", stolen) for i in range(100)]
        users = [pool.submit(published.run, [f"/user{i}"], **TO_NEXT) for i in range(100)]
        assert {attack.result() for attack in attacks} == {"entry-refused"}
        assert all(user.result()["statuses"] == [200] for user in users)
    counted = eventually(lambda: (n := sum(int(each["count"]) for each in alarm(shop, "replayed-tag"))) >= 100 and n,
                         "not all are counted")
    assert counted == 100
    assert {each["kind"] for each in shop.alarms()} == {"replayed-tag", "denied"}
