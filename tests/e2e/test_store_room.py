"""A store that gets full, with real guards: what a function that floods has stored makes room for what it tells next, and
where none of that may go yet it waits; others lose nothing, and go on."""

import collections
import contextlib
import http.client
import os
import sqlite3
import threading

import pytest

import guard
import published
from controller import Controller, eventually
from members import NEXT_PORT, flags
from published import ask
from test_controller_faults import prepared

pytestmark = pytest.mark.skipif(not os.environ.get("SALLYPORT_BIN"),
                                reason="SALLYPORT_BIN does not name the folder of the built programs")

MIB = 1 << 20
CONFIG = f"""\
apiVersion: sallyport.dev/v1alpha1
kind: ControllerConfig
spec: {{storeBytesMax: {64 * MIB}}}
"""
DAY_MS = 24 * 3600 * 1000


@contextlib.contextmanager
def database(shop):
    opened = sqlite3.connect(shop.data / "controller.db", timeout=30)
    with opened:
        yield opened
    opened.close()


def stored(shop, function):
    """How many rows and bytes there are of it, and the first row."""
    with database(shop) as opened:
        return opened.execute("SELECT count(*), coalesce(sum(length(body)), 0), coalesce(min(row), 0) FROM journal WHERE "
                              "function = ?", [function]).fetchone()


def messages(shop):
    """How often each message to the second function has been told."""
    return collections.Counter(event["path"] for event in shop.events("shop", "--function", "second")
                               if event["kind"] == "execution-began" and event.get("path", "").startswith("/kept/"))


class Flood:
    """Sends messages with the longest paths until it is told to stop; what they are answered with is the caller's."""

    def __init__(self):
        self.over = False
        self.threads = [threading.Thread(target=self.run) for _ in range(4)]

    def run(self):
        path = "/flood/" + "x" * 30_000
        client = http.client.HTTPConnection(published.ADDRESS, published.OUTSIDE, timeout=20)
        while not self.over:
            try:
                client.request("GET", path)
                client.getresponse().read()
            except (OSError, http.client.HTTPException):
                client.close()

    def __enter__(self):
        for each in self.threads:
            each.start()
        return self

    def __exit__(self, *unused):
        self.over = True
        for each in self.threads:
            each.join()


def test_what_floods_makes_room_for_itself_and_then_waits_and_others_go_on(tmp_path, world):
    shop = prepared(Controller(tmp_path, config=CONFIG))
    benches = [guard.Bench(world) for _ in range(2)]
    first = published.Published(benches[0], None, *flags(shop, "first"))
    second = published.Published(benches[1], None, *flags(shop, "second"),
                                 publish=f"{published.ADDRESS}:{NEXT_PORT}:{published.INSIDE}", ready=False)
    second.wait_until_ready(port=NEXT_PORT)

    def told(*numbers):
        for number in numbers:
            assert ask("GET", f"/kept/{number}", port=NEXT_PORT)[0] == 200
        eventually(lambda: set(messages(shop)) >= {f"/kept/{number}" for number in numbers}, "it is not told", 60)

    told(1, 2, 3)
    with Flood():
        eventually(lambda: stored(shop, "first")[1] > 24 * MIB, "it is not told", 240)

    # As if that had been yesterday: no state is made from it any more, and it may go.
    assert shop.stop() == 0, shop.said()
    with database(shop) as opened:
        opened.execute("UPDATE journal SET earliest = earliest - ?, latest = latest - ?", [DAY_MS, DAY_MS])
    oldest = stored(shop, "first")[2]
    shop.start()
    eventually(lambda: all(ask("GET", "/back", port=port)[0] == 200 for port in (published.OUTSIDE, NEXT_PORT)),
               "they do not come back", 60)
    with Flood():
        eventually(lambda: stored(shop, "first")[2] > oldest, "no room is made", 240)
    told(4, 5)
    assert not [alarm for alarm in shop.alarms() if alarm["kind"] == "store-full"]

    # It fills the store with what is of today.
    with Flood():
        eventually(lambda: [alarm for alarm in shop.alarms() if alarm["kind"] == "store-full"], "nothing is said", 240)
        told(6, 7)
    (alarm,) = [alarm for alarm in shop.alarms() if alarm["kind"] == "store-full"]
    assert alarm["function"] == "first"
    told(8)
    assert messages(shop) == {f"/kept/{number}": 1 for number in range(1, 9)}, "of another function nothing is lost"
    assert shop.scrape("/readyz")[0] == 200
    assert os.path.getsize(shop.data / "controller.db") <= 64 * MIB
    for each in (second, first):
        each.stop()
    assert shop.stop() == 0, shop.said()
    guard.no_sanitizer_report(shop.said())
    for bench in benches:
        bench.close()

