"""The flags that make a guard a member of an application: what they exclude, what they need, and what is said where no
controller answers. What a member does is shown by the unit tests and against a real controller."""

import socket
import time

import pytest

WHOLE = ["--controller", "wss://127.0.0.1:1", "--application", "shop", "--function", "checkout"]


@pytest.fixture
def token(user_bench):
    path = user_bench.folder / "token"
    path.write_text("a-join-token\n")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--application", "shop"], "--application says nothing without --controller"),
        (["--join-token-file", "x"], "--join-token-file says nothing without --controller"),
        (["--controller", "https://127.0.0.1:1"], "--controller: "),
        (["--controller", "wss://127.0.0.1:1"], "--controller needs --application NAME and --function NAME"),
        ([*WHOLE], "--controller needs --join-token-file FILE, SALLYPORT_JOIN_TOKEN"),
        ([*WHOLE, "--mode", "audit"], "--mode and --controller exclude each other"),
        ([*WHOLE, "--learn", "x.yaml"], "--learn and --controller exclude each other"),
        ([*WHOLE, "--policy", "x.yaml"], "--policy and --controller exclude each other"),
        ([*WHOLE, "--join-token-file", "a", "--service-account-token-file", "b"], "exclude each other"),
        ([*WHOLE, "--join-token-file", "/nowhere/token"], "the token for the controller: "),
    ],
)
def test_flags_that_do_not_go_together_are_said_and_nothing_is_run(user_bench, flags, text):
    outcome = user_bench.run(["echo", "ran"], flags=flags)
    assert outcome.code == 2 and outcome.out == "", outcome.out
    assert text in outcome.err, outcome.err


def test_a_token_behind_a_link_is_refused_as_it_could_be_replaced(user_bench, token):
    link = user_bench.folder / "link"
    link.symlink_to(token)
    outcome = user_bench.run(["echo", "ran"], flags=[*WHOLE, "--join-token-file", link])
    assert outcome.code == 2 and "a link leads there" in outcome.err, outcome.err


@pytest.mark.parametrize("how", ["file", "variable"])
def test_without_a_controller_nothing_is_run_and_it_is_said_which_and_why(user_bench, token, how):
    flags = [*WHOLE, "--join-token-file", token] if how == "file" else WHOLE
    began = time.monotonic()
    outcome = user_bench.run(
        ["echo", "ran"], flags=flags, env={"SALLYPORT_JOIN_TOKEN": "a-join-token"} if how == "variable" else None
    )
    assert outcome.code == 125 and outcome.out == "", outcome.out
    assert "the controller wss://127.0.0.1:1: it could not be connected to" in outcome.err, outcome.err
    assert "nothing was run" in outcome.err and "a-join-token" not in outcome.err
    assert 9 < time.monotonic() - began < 40


def test_a_controller_that_says_nothing_is_waited_for_no_longer(user_bench, token):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        flags = ["--controller", f"wss://127.0.0.1:{silent.getsockname()[1]}", *WHOLE[2:], "--join-token-file", token]
        outcome = user_bench.run(["echo", "ran"], flags=flags)
    assert outcome.code == 125 and "nothing was run" in outcome.err, outcome.err


def test_the_join_token_is_taken_out_of_the_commands_environment(user_bench):
    outcome = user_bench.run(["env"], flags=["--learn", "draft.yaml"], env={"SALLYPORT_JOIN_TOKEN": "a-join-token"})
    assert outcome.code == 0, outcome.err
    assert "SALLYPORT_JOIN_TOKEN" not in outcome.out and "a-join-token" not in outcome.out
