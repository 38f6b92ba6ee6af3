"""Controllers that share a Redis share the load: each has some of the applications, and all of them answer for all."""

import collections
import shutil
import signal
import socket
import time

import pytest

import guard
from controller import Controller
from test_controller_redis import LEASE_S, Redis, asked, pytestmark, until  # noqa: F401

SHARDS = 16


def shard_of(name):
    """As the controllers have it: FNV-1a."""
    value = 0xcbf29ce484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001b3 % 2**64
    return value % SHARDS


def one_of_each_shard():
    names = {}
    for number in range(1_000):
        names.setdefault(shard_of(f"app-{number}"), f"app-{number}")
    return sorted(names.values())


class Replicas:
    """Controllers with the same keys, as from a secret of a cluster."""

    def __init__(self, folder, redis):
        self.folder, self.redis, self.all = folder, redis, []

    def join(self):
        folder = self.folder / f"replica{len(self.all)}"
        folder.mkdir()
        if self.all:
            shutil.copytree(self.all[0].data, folder / "data")
        self.all.append(Controller(folder, flags=["--store", self.redis.url, "--advertise", "127.0.0.1"]))
        return self.all[-1]

    def running(self):
        return [each for each in self.all if each.process.poll() is None]

    def spread(self, seconds=40):
        """Until all shards are held, by nobody more than its share, and everybody knows by whom."""
        share = -(-SHARDS // len(self.running()))

        def even():
            held = [each.metric("shards") for each in self.running()]
            return sum(held) == SHARDS and max(held) <= share and all(
                each.api("GET", f"/v1/applications/{name}")[0] != 503 for each in self.running() for name in one_of_each_shard())

        return until(even, self.running(), seconds)

    def holder(self, application):
        """Of whom metrics tell something; None while nobody has it."""
        for each in self.running():
            if each.metric("executions", application=application) is not None:
                return each
        return None


@pytest.fixture
def replicas(tmp_path):
    redis = Redis(tmp_path / "redis")
    made = Replicas(tmp_path, redis)
    yield made
    for each in made.running():
        each.process.send_signal(signal.SIGCONT)
        each.kill()
    redis.kill()
    for each in made.all:
        guard.no_sanitizer_report(each.said())


def expect(answer, status):
    assert answer[0] == status, answer
    return answer[2]


def policy(application, function="checkout"):
    return f"apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {{name: {function}}}\nspec: {{}}\n# {application}\n"


def test_whichever_is_asked_answers_for_every_application(replicas):
    three = [replicas.join() for _ in range(3)]
    replicas.spread()
    names = one_of_each_shard()
    for number, name in enumerate(names):
        expect(three[number % 3].api("PUT", f"/v1/applications/{name}"), 201)
    placed = collections.Counter(replicas.holder(name).port for name in names)
    assert len(placed) == 3 and max(placed.values()) <= 6, "each has some"
    for number, name in enumerate(names):
        here, there = three[(number + 1) % 3], three[(number + 2) % 3]
        expect(here.api("PUT", f"/v1/applications/{name}/functions/checkout/policy", policy(name)), 200)
        assert expect(there.api("GET", f"/v1/applications/{name}/functions/checkout/policy"), 200) == policy(name)
        expect(here.api("PUT", f"/v1/applications/{name}/functions/checkout/policy", policy(name),
                        headers={"If-Match": '"7"'}.items()), 412)
        made = expect(here.api("POST", f"/v1/applications/{name}/tokens"), 201)
        expect(there.api("DELETE", f"/v1/tokens/{made['id']}"), 204)
        listed = expect(here.api("GET", f"/v1/applications/{name}/tokens"), 200)
        assert listed["tokens"][0]["revoked"]
    for each in three:
        assert expect(each.api("GET", "/v1/applications"), 200)["applications"] == names
        entries = expect(each.api("GET", "/v1/audit"), 200)["entries"]
        assert sorted(e["about"] for e in entries if e["what"] == "create") == names
        assert [e["time"] for e in entries] == sorted(e["time"] for e in entries)
        expect(each.api("DELETE", "/v1/tokens/none"), 404)
        expect(each.api("GET", "/v1/nothing"), 404)
        expect(each.api("POST", "/v1/guards"), 405)
        expect(each.api("GET", f"/v1/applications/{names[0]}", token="x" * 32), 401)
        assert each.ready()
    # Marked as passed on, a call is of what this one has, and goes no further.
    part = three[0].api("GET", "/v1/applications", headers=[("Sallyport-Passed-On", "1")])
    assert len(expect(part, 200)["applications"]) == len(part[1]["Sallyport-Shards"].split()) == three[0].metric("shards")
    other = next(name for name in names if replicas.holder(name) is not three[0])
    refused = three[0].api("GET", f"/v1/applications/{other}", headers=[("Sallyport-Passed-On", "1")])
    expect(refused, 503)
    assert refused[1]["Retry-After"] == "1"


def test_a_list_is_whole_or_none(replicas):
    """While the shards of one that was killed have nobody, no list passes for all of them."""
    first, second = replicas.join(), replicas.join()
    replicas.spread()
    names = one_of_each_shard()
    for name in names:
        expect(first.api("PUT", f"/v1/applications/{name}"), 201)
    second.kill()
    refused = first.api("GET", "/v1/applications")
    expect(refused, 503)
    assert refused[1]["Retry-After"] == "1"
    last = time.monotonic() + 30
    while (answer := first.api("GET", "/v1/applications"))[0] == 503:
        assert time.monotonic() < last, first.said()
        time.sleep(0.05)
    assert expect(answer, 200)["applications"] == names


def test_a_guard_finds_its_controller_and_the_next_one(replicas, tmp_path, world):
    three = [replicas.join() for _ in range(3)]
    replicas.spread()
    three[0].do("app", "create", "shop")
    three[1].put("policy", guard.policy(guard.endpoint("v4.example.com", name="api"), function="checkout"), function="checkout")
    (tmp_path / "token").write_text(three[2].do("token", "create", "-a", "shop", "-f", "checkout"))
    holder = replicas.holder("shop")
    wrong = next(each for each in three if each is not holder)
    bench = guard.Bench(world)
    flags = ["--controller", wrong.url, "--controller-ca", wrong.data / "ca.pem", "--application", "shop", "--function",
             "checkout", "--join-token-file", tmp_path / "token"]

    def guards(controller):
        """None while not every application has a controller."""
        status, _, body = controller.api("GET", "/v1/guards")
        return [g for g in body.get("guards", []) if g["state"] == "connected"] if status == 200 else []

    def told(count):
        return [e["path"] for e in wrong.events() if e["kind"] == "exchange"] == [f"/echo/{n + 1}" for n in range(count)]

    with bench.session(flags=flags) as session:
        assert session.get("v4.example.com", "/echo/1")["status"] == 200
        (before,) = guards(wrong)
        assert holder.metric("links") == 1 and wrong.metric("links") == 0, "it was sent to where its application is"
        holder.kill()
        assert session.get("v4.example.com", "/echo/2")["status"] == 200, "the policy that is known stays"
        took = until(lambda: replicas.holder("shop"), replicas.running())
        until(lambda: guards(wrong), replicas.running())
        (after,) = guards(wrong)
        assert after["id"] == before["id"]
        assert session.get("v4.example.com", "/echo/3")["status"] == 200
        until(lambda: told(3), replicas.running())
        replicas.join()
        replicas.spread()
        until(lambda: guards(wrong), replicas.running())
        assert session.get("v4.example.com", "/echo/4")["status"] == 200
        until(lambda: told(4), replicas.running())
        assert guards(wrong)[0]["id"] == before["id"]
    assert told(4), "nothing is lost, and nothing twice"
    assert took < LEASE_S + 4, took
    bench.close()
    for each in replicas.running():
        assert each.stop() == 0, each.said()


def test_who_may_write_to_redis_gets_no_guard_and_no_token(replicas):
    """Nor keeps anybody from what nobody has: what is announced there by others is not believed."""
    with socket.create_server(("127.0.0.1", 0)) as evil:
        at = f"127.0.0.1:{evil.getsockname()[1]}"
        shards = " ".join(map(str, range(SHARDS)))
        plain = "".join(f"{len(part)}:{part}" for part in (f"wss://{at}", f"https://{at}", shards))
        for number, announcement in enumerate((plain, "", "x" * 100)):
            asked(replicas.redis.port, "ZADD", "sallyport:{test}:live", "99999999999999", f"evil-{number}")
            asked(replicas.redis.port, "HSET", "sallyport:{test}:replicas", f"evil-{number}", announcement)
        first, second = replicas.join(), replicas.join()
        replicas.spread()
        names = one_of_each_shard()
        for name in names:
            expect(first.api("PUT", f"/v1/applications/{name}"), 201)
        assert expect(second.api("GET", "/v1/applications"), 200)["applications"] == names
        assert "by somebody who has not the key of the others; it is ignored" in first.said()
        evil.settimeout(0)
        with pytest.raises(BlockingIOError):
            evil.accept()


def test_one_that_was_paused_beyond_its_lease_says_nothing_that_counts(replicas):
    first, second = replicas.join(), replicas.join()
    replicas.spread()
    names = one_of_each_shard()
    for name in names:
        expect(first.api("PUT", f"/v1/applications/{name}"), 201)
    lost = [name for name in names if replicas.holder(name) is first]
    first.process.send_signal(signal.SIGSTOP)
    until(lambda: second.metric("shards") == SHARDS, [second])
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(timeout=20) == 125
    assert "another controller has taken over" in first.said()
    for name in lost:
        expect(second.api("PUT", f"/v1/applications/{name}/functions/checkout/policy", policy(name)), 200)
        history = expect(second.api("GET", f"/v1/applications/{name}/functions/checkout/policy/versions"), 200)
        assert [each["version"] for each in history["versions"]] == [1]


def test_one_with_other_keys_or_another_number_of_shards_or_no_place_is_refused(replicas, tmp_path):
    replicas.join()
    for flags, told in ((["--store", replicas.redis.url], "copy that file"),
                        (["--store", replicas.redis.url + "&shards=8"], "leave ?shards= out"),
                        (["--store", replicas.redis.url, "--advertise", "no host"], "say a host (--advertise HOST)")):
        folder = tmp_path / told.split()[0].strip("-")
        folder.mkdir()
        if "copy" not in told:
            shutil.copytree(replicas.all[0].data, folder / "data")
        refused = Controller(folder, flags=flags, wait=False)
        assert refused.process.wait(timeout=20) == 2, refused.said()
        assert told in refused.said()
    assert replicas.all[0].metric("shards") == SHARDS
