"""Stands behind the servers that are proxies themselves and notes what each of them has understood: it sees only what
they have written anew. recorder.py ADDRESS PORT LOG"""

import asyncio
import os
import sys

import sighting


class Recorder(asyncio.Protocol):
    def __init__(self, log):
        self.log, self.buffer, self.continued = log, b"", False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        while (taken := self.take()) is not None:
            self.respond(*taken)

    def take(self):
        """The next request, None while it is not whole."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "expect" in fields and not self.continued:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.continued = True
        body, left = self.body(fields, self.buffer[end + 4 :])
        if body is None:
            return None
        self.buffer, self.continued = left, False
        method, target, version = first.split(" ")
        close = version == "HTTP/1.0" or fields.get("connection", "").lower() == "close"
        return method, target, fields.get("host", ""), body, close

    def body(self, fields, rest):
        if "transfer-encoding" in fields:
            return self.chunks(rest)
        length = int(fields.get("content-length", 0))
        return (rest[:length], rest[length:]) if len(rest) >= length else (None, rest)

    def chunks(self, rest):
        body, left = b"", rest
        while b"\r\n" in left:
            line, _, left = left.partition(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while b"\r\n" in left:
                    line, _, left = left.partition(b"\r\n")
                    if not line:
                        return body, left
                break
            body, left = body + left[:size], left[size + 2 :]
        return None, rest

    def respond(self, method, target, host, body, close):
        line = sighting.line(method, target, host, body)
        os.write(self.log, line)
        status, answer, chunked = sighting.answer(method, target, sighting.name(line))
        head = f"HTTP/1.1 {status} Answered\r\nSeen: {sighting.name(line)}\r\n"
        if chunked:
            head += "Transfer-Encoding: chunked\r\n"
            answer = b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer), answer) if answer else b"0\r\n\r\n"
            answer = b"" if method == "HEAD" else answer
        elif status != 204:
            head += f"Content-Length: {len(answer)}\r\n"
        self.transport.write(head.encode() + b"\r\n" + answer)
        if close:
            self.transport.close()


async def main(address, port, path):
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    await asyncio.get_running_loop().create_server(lambda: Recorder(log), address, int(port), backlog=1024)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
