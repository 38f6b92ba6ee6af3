"""Servers that do not speak HTTP: real ones, and small ones that keep what they heard."""

import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time

import lab


def wait_for_port(address, port, process=None, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, port), 1).close()
            return
        except OSError:
            assert process is None or process.poll() is None, f"the server on {address}:{port} has ended"
            assert time.monotonic() < end, f"nobody listens on {address}:{port}"
            time.sleep(0.05)


class Process:
    """A server that runs in a folder of its own until close()."""

    def __init__(self, command, address, port, folder=None, **options):
        self.folder = folder or lab.folder()
        self._errors = open(self.folder / "errors", "w+")
        self.process = subprocess.Popen(
            list(map(str, command)),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            preexec_fn=lab.die_with_parent,
            **options,
        )
        try:
            wait_for_port(address, port, self.process)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{pathlib.Path(self._errors.name).read_text()}") from None

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self._errors.close()
        lab.remove(self.folder)


def redis(address):
    return Process(["redis-server", "--bind", address, "--port", 6379, "--save", "", "--protected-mode", "no"], address, 6379)


def postgresql_programs():
    """The folder of Debian's server programs, which are not in PATH."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


def postgresql(address, certificate, key):
    """As an ordinary user: it refuses to run as root."""
    folder = lab.folder()
    user = {"user": lab.ORDINARY_UID, "group": lab.ORDINARY_UID, "extra_groups": []} if lab.real_root else {}
    os.chown(folder, lab.ORDINARY_UID if user else -1, -1)
    data = folder / "data"
    programs = postgresql_programs()
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "tested", "--auth=trust", "--no-sync", "--locale=C"],
        cwd=folder,
        check=True,
        capture_output=True,
        **user,
    )
    for source, name in ((certificate, "server.crt"), (key, "server.key")):
        shutil.copyfile(source, data / name)
        os.chown(data / name, lab.ORDINARY_UID if user else -1, -1)
        os.chmod(data / name, 0o600)
    (data / "pg_hba.conf").write_text("hostssl all all all trust\n")
    settings = {"listen_addresses": address, "unix_socket_directories": "", "ssl": "on", "fsync": "off"}
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = Process([programs / "postgres", "-D", data, *flags], address, 5432, folder, **user)
    # It listens before it takes anybody.
    subprocess.run(f"until {programs}/pg_isready -q -h {address}; do sleep 0.05; done", shell=True, check=True, timeout=30)
    return server


class Server:
    """Accepts, hands each connection to `serve(stream)` in a thread of its own, and remembers what `serve` returns."""

    def __init__(self, address, port, serve):
        self.address, self.heard, self.accepted, self._serve = address, [], 0, serve
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listening = socket.create_server((address, port), family=family, backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                stream, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._run, args=(stream,), daemon=True).start()

    def _run(self, stream):
        with stream:
            stream.settimeout(30)
            try:
                self.heard.append(self._serve(stream))
            except OSError as error:
                self.heard.append(type(error).__name__)

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def read_to_end(stream):
    data = b""
    while part := stream.recv(65536):
        data += part
    return data


def greeting(stream):
    """As MySQL: the server sends its version and a challenge, and only then does the client say anything."""
    body = b"\x0a8.0.36-tested\x00" + bytes(range(1, 9)) + b"\x00"
    stream.sendall(len(body).to_bytes(3, "little") + b"\x00" + body)
    login = stream.recv(4096)
    stream.sendall(b"\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00" if login else b"")
    return login


def answers_at_the_end(stream):
    """Reads until the client has finished, and answers then: the way back must still be open."""
    data = read_to_end(stream)
    stream.sendall(b"got %d bytes" % len(data))
    return data


def ends_first(stream):
    """Says all it has to say and finishes; the client may go on."""
    stream.sendall(b"that is all")
    stream.shutdown(socket.SHUT_WR)
    return read_to_end(stream)


def mail(certificate, key):
    """A mail server that takes a message, after STARTTLS if the client asks for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def serve(stream):
        stream.sendall(b"220 mail.example.com ESMTP\r\n")
        lines = stream.makefile("rb")
        secured, message = False, b""
        while line := lines.readline():
            word = line.split(b" ")[0].strip().upper()
            if word == b"EHLO":
                stream.sendall(b"250 mail.example.com\r\n" if secured else b"250-mail.example.com\r\n250 STARTTLS\r\n")
            elif word == b"STARTTLS":
                stream.sendall(b"220 go ahead\r\n")
                stream = context.wrap_socket(stream, server_side=True)
                lines, secured = stream.makefile("rb"), True
            elif word == b"DATA":
                stream.sendall(b"354 go on\r\n")
                while (line := lines.readline()) != b".\r\n":
                    message += line
                stream.sendall(b"250 taken\r\n")
            elif word == b"QUIT":
                stream.sendall(b"221 bye\r\n")
                return secured, message
            else:
                stream.sendall(b"250 fine\r\n")
        return secured, message

    return serve
