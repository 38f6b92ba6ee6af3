"""Nothing is left behind: no process, namespace, rule, file or mount, however the guard and the command end."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

import guard
import lab

POLICY = guard.policy(guard.endpoint("v4.example.com"))


@pytest.fixture
def spotless(user_bench):
    """Compares the lab before and after."""
    before = lab.traces()
    yield
    end = time.monotonic() + 10
    while (after := lab.traces()) != before and time.monotonic() < end:
        reap()
        time.sleep(0.1)
    for entry in after["processes"] - before["processes"]:
        os.kill(int(entry.split()[0]), signal.SIGKILL)  # the next test shall not see them
    for part in before:
        assert after[part] == before[part], part


def reap():
    """Those whose parents are gone are our children now: collect the dead ones."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def started(bench, command, **options):
    process = bench.start(["sh", "-c", "echo ready; " + command], policy=POLICY, **options)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def test_after_a_normal_end(user_bench, world, spotless):
    outcome = user_bench.run(
        ["curl", "-sS", "-o", "/dev/null", "https://v4.example.com/echo"],
        policy=POLICY,
        flags=["--admin", user_bench.admin],
    )
    assert outcome.code == 0, outcome.err


def test_after_an_error_at_the_start(user_bench, world, spotless):
    assert user_bench.run(["no-such-command"], policy=POLICY).code == 127
    assert user_bench.run(["true"], policy="nonsense").code == 2


def test_after_the_command_was_killed(user_bench, world, spotless):
    process = started(user_bench, "sleep 60")
    inner = [pid for pid in lab.children(process.pid) if lab.command_line(pid).startswith(("sh ", "sleep "))]
    assert inner
    for pid in inner:
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=20)
    assert process.returncode in (137, -9)


def test_after_the_guard_was_killed(user_bench, world, spotless):
    process = started(user_bench, "sleep 60; echo survived")
    below = lab.children(process.pid)
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while any(lab.alive(pid) for pid in below):
        assert time.monotonic() < end, [lab.command_line(pid) for pid in below if lab.alive(pid)]
        time.sleep(0.05)
    assert "survived" not in process.stdout.read()


def ended(process):
    try:
        process.communicate(timeout=3)
        return True
    except subprocess.TimeoutExpired:
        return False


def test_after_one_helper_of_the_guard_was_killed(user_bench, world, spotless):
    """Whatever helpers there are, each in a run of its own: none of them can be killed so that something stays, or that
    the command runs on without its guard."""
    index, helpers = 0, [None]
    while index < len(helpers):
        process = started(user_bench, "sleep 60")
        helpers = [pid for pid in lab.children(process.pid) if lab.runs_sallyport(pid)]
        os.kill(helpers[index], signal.SIGKILL)
        if not ended(process):
            assert lab.alive(process.pid) and lab.runs_sallyport(
                process.pid
            ), "if the command goes on, so does its guard"
            process.terminate()
            process.communicate(timeout=20)
        index += 1
    assert index >= 1


def test_after_its_process_group_was_killed(user_bench, world, spotless):
    """What a shell's `kill -9 %1` and many a supervisor do."""
    process = started(user_bench, "sleep 60", start_new_session=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)


def test_after_all_of_them_were_killed_at_once(user_bench, world):
    """As the kernel does with a control group: then nobody is left to remove files, but no process stays, no rule, no
    mount, and no key in what remains."""
    before = lab.traces()
    process = started(user_bench, "sleep 60")
    everybody = [process.pid, *lab.children(process.pid)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in everybody:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # ended with another
    process.communicate(timeout=20)
    end = time.monotonic() + 10
    while (after := lab.traces())["processes"] != before["processes"] and time.monotonic() < end:
        reap()
        time.sleep(0.1)
    left = after.pop("files") - before.pop("files")
    assert after == before
    for path in map(pathlib.Path, left):
        assert not path.is_file() or b"PRIVATE" not in path.read_bytes()
    for path in map(pathlib.Path, left):
        if path.is_dir():
            lab.remove(path)


def test_after_a_command_that_left_a_daemon(user_bench, world, spotless):
    """The daemon may live on only while the guard does, or must end with the command; it never gets out."""
    start = time.monotonic()
    process = user_bench.start(
        ["sh", "-c", "setsid sh -c 'sleep 30' >/dev/null 2>&1 </dev/null & echo left"], policy=POLICY
    )
    process.communicate(timeout=20)
    assert time.monotonic() - start < 15 and process.returncode == 0


def test_after_the_terminal_went_away(user_bench, world, spotless):
    import pty

    master, slave = pty.openpty()
    process = user_bench.start(
        ["sh", "-c", "echo ready; sleep 60"],
        policy=POLICY,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        text=False,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540E, 0),
    )
    os.close(slave)
    assert os.read(master, 100)
    os.close(master)
    process.wait(20)


def test_the_trust_files_are_private_and_gone_afterwards(user_bench, world, spotless):
    outcome = user_bench.python(
        """
        import os, stat
        for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
            path = os.environ[name]
            mode = stat.S_IMODE(os.stat(path).st_mode)
            folder = stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode)
            print(path, mode & 0o077 == 0 or folder & 0o077 == 0, os.access(path, os.W_OK))
    """,
        policy=POLICY,
    )
    for line in outcome.out.splitlines():
        path, private, _ = line.split()
        assert private == "True", outcome.out
        assert not os.path.exists(path)


def test_the_namespace_ends_with_its_command(user_bench, world, spotless):
    """No process is in a network namespace that was not there before."""

    def namespaces():
        found = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/net"))
            except OSError:
                pass
        return found

    before = namespaces()
    user_bench.run(["true"], policy=POLICY)
    end = time.monotonic() + 10
    while namespaces() - before:
        assert time.monotonic() < end
        time.sleep(0.1)
