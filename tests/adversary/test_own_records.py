"""Records tell what the command did, and the guard writes files where the command can write too."""

import os
import socket
import subprocess

import pytest

import guard
import lab
from own_files import give, owned_folder, run

HOST = "v4.example.com"
NARROW = guard.policy(guard.endpoint(HOST))


ERASURES = {
    "truncated": ": >$R",
    "overwritten": 'echo \'{"kind":"exchange","decision":"allow","host":"forged"}\' >$R',
    "appended": 'echo \'{"kind":"exchange","decision":"allow","host":"forged"}\' >>$R',
    "removed": "rm -f $R",
    "replaced": "echo forged >x; mv -f x $R",
    "moved away": "mv $R $R.old",
    "punched": "fallocate -p -o 0 -l 4096 $R",
    "uncovered in namespaces inside": 'unshare -Urm bash -c "umount $R; : >$R"',
    "through an open descriptor": "exec 3<$R; : >/proc/self/fd/3",
}


@pytest.mark.parametrize("how", ERASURES)
def test_the_command_edits_its_records(user_bench, world, how):
    """What it did would never have been."""
    user_bench.record.touch()
    give(user_bench, user_bench.record)
    with user_bench.session(policy=NARROW) as session:
        assert session.get(HOST, "/before")["status"] == 200
        session.wait_for_records(lambda r: len(guard.exchanges(r)) == 1)
        session.do(run, f"R={user_bench.record}; {ERASURES[how]}")
        assert session.get(HOST, "/after")["status"] == 200
        records = guard.exchanges(session.wait_for_records(lambda r: len(guard.exchanges(r)) >= 2))
    assert [(r["path"], r["host"]) for r in records] == [("/before", HOST), ("/after", HOST)]


def test_the_command_makes_the_guard_overwrite_its_records(bench, world):
    """The guard is not confined: a link where it writes its draft would have let it do what the command may not."""

    def link():
        os.symlink("record.jsonl", "draft.yaml.new")

    with bench.session(flags=["--learn", bench.folder / "draft.yaml"]) as session:
        assert session.get(HOST)["status"] == 200
        session.wait_for_records(guard.exchanges)
        session.do(link)
    assert guard.exchanges(bench.records()) and "EgressPolicy" in (bench.folder / "draft.yaml").read_text()


def test_the_command_makes_the_guard_open_up_folders_of_others(user_bench, world):
    """At the end the guard opens the folders of its scratch folder to empty them: not those behind a link there."""
    victim = owned_folder(user_bench, "victim")
    (victim / "closed").mkdir(mode=0o000)
    give(user_bench, victim, victim / "closed")

    def swap(victim):
        scratch = os.path.dirname(os.environ["SSL_CERT_FILE"])
        os.rename(scratch, scratch + ".away")
        os.symlink(victim, scratch)
        return scratch

    with user_bench.session(policy=NARROW) as session:
        assert session.get(HOST)["status"] == 200
        scratch = session.do(swap, str(victim))
        assert session.get(HOST, verify=False)["status"] == 200  # it has taken its own trust away
    assert lab.mode_of(victim / "closed") == 0
    for path in (scratch, scratch + ".away"):
        subprocess.run(["rm", "-rf", path], check=True)


def test_the_admin_socket_is_not_for_the_command(user_bench, world):
    """It has the same user as the guard, which is who may ask there: configuration, counters, a place to flood."""

    def ask_admin(path):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(3)
        try:
            stream.connect(path)
            stream.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            return stream.recv(1000)
        except OSError as error:
            return type(error).__name__

    user_bench.admin = user_bench.folder / "home" / "admin.sock"
    with user_bench.session(policy=NARROW, flags=["--admin", user_bench.admin]) as session:
        answer = session.do(ask_admin, str(user_bench.admin))
        assert isinstance(answer, str), answer
        session.do(run, f"rm -f {user_bench.admin}; mv {user_bench.admin} {user_bench.admin}.x")
        assert isinstance(session.do(ask_admin, f"{user_bench.admin}"), str)
        assert session.get(HOST)["status"] == 200
        assert user_bench.metrics()[0] == 200, "it still answers outside"
