"""Two services beside the origin: git repositories, served by the origin through git's own CGI program, and S3 as moto
makes it."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import lab
import origin

S3_HOST = "s3.example.com"
BUCKET = "bucket"


class GitServer:
    """Serves bare repositories at /git/NAME.git. /moved leads to the same repository on the host `moved_to`, /strayed
    to the one on `strayed_to`."""

    def __init__(self, folder, moved_to, strayed_to):
        self.folder = pathlib.Path(folder)
        self._targets = {"moved": moved_to, "strayed": strayed_to}
        origin.HANDLERS["git"] = self._backend
        for name in self._targets:
            origin.HANDLERS[name] = self._redirect

    def git(self, *arguments, cwd=None):
        done = subprocess.run(
            ["git", *map(str, arguments)], cwd=cwd or self.folder, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    def create(self, name):
        """A repository with one commit, which everybody may push to."""
        bare = self.folder / name
        self.git("init", "--quiet", "--bare", "--initial-branch=main", bare)
        self.git("config", "http.receivepack", "true", cwd=bare)
        tree = self.git("mktree", cwd=bare)
        who = ["-c", "user.name=origin", "-c", "user.email=origin@example.com"]
        self.git("update-ref", "refs/heads/main", self.git(*who, "commit-tree", "-m", "Start", tree, cwd=bare), cwd=bare)
        return bare

    def _redirect(self, c, request):
        kind, rest = request.target.lstrip("/").split("/", 1)
        c.answer(status="302 Found", headers=[("Location", f"{self._targets[kind]}/git/{rest}")])

    def _backend(self, c, request):
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path.removeprefix("/git"),
            "QUERY_STRING": request.target.partition("?")[2],
            "CONTENT_TYPE": request.header("content-type") or "",
            "CONTENT_LENGTH": str(request.body_size),
            "HTTP_CONTENT_ENCODING": request.header("content-encoding") or "",
            "HTTP_GIT_PROTOCOL": request.header("git-protocol") or "",
            "REMOTE_USER": "tester",
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            ["git", "http-backend"], env=environment, input=request.body, capture_output=True, timeout=60, check=True
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = dict(fields).get("Status", "200 OK")
        c.answer(body, status, [field for field in fields if field[0] not in ("Status", "Content-Length")])


class ObjectStore:
    """moto's S3, over TLS at https://s3.example.com, with one bucket in it."""

    def __init__(self, world, packages):
        self.folder = lab.folder()
        certificate, key = world.authority.issue("s3", [S3_HOST])
        world.dns.table[S3_HOST] = [lab.STORE_V4]
        self._errors = open(self.folder / "errors", "w+")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, lab.STORE_V4, certificate, key, BUCKET],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(packages), "HOME": str(self.folder)},
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            preexec_fn=lab.die_with_parent,
        )
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((lab.STORE_V4, 443), 1).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < end, self.errors()
                time.sleep(0.05)

    def errors(self):
        return pathlib.Path(self._errors.name).read_text()


# moto's server, with connections that are kept.
_SERVE = """
import os, sys
address, certificate, key, bucket = sys.argv[1:]
os.environ.update(S3_IGNORE_SUBDOMAIN_BUCKETNAME="true", AWS_ACCESS_KEY_ID="tested", AWS_SECRET_ACCESS_KEY="tested")
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, run_simple
WSGIRequestHandler.protocol_version = "HTTP/1.1"
s3_backends["123456789012"]["aws"].create_bucket(bucket, "us-east-1")
application = DomainDispatcherApplication(create_backend_app)
run_simple(address, 443, application, threaded=True, ssl_context=(certificate, key))
"""
