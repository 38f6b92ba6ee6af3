"""The rounds of the benchmark, run inside of the lab's namespaces.

bench.py starts it with a folder and a file of what to do, as JSON, and reads FOLDER/samples.json when it is done.

The speed of a shared machine drifts by tens of per cent within seconds, so in each round every proxy is measured right
after the other, in an order that rotates; ratios are made within a round.
"""

import json
import sys
import time

import loads
import mixed
import peers
from far import FarServer
from lab import Lab


def one_round(samples, proxies, chosen, sizes, far):
    for proxy in proxies:
        loads.measure_start(samples, proxy, sizes)
    for load, (service, measure) in loads.ON_EACH.items():
        for proxy in proxies:
            if load in chosen and service in proxy.services:
                began = time.monotonic()
                measure(samples, proxy, sizes)
                print(f"{load} {proxy.name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    if "latency" in chosen:
        loads.measure_latency(samples, proxies, sizes)
    if far:
        far.measure(samples, next(proxy for proxy in proxies if proxy.name == "sallyport"), sizes)


def rounds(lab, task):
    sizes = loads.Sizes(task["quick"])
    proxies = [kind(lab) for kind in peers.ALL if kind.name in task["proxies"]]
    samples = loads.Samples()
    far = FarServer(lab) if "far" in task["loads"] and "sallyport" in task["proxies"] else None
    for number in range(task["rounds"]):
        began = time.monotonic()
        turn = number % len(proxies)
        one_round(samples, proxies[turn:] + proxies[:turn], task["loads"], sizes, far)
        if number == task["rounds"] - 1 and "calls" in task["loads"]:
            for proxy in proxies:
                loads.count_system_calls(samples, proxy, sizes)
        for proxy in proxies:
            proxy.stop()
        print(f"round {number + 1} of {task['rounds']}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return samples.by_measure


def main(folder, task_file):
    with open(task_file, encoding="utf-8") as file:
        task = json.load(file)
    lab = Lab(folder)
    result = mixed.measure(lab, task) if task["mixed_minutes"] else rounds(lab, task)
    lab.close()
    (lab.folder / "samples.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
