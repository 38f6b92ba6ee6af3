"""Runs inside of the guarded command: sends the cases of http2_cases.py, and notes what came back on each stream.

http2_client.py OUTPUT SEED FIRST REQUESTS PLAIN WORKERS HOST…: as client.py. PLAIN is how many of the hosts, the first of
them, also take connections without TLS; they get half of theirs so. A line is [case, host index, scheme, streams, how the
connection ended]; a stream is [number, status, Seen, reason of the guard, id of its record, ended, reset].
"""

import json
import os
import random
import sys
import traceback

import http2_cases
import http2_frames as h2

PATIENCE = 20  # seconds; the guard answers, resets or ends a connection at once, or something is wrong


def told(number, reply):
    fields, body = reply["headers"], reply["body"]
    denied, seen = fields.get("sallyport-denied"), fields.get("seen")
    identity = json.loads(body)["id"] if denied and body and reply["ended"] else None
    if seen and body and reply["ended"] and seen.encode() not in body:
        raise ValueError(f"the body is not the one of its head: {body!r}")
    return [number, reply["status"], seen, denied, identity, reply["ended"], reply["reset"]]


def converse(case):
    """([streams], how the connection ended)."""
    client = h2.Client(case.host, tls=case.scheme == "https", timeout=PATIENCE)
    try:
        for segment in case.segments:
            if not client.send(segment):
                break
        if case.ending == "cut":
            return [], "cut"
        client.run(lambda c: c.goaway is not None or over(c, case), PATIENCE)
        if client.goaway is not None:
            client.run(None, 0.5)  # what was under way
        ended = "goaway" if client.goaway is not None else client.ended or ("done" if over(client, case) else "timeout")
        return [told(number, reply) for number, reply in client.streams.items()], ended
    finally:
        client.close()


def over(client, case):
    reply = client.of
    return all(s.given_up or reply(s.number)["ended"] or reply(s.number)["reset"] is not None for s in case.streams)


def work(output, seed, first, requests, plain, worker, workers, hosts):
    done, number = 0, first + worker
    with open(f"{output}.{worker}", "w") as out:
        while done < requests / workers:
            for at, host in enumerate(hosts):
                scheme = "http" if at < plain and random.Random(f"{seed}/{number}").random() < 0.5 else "https"
                case = http2_cases.make(seed, number, hosts, at, scheme)
                try:
                    result = [number, at, scheme, *converse(case)]
                except OSError as error:
                    result = [number, at, scheme, [], f"no connection: {error}"]
                out.write(json.dumps(result) + "\n")
            done += len(case.streams)
            number += workers


def main(output, seed, first, requests, plain, workers, *hosts):
    children = []
    for worker in range(int(workers)):
        if (child := os.fork()) == 0:
            code = 1
            try:
                work(output, seed, int(first), int(requests), int(plain), worker, int(workers), hosts)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(codes, key=abs))


if __name__ == "__main__":
    main(*sys.argv[1:])
