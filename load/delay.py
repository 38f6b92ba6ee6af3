"""A line of some length: two tun devices, and every packet that enters one leaves the other so many milliseconds later.

Run by far.py with the devices' names and the milliseconds; prints "ready" when both are there. It delays packets, not
connections, so that also a connection's first packets take their time, and it needs no module of the kernel but tun.
"""

import collections
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET_BYTES_MAX = 65_535
PACKETS_MAX = 10_000  # on the way in one direction; further ones are lost, as on a line that is full


def open_device(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def read_all(device, line, delay_s):
    while len(line) < PACKETS_MAX:
        try:
            packet = os.read(device, PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        line.append((time.monotonic() + delay_s, packet))


def write_due(device, line):
    while line and line[0][0] <= time.monotonic():
        try:
            os.write(device, line.popleft()[1])
        except OSError:
            pass  # lost: the device is down, or full


def main(first, second, milliseconds):
    delay_s = float(milliseconds) / 1e3
    ends = [open_device(first), open_device(second)]
    lines = [collections.deque(), collections.deque()]  # by the end at which its packets came in
    print("ready", flush=True)
    while True:
        due = [line[0][0] for line in lines if line]
        wait = max(0, min(due) - time.monotonic()) if due else None
        readable = select.select(ends, [], [], wait)[0]
        for number in range(2):
            if ends[number] in readable:
                read_all(ends[number], lines[number], delay_s)
            write_due(ends[1 - number], lines[number])


if __name__ == "__main__":
    main(*sys.argv[1:])
