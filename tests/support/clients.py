"""The clients of the matrix, and how the tests talk with their programs in tests/clients.

A program gets its steps on standard input, one a line: `STEP METHOD URL [URL…]`. It asks for the URLs one after the
other with one client object, and answers with one line of JSON: the step, the status of the last answer (null if there
was none) and its text, or what a developer sees of the error. With POST it sends the file that $BODY names. Nothing in
a program knows of the guard or of its CA.

The programs for S3 get URLs of the form ENDPOINT/BUCKET/KEY, and PUT, GET, MULTIPART and LIST as methods; those for
git get a repository, and CLONE and PUSH.
"""

import dataclasses
import functools
import os
import pathlib
import shutil
import subprocess

import guard
import lab

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = REPOSITORY / "tests" / "clients"
MADE = pathlib.Path(os.environ.get("SALLYPORT_CLIENTS", REPOSITORY / "build" / "clients"))


def not_made(part):
    """Why a part of prepare.sh is not there, as a sentence; empty if it is."""
    if (MADE / f"{part}.made").is_file():
        return ""
    reason = MADE / f"{part}.failed"
    why = reason.read_text() if reason.is_file() else "tests/clients/prepare.sh has not been run"
    return f"the clients for {part}: {why}"


@dataclasses.dataclass(frozen=True)
class Client:
    name: str  # as docs/clients.md calls it
    command: tuple
    version: tuple  # a command that prints it; run outside the guard
    made: str = ""  # the part of tests/clients/prepare.sh that it needs
    programs: tuple = ()
    follows: bool = True  # redirects
    keeps_alive: bool = True
    kind: str = "http"  # or "s3", "git"
    trust: str = "SSL_CERT_FILE"  # the variable that says what it trusts; empty if none does
    environment: tuple = ()

    def missing(self):
        """What is not there, as a sentence; empty if the client can be run."""
        for program in (*self.programs, self.command[0]):
            if MADE not in pathlib.Path(program).parents and shutil.which(program) is None:
                return f"the program {program}"
        moto = ["python"] if self.kind == "s3" else []
        return next(filter(None, map(not_made, filter(None, [self.made, *moto]))), "")

    def seen_version(self):
        done = subprocess.run(
            self.version, env=guard_free_environment(self), capture_output=True, text=True, timeout=60
        )
        return (done.stdout + done.stderr).strip().split("\n")[0]


def guard_free_environment(client):
    return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"} | dict(client.environment)


def _python(name, package, **more):
    return Client(
        name,
        (guard.PYTHON, PROGRAMS / "python" / f"{package}_client.py"),
        (guard.PYTHON, "-c", f"import {package}; print({package}.__version__)"),
        made="python",
        environment=(("PYTHONPATH", f"{lab.SUPPORT}:{MADE / 'python'}"), ("PYTHONDONTWRITEBYTECODE", "1")),
        **more,
    )


def _node(name, program, version="process.version", **more):
    return Client(
        name,
        ("node", PROGRAMS / "node" / f"{program}.js"),
        ("node", "-p", version),
        environment=(("NODE_PATH", str(MADE / "node" / "node_modules")),),
        **more,
    )


@functools.cache
def _strict_python():
    """A Python that is strict by itself, in PATH or among pyenv's; else Debian's, which its program tells to be."""
    kept = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")) / "versions"
    found = [*kept.glob("3.1[3-9].*/bin/python3"), *map(shutil.which, ("python3.13", "python3.14"))]
    works = [p for p in found if p and subprocess.run([p, "-c", ""], capture_output=True, timeout=30).returncode == 0]
    return str(works[0]) if works else guard.PYTHON


_SHELL = PROGRAMS / "shell"
_GO_VERSION = ("/usr/bin/go", "version")
_JAVA_VERSION = ("java", "--version")

CLIENTS = [
    Client("curl", (_SHELL / "curl.sh",), ("curl", "--version"), programs=("curl",), trust="CURL_CA_BUNDLE"),
    Client("wget", (_SHELL / "wget.sh",), ("wget", "--version"), programs=("wget",), trust=""),
    Client(
        "Python urllib",
        (guard.PYTHON, PROGRAMS / "python" / "urllib_client.py"),
        (guard.PYTHON, "--version"),
        keeps_alive=False,
    ),
    Client(
        "Python http.client, strict",
        (_strict_python(), PROGRAMS / "python" / "http_client.py"),
        (_strict_python(), "--version"),
        follows=False,
    ),
    _python("Python requests", "requests", trust="REQUESTS_CA_BUNDLE"),
    _python("Python httpx", "httpx"),
    _python("Python aiohttp", "aiohttp"),
    _node("Node fetch", "fetch", trust="NODE_EXTRA_CA_CERTS"),
    _node("Node https", "https", follows=False, trust="NODE_EXTRA_CA_CERTS"),
    _node("axios", "axios", "require('axios/package.json').version", made="node", trust="NODE_EXTRA_CA_CERTS"),
    Client("Go net/http", (MADE / "go" / "dynamic",), _GO_VERSION, made="go"),
    Client("Go net/http, static", (MADE / "go" / "static",), _GO_VERSION, made="go"),
    Client(
        "Java HttpClient",
        ("java", "-cp", MADE / "java", "Client", "HttpClient"),
        _JAVA_VERSION,
        made="java",
        trust="JAVA_TOOL_OPTIONS",
    ),
    Client(
        "Java HttpURLConnection",
        ("java", "-cp", MADE / "java", "Client", "HttpURLConnection"),
        _JAVA_VERSION,
        made="java",
        trust="JAVA_TOOL_OPTIONS",
    ),
    Client(
        "Rust reqwest",
        (MADE / "rust" / "target" / "debug" / "client",),
        ("sed", "-n", '/^name = "reqwest"/{n;s/version = //p}', MADE / "rust" / "Cargo.lock"),
        made="rust",
    ),
    Client("Ruby Net::HTTP", ("ruby", PROGRAMS / "ruby" / "net_http.rb"), ("ruby", "--version")),
    Client("PHP curl", ("php", PROGRAMS / "php" / "curl.php"), ("php", "--version"), trust="PHP_INI_SCAN_DIR"),
    Client(
        "PHP streams",
        ("php", PROGRAMS / "php" / "streams.php"),
        ("php", "--version"),
        keeps_alive=False,
        trust="PHP_INI_SCAN_DIR",
    ),
    Client(
        "Perl HTTP::Tiny",
        ("perl", PROGRAMS / "perl" / "http_tiny.pl"),
        ("perl", "-MHTTP::Tiny", "-e", "print HTTP::Tiny->VERSION"),
    ),
    Client(
        "Perl LWP",
        ("perl", PROGRAMS / "perl" / "lwp.pl"),
        ("perl", "-MLWP", "-e", "print LWP->VERSION"),
        trust="PERL_LWP_SSL_CA_FILE",
    ),
    # Mono has a store of its own, which no variable names: the command fills it first.
    Client(
        "Mono HttpClient",
        ("sh", "-c", 'cert-sync --quiet --user "$NODE_EXTRA_CA_CERTS" && exec mono "$0"', MADE / "dotnet" / "client.exe"),
        ("mono", "--version"),
        made="dotnet",
        programs=("mono", "cert-sync"),
        trust="",
    ),
    _python("boto3", "boto3", kind="s3", trust="AWS_CA_BUNDLE"),
    _node(
        "AWS SDK for JavaScript",
        "aws_sdk",
        "require('@aws-sdk/client-s3/package.json').version",
        made="node",
        kind="s3",
        trust="NODE_EXTRA_CA_CERTS",
    ),
    Client("git", (_SHELL / "git.sh",), ("git", "--version"), programs=("git",), kind="git", trust="GIT_SSL_CAINFO"),
]


def named(kind):
    return [client for client in CLIENTS if client.kind == kind]


if __name__ == "__main__":
    for each in CLIENTS:
        print(f"{each.name:28} {each.missing() or each.seen_version()}")
