"""The place where proxies are measured: two network namespaces joined by a veth pair, as a pod and its client would be.

The client's packets enter the proxies' namespace through the veth, where one rule per proxy redirects its address to
the proxy's port. What a proxy sends upstream does not pass that rule, so each may dial the address that was meant.
All of it lives in namespaces of its own, needs no root where user namespaces are allowed, and is gone with the process.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

NAME = "origin.bench.example"
PORT = 443
DIRECT = "10.200.0.10"  # the origin without a proxy; also where NAME resolves to
CLIENT_SIDE, PROXY_SIDE = "10.201.0.2", "10.201.0.1"
BULK_BYTES = 256 * 1024 * 1024
GENERATOR = Path(__file__).resolve().parent.parent / "build/release/bin/sallyport-load"


def enter(arguments):
    """The command line that runs Python with these arguments in namespaces of its own; without root also of users."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
            sys.executable, *arguments]


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def make_root(folder, name):
    """A P-256 root: NAME.pem and NAME.key."""
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN=bench {name}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign", cwd=folder)


def issue(folder, root, name):
    """A P-256 leaf for the origin's name: NAME.pem (with its key appended, as HAProxy wants it) and NAME.key."""
    run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", f"/CN={NAME}", "-keyout", f"{name}.key", "-out", f"{name}.csr", cwd=folder)
    (folder / "leaf.ext").write_text(f"subjectAltName=DNS:{NAME}\nbasicConstraints=critical,CA:FALSE\n"
                                     "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n")
    run("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", f"{root}.pem", "-CAkey", f"{root}.key",
        "-CAcreateserial", "-days", "2", "-extfile", "leaf.ext", "-out", f"{name}.crt", cwd=folder)
    (folder / f"{name}.pem").write_text((folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text())


ORIGIN = """
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_buffer_size 1m;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  keepalive_timeout 300s;
  keepalive_requests 100000000;
  default_type application/octet-stream;
  ssl_certificate {folder}/origin.pem;
  ssl_certificate_key {folder}/origin.key;
  ssl_protocols TLSv1.3;
  ssl_session_cache shared:bench:10m;
  server {{
    listen {port} ssl backlog=4096;
    root {folder}/www;
    # Reads the whole body before it answers, as a real upload does.
    location = /upload {{ echo_read_request_body; echo_exec @taken; }}
    location @taken {{ return 200 "taken"; }}
  }}
}}
"""


class Lab:
    """Addresses, certificates, the origin, and the client's namespace. Made inside of enter()'s namespaces."""

    def __init__(self, folder):
        self.folder = Path(folder)  # for everything that the lab and the proxies write; the caller's to remove
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        self._addresses()
        for root in ("origin-root", "proxy-root"):
            make_root(self.folder, root)
        issue(self.folder, "origin-root", "origin")
        issue(self.folder, "proxy-root", "static")
        self._origin()

    def _addresses(self):
        hosts = self.folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{DIRECT} {NAME}\n")
        run("mount", "--bind", str(hosts), "/etc/hosts")
        run("ip", "link", "set", "lo", "up")
        run("ip", "address", "add", f"{DIRECT}/32", "dev", "lo")
        # --kill-child: the namespace ends with this process, however that ends.
        self._client = subprocess.Popen(["unshare", "--net", "--fork", "--kill-child", "sleep", "infinity"])
        self._client_pid = self._wait_for_child(self._client.pid)
        run("ip", "link", "add", "bench0", "type", "veth", "peer", "name", "bench1", "netns", str(self._client_pid))
        run("ip", "address", "add", f"{PROXY_SIDE}/30", "dev", "bench0")
        run("ip", "link", "set", "bench0", "up")
        run(*self.in_client("ip", "address", "add", f"{CLIENT_SIDE}/30", "dev", "bench1"))
        run(*self.in_client("ip", "link", "set", "bench1", "up"))
        run(*self.in_client("ip", "route", "add", "10.200.0.0/24", "via", PROXY_SIDE))
        # Thousands of short connections to one address: all ports, and those in TIME_WAIT again.
        run(*self.in_client("sh", "-c", "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range"
                                        " && echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse"))
        run("nft", "-f", "-", input="table ip bench { chain inbound { type nat hook prerouting priority dstnat; }; }")

    @staticmethod
    def _wait_for_child(pid):
        while True:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children:
                return int(children[0])

    def _origin(self):
        www = self.folder / "www"
        www.mkdir()
        (www / "1k").write_bytes(os.urandom(1024))
        with open(www / "bulk", "wb") as bulk:
            bulk.truncate(BULK_BYTES)
        config = self.folder / "nginx.conf"
        config.write_text(ORIGIN.format(folder=self.folder, port=PORT))
        self._nginx = subprocess.Popen(["nginx", "-c", str(config), "-e", f"{self.folder}/nginx.log"])
        self.load(DIRECT, "origin-root", "connections", "--requests", "1", retry_s=5)

    def redirect(self, address, port):
        """Whatever the client sends to this address arrives at this port, and remembers where it was going."""
        run("ip", "address", "add", f"{address}/32", "dev", "lo")
        # The origin listens on every address, so that a proxy may dial the original one.
        run("nft", "add", "rule", "ip", "bench", "inbound", "iifname", "bench0", "ip", "daddr", address,
            "tcp", "dport", str(PORT), "redirect", "to", f":{port}")

    def in_client(self, *command):
        return ["nsenter", f"--net=/proc/{self._client_pid}/ns/net", "--", *command]

    def generator(self, address, root, *arguments, path="/1k"):
        """The generator's command line, in the client's namespace; `arguments` begin with its options or its mode."""
        return self.in_client(str(GENERATOR), "--address", address, "--port", str(PORT), "--name", NAME,
                              "--ca", str(self.folder / f"{root}.pem"), "--path", path, *arguments)

    def load(self, address, root, *arguments, path="/1k", retry_s=0):
        """Runs the generator to its end and returns its figures."""
        attempts = 1 + int(retry_s / 0.1)
        for _ in range(attempts):
            done = subprocess.run(self.generator(address, root, *arguments, path=path), capture_output=True, text=True,
                                  timeout=120)
            if done.returncode == 0:
                return json.loads(done.stdout)
            if attempts > 1:
                subprocess.run(["sleep", "0.1"], check=True)
        raise RuntimeError(f"load on {address} failed: {done.stderr.strip()}")

    def close(self):
        self._nginx.terminate()
        self._nginx.wait(10)
        self._client.kill()
        self._client.wait(10)
