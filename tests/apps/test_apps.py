"""The applications give right results under their reviewed flow graphs, and nothing leaves them without a record."""

import collections
import json
import random
import subprocess

import pytest
import rounds

import clients
import guard
import lab
import lambdas
from fixtures import missing

SEED = random.SystemRandom().getrandbits(32)


@pytest.fixture
def start(world):
    """Starts an application, and says which seed its rounds are drawn from."""
    if why := clients.not_made("python"):
        missing(why)

    def make(name, **options):
        print(f"{name}: seed {SEED}")
        return rounds.Run(world, name, SEED, lambdas.Guarding("enforce", rounds.read_graphs(rounds.GRAPHS)), **options)

    return make


def everything_is_recorded(outcome):
    """What came to the services is what the guards have recorded, request by request."""
    outgoing = [record for record in guard.exchanges(outcome.records) if record["endpoint"] != "runtime-api"]
    recorded = collections.Counter((each["method"], each["host"], each["path"]) for each in outgoing)
    arrived = collections.Counter((each.method, each.host, each.path) for each in outcome.requests)
    assert recorded == arrived, (recorded - arrived, arrived - recorded)
    assert arrived, "the application has sent nothing"
    assert {record["decision"] for record in outgoing} <= {"allow", "error"}


def traces_are_whole(outcome):
    """Every execution of every function is a trace, and the traces have every request in them."""
    made = [json.loads(line) for lines in outcome.traces.values() for line in lines]
    flows = [flow["operation"] for trace in made for flow in trace.get("flows", [])]
    found = collections.Counter((each["method"], each["host"], each["path"]) for each in flows)
    assert found == collections.Counter((each.method, each.host, each.path) for each in outcome.requests)
    assert all(trace["end"] == "EXECUTION_END_COMPLETE" and trace["attributed"] for trace in made)
    return made


def follows_its_graphs(outcome):
    """To the guards, and to `flow test`, which reads the same from the traces."""
    assert {each["decision"] for each in outcome.records if each["kind"] == "execution"} == {"allow"}
    folder = lab.folder()
    for function, lines in outcome.traces.items():
        file = folder / f"{function}.jsonl"
        file.write_text("".join(line + "\n" for line in lines))
        command = [guard.SALLYPORT, "flow", "test", rounds.GRAPHS / f"{function}.graph.yaml", file]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert told.returncode == 0 or not lines, told.stdout + told.stderr


def looks_right(outcome):
    everything_is_recorded(outcome)
    follows_its_graphs(outcome)
    return traces_are_whole(outcome)


def test_mapreduce_counts_what_is_there(start):
    run = start("mapreduce")
    for _ in range(2):
        run.play()
    outcome = run.finish()
    looks_right(outcome)
    assert len(outcome.traces["driver"]) == 2
    assert len(outcome.traces["mapper"]) >= 2 and len(outcome.traces["reducer"]) >= 2


def test_codepipeline_takes_each_of_its_paths(start):
    run = start("codepipeline")
    for path in ("create", "change", "refuse"):
        run.play(path=path)
    outcome = run.finish()
    looks_right(outcome)
    assert len(outcome.traces) == 9 and all(outcome.traces.values()), "each function was called"
    assert len(outcome.traces["create-stack"]) == len(outcome.traces["execute-change-set"]) == 1


def test_a_webhook_is_acted_on_once_however_its_services_fail(start):
    run = start("webhook", failing=0.2)
    while run.application.failures() < 5:
        run.play()
    outcome = run.finish()
    looks_right(outcome)
    statuses = {record.get("status") for record in outcome.records}
    assert statuses & {429, 500, 502, 503}, statuses


def test_photos_have_their_renditions(start):
    run = start("images")
    for _ in range(4):
        run.play()
    looks_right(run.finish())


def test_the_agent_answers_from_its_tools(start):
    run = start("agent")
    for _ in range(10):
        run.play()
    made = looks_right(run.finish())
    assert len({len(trace["flows"]) for trace in made}) > 1, "the model calls tools as it sees fit"
