"""Sees every packet on the lab's loopback: whatever leaves a guarded command in any way must come by here."""

import dataclasses
import ipaddress
import select
import socket
import struct
import threading
import time

import lab

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}
_PACKET_OUTGOING = 4


@dataclasses.dataclass(frozen=True)
class Packet:
    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    payload: bytes = dataclasses.field(repr=False)


def _parse(frame):
    kind = struct.unpack("!H", frame[12:14])[0]
    if kind == 0x0800:
        size = (frame[14] & 15) * 4
        number, rest = frame[23], frame[14 + size :]
        source, destination = (str(ipaddress.ip_address(frame[at : at + 4])) for at in (26, 30))
    elif kind == 0x86DD:
        number, rest = frame[20], frame[54:]
        source, destination = (str(ipaddress.ip_address(frame[at : at + 16])) for at in (22, 38))
    else:
        return Packet(f"ether-{kind:04x}", "", 0, "", 0, frame[14:])
    ports = struct.unpack("!HH", rest[:4]) if number in (6, 17, 132) and len(rest) >= 4 else (0, 0)
    return Packet(_PROTOCOLS.get(number, str(number)), source, ports[0], destination, ports[1], rest)


class Witness:
    """A packet capture. `allowed` holds (protocol, address, port) of what the guard may talk to: the rest is a
    leak."""

    def __init__(self, allowed):
        self.allowed = set(allowed)
        self.packets = []
        self._stop = threading.Event()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
        self._socket.bind(("lo", 0))
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _watch(self):
        while True:
            stopping = self._stop.is_set()
            if not select.select([self._socket], [], [], 0.05)[0]:
                if stopping:
                    return
                continue
            frame, address = self._socket.recvfrom(65536)
            if address[2] != _PACKET_OUTGOING and len(frame) > 14:  # loopback shows every packet twice
                self.packets.append(_parse(frame))

    def settle(self):
        """Waits until what was sent has been seen."""
        time.sleep(0.1)

    def leaks(self):
        """The packets that are neither to nor from somewhere allowed."""
        self.settle()
        return [
            p
            for p in self.packets
            if (p.protocol, p.destination, p.destination_port) not in self.allowed
            and (p.protocol, p.source, p.source_port) not in self.allowed
        ]

    def saw(self, marker):
        """Whether a packet with these bytes was on the wire, whatever it was."""
        self.settle()
        return [p for p in self.packets if marker in p.payload]


class Listeners:
    """What waits outside for a message from inside: TCP and UDP sockets on the outside addresses that answer, and
    count."""

    def __init__(self, ports=(22, 53, 80, 123, 443, 853, 4444, 8080)):
        self.heard = []  # (protocol, address, port, bytes)
        for address in (lab.OUTSIDE_V4, lab.OUTSIDE_V6):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for port in ports:
                streams = socket.create_server((address, port), family=family)
                datagrams = socket.socket(family, socket.SOCK_DGRAM)
                datagrams.bind((address, port))
                threading.Thread(target=self._streams, args=(streams, address, port), daemon=True).start()
                threading.Thread(target=self._datagrams, args=(datagrams, address, port), daemon=True).start()

    def _streams(self, server, address, port):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(1)
                try:
                    self.heard.append(("tcp", address, port, connection.recv(4096)))
                    connection.sendall(b"answer from outside")
                except OSError:
                    self.heard.append(("tcp", address, port, b""))

    def _datagrams(self, server, address, port):
        while True:
            data, peer = server.recvfrom(4096)
            self.heard.append(("udp", address, port, data))
            server.sendto(b"answer from outside", peer)
