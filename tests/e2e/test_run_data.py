"""`sallyport run --data DIR`: the controller in the guard's own process, and what it keeps, read afterwards."""

import json
import os
import signal
import subprocess

import guard

HOST = "v4.example.com"

def fetch(*paths):
    words = ["curl", "-sS", "-w", "%{http_code}\n"]
    for path in paths:
        words += ["-o", "/dev/null", f"https://{HOST}{path}"]
    return words


def policy(**more):
    return guard.policy(guard.endpoint(HOST, name="api", path="/echo"), function="fetcher", **more)


def run(bench, command, *flags, **options):
    return bench.run(command, flags=["--data", bench.folder / "data", *flags], **options)


def do(bench, *words, code=0, input=None):
    outcome = subprocess.run(
        [guard.SALLYPORT, *map(str, words), "--data", bench.folder / "data"],
        input=input, capture_output=True, text=True, timeout=30, env=bench.environment,
    )
    guard.no_sanitizer_report(outcome.stderr)
    assert outcome.returncode == code, outcome.stderr
    return outcome.stdout if code == 0 else outcome.stderr


def events(bench, *filters):
    lines = do(bench, "events", "-a", "local", "-o", "json", *filters).splitlines()
    return [json.loads(line) for line in lines]


def as_owner(bench):
    """Commands that read the folder run as root here; what an ordinary user's guard made is that user's."""
    return oct(os.stat(bench.folder / "data").st_mode & 0o777)


def test_what_happens_is_kept_and_found_again(user_bench, world):
    user_bench.folder.chmod(0o777)
    both = fetch("/echo/1", "/no")
    outcome = run(user_bench, both, policy=policy())
    assert outcome.out.split() == ["200", "403"], outcome.err
    assert "alarm denied in local/fetcher (path-not-allowed at api)" in outcome.err
    assert as_owner(user_bench) == "0o700"
    # The policy is kept: the next run needs no file, and makes no new version of the same text.
    run(user_bench, both, policy=policy())
    run(user_bench, both, "--function", "fetcher")
    told = events(user_bench, "--kind", "exchange")
    assert [each["decision"] for each in told] == ["allow", "deny"] * 3
    assert len(events(user_bench, "--decision", "deny")) == 3
    assert do(user_bench, "policy", "history", "-a", "local", "-f", "fetcher").count("\n1 ") == 1
    listed = do(user_bench, "policy", "list", "-a", "local").splitlines()
    assert listed[1].split() == ["fetcher", "1", "enforce", "-"]
    shown = do(user_bench, "function", "show", "-a", "local", "-f", "fetcher")
    assert "enforce" in shown and shown.count("  gone  ") == 3
    (guard_id, *_) = shown.splitlines()[-1].split()
    assert "join token" in do(user_bench, "guard", "show", guard_id)
    nobody = "0" * 32
    assert f"there is no guard {nobody}" in do(user_bench, "guard", "show", nobody, code=1)
    assert "no function other" in do(user_bench, "function", "show", "-a", "local", "-f", "other", code=1)
    alarm = json.loads(do(user_bench, "alarm", "list", "-a", "local", "-o", "json"))["alarms"]
    assert [(each["kind"], each["count"]) for each in alarm] == [("denied", "3")]


def test_a_changed_policy_is_a_new_version_and_can_be_rolled_back(bench, world):
    other = fetch("/other")
    assert run(bench, other, policy=policy()).out.split() == ["403"]
    wide = guard.policy(guard.endpoint(HOST, name="api"), function="fetcher")
    assert run(bench, other, policy=wide).out.split() == ["200"]
    do(bench, "policy", "rollback", "-a", "local", "-f", "fetcher")
    assert run(bench, other, "--function", "fetcher").out.split() == ["403"]


def test_secrets_of_the_folder_are_injected_and_the_command_sees_neither_them_nor_the_folder(user_bench, world):
    user_bench.folder.chmod(0o777)
    secret = "sk-of-the-folder-1"
    wanted = guard.policy(
        guard.endpoint(HOST, name="api", credential="key"), function="fetcher",
        credentials=[{"name": "key", "secret": {"store": "api-key"},
                      "inject": {"header": "Authorization", "format": "Bearer {}"}}],
    )
    run(user_bench, ["true"], policy=policy())
    subprocess.run([guard.SALLYPORT, "secret", "put", "api-key", "-a", "local", "--data", user_bench.folder / "data"],
                   input=secret, text=True, check=True, capture_output=True, **guard.user_options(user_bench.user))
    look = f"""
        import os, subprocess
        folder = "{user_bench.folder}/data"
        print(os.listdir(folder))
        for name in ("controller.db", "controller.db-wal", "secrets.key", "lock"):
            try:
                open(os.path.join(folder, name), "rb").read()
                print("read", name)
            except FileNotFoundError:
                pass
        try:
            open(os.path.join(folder, "x"), "w")
            print("written")
        except OSError:
            pass
        print(subprocess.run(["curl", "-sS", "https://{HOST}/echo"], capture_output=True, text=True).stdout)
    """
    outcome = user_bench.python(look, policy=wanted, flags=["--data", user_bench.folder / "data"])
    assert outcome.out.startswith("[]\n") and "read" not in outcome.out and "written" not in outcome.out, outcome.out
    assert world.saw(f"Bearer {secret}")


def test_the_folder_can_not_be_reached_by_way_of_what_the_command_is_given(bench, world):
    run(bench, ["true"], policy=policy())
    data = bench.folder / "data"
    inside = bench.run(["cat", "secrets.key"], flags=["--data", data], policy=policy(), cwd=data)
    assert inside.code == 2 and "the command would begin in this folder" in inside.err
    for stream in (data, bench.folder):
        descriptor = os.open(stream, os.O_RDONLY)
        process = bench.start(["ls", "/proc/self/fd/0/"], flags=["--data", data], policy=policy(), stdin=descriptor)
        os.close(descriptor)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 125 and "standard input is a directory" in err and out == ""


def test_a_limit_of_the_application_holds_here(bench, world):
    run(bench, ["true"], policy=policy())
    settings = bench.folder / "settings.yaml"
    settings.write_text("""\
apiVersion: sallyport.dev/v1alpha1
kind: Application
metadata: {name: local}
spec:
  limits:
  - {name: echoes, functions: [fetcher], requests: ["GET v4.example.com/echo"], rate: 1/h, burst: 2}
""")
    do(bench, "app", "put-settings", settings, "-a", "local")
    outcome = run(bench, fetch(*["/echo"] * 4), policy=policy())
    assert sorted(outcome.out.split()) == ["200", "200", "429", "429"]
    assert "echoes" in do(bench, "limit", "list", "-a", "local")
    assert "there is no limit other" in do(bench, "limit", "show", "other", "-a", "local", code=1)


def test_a_policy_with_a_mistake_names_its_place_and_changes_nothing(bench, world):
    run(bench, ["true"], policy=policy())
    broken = run(bench, ["echo", "ran"], policy=policy() + "nonsense: 1\n")
    assert broken.code == 2 and broken.out == "" and f"{bench.policy_file}:" in broken.err, broken.err
    assert "nothing was run" in broken.err
    assert len(do(bench, "policy", "history", "-a", "local", "-f", "fetcher").splitlines()) == 2


def test_traces_of_a_learning_function_are_kept(bench, world):
    run(bench, fetch("/echo/7"), policy=policy(mode="learn"))
    traces = do(bench, "app", "traces", "-a", "local").splitlines()
    assert any("/echo/7" in line for line in traces), traces


def test_two_at_once_are_told_what_to_do(bench, world):
    with bench.session(policy=policy(), flags=["--data", bench.folder / "data"]) as session:
        assert session.get(HOST)["status"] == 200
        other = run(bench, ["echo", "ran"], policy=policy(), record=False)
        assert other.code == 125 and other.out == "" and "another controller uses" in other.err, other.err
        assert "another controller uses" in do(bench, "events", "-a", "local", code=1)


def test_killed_at_once_it_has_lost_nothing_that_was_kept_and_begins_again(bench, world):
    process = bench.start(["sh", "-c", f"curl -sS https://{HOST}/echo/1; echo; echo asked; sleep 60"],
                          flags=["--data", bench.folder / "data"], policy=policy())
    while process.stdout.readline().strip() != "asked":
        assert process.poll() is None
    # Events are stored within a second or so of what they tell.
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(events(bench, "--kind", "exchange")) == 1
    assert run(bench, fetch("/echo/2"), policy=policy()).out.split() == ["200"]
    assert len(events(bench, "--kind", "exchange")) == 2


def test_flags_that_say_nothing_here_are_refused(bench, world):
    data = bench.folder / "data"
    for flags, text in [
        (["--data", data, "--controller", "wss://127.0.0.1:1"], "exclude each other"),
        (["--data", data, "--learn", "x.yaml"], "exclude each other"),
        (["--data", data], "needs --policy"),
        (["--data", data, "--function", "Not A Name"], "is not valid"),
        (["--data", data, "--function", "f", "--join-token-file", "t"], "says nothing without"),
        (["--function", "f", "--learn", "x.yaml"], "says nothing without"),
    ]:
        refused = bench.run(["echo", "ran"], flags=flags, record=False)
        assert refused.code == 2 and refused.out == "" and text in refused.err, (flags, refused.err)
    assert not data.exists()
    missing = bench.run(["echo", "ran"], flags=["--data", data, "--function", "f"], record=False)
    assert missing.code == 125 and "has no function 'f'" in missing.err, missing.err
