"""The command is what it would be without the guard: its streams, its terminal, its signals, its exit code."""

import ast
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

import pytest

import guard
import lab

EMPTY = guard.policy()
OPEN = guard.policy(guard.endpoint("v4.example.com"))


@pytest.mark.parametrize("code", [0, 1, 2, 42, 125, 126, 127, 255])
def test_the_exit_code_is_the_commands(bench, world, code):
    assert bench.run(["sh", "-c", f"exit {code}"], policy=EMPTY).code == code


def test_the_exit_code_is_the_commands_for_both_users(user_bench, world):
    assert user_bench.run(["sh", "-c", "exit 7"], policy=EMPTY).code == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGHUP])
def test_a_command_that_a_signal_ended_gives_128_and_its_number(user_bench, world, number):
    outcome = user_bench.run(["sh", "-c", f"kill -{int(number)} $$"], policy=EMPTY)
    assert outcome.code == 128 + number, outcome.err


def test_standard_streams_pass_through_unchanged(user_bench, world):
    data = bytes(range(256)) * 5000
    process = user_bench.start(["sh", "-c", "cat; echo to-stderr >&2"], policy=EMPTY, stdin=subprocess.PIPE, text=False)
    out, err = process.communicate(data, 30)
    assert out == data and err == b"to-stderr\n" and process.returncode == 0


def test_standard_input_ends_when_ours_does(bench, world):
    assert bench.run(["wc", "-c"], policy=EMPTY).out.strip() == "0"


def test_nothing_is_added_to_standard_output_or_error(user_bench, world):
    outcome = user_bench.run(["curl", "-sS", "-o", "/dev/null", "https://v4.example.com/echo"], policy=OPEN)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_no_other_descriptor_passes(bench, world):
    """Neither the guard's nor the caller's: a socket among them would be a way out."""
    near, far = socket.socketpair()
    code = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')[:-1]])"
    outcome = bench.run([guard.PYTHON, "-c", code], policy=EMPTY, pass_fds=[far.fileno()])
    assert len(ast.literal_eval(outcome.out)) == 3, "0, 1 and 2: " + outcome.out
    near.close()
    far.close()


def test_arguments_pass_unharmed(bench, world):
    words = ["a b", "--policy", "*", "$HOME", "", "é", "-x", "--", "[1, 2]", "[]", '[["a", "b"], []]', "[", "a,b", "{}", "\n"]
    code = "import sys; print(ascii(sys.argv[1:]))"
    assert bench.run([guard.PYTHON, "-c", code, *words], policy=EMPTY).out.strip() == ascii(words)


def test_the_working_folder_umask_and_environment_are_ours(bench, world):
    outcome = bench.run(["sh", "-c", "pwd; umask; echo $MINE"], policy=EMPTY, env={"MINE": "kept"}, umask=0o027)
    assert outcome.out.split() == [str(bench.folder), "0027", "kept"]


def test_the_user_is_the_same_inside(user_bench, world):
    expected = "0 0" if user_bench.user == "root" else f"{lab.ORDINARY_UID} {lab.ORDINARY_UID}"
    outcome = user_bench.run(["sh", "-c", "echo $(id -u) $(id -g); touch made-inside"], policy=EMPTY)
    assert outcome.out.strip() == expected, outcome.err
    made = (user_bench.folder / "made-inside").stat()
    assert f"{made.st_uid} {made.st_gid}" == expected


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT]
)
def test_a_signal_to_the_guard_reaches_the_command(bench, world, number):
    # Waits for the signal instead of handling it: a handler of Python's runs only after the sleep when the signal
    # comes between the interpreter's last look and the sleep (without the guard: 1 of 400 on a busy machine).
    code = f"""
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])
print("ready", flush=True)
signal.sigwait([{int(number)}])
os.write(1, b"caught\\n")
os._exit(9)
"""
    process = bench.start([guard.PYTHON, "-c", code], policy=EMPTY)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == ("caught\n", 9)


def test_a_signal_that_the_command_does_not_catch_ends_both(user_bench, world):
    process = user_bench.start(["sh", "-c", "echo ready; exec sleep 60"], policy=EMPTY)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)


def on_terminal(bench, command, flags=(), policy=EMPTY, actions=()):
    """Runs a guarded command as a session of its own on a new terminal. `actions` are (text to wait for, bytes to
    type). Returns (exit code, everything that appeared)."""
    master, slave = pty.openpty()
    process = bench.start(
        command,
        flags,
        policy,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        text=False,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540E, 0),
    )  # TIOCSCTTY
    os.close(slave)
    seen, waiting, end = b"", list(actions), time.monotonic() + 30
    while time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:
                break  # the last holder of the terminal is gone
            if not data:
                break
            seen += data
        elif process.poll() is not None:
            break
        if waiting and waiting[0][0] in seen:
            os.write(master, waiting.pop(0)[1])
    os.close(master)
    try:
        code = process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"did not end: {seen!r}")
    guard.no_sanitizer_report(seen)
    return code, seen.decode(errors="replace")


def test_the_terminal_is_the_commands(user_bench, world):
    code = "import os; print(*map(os.isatty, (0, 1, 2)), os.getpgrp() == os.tcgetpgrp(0)); print(input())"
    status, seen = on_terminal(user_bench, [guard.PYTHON, "-c", code], actions=[(b"True", b"typed\n")])
    assert status == 0
    assert "True True True True" in seen and seen.count("typed") == 2, seen


def test_ctrl_c_ends_both(user_bench, world):
    before = set(lab.children(os.getpid()))
    # Not a shell: dash forgets an interrupt that comes while it starts a child, and Python's own handler would run only
    # after the sleep when the interrupt comes just before it.
    code = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("ready", flush=True)
time.sleep(60)
"""
    status, seen = on_terminal(user_bench, [guard.PYTHON, "-c", code], actions=[(b"ready", b"\x03")])
    assert status in (130, -signal.SIGINT), seen
    assert not [pid for pid in set(lab.children(os.getpid())) - before if lab.alive(pid)]


def test_a_command_that_handles_ctrl_c_goes_on(bench, world):
    code = """
import os, signal, time
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"handled"))
print("ready", flush=True)
time.sleep(1)
import urllib.request
print(urllib.request.urlopen("https://v4.example.com/echo").status)
"""
    status, seen = on_terminal(bench, [guard.PYTHON, "-c", code], policy=OPEN, actions=[(b"ready", b"\x03")])
    assert status == 0 and "handled" in seen and "200" in seen, seen


def test_a_job_can_be_stopped_and_continued(bench, world):
    """Ctrl-Z from the terminal, `fg` by hand: the command goes on where it was."""
    process = bench.start(["sh", "-c", "echo ready; sleep 1; echo done"], policy=EMPTY, start_new_session=True)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    os.killpg(process.pid, signal.SIGTSTP)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == ("done\n", 0)


TRAFFIC = """
curl -sS -o /dev/null https://v4.example.com/echo
curl -sS -o /dev/null --resolve denied.example.com:443:192.0.2.1 https://denied.example.com/secret?key=hidden
"""


def test_a_terminal_shows_a_line_per_exchange_and_a_summary(user_bench, world):
    status, seen = on_terminal(user_bench, ["sh", "-c", TRAFFIC], policy=OPEN)
    assert status == 0, seen
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert plain != seen, "coloured"
    assert re.search(r"GET.*v4\.example\.com/echo", plain), plain
    assert re.search(r"denied\.example\.com", plain) and "host-not-allowed" in plain
    assert "hidden" not in plain
    lines = [line for line in plain.splitlines() if "v4.example.com" in line]
    assert 1 <= len(lines) <= 3 and all(len(line) <= 160 for line in lines)
    assert re.search(r"1 allow", plain) and re.search(r"1 den", plain), plain


def test_quiet_is_quiet_on_a_terminal(bench, world):
    _, seen = on_terminal(bench, ["sh", "-c", TRAFFIC], flags=["--quiet"], policy=OPEN)
    assert seen == ""


def test_verbose_speaks_without_a_terminal_and_without_colour(bench, world):
    outcome = bench.run(["sh", "-c", TRAFFIC], flags=["--verbose"], policy=OPEN)
    assert "v4.example.com/echo" in outcome.err and "host-not-allowed" in outcome.err
    assert "\x1b[" not in outcome.err and "hidden" not in outcome.err and outcome.out == ""


def test_children_of_the_command_are_guarded_too(user_bench, world):
    outcome = user_bench.run(
        [
            "sh",
            "-c",
            "(curl -sS -o /dev/null -w '%{http_code} ' https://v4.example.com/echo & wait); "
            "setsid -w curl -sS -o /dev/null -w '%{http_code}' https://v4.example.com/echo",
        ],
        policy=OPEN,
    )
    assert outcome.out == "200 200", outcome.err


def test_a_command_that_is_a_shell_script_without_a_path_is_found(bench, world):
    script = bench.folder / "my-tool"
    script.write_text("#!/bin/sh\necho found\n")
    script.chmod(0o755)
    assert bench.run(["my-tool"], policy=EMPTY, env={"PATH": f"{bench.folder}:/usr/bin:/bin"}).out == "found\n"
    assert bench.run(["./my-tool"], policy=EMPTY).out == "found\n"


def test_loopback_inside_is_the_commands_own(user_bench, world):
    """Servers and clients of the command find each other on loopback, and never the machine's services there."""
    outcome = user_bench.python(
        """
        import socket
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            server = socket.create_server((address, 0), family=family)
            client = socket.create_connection(server.getsockname()[:2], 5)
            server.accept()[0].sendall(b"own")
            print(client.recv(10).decode())
        try:
            socket.create_connection(("127.0.0.10", 443), 3)
            print("reached the machine's loopback")
        except OSError:
            print("refused")
    """,
        policy=OPEN,
    )
    assert outcome.out.split("\n") == ["own", "own", "refused", ""], outcome.out + outcome.err
    assert outcome.records == []
