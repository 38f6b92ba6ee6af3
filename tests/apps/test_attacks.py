"""Functions in an attacker's hand do, for real, what their policies' endpoints let them. With a flow graph nothing of it
leaves, and the application goes on; without one all of it arrives."""

import random
import subprocess

import attempts
import pytest
import rounds

import clients
import guard
import lab
import lambdas
from fixtures import missing

SEED = random.SystemRandom().getrandbits(32)
CHEAP = ("images", "webhook", "agent")  # of one function each


@pytest.fixture
def start(world):
    if why := clients.not_made("python"):
        missing(why)

    def make(application, graphs):
        print(f"{application}: seed {SEED}")
        attack = attempts.ATTACKS[application]
        guarding = lambdas.Guarding("enforce", graphs, attack.hijacked)
        return rounds.Run(world, application, SEED, guarding, **attack.options), attack

    return make


@pytest.mark.parametrize("application", attempts.ATTACKS)
def test_under_a_flow_graph_nothing_of_an_attack_leaves_and_the_application_goes_on(start, application):
    run, attack = start(application, rounds.read_graphs(rounds.GRAPHS))
    for _ in range(3 if application in CHEAP else 1):
        run.play(**attack.round)  # its result is right
    assert not attempts.complaints(attack, run.finish())


@pytest.mark.parametrize("application", CHEAP)
def test_without_one_the_attack_arrives_and_its_traces_do_not_pass(start, application):
    run, attack = start(application, {})
    try:
        run.play(**attack.round)
    except AssertionError as error:
        print(f"as the attack has changed the result: {error}")
    outcome = run.finish()
    assert {each["decision"] for each in guard.exchanges(outcome.records)} == {"allow"}
    for attempt in attack.attempts:
        assert any(attempt.came(each) for each in outcome.requests), attempt
    for function in attack.hijacked:
        file = lab.folder() / f"{function}.jsonl"
        file.write_text("".join(line + "\n" for line in outcome.traces[function]))
        command = [guard.SALLYPORT, "flow", "test", rounds.GRAPHS / f"{function}.graph.yaml", file]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert told.returncode == 1 and " 0 (0.0 %) allowed" in told.stdout, told.stdout + told.stderr
