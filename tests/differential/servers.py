"""The servers of the differential test: each on port 80 and 443 of an address of its own, each with a log of what it has
understood. They run outside of the guard, inside of the lab."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import clients
import lab

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
NAMES = ["nginx", "apache", "haproxy", "node", "gunicorn"]
HTTP2_NAMES = ["nginx2", "node2", "go2"]  # speak HTTP/2, and have no port without TLS
PROGRAMS = ["nginx", "apache2", "haproxy", "node", "gunicorn"]
_RECORDERS = {"nginx": 9001, "apache": 9002, "haproxy": 9003, "nginx2": 9004}

_NGINX = """
daemon off; master_process off; user root root;
error_log {folder}/{name}.err crit;
pid {folder}/{name}.pid;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/{name}-b; proxy_temp_path {folder}/{name}-p; fastcgi_temp_path {folder}/{name}-f;
  uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
  client_max_body_size 0;
  client_body_buffer_size 128k;
  large_client_header_buffers 8 64k;
  keepalive_requests 1000000; keepalive_timeout 600s;
  underscores_in_headers on;
  upstream recorder {{ server {address}:{port}; keepalive 64; keepalive_requests 1000000; keepalive_timeout 600s; }}
  server {{
    {listen}
    ssl_certificate {certificate}; ssl_certificate_key {key};
    location / {{
      proxy_pass http://recorder;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
    }}
  }}
}}
"""

_APACHE = """
ServerRoot {folder}
ServerName apache.example.com
PidFile {folder}/apache.pid
ErrorLog {folder}/apache.err
LogLevel crit
{modules}
User www-data
Group www-data
Listen {address}:80
Listen {address}:443
ListenBacklog 4096
StartServers 1
ServerLimit 2
ThreadLimit 64
ThreadsPerChild 64
MaxRequestWorkers 128
MaxConnectionsPerChild 0
KeepAlive On
KeepAliveTimeout 600
MaxKeepAliveRequests 0
Timeout 60
LimitRequestFieldSize 65536
LimitRequestLine 65536
TraceEnable extended
MergeSlashes Off
AllowEncodedSlashes NoDecode
ProxyPreserveHost On
ProxyPass "/" "http://{address}:9002/" nocanon enablereuse=on
SSLProtocol all
<VirtualHost {address}:443>
  SSLEngine on
  SSLCertificateFile {certificate}
  SSLCertificateKeyFile {key}
</VirtualHost>
"""
_APACHE_MODULES = "mpm_event authz_core ssl socache_shmcb proxy proxy_http"

_HAPROXY = """
global
  maxconn 8000
  tune.bufsize 65536
defaults
  mode http
  timeout client 600s
  timeout server 60s
  timeout connect 10s
  timeout http-keep-alive 600s
  timeout http-request 60s
  http-reuse always
frontend all
  bind {address}:80 backlog 4096
  bind {address}:443 ssl crt {pem} backlog 4096
  default_backend recorder
backend recorder
  server recorder {address}:9003
"""


class Servers:
    """`addresses` says which servers there are, of NAMES and HTTP2_NAMES, and where each listens."""

    def __init__(self, folder, addresses, certificate, key):
        self.folder, self.addresses = folder, addresses
        self.certificate, self.key = certificate, key
        self.processes = {}
        for name in addresses:
            self.log(name).touch()
        for name in _RECORDERS.keys() & addresses.keys():
            command = [PYTHON, HERE / "recorder.py", addresses[name], _RECORDERS[name], self.log(name)]
            self._start(f"recorder of {name}", command)
        for name in addresses:
            getattr(self, f"_start_{name}")(addresses[name])
        for name in addresses:
            for port in (443,) if name in HTTP2_NAMES else (80, 443):
                self._wait(name, addresses[name], port)

    def log(self, name):
        return self.folder / f"{name}.seen"

    def _start(self, name, command, **environment):
        self.processes[name] = subprocess.Popen(
            [str(word) for word in command],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=open(self.folder / f"{name.replace(' ', '-')}.stderr", "w"),
            preexec_fn=lab.die_with_parent,
        )

    def _wait(self, name, address, port):
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((address, port), 5).close()
                return
            except OSError:
                assert time.monotonic() < end, f"{name} does not listen on port {port}: {self.stderr(name)}"
                time.sleep(0.05)

    def stderr(self, name):
        errors = [self.folder / f"{name}.stderr", self.folder / f"{name}.err"]
        return "\n".join(path.read_text() for path in errors if path.exists())

    def _write(self, file, text, address, **more):
        path = self.folder / f"{file}.conf"
        path.write_text(
            text.format(folder=self.folder, address=address, certificate=self.certificate, key=self.key, **more)
        )
        return path

    def _start_nginx(self, address, name="nginx", listen="{0}:80 backlog=4096; listen {0}:443 ssl backlog=4096;"):
        listen = "listen " + listen.format(address)
        path = self._write(name, _NGINX, address, name=name, listen=listen, port=_RECORDERS[name])
        self._start(name, ["nginx", "-p", self.folder, "-e", self.folder / f"{name}.err", "-c", path])

    def _start_nginx2(self, address):
        self._start_nginx(address, "nginx2", "{0}:443 ssl http2 backlog=4096;")

    def _start_apache(self, address):
        modules = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in _APACHE_MODULES.split()
        )
        path = self._write("apache", _APACHE, address, modules=modules)
        self._start("apache", ["apache2", "-D", "FOREGROUND", "-d", self.folder, "-f", path])

    def _start_haproxy(self, address):
        pem = self.folder / "haproxy.pem"
        pem.write_text(pathlib.Path(self.certificate).read_text() + pathlib.Path(self.key).read_text())
        self._start("haproxy", ["haproxy", "-db", "-f", self._write("haproxy", _HAPROXY, address, pem=pem)])

    def _start_node(self, address):
        self._start("node", ["node", HERE / "node_server.js", self.log("node"), address, self.certificate, self.key])

    def _start_node2(self, address):
        command = ["node", HERE / "node_server.js", self.log("node2"), address, self.certificate, self.key, "http2"]
        self._start("node2", command)

    def _start_go2(self, address):
        made = clients.MADE / "go" / "http2_server"
        self._start("go2", [made, self.log("go2"), address, self.certificate, self.key])

    def _start_gunicorn(self, address):
        common = ["gunicorn", "--worker-class", "gthread", "--threads", 8, "--worker-tmp-dir", self.folder]
        common += ["--keep-alive", 600, "--timeout", 600, "--limit-request-line", 8190, "--limit-request-fields", 300]
        common += ["--limit-request-field_size", 65536, "--worker-connections", 4000, "--backlog", 4096]
        for name, port, tls in (
            ("gunicorn", 80, []),
            ("gunicorn with TLS", 443, ["--certfile", self.certificate, "--keyfile", self.key]),
        ):
            command = [*common, "--bind", f"{address}:{port}", *tls, "wsgi_server"]
            self._start(name, command, SIGHTINGS=str(self.log("gunicorn")))

    def sightings(self, name):
        """What the server has understood so far: the fields of Request.seen()."""
        return [tuple(json.loads(line)) for line in self.log(name).read_text().splitlines()]

    def stop(self):
        """What they have been sent by now is in their logs afterwards."""
        for process in reversed(self.processes.values()):  # the recorders last
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
