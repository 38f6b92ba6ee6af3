"""HTTP/2 for both ends of a chaos run, on a Wire: python3-h2 keeps the rules, and ends a run's connection where the other
side breaks them."""

import asyncio

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import hyperframe.frame

PIECE = 16_000


class Message:
    """What has come on one stream."""

    def __init__(self):
        self.fields, self.body, self.trailers = {}, b"", {}
        self.began, self.ended = asyncio.Event(), asyncio.Event()
        self.failure = None

    def fail(self, why):
        if not self.ended.is_set():
            self.failure = ConnectionResetError(why)
            self.began.set()
            self.ended.set()

    async def whole(self):
        await self.ended.wait()
        if self.failure:
            raise self.failure
        return self


class Connection:
    """`on_request(stream)` is called for each request that a client has begun."""

    def __init__(self, wire, client, on_request=None):
        self.wire, self.on_request = wire, on_request
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding="utf-8"))
        self.messages = {}
        self.moved = asyncio.Event()  # windows have, or the connection has ended
        self.sending = asyncio.Lock()
        self.over = False
        self.last_stream = None  # after GOAWAY: what comes behind it is not served

    async def begin(self):
        self.state.initiate_connection()
        await self.flush()

    async def flush(self):
        async with self.sending:
            if data := self.state.data_to_send():
                await self.wire.send(data)

    async def read(self):
        """Until the connection ends, which everything that is under way is told."""
        why = "the connection has ended"
        try:
            data, self.wire.buffer = self.wire.buffer, b""
            while data or (data := await self.wire.receive()):
                for event in self.state.receive_data(data):
                    self.take(event)
                await self.flush()
                data = b""
        except (OSError, EOFError, h2.exceptions.ProtocolError) as error:
            why = f"{type(error).__name__}: {error}"
        finally:
            self.over = True
            self.moved.set()
            for message in self.messages.values():
                message.fail(why)

    def take(self, event):
        stream = getattr(event, "stream_id", 0)
        message = self.messages.get(stream)
        if isinstance(event, h2.events.RequestReceived) and self.last_stream is None:
            message = self.messages[stream] = Message()
            message.fields = dict(event.headers)
            self.on_request(stream)
        elif isinstance(event, h2.events.DataReceived):
            self.state.acknowledge_received_data(event.flow_controlled_length, stream)
            if message:
                message.body += event.data
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self.moved.set()
        elif not message:
            return
        elif isinstance(event, h2.events.ResponseReceived):
            message.fields = dict(event.headers)
            message.began.set()
        elif isinstance(event, h2.events.TrailersReceived):
            message.trailers = dict(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            message.ended.set()
        elif isinstance(event, h2.events.StreamReset):
            message.fail(f"reset with {event.error_code}")
            self.moved.set()

    async def send_body(self, stream, body, pause=0, piece=PIECE, end=True):
        """As far as the windows go; an error where the stream or the connection has ended."""
        at = 0
        while at < len(body):
            if self.over:
                raise ConnectionResetError("the connection has ended")
            room = min(self.state.local_flow_control_window(stream), piece, PIECE)
            if room <= 0:
                self.moved.clear()
                await self.moved.wait()
                continue
            self.state.send_data(stream, body[at : at + room])
            at += room
            await self.flush()
            if pause:
                await asyncio.sleep(pause)
        if end:
            self.state.end_stream(stream)
            await self.flush()

    async def reset(self, stream):
        self.state.reset_stream(stream, 2)
        await self.flush()

    async def go_away(self):
        """No new streams; those under way go on."""
        self.last_stream = self.state.highest_inbound_stream_id
        async with self.sending:
            await self.wire.send(hyperframe.frame.GoAwayFrame(0, last_stream_id=self.last_stream).serialize())
