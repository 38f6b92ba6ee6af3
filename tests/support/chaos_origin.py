"""The origin of a chaos run, behind its gate: a process of its own, as its work is not to slow the clients down.

Answers what the request asks for (see chaos_client.py) and checks what it got. Prints "ready", and when its standard
input ends a line of JSON that says what came.
"""

import asyncio
import collections
import json
import logging
import os
import random
import ssl
import sys

import h2.exceptions

import chaos_http2
from chaos import Gate, Wire, content, digest, valid


PATIENCE = 8  # seconds; then it closes, as servers do: a corrupted length would keep both sides waiting


class Log:
    def __init__(self):
        self.arrivals = collections.Counter()  # requests by name
        self.methods = {}
        self.wrong = []  # (name, what): bodies that are complete by their framing and not what was sent
        self.nameless = 0
        self.denied = []  # what the guard should not have let through
        self.whole = self.bytes = self.tls_failures = self.connections = self.http2_connections = 0
        self.faults = collections.Counter()  # of HTTP/2: those of the gates are theirs


# It warns where more is written to a connection that is gone, which is what happens here.
logging.getLogger("asyncio").setLevel(logging.ERROR)
log = Log()


def name_of(target, fields):
    """Said three times, so that one flipped byte does not hide it."""
    for text in (target, fields.get("x-id", ""), fields.get("x-id-again", "")):
        name = text.partition("id=")[2].partition(";")[0]
        if valid(name):
            return name
    return None


async def read_body(wire, fields):
    if "chunked" in fields.get("transfer-encoding", ""):
        return await wire.chunks()
    return await wire.exactly(int(fields.get("content-length", 0)))


async def echo(wire):
    await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n" + wire.buffer)
    while data := await wire.receive():
        await wire.send(data)


async def answer(wire, method, name, plan, body_digest):
    body = content(name, "down", int(plan["down"]))
    head = f"HTTP/1.1 200 OK\r\nX-Id: id={name};\r\nX-Got: {body_digest}\r\n"
    framing = plan["framing"]
    if method == "HEAD" or framing == "length":
        await wire.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        if method != "HEAD":
            await send_slowly(wire, body, int(plan["drips"]), lambda part: part)
    elif framing in ("chunked", "grpc"):
        await wire.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        await send_slowly(wire, body, int(plan["drips"]), lambda part: b"%x\r\n%s\r\n" % (len(part), part))
        await wire.send(b"0\r\nX-Sum: 1\r\n\r\n")
    else:
        await wire.send(f"{head}Connection: close\r\n\r\n".encode())
        await send_slowly(wire, body, int(plan["drips"]), lambda part: part)


async def send_slowly(wire, body, drips, frame):
    size = max(len(body) // max(drips, 1), 1) if drips else 1 << 15
    for at in range(0, len(body), size):
        await wire.send(frame(body[at : at + size]))
        if drips:
            await asyncio.sleep(0.02)


async def serve_one(wire, secret):
    first, fields = await asyncio.wait_for(wire.head(), PATIENCE)
    method, target = first.split(" ")[:2]
    name = name_of(target, fields)
    if "/denied" in target:
        log.denied.append(f"{name} {target}")
    if name is None:
        log.nameless += 1
        raise EOFError
    log.arrivals[name] += 1
    log.methods[name] = method
    if wire.tls is not None and fields.get("authorization") != f"Bearer {secret}":
        log.wrong.append((name, "credential"))
    if "websocket" in fields.get("upgrade", ""):
        await echo(wire)
        raise EOFError
    plan = dict(pair.split("=") for pair in fields["x-plan"].split(","))
    if fields.get("expect"):
        await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await asyncio.wait_for(read_body(wire, fields), PATIENCE)
    log.whole += 1
    log.bytes += len(body) + int(plan["down"])
    if body != content(name, "up", int(plan["up"])):
        log.wrong.append((name, f"body of {len(body)} for {plan['up']}"))
    await answer(wire, method, name, plan, digest(body))
    if plan["framing"] == "close" and method != "HEAD":
        raise EOFError


class Http2Service:
    """One connection of HTTP/2: its exchanges, and what goes wrong with them on purpose."""

    def __init__(self, wire, secret, draw):
        self.secret, self.draw = secret, draw
        self.connection = chaos_http2.Connection(wire, client=False, on_request=self.begin)
        self.tasks = set()
        self.until_goaway = draw.choice((3, 20, 1000))

    async def run(self):
        await self.connection.begin()
        await self.connection.read()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def begin(self, stream):
        task = asyncio.ensure_future(self.serve(stream))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self.until_goaway -= 1
        if self.until_goaway == 0:
            log.faults["goaway"] += 1
            self.tasks.add(asyncio.ensure_future(self.leave()))

    async def leave(self):
        await self.connection.go_away()
        await asyncio.sleep(PATIENCE)
        self.connection.wire.abort()

    async def serve(self, stream):
        try:
            await self.answer(stream, self.connection.messages[stream])
        except (OSError, EOFError, KeyError, h2.exceptions.ProtocolError):
            pass  # the stream, or all of the connection, has ended; of a stream that is forgotten h2 says KeyError
        finally:
            del self.connection.messages[stream]

    async def answer(self, stream, message):
        fields = message.fields
        method, name = fields[":method"], name_of(fields[":path"], fields)
        if "/denied" in fields[":path"]:
            log.denied.append(f"{name} {fields[':path']}")
        if name is None:
            log.nameless += 1
            return
        log.arrivals[name] += 1
        log.methods[name] = method
        if fields.get("authorization") != f"Bearer {self.secret}":
            log.wrong.append((name, "credential"))
        plan = dict(pair.split("=") for pair in fields["x-plan"].split(","))
        await message.whole()
        log.whole += 1
        log.bytes += len(message.body) + int(plan["down"])
        if message.body != content(name, "up", int(plan["up"])):
            log.wrong.append((name, f"body of {len(message.body)} for {plan['up']}"))
        await self.respond(stream, name, method, plan, digest(message.body))

    async def respond(self, stream, name, method, plan, body_digest):
        body = content(name, "down", int(plan["down"]))
        head = [(":status", "200"), ("x-id", f"id={name};"), ("x-got", body_digest), ("x-http2", "yes")]
        trailers = [("grpc-status", "0")] if plan["framing"] == "grpc" else None
        if method == "HEAD" or plan["framing"] == "length":
            head.append(("content-length", str(len(body))))
        state = self.connection.state
        fault = self.draw.choices(("none", "reset", "stall", "silence"), (90, 5, 4, 1))[0]
        log.faults[f"stream {fault}"] += 1
        if fault == "silence":
            return
        state.send_headers(stream, head, end_stream=method == "HEAD")
        await self.connection.flush()
        if method == "HEAD":
            return
        drips = int(plan["drips"])
        piece = max(len(body) // drips, 1) if drips else 1 << 15
        half = len(body) // 2 if fault != "none" else 0
        if half:
            await self.connection.send_body(stream, body[:half], 0.02 if drips else 0, piece, end=False)
        if fault == "reset":
            await self.connection.reset(stream)
            return
        if fault == "stall":
            await asyncio.sleep(self.draw.choice((0.5, 2, 7)))
        await self.connection.send_body(stream, body[half:], 0.02 if drips else 0, piece, end=trailers is None)
        if trailers:
            state.send_headers(stream, trailers, end_stream=True)
            await self.connection.flush()


async def serve(reader, writer, contexts, secret):
    # Each connection may agree on HTTP/2 or not: what the guard has learned from one is not true of the next.
    context = contexts and contexts[log.connections % len(contexts)]
    wire = Wire(reader, writer, context, server=True)
    log.connections += 1
    draw = random.Random(log.connections)
    try:
        if context is not None:
            try:
                await asyncio.wait_for(wire.handshake(), 20)
            except (OSError, asyncio.TimeoutError):
                log.tls_failures += 1
                raise
        if context is not None and wire.tls.selected_alpn_protocol() == "h2":
            log.http2_connections += 1
            await Http2Service(wire, secret, draw).run()
            raise EOFError
        while True:
            # Closes connections that the guard would use again: some requests find theirs dead.
            await asyncio.wait_for(wire.fill() if not wire.buffer else asyncio.sleep(0), draw.choice((0.1, 1, PATIENCE)))
            await serve_one(wire, secret)
    except (EOFError, asyncio.TimeoutError):
        await wire.close()
    except (OSError, ValueError, KeyError):
        wire.abort()


async def serve_opaque(reader, writer):
    """Sends back what comes, as the other end of a protocol that nobody reads."""
    try:
        while data := await asyncio.wait_for(reader.read(1 << 16), PATIENCE):
            writer.write(data)
            await writer.drain()
    except (OSError, asyncio.TimeoutError):
        pass
    writer.close()


async def main(seed, gate_address, origin_address, certificate, key, secret):
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2)]
    for context in contexts:
        context.load_cert_chain(certificate, key)
    contexts[0].set_alpn_protocols(["h2", "http/1.1"])
    gates = {scheme: Gate(f"upstream {scheme}", seed) for scheme in ("https", "http", "tcp")}
    ports = {"https": (443, 18443, contexts), "http": (80, 18080, None)}
    for scheme, (port, hidden, tls) in ports.items():

        async def accept(reader, writer, tls=tls):
            await serve(reader, writer, tls, secret)

        await asyncio.start_server(accept, origin_address, hidden, backlog=512)
        await gates[scheme].listen(gate_address, port, (origin_address, hidden))
    await asyncio.start_server(serve_opaque, origin_address, 18007, backlog=512)
    await gates["tcp"].listen(gate_address, 7000, (origin_address, 18007))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(
        json.dumps(
            {
                "requests": sum(log.arrivals.values()),
                "arrived": list(log.arrivals),
                "whole": log.whole,
                "bytes": log.bytes,
                "connections": log.connections,
                "http2_connections": log.http2_connections,
                "http2_faults": dict(log.faults),
                "tls_failures": log.tls_failures,
                "repeated": {name: (count, log.methods[name]) for name, count in log.arrivals.items() if count > 1},
                "wrong": log.wrong,
                "nameless": log.nameless,
                "denied": log.denied,
                "gates": {scheme: gate.summary() for scheme, gate in gates.items()},
            }
        ),
        flush=True,
    )
    os._exit(0)  # connections that stall still have their tasks


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
