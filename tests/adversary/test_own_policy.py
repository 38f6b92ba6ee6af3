"""The policy that decides about the command lies in a file, and the command has the rights of its owner: it writes and
replaces it in every way that those rights give."""

import shutil
import time

import pytest

import guard
from own_files import give, owned_folder, run

HOST = "v4.example.com"
NARROW = guard.policy(guard.endpoint(HOST))
WIDE = guard.policy(guard.endpoint(HOST), guard.endpoint("other.example.com"))


def never_allowed(session, host, seconds=0.6):
    """For longer than a changed policy takes to be in force (0.2 s at most)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert session.get(host)["status"] in (None, 403), session.stderr()
        time.sleep(0.1)


# $P is the policy, $W a wider one, $D the policy's folder.
REWRITES = {
    "written": "cat $W >$P",
    "appended": "cat $W >>$P",
    "made writable, then written": "chmod 666 $P; cat $W >$P",
    "replaced": "cp $W $D/new; mv -f $D/new $P",
    "removed and made again": "rm -f $P; cp $W $P",
    "exchanged": "python3 -c 'import ctypes; ctypes.CDLL(None).renameat2(-100, b\"'$W'\", -100, b\"'$P'\", 2)'",
    "truncated": "truncate -s 0 $P; cat $W | dd of=$P conv=notrunc",
    "by another name": "ln $P $D/other; cat $W >$D/other",
    "through an open descriptor": "exec 3<$P; cat $W >/proc/self/fd/3",
    "through its root": "cat $W >/proc/self/root$P",
    "in another folder of its name": "mv $D $D.away; mkdir $D; cp $W $P; touch $D.away/noise",
    "a link in place of its folder": "mv $D $D.away; cp -r $D.away $D.mine; cat $W >$D.mine/policy.yaml; "
    "ln -s $D.mine $D; touch $D.away/noise",
    "uncovered": "umount $P; cat $W >$P",
    "uncovered in namespaces inside": "unshare -Urm bash -c \"umount $P; umount -l $P; cat $W >$P\"",
    "bound beside, in namespaces inside": "mkdir $D.b; unshare -Urm bash -c \"mount --bind $D $D.b; cat $W "
    ">$D.b/policy.yaml; mount -o remount,rw,bind $P; cat $W >$P\"",
    "over it": "unshare -Urm bash -c \"mount --bind $W $P; sleep 0.3\"",
}


BY_ROOT = ("written", "replaced", "in another folder of its name", "uncovered in namespaces inside")


@pytest.mark.parametrize(
    "user, how", [("ordinary", how) for how in REWRITES] + [("root", how) for how in BY_ROOT], indirect=["user"]
)
def test_the_command_writes_its_own_policy(user_bench, world, how):
    """A changed policy is taken up at once: whoever can write it can do everything."""
    folder = owned_folder(user_bench, "config")
    wide = user_bench.folder / "wide.yaml"
    user_bench.policy_file = folder / "policy.yaml"
    user_bench.write_policy(NARROW)
    wide.write_text(WIDE)
    give(user_bench, folder, user_bench.policy_file, wide)
    with user_bench.session(policy=NARROW) as session:
        assert session.get(HOST)["status"] == 200
        said = session.do(run, f"D={folder} P={user_bench.policy_file} W={wide}; {REWRITES[how]}")
        never_allowed(session, "other.example.com")
        assert session.get(HOST)["status"] == 200, said
    assert not [r for r in world.requests() if r.header("host") != HOST]


def test_written_from_outside_it_counts(user_bench, world):
    """The attack's control: the same words at the same place, by somebody who may."""
    with user_bench.session(policy=NARROW) as session:
        assert session.get("other.example.com")["status"] is None
        user_bench.write_policy(WIDE)
        end = time.monotonic() + 10
        while session.get("other.example.com")["status"] != 200:
            assert time.monotonic() < end, session.stderr()


def test_the_command_switches_the_link_to_its_policy(user_bench, world):
    """A link can't be covered, so it is followed once."""
    folder = owned_folder(user_bench, "config")
    (folder / "narrow.yaml").write_text(NARROW)
    (folder / "wide.yaml").write_text(WIDE)
    (folder / "policy.yaml").symlink_to("narrow.yaml")
    give(user_bench, folder, folder / "narrow.yaml", folder / "wide.yaml")
    with user_bench.session(flags=["--policy", folder / "policy.yaml"]) as session:
        session.do(run, f"cd {folder}; ln -sfn wide.yaml policy.yaml; touch noise")
        never_allowed(session, "other.example.com")
        assert session.get(HOST)["status"] == 200


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_the_command_writes_its_policy_through_a_standard_stream(user_bench, world, stream):
    """An open descriptor leads past the mount that keeps the file from being written."""
    wide = user_bench.folder / "wide.yaml"
    wide.write_text(WIDE)
    user_bench.write_policy(NARROW)
    give(user_bench, user_bench.policy_file)
    number = {"stdin": 0, "stdout": 1, "stderr": 2}[stream]
    script = f"cat {wide} >/proc/self/fd/{number}; sleep 0.5; curl -s -m 5 https://other.example.com/reached"
    with open(user_bench.policy_file, "r" if number == 0 else "a") as given:
        process = user_bench.start(
            ["bash", "-c", f"exec {number + 5}<&{number}; {script}"], policy=NARROW, **{stream: given}
        )
        process.communicate(timeout=30)
    assert process.returncode == 2
    assert not world.requests()


def test_a_policy_that_took_the_place_of_another_is_not_believed(bench, world):
    """An editor that replaces the file uncovers it: from then on the command could be the writer, and nothing that
    stands there counts."""
    with bench.session(policy=NARROW) as session:
        assert session.get(HOST)["status"] == 200
        bench.replace_policy(WIDE)
        session.wait_for_stderr("another file that the command could have put there")
        session.do(run, f"cat {bench.policy_file} >/dev/null; echo >>{bench.policy_file}")
        never_allowed(session, "other.example.com")
        assert session.get(HOST)["status"] == 200


def test_the_command_adds_a_root_for_an_upstream(user_bench, world):
    """Whoever adds a root to an endpoint's caBundle may pose as its server."""
    bundle = user_bench.folder / "bundle.pem"
    shutil.copy(world.root, bundle)
    give(user_bench, bundle)
    stranger = (world.folder / "stranger-root.pem").read_text()
    policy = guard.policy(guard.endpoint("unknown-root.example.com", caBundle={"file": str(bundle)}), guard.endpoint(HOST))

    def add(path, text):
        try:
            with open(path, "a") as file:
                file.write(text)
        except OSError as error:
            return type(error).__name__

    with user_bench.session(policy=policy) as session:
        session.do(add, str(bundle), stranger)
        assert session.get("unknown-root.example.com")["status"] == 502
        assert session.get(HOST)["status"] == 200
    assert not [r for r in world.requests() if r.header("host") != HOST]
