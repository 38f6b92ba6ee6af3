"""An earlier run, or somebody who may write where the guard is started, left something for it to find: programs, files
and variables that the guard could take for its own."""

import os

import pytest

import guard
import lab

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST))
PROGRAMS = "nft iptables ip6tables iptables-restore ip6tables-restore iptables-legacy-restore ip mount umount newuidmap sh"


def test_programs_in_the_search_path(user_bench, world):
    """The guard starts nothing that it finds by the command's PATH, and nothing in its working directory."""
    folder = user_bench.folder / "bin"
    folder.mkdir()
    for name in PROGRAMS.split():
        for place in (folder, user_bench.folder):
            (place / name).write_text(f"#!/bin/bash\necho {name} >>{user_bench.folder}/home/caught\n")
            (place / name).chmod(0o755)
    environment = {"PATH": f"{folder}:.:/usr/bin:/bin"}
    outcome = user_bench.run(
        ["/usr/bin/curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"https://{HOST}/"],
        policy=POLICY,
        env=environment,
    )
    assert outcome.out == "200", outcome.err
    assert not (user_bench.folder / "home" / "caught").exists()


VARIABLES = {
    "a proxy": {"HTTPS_PROXY": f"http://{lab.OUTSIDE_V4}:8080", "https_proxy": f"http://{lab.OUTSIDE_V4}:8080"},
    "a proxy for all": {"ALL_PROXY": f"socks5h://{lab.OUTSIDE_V4}:4444"},
    "aliases of hosts": {"HOSTALIASES": "aliases"},
    "options of the resolver": {"RES_OPTIONS": "use-vc", "LOCALDOMAIN": "denied.example.com"},
    "a file for keys": {"SSLKEYLOGFILE": "keys.log"},
    "a configuration of OpenSSL": {"OPENSSL_CONF": "openssl.cnf"},
    "engines of OpenSSL": {"OPENSSL_ENGINES": ".", "OPENSSL_MODULES": "."},
    "a runtime folder of another": {"XDG_RUNTIME_DIR": "/nonexistent"},
    "a runtime folder that is a link": {"XDG_RUNTIME_DIR": "runtime"},
    "no home": {"HOME": "/nonexistent"},
    "a folder for temporary files": {"TMPDIR": "/nonexistent"},
    "a locale": {"LC_ALL": "../../../etc", "LANGUAGE": "%n%n%n"},
    "a terminal": {"TERM": "%n%s", "COLUMNS": "-1"},
    "a time zone": {"TZ": ":/etc/shadow"},
}


@pytest.mark.parametrize("what", VARIABLES)
def test_variables_for_the_guard(bench, world, watch, listeners, what):
    """Libraries obey variables: the guard must resolve, connect and verify as ever."""
    (bench.folder / "aliases").write_text("v4 denied.example.com\n")
    (bench.folder / "runtime").symlink_to(lab.ROOT)
    (bench.folder / "openssl.cnf").write_text("openssl_conf = x\n[x]\nssl_conf = y\n[y]\nsystem_default = z\n[z]\n")
    environment = {name: value for name, value in VARIABLES[what].items()}
    with bench.session(policy=POLICY, env=environment) as session:
        assert session.get(HOST)["status"] == 200
        assert session.get("denied.example.com", address=lab.OUTSIDE_V4)["status"] == 403
        keys = bench.folder / "keys.log"
        # The file is the client's, for what it spoke with the guard: what the guard spoke is not in it.
        assert not keys.exists() or "CLIENT_RANDOM" not in keys.read_text()
    assert [r.header("host") for r in world.requests()] == [HOST]
    assert listeners.heard == [] and watch.leaks() == []


def test_a_library_put_before_the_commands_programs(bench, world, watch, listeners):
    """LD_PRELOAD in the command's environment is the command's own affair: it reaches no process of the guard's."""

    def preload():
        import subprocess

        os.makedirs("lib", exist_ok=True)
        open("lib/caught.so", "wb").write(b"no library")
        environment = dict(os.environ, LD_PRELOAD="lib/caught.so", LD_LIBRARY_PATH="lib", LD_AUDIT="lib/caught.so")
        return subprocess.run(["curl", "-sk", "-m", "5", "https://v4.example.com/"], env=environment).returncode

    with bench.session(policy=POLICY) as session:
        session.do(preload)
        assert session.get(HOST)["status"] == 200
        for pid in session.guards():
            assert "caught" not in open(f"/proc/{pid}/maps").read()
    assert listeners.heard == [] and watch.leaks() == []


def test_a_scratch_folder_that_is_there_already(bench, world):
    """The names of scratch folders are random and made anew: what somebody prepared is not used."""
    planted = bench.folder / "run"
    planted.mkdir(mode=0o700)
    for n in range(50):
        (planted / f"sallyport-{n:06d}").symlink_to("/etc")
    environment = {"XDG_RUNTIME_DIR": str(planted)}

    def where():
        folder = os.path.dirname(os.environ["SSL_CERT_FILE"])
        return folder, os.path.islink(folder), os.stat(folder).st_mode & 0o777, sorted(os.listdir(folder))

    with bench.session(policy=POLICY, env=environment) as session:
        folder, is_link, mode, names = session.do(where)
        assert folder.startswith(str(planted)) and not is_link and mode == 0o700 and "ca-bundle.pem" in names
        assert session.get(HOST)["status"] == 200
    assert sorted(os.listdir(planted)) == [f"sallyport-{n:06d}" for n in range(50)]
