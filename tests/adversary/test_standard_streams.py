"""Standard input, output and error are the only descriptors that the command gets from outside, and it shares them, and
a process group, with its guard."""

import os
import signal
import socket
import subprocess
import time

import pytest

import guard
import lab

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST))

# Makes a socket that is somebody else's into one to the outside: connect() with AF_UNSPEC takes a connection apart.
RECONNECT = f"""
import ctypes, os, socket, sys
number = int(sys.argv[1])
libc = ctypes.CDLL(None)
libc.connect(number, bytes(16), 16)
stream = socket.socket(fileno=os.dup(number))
stream.settimeout(2)
address = "{lab.OUTSIDE_V6}" if stream.family == socket.AF_INET6 else "{lab.OUTSIDE_V4}"
try:
    stream.connect((address, 4444))
    stream.send(b"shouted")
    stream.recv(100)
except OSError as error:
    os.write(2 if number != 2 else 1, repr(error).encode())
"""


def tcp(family):
    address = lab.ORIGIN_V6 if family == socket.AF_INET6 else lab.ORIGIN_V4
    return socket.create_connection((address, 80))


SOCKETS = {
    "tcp": lambda: tcp(socket.AF_INET),
    "tcp, version 6": lambda: tcp(socket.AF_INET6),
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "udp, version 6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "unconnected tcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "listening tcp": lambda: socket.create_server(("127.0.0.1", 0)),
}


def streams(number, given):
    made = {0: subprocess.DEVNULL, 1: subprocess.PIPE, 2: subprocess.PIPE}
    made[number] = given
    return {"stdin": made[0], "stdout": made[1], "stderr": made[2]}


@pytest.mark.parametrize(
    "user, kind, number",
    [("ordinary", kind, 0) for kind in SOCKETS] + [("ordinary", "tcp", 1), ("ordinary", "udp", 2), ("root", "tcp", 0)],
    indirect=["user"],
)
def test_a_network_socket_as_standard_stream(user_bench, world, watch, listeners, kind, number):
    """A socket stays in the network namespace that it was made in, which is the one outside."""
    with SOCKETS[kind]() as given:
        process = user_bench.start([guard.PYTHON, "-c", RECONNECT, number], policy=POLICY, **streams(number, given))
        process.communicate(timeout=30)
    assert process.returncode == 125
    assert watch.saw(b"shouted") == [] and listeners.heard == []


@pytest.mark.parametrize("kind", ["tcp", "tcp, version 6", "udp", "udp, version 6"])
def test_without_a_guard_it_works(world, watch, listeners, kind):
    with SOCKETS[kind]() as given:
        subprocess.run([guard.PYTHON, "-c", RECONNECT, "0"], stdin=given, capture_output=True, timeout=30)
    assert watch.saw(b"shouted") and listeners.heard


def test_a_socket_to_a_process_of_this_machine_is_a_pipe(bench, world):
    """The other way round: the sockets that Node and sshd hand out as standard streams are let be."""
    mine, its = socket.socketpair()
    with mine, its:
        outcome = bench.start(["cat"], policy=POLICY, stdin=its, text=True)
        its.close()
        mine.sendall(b"through")
        mine.shutdown(socket.SHUT_WR)
        assert outcome.communicate(timeout=30)[0] == "through"


GROUP = """
import os, signal, socket, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                try:
                    stream = socket.socket(socket.AF_INET, kind)
                    stream.settimeout(0.1)
                    stream.connect((sys.argv[2], 4444))
                    stream.send(b"shouted")
                except OSError:
                    pass
    os._exit(0)
print("ready", flush=True)
signal.signal(int(sys.argv[1]), signal.SIG_IGN) if int(sys.argv[1]) not in (9, 19) else None
os.kill(0, int(sys.argv[1]))
time.sleep(1)
"""


@pytest.mark.parametrize("number", [1, 9, 10, 14, 15, 19, 29, 64])
def test_a_signal_to_the_whole_group(bench, world, watch, listeners, number):
    """The guard is in the command's process group, and kill(0) reaches through PID namespaces. Whatever the guard does
    about a signal, nothing gets out after it."""
    process = bench.start(
        [guard.PYTHON, "-c", GROUP, number, lab.OUTSIDE_V4], policy=POLICY, start_new_session=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        end = time.monotonic() + 1
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        assert watch.saw(b"shouted") == [] and watch.leaks() == [] and listeners.heard == []
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.kill()
        process.communicate(timeout=20)


def test_standard_error_that_takes_nothing_more(bench, world):
    """The command fills the pipe that the guard's lines go to: its exchanges must not go unrecorded for that."""

    def fill():
        import fcntl

        flags = fcntl.fcntl(2, fcntl.F_GETFL)
        fcntl.fcntl(2, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        try:
            while True:
                os.write(2, b"x" * 4096)
        except BlockingIOError:
            pass
        try:
            while True:
                os.write(2, b"x")
        except BlockingIOError:
            pass
        fcntl.fcntl(2, fcntl.F_SETFL, flags)

    reading, writing = os.pipe()
    try:
        session = bench.session(policy=POLICY, flags=["--verbose"], stderr=writing)
        os.close(writing)
        with session:
            session.do(fill)
            for number in range(3):
                assert session.get(HOST, f"/unseen-{number}")["status"] == 200
                session.wait_for_records(
                    lambda r: any(x.get("path") == f"/unseen-{number}" for x in r), "the record waits for the terminal"
                )
    finally:
        os.close(reading)
