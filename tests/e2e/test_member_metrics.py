"""What the metrics of a guard say of its link to a controller, while that is there, gone, and back."""

import re
import time

import pytest

import guard
import published
from controller import eventually
from members import FIRST_THEN_SECOND, HOST, flags, policy, settings
from members import shop  # noqa: F401
from published import Published, ask


@pytest.fixture
def function(shop, bench):  # noqa: F811
    made = []

    def make(**of_function):
        shop.put("application-graph", FIRST_THEN_SECOND)
        shop.put("settings", settings(functions=[{"name": "first", "entryChecks": "always"} | of_function],
                                      limits=[{"name": "all", "functions": ["first"], "rate": "1000/s", "burst": 100}]))
        made.append(Published(bench, None, *flags(shop, "first"), "--admin", bench.admin))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.mark.parametrize("on_loss, status, outcome", [("deny", 503, "unanswered-denied"),
                                                      ("allow-and-record", 200, "unanswered-allowed")])
def test_they_tell_of_a_controller_that_is_there_gone_and_back(shop, bench, function, on_loss, status, outcome):  # noqa: F811
    function(onControllerLoss=on_loss)
    began = time.time()
    assert published.run(["/echo"] * 3)["statuses"] == [200] * 3
    eventually(lambda: bench.sample("entry_asks_total", outcome="allowed") == 1, "the ask is not counted")
    assert bench.sample("entry_ask_duration_seconds_count") == 1
    assert 0 < bench.sample("entry_ask_duration_seconds_sum") < 2
    assert bench.sample("link_connected") == 1 and bench.sample("link_reconnects_total") == 0
    assert bench.sample("update_generation", which="in-force") == bench.sample("update_generation", which="offered") > 0
    assert bench.sample("leases_total", outcome="granted") >= 1 and bench.sample("leased_requests_total") >= 3
    assert 23 * 3600 < bench.sample("certificate_end_timestamp_seconds") - began < 25 * 3600
    eventually(lambda: bench.sample("spool_events") == bench.sample("spool_bytes") == 0, "something is not taken")
    taken = bench.sample("events_acknowledged_total")
    assert taken >= 5, "an execution's begin and end, and three exchanges"

    shop.kill()
    eventually(lambda: bench.sample("link_connected") == 0, "it is still connected")
    assert ask("GET", "/message")[0] == status
    eventually(lambda: bench.sample("entry_asks_total", outcome=outcome) == 1, "the loss is not counted")
    eventually(lambda: bench.sample("spool_events") > 0 and bench.sample("spool_bytes") > 0, "nothing waits")
    assert bench.sample("events_acknowledged_total") == taken

    shop.start()
    eventually(lambda: bench.sample("link_connected") == 1, "it did not come back")
    assert bench.sample("link_reconnects_total") == 1
    eventually(lambda: bench.sample("spool_events") == 0, "what waited is not taken")
    assert bench.sample("events_acknowledged_total") > taken
    assert bench.sample("events_dropped_total", of="denial") == bench.sample("events_dropped_total", of="other") == 0


def test_an_update_that_can_not_be_used_is_counted_and_the_one_before_stays(shop, bench, function):  # noqa: F811
    function()
    before = bench.sample("update_generation", which="in-force")
    lacking = guard.endpoint(HOST, name="lacking", path="/lacking", caBundle={"file": "/not/on/the/guards/machine.pem"})
    shop.put("policy", policy("first", lacking), function="first")
    eventually(lambda: bench.sample("updates_refused_total") == 1, "it is not counted")
    assert bench.sample("update_generation", which="in-force") == before < bench.sample("update_generation", which="offered")
    shop.do("policy", "rollback", "-a", "shop", "-f", "first")
    eventually(lambda: bench.sample("update_generation", which="in-force") > before, "it does not come into force")


def test_a_controller_in_the_same_process_is_told_of_alike(bench):
    running = bench.start(["sleep", "60"], policy=guard.policy(guard.endpoint("v4.example.com")),
                          flags=["--data", bench.folder / "data", "--admin", bench.admin])
    try:
        eventually(lambda: bench.admin.exists() and bench.sample("link_connected") == 1, "it is not connected")
        eventually(lambda: bench.sample("events_acknowledged_total") >= 1, "the execution's begin is not taken")
        assert bench.sample("certificate_end_timestamp_seconds") is None, "run has a CA of its own"
    finally:
        running.terminate()
        _, err = running.communicate(timeout=20)
    guard.no_sanitizer_report(err)


def test_without_a_controller_there_is_nothing_of_it(bench):
    running = bench.start(["sleep", "60"], policy=guard.policy(guard.endpoint("v4.example.com")), flags=["--admin", bench.admin])
    try:
        eventually(lambda: bench.admin.exists() and bench.metrics("/readyz")[0] == 200, "it is not ready")
        assert bench.sample("tasks") is not None
        assert not re.search("sallyport_(link|spool|entry|lease|update|certificate_end)", bench.metrics()[1])
    finally:
        running.terminate()
        running.communicate(timeout=20)
