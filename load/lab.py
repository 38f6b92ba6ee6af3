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
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support.dns import NameServer  # noqa: E402  (the path comes first)

DOMAIN = "bench.example"
PORT = 443
CLIENT_SIDE, PROXY_SIDE = "10.201.0.2", "10.201.0.1"
BULK_BYTES = 256 * 1024 * 1024
REPOSITORY = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("SALLYPORT_BIN") or REPOSITORY / "build/release/bin").resolve()
GENERATOR = BIN / "sallyport-load"
GRPC_ORIGIN = BIN / "sallyport-grpc-origin"


class Service:
    """One kind of origin, on an address for everybody who may be asked for it: itself, and each proxy in its place.

    A proxy that dials where its client was going arrives at the same origin as one that resolves the name.
    """

    def __init__(self, label, network):
        self.name = f"{label}.{DOMAIN}"
        self._network = network

    def address(self, number):
        return f"{self._network}.{number}"

    @property
    def direct(self):
        return self.address(ORIGIN_NUMBER)


ORIGIN_NUMBER = 10
PROXY_NUMBERS = range(11, 20)
HTTP1 = Service("origin", "10.200.0")  # also answers for every other name in DOMAIN
HTTP2 = Service("h2", "10.200.1")
GRPC = Service("grpc", "10.200.2")
SERVICES = (HTTP1, HTTP2, GRPC)
NAME, DIRECT = HTTP1.name, HTTP1.direct
FAR_NAME, FAR_ADDRESS = f"far.{DOMAIN}", "10.203.0.10"  # made by far.py
GRPC_PATH = "/bench.Echo/Unary"
NAMES_MAX = 5_000  # n0 … of DOMAIN have an address
LOAD_SECONDS_MAX = 180


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
    """A P-256 leaf for every name in DOMAIN: NAME.pem (with its key appended, as HAProxy wants it) and NAME.key."""
    run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", f"/CN={DOMAIN}", "-keyout", f"{name}.key", "-out", f"{name}.csr", cwd=folder)
    (folder / "leaf.ext").write_text(f"subjectAltName=DNS:*.{DOMAIN}\nbasicConstraints=critical,CA:FALSE\n"
                                     "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n")
    run("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", f"{root}.pem", "-CAkey", f"{root}.key",
        "-CAcreateserial", "-days", "2", "-extfile", "leaf.ext", "-out", f"{name}.crt", cwd=folder)
    (folder / f"{name}.pem").write_text((folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text())


ORIGIN = """
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
daemon off;
user root;
worker_processes 1;
pid {folder}/{label}.pid;
error_log {folder}/{label}.log warn;
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
  http2_max_concurrent_streams 256;
  default_type application/octet-stream;
  ssl_certificate {folder}/origin.pem;
  ssl_certificate_key {folder}/origin.key;
  ssl_protocols TLSv1.3;
  ssl_session_cache shared:bench:10m;
  server {{
{listen}
    root {folder}/www;
    # Reads the whole body before it answers, as a real upload does.
    location = /upload {{ echo_read_request_body; echo_exec @taken; }}
    location @taken {{ return 200 "taken"; }}
  }}
}}
"""


def origin_config(folder, label, listen):
    """An nginx that listens where the lines say: its command line."""
    config = folder / f"{label}.conf"
    config.write_text(ORIGIN.format(folder=folder, label=label, listen="\n".join(f"    {line};" for line in listen)))
    return ["nginx", "-c", str(config), "-e", f"{folder}/{label}.log"]


class Lab:
    """Addresses, certificates, the origins, and the client's namespace. Made inside of enter()'s namespaces."""

    def __init__(self, folder):
        self.folder = Path(folder)  # for everything that the lab and the proxies write; the caller's to remove
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        self._running = []
        run("mount", "-t", "tmpfs", "tmpfs", "/dev/shm")  # where Squid leaves what would stop the next one
        self._addresses()
        self._names()
        for root in ("origin-root", "proxy-root"):
            make_root(self.folder, root)
        issue(self.folder, "origin-root", "origin")
        issue(self.folder, "proxy-root", "static")
        self._origins()

    def _addresses(self):
        run("ip", "link", "set", "lo", "up")
        for service in SERVICES:
            for number in (ORIGIN_NUMBER, *PROXY_NUMBERS):
                run("ip", "address", "add", f"{service.address(number)}/32", "dev", "lo")
        self._client_pid = self.new_namespace()
        run("ip", "link", "add", "bench0", "type", "veth", "peer", "name", "bench1", "netns", str(self._client_pid))
        run("ip", "address", "add", f"{PROXY_SIDE}/30", "dev", "bench0")
        run("ip", "link", "set", "bench0", "up")
        run(*self.in_client("ip", "address", "add", f"{CLIENT_SIDE}/30", "dev", "bench1"))
        run(*self.in_client("ip", "link", "set", "bench1", "up"))
        run(*self.in_client("ip", "route", "add", "default", "via", PROXY_SIDE))
        # Thousands of short connections to one address: all ports, and those in TIME_WAIT again.
        run(*self.in_client("sh", "-c", "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range"
                                        " && echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse"))
        run("nft", "-f", "-", input="table ip bench { chain inbound { type nat hook prerouting priority dstnat; }; }")

    def _names(self):
        """The services' names are in the hosts file; the many others are asked for, as real names are."""
        self.hosts = {FAR_NAME: FAR_ADDRESS, **{service.name: service.direct for service in SERVICES}}
        run("mount", "--bind", str(self.hosts_file("hosts", {})), "/etc/hosts")
        resolver = self.folder / "resolv.conf"
        resolver.write_text("nameserver 127.0.0.1\n")
        run("mount", "--bind", str(resolver), "/etc/resolv.conf")
        self.name_server = NameServer(["127.0.0.1"], {name: [address] for name, address in self.hosts.items()})
        for number in range(NAMES_MAX):
            self.name_server.table[f"n{number}.{DOMAIN}"] = [DIRECT]

    def hosts_file(self, label, others):
        """The path of a hosts file with the lab's names, some of which lead elsewhere."""
        path = self.folder / label
        names = {"localhost": "127.0.0.1", **self.hosts, **others}
        path.write_text("".join(f"{address} {name}\n" for name, address in names.items()))
        return path

    def new_namespace(self):
        """The process id of one that lives in a network namespace of its own, until the lab is closed."""
        # --kill-child: the namespace ends with this process, however that ends.
        keeper = subprocess.Popen(["unshare", "--net", "--fork", "--kill-child", "sleep", "infinity"])
        self._running.append(keeper)
        pid = keeper.pid
        while True:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children:
                return int(children[0])

    def _origins(self):
        www = self.folder / "www"
        www.mkdir()
        (www / "1k").write_bytes(os.urandom(1024))
        with open(www / "bulk", "wb") as bulk:
            bulk.truncate(BULK_BYTES)
        numbers = (ORIGIN_NUMBER, *PROXY_NUMBERS)
        listen = [f"listen {HTTP1.address(number)}:{PORT} ssl backlog=4096" for number in numbers]
        listen += [f"listen {HTTP2.address(number)}:{PORT} ssl http2 backlog=4096" for number in numbers]
        self.start(*origin_config(self.folder, "origin-nginx", listen))
        self.load(ORIGIN_NUMBER, "origin-root", "connections", "--requests", "1", retry_s=5)
        if GRPC_ORIGIN.exists():
            self.start(str(GRPC_ORIGIN), f"{self.folder}/origin.crt", f"{self.folder}/origin.key",
                       *(f"{GRPC.address(number)}:{PORT}" for number in numbers))
            self.load(ORIGIN_NUMBER, "origin-root", "streams", "--grpc", "10", service=GRPC, path=GRPC_PATH, retry_s=5)

    def start(self, *command, **options):
        """A program of the lab's, which ends with it."""
        started = subprocess.Popen(command, **options)
        self._running.append(started)
        return started

    def redirect(self, number, port):
        """Whatever the client sends to a proxy's addresses arrives at its port, and remembers where it was going."""
        addresses = ", ".join(service.address(number) for service in SERVICES)
        run("nft", "add", "rule", "ip", "bench", "inbound", "iifname", "bench0", "ip", "daddr", f"{{ {addresses} }}",
            "tcp", "dport", str(PORT), "redirect", "to", f":{port}")

    def in_client(self, *command):
        return ["nsenter", f"--net=/proc/{self._client_pid}/ns/net", "--", *command]

    def generator(self, number, root, *arguments, service=HTTP1, path="/1k"):
        """The generator's command line, in the client's namespace; `arguments` begin with its options or its mode."""
        return self.in_client(str(GENERATOR), "--address", service.address(number), "--port", str(PORT),
                              "--name", service.name, "--ca", str(self.folder / f"{root}.pem"), "--path", path,
                              *arguments)

    def load(self, number, root, *arguments, retry_s=0, **options):
        """Runs the generator to its end and returns its figures."""
        attempts = 1 + int(retry_s / 0.1)
        for _ in range(attempts):
            done = subprocess.run(self.generator(number, root, *arguments, **options), capture_output=True, text=True,
                                  timeout=LOAD_SECONDS_MAX)
            if done.returncode == 0:
                return json.loads(done.stdout)
            if attempts > 1:
                time.sleep(0.1)
        raise RuntimeError(f"{' '.join(arguments)} on {number} failed: {done.stderr.strip()}")

    def close(self):
        for started in reversed(self._running):
            started.kill()
            started.wait(10)
