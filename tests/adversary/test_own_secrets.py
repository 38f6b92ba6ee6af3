"""Secrets and the CA's key lie in files that the command, which has the rights of their owner, must not read."""

import os
import shutil
import subprocess

import pytest

import guard
from own_files import give, owned_folder, run

HOST = "v4.example.com"
NARROW = guard.policy(guard.endpoint(HOST))
SECRET = "sk-live-0b5e55ed5eC3e7"


READS = {
    "read": "cat $F",
    "made readable, then read": "chmod 777 $F; cat $F",
    "by another name": "ln $F $F.link; cat $F.link",
    "moved": "mv $F $F.moved; cat $F.moved",
    "its folder moved": "mv $D $D.away; cat $D.away/*",
    "copied": "cp -a --reflink=auto $D $D.copy; cat $D.copy/*; tar -C $D -c . | cat",
    "through its root": "cat /proc/self/root$F /proc/1/root$F /proc/*/root$F",
    "in memory": "python3 -c 'import mmap; print(mmap.mmap(open(\"'$F'\", \"rb\").fileno(), 0)[:])'",
    "uncovered": "umount $F; umount -l $F; cat $F",
    "uncovered in namespaces inside": "unshare -Urm bash -c \"umount $F; umount -l $F; cat $F\"",
    "bound beside, in namespaces inside": "mkdir $D.b; unshare -Urm bash -c \"mount --bind $D $D.b; cat $D.b/*\"",
    "bound beside with all, in namespaces inside": "mkdir $D.b; unshare -Urm bash -c \"mount --rbind $D $D.b; cat $D.b/*\"",
    "overlaid, in namespaces inside": "mkdir $D.u $D.w $D.m; unshare -Urm bash -c \"mount -t overlay none $D.m -o "
    "lowerdir=$D,upperdir=$D.u,workdir=$D.w; cat $D.m/*\"",
    "another root, in namespaces inside": "unshare -Urm chroot / cat $F; unshare -Urm --root=/proc/1/root cat $F",
    "everywhere": "grep -rsF sk-live- $D /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/fd; env",
}


def credential(path):
    return {
        "name": "paid",
        "secret": {"file": str(path)},
        "inject": {"header": "Authorization", "format": "Bearer {}"},
    }


BY_ROOT = ("read", "through its root", "uncovered in namespaces inside", "overlaid, in namespaces inside")


@pytest.mark.parametrize(
    "user, how", [("ordinary", how) for how in READS] + [("root", how) for how in BY_ROOT], indirect=["user"]
)
def test_the_command_reads_the_file_of_its_secret(user_bench, world, how):
    """It is the owner's file: the placeholder would be worth nothing if the secret lay beside it."""
    folder = owned_folder(user_bench, "secrets")
    (folder / "key").write_text(SECRET)
    give(user_bench, folder, folder / "key")
    policy = guard.policy(
        guard.endpoint(HOST, path="/status/", credential="paid"), credentials=[credential(folder / "key")]
    )
    with user_bench.session(policy=policy) as session:
        said = session.do(run, f"D={folder} F={folder}/key; {READS[how]}")
        assert SECRET not in said
        assert session.get(HOST, "/status/200")["status"] == 200
    assert [r.header("authorization") for r in world.requests()] == [f"Bearer {SECRET}"]
    assert (folder / "key").read_text() == SECRET if (folder / "key").exists() else True


@pytest.mark.parametrize("how", ["read", "through its root", "uncovered in namespaces inside", "copied"])
def test_the_command_reads_the_key_of_the_ca(user_bench, world, how):
    """With it, it could pose as every server to whoever trusts that root."""
    folder = owned_folder(user_bench, "ca")
    shutil.copy(world.guard_root.certificate, folder / "root.pem")
    shutil.copy(world.guard_root.key, folder / "root.key")
    (folder / "root.key").chmod(0o600)
    give(user_bench, folder, folder / "root.pem", folder / "root.key")
    flags = ["--ca-cert", folder / "root.pem", "--ca-key", folder / "root.key"]
    with user_bench.session(policy=NARROW, flags=flags) as session:
        said = session.do(run, f"D={folder} F={folder}/root.key; {READS[how]}")
        assert "PRIVATE KEY" not in said
        assert session.get(HOST)["status"] == 200


def test_no_private_key_lies_where_the_command_can_read(user_bench, world):
    """The CA of a run exists in the guard's memory alone: not in the files that make clients trust it."""

    def search():
        found = []
        for top in {os.path.dirname(os.environ["SSL_CERT_FILE"]), "/tmp", "/dev/shm", "/run/user"}:
            for folder, _, files in os.walk(top):
                for name in files:
                    try:
                        if b"PRIVATE KEY" in open(os.path.join(folder, name), "rb").read(1 << 22):
                            found.append(name)
                    except OSError:
                        pass
        return found

    with user_bench.session(policy=NARROW) as session:
        assert session.get(HOST)["status"] == 200
        assert session.do(search) == []


def test_a_file_that_cannot_be_kept_from_the_command_keeps_it_from_running(user_bench, world):
    """The other way round from convenience: without /dev/null and without the right to mount, nothing is run."""
    folder = owned_folder(user_bench, "secrets")
    (folder / "key").write_text(SECRET)
    give(user_bench, folder, folder / "key")
    policy = guard.policy(guard.endpoint(HOST, credential="paid"), credentials=[credential(folder / "key")])
    user_bench.write_policy(policy)
    script = (
        "mount -t tmpfs none /dev 2>/dev/null; exec "
        + " ".join(user_bench.arguments(["echo", "ran"], policy=policy))
    )
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script],
        env=user_bench.environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "ran" not in done.stdout.split() and SECRET not in done.stdout + done.stderr, done.stderr
    assert done.returncode != 0
