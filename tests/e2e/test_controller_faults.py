"""A controller and its guards while things fail: a network that swallows everything, a disk that is full or slow, guards
that tell what is not so. What becomes of a killed controller, controller/server/killed_test.cc shows."""

import collections
import ctypes
import os
import select
import socket
import threading
import time

import pytest

import guard
import lab
import published
from controller import Controller, eventually
from members import NEXT_PORT, application_graph, end, filled, flags, guards, settings
from members import serve  # noqa: F401
from published import ask

# Longer than each of the timeouts that notice it (three beats); a minute where there is time for it.
CUT_S = float(os.environ.get("SALLYPORT_CUT_SECONDS", "6"))

GRAPH = application_graph("{name: first, entry: true}", "{name: second, entry: true}")
SETTINGS = settings(functions=[{"name": "first", "onControllerLoss": "deny"},
                               {"name": "second", "onControllerLoss": "allow-and-record"}])


class Network:
    """Between guards and their controller: passes on, or swallows everything as a cut cable does, without a word."""

    def __init__(self, target):
        self.target, self.cut, self.over = target, False, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.others = {}
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over:
            if self.cut:
                time.sleep(0.01)
                continue
            for each in select.select([self.listener, *self.others], [], [], 0.02)[0]:
                self.accept() if each is self.listener else self.forward(each)

    def accept(self):
        near = self.listener.accept()[0]
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self.others |= {near: far, far: near}

    def forward(self, source):
        if source not in self.others:
            return
        try:
            data = source.recv(65536)
            self.others[source].sendall(data)
        except OSError:
            data = b""
        if not data:
            target = self.others.pop(source)
            self.others.pop(target)
            source.close()
            target.close()

    def end(self):
        self.over = True
        self.thread.join()
        for each in (self.listener, *self.others):
            each.close()


def prepared(made):
    filled(made)
    made.put("application-graph", GRAPH)
    made.put("settings", SETTINGS)
    return made


@pytest.fixture
def shop(tmp_path):
    made = prepared(Controller(tmp_path))
    yield made
    end(made)


@pytest.fixture
def network(shop):
    made = Network(shop.port)
    shop.url = f"wss://127.0.0.1:{made.port}"
    yield made
    made.end()


def test_a_network_that_is_cut_for_longer_than_every_timeout(network, shop, serve):
    first, second = serve("first"), serve("second")
    paths = collections.Counter()

    def both():
        paths["/message"] += 1
        asked = ask("GET", "/message")
        return asked[0], asked[1].get("sallyport-denied"), ask("GET", "/message", port=NEXT_PORT)[0]

    assert both() == (200, None, 200)
    network.cut = True
    began = time.monotonic()
    while time.monotonic() < began + CUT_S:
        assert both() == (503, "controller-lost", 200), "each as its onControllerLoss says"
        time.sleep(0.2)
    assert {each["state"] for each in guards(shop)} == {"gone"}
    network.cut = False
    healed = time.monotonic()
    eventually(lambda: {each["state"] for each in guards(shop)} == {"connected"}, "they did not come back")
    assert time.monotonic() < healed + 4, "a connection that was begun in the dark is given up, and the next is good"
    assert both() == (200, None, 200)
    assert {alarm["function"] for alarm in shop.alarms() if alarm["kind"] == "lost-instance"} == {"first", "second"}
    unasked = [record for record in second.records() if "without the controller's word" in str(record)]
    assert unasked, "what was let through is recorded as such"
    first.stop()
    second.stop()
    began = [e for e in shop.events() if e["kind"] == "execution-began" and e.get("path") == "/message"]
    told = collections.Counter(event["function"] for event in began)
    assert told["second"] == paths["/message"], "all that was let through has been told, once"
    assert told["first"] == 2


LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path):
    """A controller whose data has a file system of its own."""
    data = tmp_path / "data"
    data.mkdir()
    assert LIBC.mount(b"tmpfs", str(data).encode(), b"tmpfs", 0, b"size=16m") == 0, os.strerror(ctypes.get_errno())
    made = prepared(Controller(tmp_path))
    yield made
    end(made)
    LIBC.umount2(str(data).encode(), 2)


def fill(path):
    with open(path, "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass


def messages_told(shop, prefix):
    began = [e for e in shop.events() if e["kind"] == "execution-began" and e.get("path", "").startswith(prefix)]
    return collections.Counter(event["path"] for event in began)


def test_a_full_disk_loses_nothing_and_is_said(small_disk, world):
    shop = small_disk
    benches = [guard.Bench(world) for _ in range(2)]
    first = published.Published(benches[0], None, *flags(shop, "first"))
    assert ask("GET", "/m/before")[0] == 200
    eventually(lambda: messages_told(shop, "/m/"), "it is not told")
    fill(shop.data / "filler")
    # What need not be stored before it is answered goes on; the guard keeps what it has to tell.
    for i in range(5):
        assert ask("GET", f"/m/full-{i}")[0] == 200
    eventually(lambda: shop.scrape("/readyz")[0] == 503, "it is not said to who watches")
    assert shop.metric("store_up") == 0 and "the disk is full" in shop.said()
    # Whose id cannot be stored is not registered.
    refused = benches[1].run(["true"], flags=flags(shop, "second"))
    assert refused.code == 125 and "can't be stored" in refused.err, refused.err
    assert messages_told(shop, "/m/") == {"/m/before": 1}
    (shop.data / "filler").unlink()
    eventually(lambda: len(messages_told(shop, "/m/")) == 6, "it was lost")
    eventually(lambda: shop.scrape("/readyz")[0] == 200, "it does not work again")
    assert "the store works again" in shop.said()
    assert ask("GET", "/m/after")[0] == 200
    first.stop()
    assert set(messages_told(shop, "/m/").values()) == {1} and len(messages_told(shop, "/m/")) == 7
    for bench in benches:
        bench.close()


def test_a_slow_disk_delays_nobody_and_loses_nothing(tmp_path, world):
    env = {"LD_PRELOAD": str(lab.BIN / "slow_disk.so"), "SLOW_DISK": "100"}
    quick = prepared(Controller(tmp_path))
    assert quick.stop() == 0
    slow = Controller(tmp_path, env=env)
    bench = guard.Bench(world)
    first = published.Published(bench, None, *flags(slow, "first"))
    began = time.monotonic()
    for i in range(10):
        assert ask("GET", f"/m/{i}")[0] == 200
    assert time.monotonic() - began < 2, "a tenth of a second for each write would be far more"
    began = time.monotonic()
    slow.do("secret", "put", "any", "-a", "shop", input="value")
    assert time.monotonic() - began > 0.2, "the disk is slow indeed"
    eventually(lambda: len(messages_told(slow, "/m/")) == 10, "it was lost")
    first.stop()
    assert set(messages_told(slow, "/m/").values()) == {1}
    assert slow.stop() == 0, slow.said()
    bench.close()
