"""The guarded command of a chaos run: clients that send every kind of traffic through a gate of their own to the guard,
and judge every answer.

Reads lines of "SECONDS WORKERS" and answers each with a line of JSON: how many exchanges ended how, and which were
wrong. What one of its own gates corrupted is not wrong; the rest is for the test to compare with the other gates.
"""

import asyncio
import collections
import json
import random
import socket
import ssl
import sys
import time

import h2.exceptions

import chaos_http2
from chaos import Gate, Wire, content, digest, identity

GIVE_UP = 6  # seconds for one exchange
PORTS = {"https": (443, 17443), "http": (80, 17080), "tcp": (7000, 17007)}


class Wrong(Exception):
    """An answer that is complete by its framing, and is not the right one."""


class Run:
    def __init__(self, seed, host, placeholder, gates):
        self.seed, self.host, self.placeholder, self.gates = seed, host, placeholder, gates
        self.context = ssl.create_default_context()
        self.http2_context = ssl.create_default_context()
        self.http2_context.set_alpn_protocols(["h2"])
        self.number = 0
        self.rounds = 0

    def begin(self):
        self.outcomes, self.refusals, self.kinds = (collections.Counter() for _ in range(3))
        self.wrong, self.slowest, self.bytes = [], 0.0, 0
        self.lenient = set()  # whose body ends with the connection over plain HTTP

    async def run(self, seconds, workers):
        self.begin()
        self.rounds += 1
        end = time.monotonic() + seconds
        await asyncio.gather(*(self.work(random.Random(f"{self.seed} {self.rounds} {n}"), end) for n in range(workers)))
        return {
            "exchanges": sum(self.outcomes.values()),
            "outcomes": dict(self.outcomes),
            "refusals": dict(self.refusals),
            "kinds": dict(self.kinds),
            "bytes": self.bytes,
            "slowest": round(self.slowest, 2),
            "wrong": self.wrong,
            "lenient": sorted(self.lenient),
            "gates": {scheme: gate.summary() for scheme, gate in self.gates.items()},
        }

    async def work(self, draw, end):
        while time.monotonic() < end:
            scheme = draw.choices(("https", "http", "h2", "tcp"), (8, 4, 4, 2))[0]
            if scheme == "h2":
                await self.work_http2(draw)
                continue
            try:
                wire = await asyncio.wait_for(self.connect(scheme), GIVE_UP)
            except (OSError, EOFError, asyncio.TimeoutError):
                self.outcomes["not connected"] += 1
                continue
            more = True
            for _ in range(1 if scheme == "tcp" else draw.choice((1, 1, 2, 6, 20))):
                if not more or time.monotonic() > end:
                    break
                more = await self.exchange(draw, scheme, wire)
            if more:
                await wire.close()
            else:
                wire.abort()

    async def work_http2(self, draw):
        """A few exchanges at one time on one connection."""
        try:
            wire = await asyncio.wait_for(self.connect("https", self.http2_context), GIVE_UP)
        except (OSError, EOFError, asyncio.TimeoutError):
            self.outcomes["not connected"] += 1
            return
        connection = chaos_http2.Connection(wire, client=True)
        reading = asyncio.ensure_future(connection.read())
        try:
            await asyncio.wait_for(connection.begin(), GIVE_UP)
            for _ in range(draw.choice((1, 2, 3))):
                count = draw.choice((1, 2, 5))
                mores = await asyncio.gather(*(self.exchange(draw, "h2", connection) for _ in range(count)))
                if connection.over or not all(mores):
                    break
        except (OSError, EOFError, asyncio.TimeoutError):
            self.outcomes["not connected"] += 1
        finally:
            wire.abort()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def connect(self, scheme, context=None):
        reader, writer = await asyncio.open_connection("127.0.0.1", PORTS[scheme][1])
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = Wire(reader, writer, (context or self.context) if scheme == "https" else None, host=self.host)
        if scheme == "https":
            try:
                await wire.handshake()
            except BaseException:
                wire.abort()
                raise
        return wire

    async def exchange(self, draw, scheme, wire):
        """True if the connection can carry another."""
        self.number += 1
        name = identity(self.number)
        kinds = {"GET": 30, "HEAD": 4, "POST": 20, "PUT": 6, "big": 3, "drip": 6, "denied": 8}
        kinds |= {"grpc": 10} if scheme == "h2" else {"websocket": 5, "old": 5}
        if scheme == "tcp":
            kinds = {"opaque": 1}
        kind = draw.choices(list(kinds), list(kinds.values()))[0]
        self.kinds[f"{scheme} {kind}"] += 1
        started = time.monotonic()
        more = False
        try:
            more = await asyncio.wait_for(self.one(draw, scheme, wire, name, kind), GIVE_UP)
            outcome = "denied" if kind == "denied" else "right"
        except Refused as refusal:
            self.refusals[str(refusal)] += 1
            outcome = "refused"
        except (OSError, EOFError):
            outcome = "broken"
        except h2.exceptions.ProtocolError:
            outcome = "broken"  # nothing can be sent on a stream, or a connection, that has ended
        except asyncio.TimeoutError:
            outcome = "given up"
        except (Wrong, ValueError, KeyError, IndexError) as failure:
            self.wrong.append((name, scheme, f"{kind}: {type(failure).__name__}: {failure}"))
            outcome = "wrong"
        self.outcomes[outcome] += 1
        if outcome in ("right", "denied"):
            self.slowest = max(self.slowest, time.monotonic() - started)
        return more

    async def one(self, draw, scheme, wire, name, kind):
        if kind == "websocket":
            return await self.websocket(draw, scheme, wire, name)
        if kind == "opaque":
            return await self.echoed(draw, wire, name, f"id={name};".encode())
        methods = {"big": draw.choice(("GET", "POST")), "drip": "GET", "denied": "POST", "old": "GET", "grpc": "POST"}
        method = methods.get(kind, kind)
        most = 21 if kind == "big" else 14 if kind == "drip" else 17
        least = 19 if kind == "big" else 0
        size = lambda: int(2 ** draw.uniform(least, most))
        up = size() if method in ("POST", "PUT") else 0
        framing = draw.choice(("length", "length", "chunked", "close"))
        plan = f"up={up},down={size()},framing={framing},drips={10 if kind == 'drip' else 0}"
        if scheme == "h2":
            if kind == "grpc":
                up = max(up, 5)
                plan = f"up={up},down={size()},framing=grpc,drips=0"
            return await self.one_http2(draw, wire, name, method, kind, plan, content(name, "up", up))
        if kind == "old" and scheme == "http" or framing == "close":
            self.lenient.add(name)
        await self.send(draw, scheme, wire, name, method, kind, plan, content(name, "up", up))
        return await self.receive(wire, name, method, kind, plan)

    async def one_http2(self, draw, connection, name, method, kind, plan, body):
        path = f"{'/denied' if kind == 'denied' else '/chaos'}/{name}?id={name};"
        fields = [(":method", method), (":scheme", "https"), (":authority", self.host), (":path", path)]
        fields += [("x-id", f"id={name};"), ("x-id-again", f"id={name};"), ("x-plan", plan)]
        if name[0] in "13579":
            fields.append(("authorization", f"Bearer {self.placeholder}"))
        if kind == "grpc":
            fields += [("content-type", "application/grpc"), ("te", "trailers")]
        elif body and draw.random() < 0.5:
            fields.append(("content-length", str(len(body))))
        stream = connection.state.get_next_available_stream_id()
        message = connection.messages[stream] = chaos_http2.Message()
        connection.state.send_headers(stream, fields, end_stream=not body)
        await connection.flush()
        if body:
            sending = asyncio.ensure_future(connection.send_body(stream, body))
            try:
                await message.began.wait()  # an answer may come before the end of the request
                if message.fields.get(":status") == "200":
                    await sending
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        await message.whole()
        return self.judge_http2(message, name, method, kind, plan)

    def judge_http2(self, message, name, method, kind, plan):
        wanted = dict(pair.split("=") for pair in plan.split(","))
        fields, status = message.fields, message.fields[":status"]
        if "sallyport-denied" in fields:
            reason = fields["sallyport-denied"]
            if kind == "denied" and (status, reason) == ("403", "path-not-allowed"):
                return True
            raise Refused(f"{status} {reason}")
        if kind == "denied" or status != "200" or fields.get("x-id") != f"id={name};":
            raise Wrong(f"{status} {fields.get('x-id')}")
        if fields.get("x-got") != digest(content(name, "up", int(wanted["up"]))):
            raise Wrong("the origin says that it got another body")
        if method != "HEAD" and message.body != content(name, "down", int(wanted["down"])):
            raise Wrong(f"body of {len(message.body)} for {plan}: {fields}")
        if kind == "grpc" and "x-http2" in fields and message.trailers.get("grpc-status") != "0":
            raise Wrong(f"trailers: {message.trailers}")
        self.bytes += len(message.body) + int(wanted["up"])
        return True

    def head(self, scheme, name, method, path, version="1.1", more=""):
        # Some functions send their placeholder, others leave the field to the guard.
        token = f"Authorization: Bearer {self.placeholder}\r\n" if scheme == "https" and name[0] in "13579" else ""
        return (
            f"{method} {path}/{name}?id={name}; HTTP/{version}\r\nHost: {self.host}\r\nX-Id: id={name};\r\n"
            f"X-Id-Again: id={name};\r\n{token}{more}\r\n"
        ).encode()

    async def send(self, draw, scheme, wire, name, method, kind, plan, body):
        path = "/denied" if kind == "denied" else "/chaos"
        more = f"X-Plan: {plan}\r\n"
        version = "1.0" if kind == "old" else "1.1"
        chunked = body and draw.random() < 0.4
        expects = body and kind != "denied" and draw.random() < 0.1
        if expects:
            more += "Expect: 100-continue\r\n"
        if chunked:
            more += "Transfer-Encoding: chunked\r\n"
        elif method in ("POST", "PUT"):
            more += f"Content-Length: {len(body)}\r\n"
        head = self.head(scheme, name, method, path, version, more)
        if expects:
            await wire.send(head)
            first, _ = await wire.head()
            if " 100 " not in first + " ":
                raise Refused(first)
            head = b""
        if not chunked:
            if draw.random() < 0.5:
                await wire.send(head + body)
                return
            await wire.send(head)
            await wire.send(body)
            return
        size = draw.choice((100, 5000, 60000))
        for at in range(0, len(body), size):
            part = body[at : at + size]
            head += b"%x\r\n%s\r\n" % (len(part), part)
            await wire.send(head)
            head = b""
        await wire.send(b"0\r\n\r\n")

    async def receive(self, wire, name, method, kind, plan):
        wanted = dict(pair.split("=") for pair in plan.split(","))
        while True:
            first, fields = await wire.head()
            version, status = first.split(" ")[:2]
            if version != "HTTP/1.1" or not status.isdigit():
                raise Wrong(first)
            if status != "100":
                break
        if "sallyport-denied" in fields:
            reason = fields["sallyport-denied"]
            if kind == "denied" and (status, reason) == ("403", "path-not-allowed"):
                await wire.exactly(int(fields["content-length"]))
                return False
            raise Refused(f"{status} {reason}")
        if kind == "denied":
            raise Wrong(f"answered: {first}")
        if status != "200" or fields.get("x-id") != f"id={name};":
            raise Wrong(f"{first} {fields.get('x-id')}")
        body, delimited = await self.body(wire, method, fields)
        if fields.get("x-got") != digest(content(name, "up", int(wanted["up"]))):
            raise Wrong("the origin says that it got another body")
        if method != "HEAD" and body != content(name, "down", int(wanted["down"])):
            raise Wrong(f"body of {len(body)} for {plan}: {fields}")
        self.bytes += len(body) + int(wanted["up"])
        return not delimited and fields.get("connection", "").lower() != "close" and kind != "old"

    @staticmethod
    async def body(wire, method, fields):
        """(bytes, whether the connection's end was the end)."""
        if method == "HEAD":
            return b"", False
        if "chunked" in fields.get("transfer-encoding", ""):
            return await wire.chunks(), False
        if "content-length" in fields:
            return await wire.exactly(int(fields["content-length"])), False
        return await wire.rest(), True

    async def websocket(self, draw, scheme, wire, name):
        more = (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
        await wire.send(self.head(scheme, name, "GET", "/chaos", more=more))
        first, fields = await wire.head()
        if "sallyport-denied" in fields:
            raise Refused(f"{first.split(' ')[1]} {fields['sallyport-denied']}")
        if " 101 " not in first:
            raise Wrong(first)
        return await self.echoed(draw, wire, name)

    async def echoed(self, draw, wire, name, before=b""):
        sent = before + content(name, "up", draw.choice((10, 3000, 100_000)))
        for at in range(0, len(sent), 20_000):
            part = sent[at : at + 20_000]
            await wire.send(part)
            if await wire.exactly(len(part)) != part:
                raise Wrong("the echo differs")
        self.bytes += 2 * len(sent)
        return False


class Refused(Exception):
    """The guard's own answer: it could not get one."""


async def main(seed, host, placeholder):
    gates = {scheme: Gate(f"function {scheme}", seed) for scheme in PORTS}
    for scheme, (port, local) in PORTS.items():
        where = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
        await gates[scheme].listen("127.0.0.1", local, where)
    run = Run(seed, host, placeholder, gates)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        seconds, workers = line.split()
        print(json.dumps(await run.run(float(seconds), int(workers))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
