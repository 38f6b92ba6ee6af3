"""A gate that mistreats the connections that pass through it, and what both ends of such a run agree on.

Every fault is drawn from a seed, the gate's name and the connection's number, so that a run can be repeated. Over TLS a
flipped byte must be noticed by who receives it. Over plain HTTP nobody can: the gate says which requests were on a
connection that it corrupted, and only those may be wrong.
"""

import asyncio
import collections
import dataclasses
import hashlib
import random
import re
import socket
import ssl
import struct
import zlib

READ_BYTES = 1 << 16
FAULTS = {"none": 30, "slice": 14, "delay": 14, "stall": 8, "cut": 8, "half-cut": 8, "reset": 8, "corrupt": 10}
STALLS = (0.2, 0.5, 1, 3, 9)  # seconds; the longest outlasts every client of a run
PIECES_MAX = 3000  # slices of one connection; then it flows
_ID = re.compile(rb"id=([0-9]+-[0-9a-f]{8});")


def identity(number):
    """A name that a flipped byte does not turn into another valid one."""
    return f"{number}-{zlib.crc32(str(number).encode()):08x}"


def valid(name):
    number = name.partition("-")[0]
    return number.isdigit() and name == identity(int(number))


def content(name, way, size):
    """The bytes that belong to one direction of one request."""
    return random.Random(f"{name} {way}").randbytes(size)


def digest(data):
    return hashlib.sha256(data).hexdigest()


@dataclasses.dataclass
class Plan:
    """What happens to one connection."""

    fault: str
    way: str  # the direction that it happens to: "up" is towards the server
    offset: int  # after how many bytes of that direction
    size: int  # of a slice
    pause: float

    @classmethod
    def draw(cls, seed, gate, number):
        draw = random.Random(f"{seed} {gate} {number}")
        fault = draw.choices(list(FAULTS), list(FAULTS.values()))[0]
        pause = draw.choice(STALLS) if fault == "stall" else draw.choice((0.002, 0.01, 0.05))
        return cls(
            fault, draw.choice(("up", "down")), int(2 ** draw.uniform(0, 18)), draw.choice((1, 5, 60, 1400)), pause
        )


class Connection:
    def __init__(self, plan):
        self.plan = plan
        self.names = set()  # requests seen on it
        self.tail = b""
        self.fired = False
        self.moved = {"up": 0, "down": 0}
        self.pieces = 0
        self.writers = []

    def note(self, data):
        text = self.tail + data
        self.names.update(found.decode() for found in _ID.findall(text))
        self.tail = text[-64:]

    def reset(self):
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            try:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
            writer.transport.abort()

    def close(self):
        for writer in self.writers:
            writer.close()


class Gate:
    """Relays TCP connections, each with its fault. `plain` gates look for the names of requests."""

    def __init__(self, name, seed):
        self.name, self.seed = name, seed
        self.planned, self.fired = collections.Counter(), collections.Counter()
        self.corrupted, self.cut = [], []  # sets of names: of connections with a flipped byte, of those cut off
        self.connections = self.open = self.bytes = 0
        self._tasks = set()

    async def listen(self, address, port, target):
        """`target` is (address, port)."""

        def serve(reader, writer):
            task = asyncio.ensure_future(self._serve(reader, writer, target))
            self._tasks.add(task)  # asyncio itself may forget one whose transport has gone
            task.add_done_callback(self._tasks.discard)

        return await asyncio.start_server(serve, address, port, limit=READ_BYTES, backlog=512)

    def summary(self):
        return {
            "connections": self.connections,
            "open": self.open,
            "bytes": self.bytes,
            "planned": dict(self.planned),
            "faults": dict(self.fired),
            "corrupted": sorted(set().union(*self.corrupted)),
            "cut": sorted(set().union(*self.cut)),
        }

    async def _serve(self, reader, writer, target):
        connection = Connection(Plan.draw(self.seed, self.name, self.connections))
        self.connections += 1
        self.planned[connection.plan.fault] += 1
        self.open += 1
        connection.writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection(*target, limit=READ_BYTES)
            connection.writers.append(far_writer)
            for one in connection.writers:
                one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ways = (self._relay(connection, "up", reader, far_writer), self._relay(connection, "down", far_reader, writer))
            await asyncio.gather(*ways)
        except OSError:
            connection.reset()
        finally:
            connection.close()
            self.open -= 1

    async def _relay(self, connection, way, source, sink):
        """Ends when its direction has ended; an error of either ends both."""
        plan = connection.plan
        while data := await source.read(READ_BYTES):
            if way == "up":
                connection.note(data)
            here = plan.way == way and connection.moved[way] + len(data) > plan.offset
            if here and not connection.fired and plan.fault in _AT_OFFSET:
                before = plan.offset - connection.moved[way]
                data = await self._fire(connection, way, data, before, sink)
                if data is None:
                    return
            connection.moved[way] += len(data)
            self.bytes += len(data)
            await self._send(connection, data, sink)
        if sink.can_write_eof() and not sink.is_closing():
            sink.write_eof()

    async def _fire(self, connection, way, data, before, sink):
        """What is left to be sent, or nothing when this direction is over."""
        plan = connection.plan
        connection.fired = True
        self.fired[plan.fault] += 1
        if plan.fault == "corrupt":
            self.corrupted.append(connection.names)
            flipped = bytearray(data)
            flipped[before] ^= 1 << (plan.size % 8)
            return bytes(flipped)
        sink.write(data[:before])
        await sink.drain()
        if plan.fault == "stall":
            await asyncio.sleep(plan.pause)
            if plan.pause < STALLS[-1]:
                return data[before:]
            raise ConnectionResetError
        self.cut.append(connection.names)
        if plan.fault == "reset":
            raise ConnectionResetError
        if plan.fault == "cut":
            connection.close()
        elif not sink.is_closing():
            sink.write_eof()  # one direction only; the other goes on
        return None

    async def _send(self, connection, data, sink):
        plan = connection.plan
        if plan.fault == "slice" and connection.pieces < PIECES_MAX:
            self._count_once(connection)
            while data and connection.pieces < PIECES_MAX:
                connection.pieces += 1
                sink.write(data[: plan.size])
                await sink.drain()
                await asyncio.sleep(0)
                data = data[plan.size :]
        elif plan.fault == "delay":
            self._count_once(connection)
            await asyncio.sleep(plan.pause)
        sink.write(data)
        await sink.drain()

    def _count_once(self, connection):
        if not connection.fired:
            connection.fired = True
            self.fired[connection.plan.fault] += 1


_AT_OFFSET = ("stall", "cut", "half-cut", "reset", "corrupt")


class Wire:
    """A plain or TLS byte stream for both ends of a run. Unlike asyncio's own TLS it tells an orderly end from a cut:
    the latter is a ConnectionError."""

    def __init__(self, reader, writer, context=None, server=False, host=None):
        self.reader, self.writer = reader, writer
        self.buffer = b""
        self.ended = False
        self.tls = None
        if context is not None:
            context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # Python's default takes a cut for an end
            self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server, host)

    async def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
                await self._flush()
                return
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError as error:
                await self._flush()  # the alert
                raise ConnectionAbortedError(str(error)) from None

    async def _flush(self):
        if data := self.outgoing.read():
            self.writer.write(data)
        await self.writer.drain()

    async def _feed(self):
        data = await self.reader.read(READ_BYTES)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def send(self, data):
        if self.tls is None:
            self.writer.write(data)
            await self.writer.drain()
            return
        for at in range(0, len(data), READ_BYTES):
            try:
                self.tls.write(data[at : at + READ_BYTES])
            except ssl.SSLError as error:
                raise ConnectionAbortedError(str(error)) from None
            await self._flush()

    async def receive(self):
        """Some bytes, or none at an orderly end."""
        if self.tls is None:
            return await self.reader.read(READ_BYTES)
        while True:
            try:
                data = self.tls.read(READ_BYTES)
                await self._flush()
                return data
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise ConnectionAbortedError(str(error)) from None

    async def fill(self):
        data = await self.receive()
        if not data:
            raise EOFError
        self.buffer += data

    async def line(self):
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > 1 << 17:
                raise ValueError("an endless line")
            await self.fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode("latin-1")

    async def exactly(self, count):
        parts, left = [], count
        while left:
            if not self.buffer:
                await self.fill()
            parts.append(self.buffer[:left])
            left -= len(parts[-1])
            self.buffer = self.buffer[len(parts[-1]) :]
        return b"".join(parts)

    async def head(self):
        """(first line, fields); the fields' names in lower case, the last of two counts."""
        first, fields = await self.line(), {}
        while line := await self.line():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return first, fields

    async def chunks(self):
        parts = []
        while size := int((await self.line()).split(";")[0], 16):
            parts.append(await self.exactly(size))
            if await self.exactly(2) != b"\r\n":
                raise ValueError("no line end behind a chunk")
        while await self.line():
            pass  # trailers
        return b"".join(parts)

    async def rest(self):
        """Everything until the orderly end."""
        parts = [self.buffer]
        self.buffer = b""
        while data := await self.receive():
            parts.append(data)
        return b"".join(parts)

    async def close(self):
        """With close_notify."""
        try:
            if self.tls is not None:
                try:
                    self.tls.unwrap()
                except ssl.SSLError:
                    pass
                self.writer.write(self.outgoing.read())
            self.writer.close()
        except (OSError, ValueError):
            self.abort()

    def abort(self):
        self.writer.transport.abort()
