"""Runs inside of the guarded command: sends the cases, and notes what came back on each connection.

client.py OUTPUT SEED FIRST REQUESTS TLS_PERCENT WORKERS HOST…: sends cases from number FIRST on to every host until each
has got REQUESTS requests. Each worker writes OUTPUT.N, a line of JSON for a connection: [case, host index, scheme,
responses, how the connection ended].
"""

import json
import os
import random
import socket
import ssl
import struct
import sys
import traceback

import cases
import reading

PATIENCE = 20  # seconds; the guard answers and ends a connection at once, or something is wrong


class Malformed(Exception):
    """What came back is not a sequence of responses."""


def split_head(data):
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1.1 ") or not first[9:12].isdigit():
        raise Malformed(first)
    fields = {}
    for line in lines:
        name, _, value = line.partition(": ")
        fields.setdefault(name.lower(), []).append(value)
    return int(first[9:12]), fields, end + 4


def split_chunks(data, at):
    body = b""
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        at = end + 2
        if size == 0:
            end = data.find(b"\r\n\r\n", end)
            return None if end < 0 else (body, end + 4)
        if data[at + size : at + size + 2] != b"\r\n":
            return None
        body += data[at : at + size]
        at += size + 2
    return None


def split_response(data, method, ended):
    """([status, Seen, reason of the guard, id of its record, whether it says close], the rest): None if incomplete."""
    while (head := split_head(data)) is not None:
        status, fields, at = head
        if status < 200:
            data = data[at:]
            continue
        lengths = fields.get("content-length", [])
        if method == "HEAD" or status in (204, 304):
            body = b""
        elif "transfer-encoding" in fields:
            if lengths or fields["transfer-encoding"] != ["chunked"]:
                raise Malformed(repr(fields))
            taken = split_chunks(data, at)
            if taken is None:
                return None
            body, at = taken
        elif lengths:
            if len(lengths) != 1:
                raise Malformed(repr(fields))
            body = data[at : at + int(lengths[0])]
            at += len(body)
            if len(body) != int(lengths[0]):
                return None
        elif ended:
            body, at = data[at:], len(data)
        else:
            return None
        denied = fields.get("sallyport-denied", [None])[0]
        seen = fields.get("seen", [None])
        if len(seen) != 1:
            raise Malformed(repr(fields))
        identity = json.loads(body)["id"] if denied and body else None
        if seen[0] and body and seen[0].encode() not in body:
            raise Malformed(f"the body is not the one of its head: {body!r}")
        close = "close" in ", ".join(fields.get("connection", [])).lower()
        return [status, seen[0], denied, identity, close], data[at:]
    return None


class Conversation:
    """One case over one connection."""

    def __init__(self, case, address, context):
        self.case, self.context = case, context
        self.expected, self.reading_ended, _ = reading.read(case.data(), case.scheme, case.host)
        self.responses, self.buffer = [], b""
        self.cut_off = False
        self.stream = socket.create_connection(address, PATIENCE)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            self.stream = context.wrap_socket(self.stream, server_hostname=case.host)

    def run(self):
        """How the connection ended, from here."""
        try:
            try:
                for segment in self.case.segments:
                    self.stream.sendall(segment)
                if self.case.ending == "shut" and not self.context:  # with TLS nobody half-closes
                    self.stream.shutdown(socket.SHUT_WR)
            except TimeoutError:
                raise
            except OSError:
                pass  # refused in the middle of it: the answer may be there all the same
            if self.case.ending == "cut":
                return self.cut()
            return self.listen()
        except TimeoutError:
            return "timeout"
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError) as error:
            self.take(True)
            # Who half-closes below TLS is answered in the same way.
            return "end" if self.cut_off and isinstance(error, ssl.SSLError) else type(error).__name__
        except (Malformed, ValueError) as error:
            return f"malformed: {error}"
        finally:
            self.stream.close()

    def cut(self):
        if random.random() < 0.5:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "cut"

    def listen(self):
        half_closed = self.case.ending == "shut" and not self.context
        while True:
            if self.answered():
                if self.reading_ended == "end":
                    return "done"
                # What stands behind the last request never becomes one: say that no more is coming.
                if self.reading_ended == "refused" and not half_closed:
                    half_closed = True
                    self.half_close()
            data = self.stream.recv(65536)
            self.buffer += data
            self.take(not data)
            if not data:
                return self.last_words()

    def last_words(self):
        """What the end of the connection leaves: nothing, or a response that its server did not finish."""
        head = split_head(self.buffer)
        while head is not None and head[0] < 200:  # to a request that was begun only
            self.buffer = self.buffer[head[2] :]
            head = split_head(self.buffer)
        if not self.buffer:
            return "end"
        if head is None:
            raise Malformed(repr(self.buffer[:200]))
        self.responses.append([head[0], head[1].get("seen", [None])[0], None, None, True])
        return "broken"

    def half_close(self):
        self.cut_off = self.context is not None
        try:
            socket.socket.shutdown(self.stream, socket.SHUT_WR)  # below TLS, if there is any
        except OSError:
            pass

    def answered(self):
        return len(self.responses) >= len(self.expected)

    def take(self, ended):
        while self.buffer:
            at = len(self.responses)
            method = self.expected[at].method if at < len(self.expected) else ""
            found = split_response(self.buffer, method, ended)
            if found is None and ended and at >= len(self.expected):
                found = split_response(self.buffer, "HEAD", ended)  # what was refused may have been one
            if found is None:
                return
            self.responses.append(found[0])
            self.buffer = found[1]


def work(output, seed, first, requests, tls_percent, worker, workers, hosts):
    context = ssl.create_default_context()
    addresses = {host: socket.getaddrinfo(host, 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0] for host in hosts}
    done, number = 0, first + worker
    with open(f"{output}.{worker}", "w") as out:
        while done < requests / workers:
            tls = random.Random(f"tls/{seed}/{number}").random() * 100 < tls_percent
            scheme, port = ("https", 443) if tls else ("http", 80)
            for at, host in enumerate(hosts):
                case = cases.make(seed, number, hosts, at, scheme)
                try:
                    conversation = Conversation(case, (addresses[host], port), context if tls else None)
                    ended = conversation.run()
                    result = [number, at, scheme, conversation.responses, ended]
                except OSError as error:
                    result = [number, at, scheme, [], f"no connection: {error}"]
                out.write(json.dumps(result) + "\n")
            done += case.requests
            number += workers


def main(output, seed, first, requests, tls_percent, workers, *hosts):
    children = []
    for worker in range(int(workers)):
        if (child := os.fork()) == 0:
            code = 1
            try:
                work(output, seed, int(first), int(requests), float(tls_percent), worker, int(workers), hosts)
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
