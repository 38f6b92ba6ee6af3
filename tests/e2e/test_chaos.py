"""Mixed traffic through two gates that stall, cut, reset, slice, delay and corrupt: one between the function and the
guard, one between the guard and the origin. Nothing wrong is taken for right, nothing is executed twice, nothing
stays.

About half a minute; `load/soak.py --minutes 30` is the long one.
"""

import collections
import json
import os
import pathlib
import re
import select
import subprocess
import time

import pytest

import guard
import lab

HOST = "chaos.example.com"
SECRET = "live_chaos_secret"
PLACEHOLDER = "placeholder-of-the-chaos-run"
SETTLED_SECONDS = 105  # a connection that a gate keeps open is idle for 75 s, and one may be read away for 30 s
SAMPLE_SECONDS = 60
SANITIZED = lab.is_sanitized(guard.SALLYPORT)


def policy(function):
    """With a name that changes: each new policy empties the pool of upstream connections."""
    rules = {"methods": ("any",), "path": "/chaos"}
    return guard.policy(
        guard.endpoint(HOST, name="secure", credential="chaos", **rules),
        guard.endpoint(HOST, name="plain", scheme="http", **rules),
        guard.endpoint(HOST, name="opaque", protocol="tcp", ports=[7000], rules=None),
        function=function,
        credentials=[
            {
                "name": "chaos",
                "secret": {"env": "CHAOS_SECRET"},
                "inject": {"header": "Authorization", "format": "Bearer {}"},
                "placeholder": {"value": PLACEHOLDER},
            }
        ],
    )


class Processes:
    """The guarded clients and the origin behind its gate."""

    def __init__(self, bench, world, seed):
        self.bench = bench
        self.origin = self._python(
            bench.environment,
            "chaos_origin.py",
            [seed, lab.CHAOS_V4, lab.ORIGIN_V4, *world.good, SECRET],
            stderr=subprocess.PIPE,
        )
        assert self.origin.stdout.readline() == "ready\n", self.origin.communicate(timeout=10)
        self.errors = open(bench.folder / "stderr.txt", "w+")
        self.clients = bench.start(
            [guard.PYTHON, str(lab.SUPPORT / "chaos_client.py"), seed, HOST, PLACEHOLDER],
            ["--quiet", "--admin", bench.admin],
            policy("chaos-0"),
            {"CHAOS_SECRET": SECRET},
            stdin=subprocess.PIPE,
            stderr=self.errors,
        )
        self.policies = 0

    def _python(self, environment, script, arguments, **options):
        return subprocess.Popen(
            [guard.PYTHON, str(lab.SUPPORT / script), *map(str, arguments)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def traffic(self, seconds, workers):
        self.clients.stdin.write(f"{seconds} {workers}\n")
        self.clients.stdin.flush()
        ready = select.select([self.clients.stdout], [], [], seconds + 60)[0]
        assert ready, f"no end: {self.stderr()}"
        line = self.clients.stdout.readline()
        assert line, self.stderr()
        return json.loads(line)

    def stderr(self):
        return pathlib.Path(self.errors.name).read_text()

    def guard_pid(self):
        return self.clients.pid

    def metric(self, name):
        return float(re.search(rf"^{name}{{[^}}]*}} (\S+)$", self.bench.metrics()[1], re.MULTILINE).group(1))

    def settled(self, timeout):
        """Descriptors and tasks of the guard, once no connection is open and the pool is empty."""
        self.policies += 1
        self.bench.write_policy(policy(f"chaos-{self.policies}"))
        end = time.monotonic() + timeout
        last = None
        while True:
            descriptors = self.descriptors()  # before asking for metrics, which takes one
            found = (self.metric("sallyport_connections_open"), descriptors, self.metric("sallyport_tasks"))
            taken_up = f'result="accepted"}} {self.policies + 1}\n' in self.bench.metrics()[1]
            if taken_up and found[0] == 0 and found == last:
                return {"descriptors": descriptors, "tasks": found[2], "rss_kib": self.resident_kib()}
            assert time.monotonic() < end, f"connections that do not end: {found}"
            last = found
            time.sleep(0.5)

    def sample(self):
        """Under way: the clients have just stopped, and what they and the gates have left behind is not settled."""
        open_now, tasks = self.metric("sallyport_connections_open"), self.metric("sallyport_tasks")
        return {
            "rss_kib": self.resident_kib(),
            "descriptors": len(self.descriptors()),
            "tasks": int(tasks),
            "connections": int(open_now),
        }

    def descriptors(self):
        found = []
        for number in os.listdir(f"/proc/{self.guard_pid()}/fd"):
            try:
                found.append(re.sub(r"\d+", "", os.readlink(f"/proc/{self.guard_pid()}/fd/{number}")))
            except FileNotFoundError:
                pass  # closed meanwhile
        return sorted(found)

    def resident_kib(self):
        status = pathlib.Path(f"/proc/{self.guard_pid()}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def end(self):
        """What the origin saw."""
        self.clients.stdin.close()
        code = self.clients.wait(60)
        guard.no_sanitizer_report(self.stderr())
        out, err = self.origin.communicate(timeout=60)
        assert code == 0 and not err, (code, err, self.stderr())
        return json.loads(out)

    def kill(self):
        for process in (self.clients, self.origin):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def run(request, world):
    """The whole run: what the clients saw, what the origin saw, and the guard before and after."""
    seconds = request.config.getoption("--chaos-seconds")
    seed = request.config.getoption("--chaos-seed")
    workers = request.config.getoption("--chaos-workers")
    bench = guard.Bench(world)
    processes = Processes(bench, world, seed)
    try:
        warm_up = max(seconds / 5, 4)
        seen = [processes.traffic(warm_up, workers)]
        before = processes.settled(SETTLED_SECONDS)
        left, samples = seconds - warm_up, []
        while left > 0:
            seen.append(processes.traffic(min(left, SAMPLE_SECONDS), workers))
            samples.append(processes.sample())
            left -= SAMPLE_SECONDS
        after = processes.settled(SETTLED_SECONDS)
        made = {"clients": seen, "origin": processes.end(), "before": before, "after": after, "samples": samples}
        made["records"] = bench.records()
    finally:
        processes.kill()
        bench.close()
    request.config.get_terminal_writer().line("\n" + "\n".join(figures(made)))
    yield made


def added(counters):
    total = collections.Counter()
    for one in counters:
        total.update(one)
    return dict(sorted(total.items()))


def figures(run):
    """What a person would like to know of it, one line each."""
    clients, origin = run["clients"], run["origin"]
    sides = {"function": clients[-1]["gates"], "upstream": origin["gates"]}
    yield f"exchanges: {sum(seen['exchanges'] for seen in clients)}, {added(seen['outcomes'] for seen in clients)}"
    yield f"refused with: {added(seen['refusals'] for seen in clients)}"
    yield f"kinds: {added(seen['kinds'] for seen in clients)}"
    yield f"bytes of right bodies: {sum(seen['bytes'] for seen in clients)}"
    for side, gates in sides.items():
        connections = {scheme: gate["connections"] for scheme, gate in gates.items()}
        yield f"{side} gate: connections {connections}, faults {added(gate['faults'] for gate in gates.values())}"
    yield (
        f"origin: {origin['requests']} requests, {origin['whole']} whole, {origin['connections']} connections, "
        f"{origin['http2_connections']} of HTTP/2 with {origin['http2_faults']}, "
        f"repeated {added([collections.Counter(m for _, m in origin['repeated'].values())])}"
    )
    for when in ("before", "after"):
        state = run[when]
        yield f"{when}: {len(state['descriptors'])} descriptors, {state['tasks']:.0f} tasks, {state['rss_kib']} KiB"


    for number, sample in enumerate(run["samples"], 1):
        yield f"minute {number}: " + ", ".join(f"{what} {count}" for what, count in sample.items())


def blamed(run, kind, schemes=("http", "tcp")):
    gates = [side["gates"] for side in (run["clients"][-1], run["origin"])]
    return {name for both in gates for scheme in schemes for name in both[scheme][kind]}


def excused(run):
    """The exchanges that may be wrong: no TLS, and a gate corrupted their connection; or no TLS, no length, and a gate
    cut it off, which looks like its end."""
    lenient = {name for seen in run["clients"] for name in seen["lenient"]}
    return blamed(run, "corrupted") | (blamed(run, "cut") & lenient)


def test_no_wrong_byte_is_taken_for_right(run):
    wrong = [one for seen in run["clients"] for one in seen["wrong"]] + run["origin"]["wrong"]
    allowed = excused(run)
    assert [one for one in wrong if one[0] not in allowed] == []


def test_over_tls_nothing_is_wrong_whatever_the_gates_did(run):
    assert [one for seen in run["clients"] for one in seen["wrong"] if one[1] in ("https", "h2")] == []


def test_what_arrives_without_a_name_was_corrupted(run):
    assert run["origin"]["nameless"] <= len(blamed(run, "corrupted"))


def test_nothing_is_executed_twice_that_must_not_be(run):
    allowed = blamed(run, "corrupted")
    for name, (count, method) in run["origin"]["repeated"].items():
        if name not in allowed:
            assert method in ("GET", "HEAD", "PUT") and count == 2, (name, count, method)


def test_nothing_that_is_denied_arrives(run):
    allowed = blamed(run, "corrupted")
    assert [one for one in run["origin"]["denied"] if one.split(" ")[0] not in allowed] == []


def test_no_descriptor_and_no_coroutine_is_left(run):
    assert run["after"]["descriptors"] == run["before"]["descriptors"]
    assert run["after"]["tasks"] <= run["before"]["tasks"], (run["before"], run["after"])


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's allocator keeps what is freed: its memory says nothing")
def test_memory_does_not_grow(run):
    assert run["after"]["rss_kib"] - run["before"]["rss_kib"] < 4096, (run["before"], run["after"])


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's allocator keeps what is freed: its memory says nothing")
def test_memory_is_flat_over_the_minutes(run):
    """Only a long run has minutes to compare: the last third of them with the first."""
    resident = [sample["rss_kib"] for sample in run["samples"]]
    if len(resident) >= 6:
        third = len(resident) // 3
        assert max(resident[-third:]) - max(resident[:third]) < 8192, resident


def test_every_kind_of_fault_and_of_traffic_was_there(run):
    """Or the rest would show little."""
    last = run["clients"][-1]
    kinds = {kind for seen in run["clients"] for kind in seen["kinds"]}
    assert len(kinds) == 27, kinds  # 9 of HTTP/1 over each scheme, 8 of HTTP/2, and what nobody reads
    assert run["origin"]["http2_connections"] > 0
    assert set(run["origin"]["http2_faults"]) >= {"goaway", "stream none", "stream reset", "stream stall"}
    for side in (last, run["origin"]):
        faults = {}
        for gate in side["gates"].values():
            for fault, count in gate["faults"].items():
                faults[fault] = faults.get(fault, 0) + count
        assert set(faults) == {"slice", "delay", "stall", "cut", "half-cut", "reset", "corrupt"}, faults
    outcomes = {key: sum(seen["outcomes"].get(key, 0) for seen in run["clients"]) for key in ("right", "denied")}
    total = sum(seen["exchanges"] for seen in run["clients"])
    assert outcomes["right"] > total / 3 and outcomes["denied"] > total / 100, outcomes


def test_every_request_has_its_record(run):
    """What arrived at the origin, and is not of a connection that a gate corrupted."""
    recorded = {r["path"].rpartition("/")[2] for r in guard.exchanges(run["records"]) if "path" in r}
    assert set(run["origin"]["arrived"]) - recorded - blamed(run, "corrupted") == set()
