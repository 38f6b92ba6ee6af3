"""The lab's name server: UDP and TCP, answers from a table, remembers every question it was asked."""

import ipaddress
import socket
import struct
import threading

SERVFAIL, SILENCE, ROTATE = "servfail", "silence", "rotate"
_TYPES = {1: "A", 28: "AAAA", 16: "TXT", 5: "CNAME", 15: "MX", 65: "HTTPS", 10: "NULL", 255: "ANY"}


def _read_name(message, offset):
    labels = []
    while (size := message[offset]) != 0:
        labels.append(message[offset + 1 : offset + 1 + size].decode("latin-1"))
        offset += 1 + size
    return ".".join(labels), offset + 1


class NameServer:
    """`table` maps a name to a list of addresses, or to one of the words above. ROTATE comes as (ROTATE, [one, two]):
    each question gets the next address, to be kept for no time. Other names do not exist."""

    def __init__(self, addresses, table):
        self.table = table
        self.questions = []  # (name, type)
        self._lock = threading.Lock()
        self._turns = {}
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            datagrams.bind((address, 53))
            threading.Thread(target=self._serve_datagrams, args=(datagrams,), daemon=True).start()
            streams = socket.create_server((address, 53), family=family)
            threading.Thread(target=self._serve_streams, args=(streams,), daemon=True).start()

    def names_asked(self):
        with self._lock:
            return {name for name, _ in self.questions}

    def forget(self):
        with self._lock:
            self.questions.clear()

    def _serve_datagrams(self, server):
        while True:
            message, peer = server.recvfrom(4096)
            if answer := self._answer(message):
                server.sendto(answer, peer)

    def _serve_streams(self, server):
        while True:
            connection, _ = server.accept()
            with connection:
                head = connection.recv(2, socket.MSG_WAITALL)
                if len(head) == 2:
                    answer = self._answer(connection.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL))
                    if answer:
                        connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, message):
        try:
            name, end = _read_name(message, 12)
            kind, _ = struct.unpack("!HH", message[end : end + 4])
        except (IndexError, struct.error):
            return None
        name = name.lower()
        lifetime = 30
        with self._lock:
            self.questions.append((name, _TYPES.get(kind, str(kind))))
            entry = self.table.get(name)
            if isinstance(entry, tuple):
                lifetime = 0
                turn = self._turns[name, kind] = self._turns.get((name, kind), -1) + 1
                entry = [entry[1][turn % len(entry[1])]]
        if entry == SILENCE:
            return None
        code = 2 if entry == SERVFAIL else 3 if entry is None else 0
        records = []
        if isinstance(entry, list):
            version = {1: 4, 28: 6}.get(kind)
            records = [a for a in map(ipaddress.ip_address, entry) if a.version == version]
        body = b"".join(struct.pack("!HHHIH", 0xC00C, kind, 1, lifetime, len(a.packed)) + a.packed for a in records)
        flags = 0x8180 | code
        return message[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + message[12 : end + 4] + body
