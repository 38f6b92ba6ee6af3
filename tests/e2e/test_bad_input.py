"""What a person gets who makes a mistake: the place, what was expected, what to do; and the exit code that scripts
can tell."""

import os
import re
import subprocess

import pytest

import guard
import lab
from fixtures import need_root

GOOD = guard.policy(guard.endpoint("v4.example.com"))


def sallyport(*arguments, **options):
    return subprocess.run(
        [guard.SALLYPORT, *map(str, arguments)], capture_output=True, text=True, timeout=30, **options
    )


def test_no_policy_and_no_learning(bench, world):
    outcome = bench.run(["touch", "was-run"])
    assert outcome.code == 2 and "--policy" in outcome.err and "learn" in outcome.err
    assert not (bench.folder / "was-run").exists()


def test_a_policy_file_that_is_missing(bench, world):
    outcome = bench.run(["touch", "was-run"], flags=["--policy", "/nonexistent/policy.yaml"])
    assert outcome.code == 2 and "/nonexistent/policy.yaml" in outcome.err
    assert not (bench.folder / "was-run").exists()


def test_a_policy_file_that_cannot_be_read(ordinary_bench, world):
    path = ordinary_bench.folder / "closed.yaml"
    path.write_text(GOOD)
    path.chmod(0o600)
    outcome = ordinary_bench.run(["true"], flags=["--policy", path])
    assert outcome.code == 2 and "closed.yaml" in outcome.err and "ermission" in outcome.err


def test_a_policy_that_is_a_folder(bench, world):
    outcome = bench.run(["true"], flags=["--policy", bench.folder])
    assert outcome.code == 2 and str(bench.folder) in outcome.err


HEAD = "apiVersion: sallyport.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: x}\nspec:\n  mode: enforce\n"

MISTAKES = {
    "unknown field": (
        HEAD + "  endpoints:\n  - name: a\n    host: a.example.com\n    rulez: []\n",
        r":9:\d+: .*rulez",
        "rules",
    ),
    "wrong type": (
        HEAD + "  endpoints:\n  - name: a\n    host: a.example.com\n    ports: https\n",
        r":9:\d+: .*",
        "ports",
    ),
    "unknown mode": (HEAD.replace("enforce", "inforce"), r":5:\d+: .*inforce", "enforce"),
    "unknown method": (
        HEAD + "  endpoints:\n  - {name: a, host: a.example.com, rules: [{methods: [G T], path: {prefix: /}}]}\n",
        r":7:\d+: ",
        "methods?",
    ),
    "bare wildcard": (HEAD + "  endpoints:\n  - {name: a, host: \"*\"}\n", r":7:\d+: ", "any"),
    "bad host": (HEAD + "  endpoints:\n  - {name: a, host: \"https://a.example.com/\"}\n", r":7:\d+: ", "host"),
    "bad prefix": (
        HEAD + "  endpoints:\n  - {name: a, host: a.example.com, addresses: [10.0.0.1/8]}\n",
        r":7:\d+: ",
        "10.0.0.0/8",
    ),
    "bad expression": (
        HEAD + "  endpoints:\n  - {name: a, host: a.example.com, rules: [{methods: [GET], path: {regex: \"(\"}}]}\n",
        r":7:\d+: ",
        "regex",
    ),
    "missing credential": (
        HEAD + "  endpoints:\n  - {name: a, host: a.example.com, credential: nobody}\n",
        r":7:\d+: ",
        "nobody",
    ),
    "syntax": (HEAD + "  endpoints: [\n", r":\d+:\d+: ", ""),
    "two of a name": (
        HEAD + "  endpoints:\n  - {name: a, host: a.example.com}\n  - {name: a, host: b.example.com}\n",
        r":8:\d+: ",
        "a",
    ),
    "wrong kind": ("apiVersion: sallyport.dev/v1alpha1\nkind: Policy\n", r":2:\d+: ", "EgressPolicy"),
    "wrong version": ("apiVersion: v1\nkind: EgressPolicy\n", r":1:\d+: ", "sallyport.dev/v1alpha1"),
    "not a mapping": ("- a\n- b\n", r":1:\d+: ", ""),
    "key twice": (HEAD + "  mode: audit\n", r":6:\d+: ", "mode"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_policy_is_told_with_its_place(bench, world, mistake):
    text, place, word = MISTAKES[mistake]
    outcome = bench.run(["touch", "was-run"], policy=text)
    assert outcome.code == 2, outcome.err
    assert re.search(r"policy\.yaml" + place, outcome.err), outcome.err
    assert re.search(word, outcome.err), outcome.err
    assert not (bench.folder / "was-run").exists()


def test_several_mistakes_are_told_at_once(bench, world):
    text = (
        HEAD
        + "  endpoints:\n  - {name: a, host: \"*\"}\n  - {name: b, hots: b.example.com}\n"
        + "  - {name: c, host: c.example.com, ports: [0]}\n"
    )
    outcome = bench.run(["true"], policy=text)
    for line in (7, 8, 9):
        assert re.search(rf"policy\.yaml:{line}:\d+: ", outcome.err), outcome.err


def test_a_command_that_does_not_exist(user_bench, world):
    outcome = user_bench.run(["no-such-command-anywhere"], policy=GOOD)
    assert outcome.code == 127 and "no-such-command-anywhere" in outcome.err
    assert user_bench.run(["/nonexistent/command"], policy=GOOD).code == 127


def test_a_command_that_cannot_be_executed(user_bench, world):
    path = user_bench.folder / "not-executable"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o644)
    outcome = user_bench.run([path], policy=GOOD)
    assert outcome.code == 126 and "not-executable" in outcome.err
    assert user_bench.run([user_bench.folder], policy=GOOD).code == 126


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "--policy"],
        ["run", "--no-such-flag", "--", "true"],
        ["no-such-command"],
        ["run", "--mode", "strict", "--", "true"],
        ["run", "--learn", "draft.yaml", "echo", "[1, 2]"],
        ["policy", "check"],
        ["policy", "test", "x.yaml"],
    ],
    ids=" ".join,
)
def test_usage_mistakes_exit_with_2_and_say_what_is_wrong(world, arguments):
    done = sallyport(*arguments)
    assert done.returncode == 2 and done.stderr and not done.stdout
    assert not re.search(r"terminate|what\(\)", done.stderr)


def test_help_shows_an_example(world):
    for arguments in (["--help"], ["run", "--help"], ["policy", "--help"], ["ca", "--help"]):
        done = sallyport(*arguments)
        assert done.returncode == 0 and "sallyport" in done.stdout and not done.stderr
    assert "-- " in sallyport("run", "--help").stdout


def test_a_certificate_and_a_key_that_do_not_match(bench, world):
    flags = ["--ca-cert", world.guard_root.certificate, "--ca-key", world.authority.key]
    outcome = bench.run(["touch", "was-run"], policy=GOOD, flags=flags)
    assert outcome.code == 2 and "does not belong" in outcome.err and "guard-root.pem" in outcome.err
    assert not (bench.folder / "was-run").exists()


@pytest.mark.parametrize(
    "flags, word",
    [
        (["--ca-cert", "{root}"], "--ca-key"),
        (["--ca-key", "{key}"], "--ca-cert"),
        (["--ca-cert", "/nonexistent/ca.pem", "--ca-key", "{key}"], "/nonexistent/ca.pem"),
        (["--ca-cert", "{key}", "--ca-key", "{key}"], "certificate"),
        (["--ca-cert", "{leaf}", "--ca-key", "{leaf_key}"], "CA"),
        (["--upstream-ca", "/nonexistent/roots.pem"], "/nonexistent/roots.pem"),
        (["--upstream-ca", "/dev/null"], "/dev/null"),
        (["--admin", "/nonexistent/admin.sock"], "/nonexistent/admin.sock"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_files_that_flags_name(bench, world, flags, word):
    places = {
        "root": world.guard_root.certificate,
        "key": world.guard_root.key,
        "leaf": world.good[0],
        "leaf_key": world.good[1],
    }
    outcome = bench.run(["touch", "was-run"], policy=GOOD, trust=False, flags=[flag.format(**places) for flag in flags])
    assert outcome.code in (2, 125) and word in outcome.err, outcome.err
    assert not (bench.folder / "was-run").exists()


def test_a_bundle_that_the_policy_names_and_that_is_missing(bench, world):
    outcome = bench.run(
        ["true"], policy=guard.policy(guard.endpoint("v4.example.com", caBundle={"file": "/nonexistent/ca.pem"}))
    )
    assert outcome.code == 2 and "/nonexistent/ca.pem" in outcome.err


def in_namespace_without_more(function):
    """Runs the function in a child that is an ordinary user of a user namespace in which no further one may be made.
    Returns (exit code, its standard error)."""
    ready, mapped, errors = os.pipe(), os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            lab._check(lab._libc.unshare(lab.CLONE_NEWUSER), "unshare")
            os.write(ready[1], b".")
            os.read(mapped[0], 1)
            with open("/proc/sys/user/max_user_namespaces", "w") as limit:
                limit.write("0")
            os.setgroups([])
            os.setresgid(*[lab.ORDINARY_UID] * 3)
            os.setresuid(*[lab.ORDINARY_UID] * 3)
            os.dup2(errors[1], 2)
            function()
        finally:
            os._exit(99)
    os.close(errors[1])
    os.read(ready[0], 1)
    for kind in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{kind}", "w") as mapping:
            mapping.write(f"0 0 1\n{lab.ORDINARY_UID} {lab.ORDINARY_UID} 1\n")
    os.write(mapped[1], b".")
    with os.fdopen(errors[0]) as stream:
        text = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for end in (*ready, *mapped):
        os.close(end)
    return code, text


def test_no_user_namespaces_and_no_root_says_what_to_do(bench, world):
    need_root()
    arguments = bench.arguments(["touch", "was-run"], policy=GOOD)
    code, text = in_namespace_without_more(lambda: os.execve(arguments[0], arguments, bench.environment))
    assert code == 125, text
    assert re.search("user.namespace", text) and "root" in text, text
    assert re.search(r"max_user_namespaces|sysctl|sudo", text), "what to do: " + text
    assert not (bench.folder / "was-run").exists()
