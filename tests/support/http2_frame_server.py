"""A server of HTTP/2 that does what the test's handler says, frame by frame. One thread a connection and one a stream;
windows are opened for all that comes, and are taken to be large enough for what is sent: a few bytes."""

import socket
import ssl
import threading

import hpack

import http2_frames as h2


class Stream:
    """`fields` is what the request's head had; read() gives what came of its body, and None at its end."""

    def __init__(self, connection, number, fields):
        self.connection, self.number, self.fields = connection, number, fields
        self._came, self._arrived = [], threading.Condition()

    def take(self, data):
        with self._arrived:
            self._came.append(data)
            self._arrived.notify()

    def read(self, seconds=30):
        with self._arrived:
            assert self._arrived.wait_for(lambda: self._came, seconds), "nothing came"
            return self._came.pop(0)

    def respond(self, *fields, status="200"):
        head = h2.block([(":status", status), *fields])
        self.connection.send(h2.frame(h2.HEADERS, h2.END_HEADERS, self.number, head))

    def write(self, data, end=False):
        self.connection.send(h2.frame(h2.DATA, h2.END_STREAM if end else 0, self.number, data))


class _Connection:
    def __init__(self, origin, raw):
        self._origin, self._raw = origin, raw
        self._sending, self._streams, self._decoder = threading.Lock(), {}, hpack.Decoder()

    def send(self, data):
        with self._sending:
            self._stream.sendall(data)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            part = self._stream.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def serve(self):
        try:
            self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._stream = self._origin.context.wrap_socket(self._raw, server_side=True)
            self._exactly(len(h2.PREFACE))
            self.send(h2.frame(h2.SETTINGS))
            while True:
                head = self._exactly(9)
                number = int.from_bytes(head[5:9], "big")
                self._take(head[3], head[4], number, self._exactly(int.from_bytes(head[:3], "big")))
        except (OSError, EOFError):
            self._raw.close()

    def _take(self, kind, flags, number, payload):
        if kind == h2.SETTINGS and not flags & h2.ACK:
            self.send(h2.frame(h2.SETTINGS, h2.ACK))
        elif kind == h2.PING and not flags & h2.ACK:
            self.send(h2.frame(h2.PING, h2.ACK, 0, payload))
        elif kind == h2.HEADERS and number not in self._streams:
            made = self._streams[number] = Stream(self, number, self._decoder.decode(payload))
            threading.Thread(target=self._run, args=(made,), daemon=True).start()
        elif kind == h2.HEADERS:
            self._decoder.decode(payload)
        elif kind == h2.DATA and payload:
            credit = len(payload).to_bytes(4, "big")
            self.send(h2.frame(h2.WINDOW_UPDATE, 0, 0, credit) + h2.frame(h2.WINDOW_UPDATE, 0, number, credit))
            self._streams[number].take(payload)
        if kind in (h2.HEADERS, h2.DATA) and flags & h2.END_STREAM:
            self._streams[number].take(None)

    def _run(self, stream):
        try:
            self._origin.handle(stream)
        except OSError:
            pass  # the guard has gone


class Origin:
    """Over TLS, for clients that agree on h2. Serves until it is closed."""

    def __init__(self, address, port, certificate, key, handle):
        self.handle = handle
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.context.set_alpn_protocols(["h2"])
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listening = socket.create_server((address, port), family=family, backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                raw, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=_Connection(self, raw).serve, daemon=True).start()

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
