#!/usr/bin/env python3
"""Runs rounds of an application with random input, each function under a guard, and collects what the guards wrote.

    SALLYPORT_BIN=build/release/bin /usr/bin/python3 tests/apps/rounds.py mapreduce --rounds 1000 --output traces

writes traces/mapreduce/FUNCTION.jsonl, one trace a line in the order in which the executions began, and rounds.txt, which
says when each round began. It takes place in a lab of its own: nothing leaves the machine.
"""

import argparse
import collections
import dataclasses
import datetime
import functools
import importlib
import json
import os
import pathlib
import random as random_module
import sys
import time

_HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(_HERE), str(_HERE.parent / "support")]

APPLICATIONS = {
    "mapreduce": ("mapreduce.application", "MapReduce"),
    "codepipeline": ("codepipeline.application", "CodePipeline"),
    "webhook": ("webhook.application", "Webhook"),
    "images": ("images.application", "Images"),
    "agent": ("agent.application", "Agent"),
}


GRAPHS = _HERE / "graphs"  # those that were reviewed


def read_graphs(folder):
    """By function, the text of its graph."""
    return {path.name.removesuffix(".graph.yaml"): path.read_text() for path in folder.glob("*.graph.yaml")}


def load(name):
    module, kind = APPLICATIONS[name]
    return getattr(importlib.import_module(module), kind)


@dataclasses.dataclass
class Outcome:
    traces: dict  # function to its lines
    requests: list  # what the cloud saw of the functions
    records: list  # of all guards
    seconds: float
    told: list  # of each round, when it began and a description


@functools.cache
def the_cloud(world):
    """One for the process: it has its addresses for itself."""
    import cloud

    return cloud.Cloud(world)


class Run:
    """An application: `play` runs a round, `finish` ends its functions and returns all there is to see."""

    def __init__(self, world, name, seed, guarding=None, **options):
        import lambdas

        self.cloud, self.seed = the_cloud(world), seed
        guarding = guarding or lambdas.Guarding()
        self.cloud.clear(guarding)
        if guarding.hijacked:
            self.cloud.create_bucket("attackers-drop")  # of another account, which the endpoints of S3 have all the same
        self.application = load(name)(self.cloud, **options)
        self._random = random_module.Random(f"{name} {seed}")
        self._began, self._told = time.monotonic(), []

    def play(self, **options):
        """Returns a description of the round."""
        began = datetime.datetime.now(datetime.timezone.utc)
        try:
            told = self.application.round(self._random, **options)
        except Exception as error:
            where = f"round {len(self._told)} of seed {self.seed}"
            raise AssertionError(f"{where}: {error!r}\n{self._state()}") from error
        self._told.append((began, told))
        return told

    def _state(self):
        """What helps to see why a round went wrong."""
        lines = [f"fault: {text}" for text in self.cloud.faults()]
        for function in self.application.functions:
            for instance in function.instances:
                lines.append(f"{instance.name} said: {instance.stderr()[-1000:]}")
                lines += [str(record) for record in instance.bench.records() if record["decision"] != "allow"]
        return "\n".join(lines)

    def finish(self):
        seconds = time.monotonic() - self._began
        for function in self.application.functions:
            function.stop()
        assert not self.cloud.faults(), self.cloud.faults()
        functions = self.application.functions
        records = [record for each in functions for instance in each.instances for record in instance.bench.records()]
        requests = [request for each in functions for request in each.requests()]
        requests += [request for request in self.cloud.requests() if not request.caller]
        return Outcome({each.name: _traces(each) for each in functions}, requests, records, seconds, self._told)


def _traces(function):
    """In the order in which the executions began, whichever instance had them."""
    lines = [line for instance in function.instances for line in instance.traces()]
    return sorted(lines, key=lambda line: datetime.datetime.fromisoformat(json.loads(line)["began"]))


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("application", choices=[*APPLICATIONS, "all"])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--seed", type=int, default=None, help="the input is drawn from; one is chosen and printed if none is given"
    )
    parser.add_argument("--output", default="traces", help="the folder for the trace files")
    parser.add_argument("--graphs", type=pathlib.Path, help="a folder with FUNCTION.graph.yaml: they are enforced")
    parser.add_argument("--attacks", action="store_true", help="functions are hijacked (attacks/), and graphs enforced")
    parser.add_argument("--verbose", action="store_true", help="a line for each round")
    return parser.parse_args()


def _write(folder, name, lines):
    """The folder was opened before the lab made everything read-only."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=folder)
    with open(descriptor, "w") as out:
        out.writelines(line + "\n" for line in lines)


def main():
    options = _arguments()
    binaries = pathlib.Path(os.environ.get("SALLYPORT_BIN", _HERE.parents[1] / "build" / "release" / "bin")).resolve()
    if not (binaries / "sallyport").is_file():
        sys.exit(f"there is no {binaries}/sallyport: build it, or set SALLYPORT_BIN")
    names = list(APPLICATIONS) if options.application == "all" else [options.application]
    seed = options.seed if options.seed is not None else random_module.SystemRandom().getrandbits(32)
    graphs = read_graphs(options.graphs or GRAPHS) if options.graphs or options.attacks else {}
    folders = {}
    for name in names:
        path = pathlib.Path(options.output) / name
        path.mkdir(parents=True, exist_ok=True)
        folders[name] = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    import lab

    lab.enter(binaries)
    import world

    the_world = world.World()
    complaints = []
    for name in names:
        print(f"{name}: {options.rounds} rounds, seed {seed}", flush=True)
        outcome = _play(the_world, name, seed, graphs, options)
        _keep(folders[name], outcome)
        complaints += _report(name, outcome, graphs, options)
    sys.exit(1 if complaints else 0)


def _play(the_world, name, seed, graphs, options):
    import attempts
    import lambdas

    attack = attempts.ATTACKS[name] if options.attacks else attempts.NONE
    guarding = lambdas.Guarding("enforce" if graphs else "learn", graphs, attack.hijacked)
    run = Run(the_world, name, seed, guarding, **attack.options)
    for number in range(options.rounds):
        told = run.play(**attack.round)
        if options.verbose:
            print(f"  {number}: {told}", flush=True)
    return run.finish()


def _keep(folder, outcome):
    for function, lines in outcome.traces.items():
        _write(folder, f"{function}.jsonl", lines)
    _write(folder, "rounds.txt", [f"{began.isoformat()} {told}" for began, told in outcome.told])


def _report(name, outcome, graphs, options):
    """Prints what came of it; returns what is wrong with how attacks were refused."""
    import attempts

    counts = ", ".join(f"{function} {len(lines)}" for function, lines in outcome.traces.items())
    print(f"{name}: {outcome.seconds:.1f} s, {len(outcome.requests)} requests; executions: {counts}", flush=True)
    if graphs:
        kinds = collections.Counter(each["kind"] for each in outcome.records if each.get("reason", "").startswith("flow-"))
        print(f"{name}: refused {kinds['exchange']} requests; {kinds['execution']} executions ended too early", flush=True)
    complaints = attempts.complaints(attempts.ATTACKS[name], outcome) if options.attacks else []
    for each in complaints:
        print(f"{name}: {each}", flush=True)
    return complaints


if __name__ == "__main__":
    main()
