"""The applications as members of a real controller: their graph is learned, put in force, and holds; what an attacker does
who has no foothold in any function is refused and told, and users by the hundred raise no alarm."""

import collections
import concurrent.futures
import json
import random

import pytest
import rounds
from membership import Membership

import clients
import guard
import lambdas
from controller import Controller, eventually
from fixtures import missing

SEED = random.SystemRandom().getrandbits(32)
LEARNED_ROUNDS, NEW_ROUNDS = 24, 6
# Paths that all have to be learned; other applications take theirs as they come.
PATHS = {"codepipeline": [{"path": path} for path in ("create", "change", "refuse")]}


@pytest.fixture
def controller(world, tmp_path):
    if why := clients.not_made("python"):
        missing(why)
    made = Controller(tmp_path)
    yield made
    assert made.stop() == 0, made.said()
    guard.no_sanitizer_report(made.said())


@pytest.fixture
def start(world, controller):
    """An application whose functions are members, under its reviewed application graph."""

    def make(name, graphs=None, **options):
        print(f"{name}: seed {SEED}")
        member = Membership(controller, name)
        member.put_graph((rounds.GRAPHS / f"{name}.application.yaml").read_text())
        run = rounds.Run(world, name, SEED, lambdas.Guarding("enforce", graphs or {}, member=member), **options)
        return run, member

    return make


@pytest.mark.parametrize("name", ["mapreduce", "codepipeline", "webhook"])
def test_a_graph_that_is_learned_holds_for_the_runs_that_follow(world, controller, name):
    print(f"{name}: seed {SEED}")
    member = Membership(controller, name)
    ways = PATHS.get(name, [{}])
    learned = rounds.Run(world, name, SEED, lambdas.Guarding("learn", member=member))
    for number in range(LEARNED_ROUNDS):
        learned.play(**ways[number % len(ways)])
    traced = learned.finish().traces
    count = sum(map(len, traced.values()))
    traces = eventually(lambda: (text := controller.do("app", "traces", "-a", name)).count("\n") >= count and text,
                        "the controller does not have the traces")
    graph = controller.do("flow", "learn", "--global", "-a", name, "-", input=traces)
    print(graph)
    assert ": good: " in controller.do("flow", "check", "-", input=graph)
    member.put_graph(graph)
    following = rounds.Run(world, name, SEED + 1, lambdas.Guarding("enforce", member=member))
    for number in range(NEW_ROUNDS):
        following.play(**ways[number % len(ways)])
    following.finish()
    assert not member.alarms()
    # What it was learned from has what a person has found in the code.
    if name == "mapreduce":
        reviewed = (rounds.GRAPHS / f"{name}.application.yaml").read_text()
        pairs = lambda text: {(edge["function"], function["name"]) for function in json.loads(
            controller.do("flow", "show", "-", "-o", "json", input=text))["spec"]["functions"]
            for edge in function.get("after", [])}
        assert pairs(graph) == pairs(reviewed)


def count_of(member, kind, function):
    return sum(int(alarm["count"]) for alarm in member.alarms() if (alarm["kind"], alarm["function"]) == (kind, function))


def kinds(member):
    return {alarm["kind"] for alarm in member.alarms()}


def attack(run, member, name, payload, kind):
    """Calls a function without its predecessor: it is refused, told as an alarm of this kind, and the function sees nothing
    of it."""
    function = run.cloud.functions[name]
    before, told = len(function.requests()), count_of(member, kind, name)
    invocation = function.invoke(json.dumps(payload).encode())
    eventually(lambda: count_of(member, kind, name) > told, lambda: f"no alarm {kind}: {member.alarms()}")
    assert not invocation.done.is_set() and len(function.requests()) == before
    function.give_up(invocation)


def test_a_middle_function_that_is_called_without_its_predecessor_sees_nothing_of_it(start):
    run, member = start("mapreduce", rounds.read_graphs(rounds.GRAPHS))
    job = {"query": "wordcount", "source_bucket": "crawl-data", "job_bucket": "mapreduce-jobs", "job": "job-0badc0ffee00",
           "mapper": 0, "keys": ["wordcount/00000000/part-00000"]}
    attack(run, member, "mapper", job, "no-predecessor")
    attack(run, member, "reducer", {"bucket": "mapreduce-jobs", "job": "job-0badc0ffee00", "keys": [], "step": 1,
                                    "reducer": 0, "last": True}, "no-predecessor")
    run.play()
    # Flows have led to mappers now, each to the one that it may.
    attack(run, member, "mapper", job, "too-many-executions")
    run.play()
    run.finish()
    assert kinds(member) == {"no-predecessor", "too-many-executions", "denied"}, member.alarms()
    assert {alarm["about"] for alarm in member.alarms() if alarm["kind"] == "denied"} == {"entry-refused at runtime-api"}


def test_who_comes_before_the_legitimate_message_takes_its_place_and_is_told(start):
    """Causality is inferred from order: the message that comes second finds its flow used, and that is the alarm."""
    run, member = start("mapreduce")
    mapper = run.cloud.functions["mapper"]
    run.cloud.functions["driver"].specification.environment["MAPPER_BYTES"] = "1000000"  # one mapper for each job
    run.play()
    call = mapper.call

    def race(payload):
        first = mapper.invoke(payload)  # the attacker's, while the driver's request is under way
        assert first.done.wait(30), "it has taken the place"
        second = mapper.invoke(payload)
        eventually(lambda: count_of(member, "too-many-executions", "mapper") == 1, "no alarm")
        assert not second.done.is_set()
        mapper.give_up(second)
        return first.result, first.failed

    mapper.call = race
    run.play()
    mapper.call = call
    run.play()
    run.finish()
    assert kinds(member) == {"too-many-executions", "denied"}, member.alarms()


def test_hundreds_of_users_at_once_raise_no_alarm(start):
    run, member = start("webhook")
    run.play(kind="ping")  # it listens
    receiver = run.application

    def user(number):
        event = {"id": f"evt_{number:016x}", "type": "order.placed",
                 "order": {"id": f"o{number:010x}", "email": f"user{number}@example.com", "amount": 1999}}
        return receiver._deliver(event)

    with concurrent.futures.ThreadPoolExecutor(100) as users:
        answers = collections.Counter(status for status, _ in users.map(user, range(200)))
    assert answers == {200: 200}
    run.finish()
    assert not member.alarms()
