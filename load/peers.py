"""The peers, each set up to do its best at what is measured: docs/performance.md says what that means for each.

HAProxy and Envoy do less than the guard: one static certificate that has every name, fixed and verified backends, no
records, no policy. sslsplit, Squid and mitmproxy mint leaves as the guard does, without rules or records.
"""

import os
import shutil
from pathlib import Path

from lab import BIN, DIRECT, DOMAIN, GRPC, HTTP1, HTTP2, NAMES_MAX, PORT, REPOSITORY, SERVICES, run
from proxies import Proxy, Sallyport

INSTALLED = REPOSITORY / "build/bench"  # by load/peers/prepare.sh
ENVOY = INSTALLED / "envoy/envoy/_bin/envoy"
MITMDUMP = INSTALLED / "mitmproxy/bin/mitmdump"
SQUID_CERTGEN = "/usr/lib/squid/security_file_certgen"


class HaProxy(Proxy):
    name, number = "haproxy", 11
    services = SERVICES
    mints = False

    def command(self):
        verified = f"ssl verify required ca-file {self.folder}/origin-root.pem"
        config = self.folder / "haproxy.cfg"
        config.write_text(f"""
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout client 300s
  timeout server 300s
  timeout connect 10s
  timeout http-keep-alive 300s
  http-reuse always
frontend function
  bind 0.0.0.0:{self.port} ssl crt {self.folder}/static.pem alpn h2,http/1.1
  use_backend grpc if {{ ssl_fc_sni {GRPC.name} }}
  use_backend h2 if {{ ssl_fc_sni {HTTP2.name} }}
  default_backend origin
backend origin
  server origin {DIRECT}:{PORT} {verified} sni str({HTTP1.name}) verifyhost {HTTP1.name}
backend h2
  server h2 {HTTP2.direct}:{PORT} {verified} sni str({HTTP2.name}) verifyhost {HTTP2.name} alpn h2
backend grpc
  server grpc {GRPC.direct}:{PORT} {verified} sni str({GRPC.name}) verifyhost {GRPC.name} alpn h2
""")
        return ["haproxy", "-db", "-f", str(config)]


ENVOY_CLUSTER = """
  - name: {label}
    type: STATIC
    connect_timeout: 10s
    circuit_breakers: {{thresholds: [{{max_connections: 8192, max_pending_requests: 8192, max_requests: 8192}}]}}
    load_assignment:
      cluster_name: {label}
      endpoints:
      - lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {address}, port_value: {port}}}}}}}}}]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{{protocol}: {{}}}}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: {name}
        max_session_keys: 8
        common_tls_context:
          tls_params: {{tls_maximum_protocol_version: TLSv1_3}}
          validation_context:
            trusted_ca: {{filename: {folder}/origin-root.pem}}
            match_typed_subject_alt_names: [{{san_type: DNS, matcher: {{exact: "*.{domain}"}}}}]"""

ENVOY_CONFIG = """
stats_config: {{stats_matcher: {{reject_all: true}}}}
static_resources:
  listeners:
  - name: function
    address: {{socket_address: {{address: 0.0.0.0, port_value: {port}}}}}
    listener_filters:
    - name: envoy.filters.listener.tls_inspector
      typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_params: {{tls_maximum_protocol_version: TLSv1_3}}
            tls_certificates:
            - {{certificate_chain: {{filename: {folder}/static.crt}}, private_key: {{filename: {folder}/static.key}}}}
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: grpc
              domains: ["{grpc}"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: grpc, timeout: 0s}}}}]
            - name: h2
              domains: ["{h2}"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: h2, timeout: 0s}}}}]
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: origin, timeout: 0s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              dynamic_stats: false
              suppress_envoy_headers: true
  clusters:"""


class Envoy(Proxy):
    name, number = "envoy", 12
    services = SERVICES
    mints = False

    def command(self):
        clusters = [("origin", HTTP1, "http_protocol_options"), ("h2", HTTP2, "http2_protocol_options"),
                    ("grpc", GRPC, "http2_protocol_options")]
        text = ENVOY_CONFIG.format(port=self.port, folder=self.folder, grpc=GRPC.name, h2=HTTP2.name)
        text += "".join(ENVOY_CLUSTER.format(label=label, address=service.direct, port=PORT, protocol=protocol,
                                             name=service.name, folder=self.folder, domain=DOMAIN)
                        for label, service, protocol in clusters)
        config = self.folder / "envoy.yaml"
        config.write_text(text + "\n")
        return [str(ENVOY), "--config-path", str(config), "--concurrency", "1", "--disable-hot-restart",
                "--log-level", "error"]


class Squid(Proxy):
    name, number = "squid", 13
    attempts = 5  # it breaks some large uploads off
    share = 1 / 3

    def command(self):
        # It refuses to stay root, so what it writes belongs to the user whom Debian made for it.
        home = self.folder / "squid"
        shutil.rmtree(home, ignore_errors=True)
        for left in Path("/dev/shm").glob("squid-*"):
            left.unlink()
        home.mkdir()
        run(SQUID_CERTGEN, "-c", "-s", f"{home}/certificates", "-M", "16MB")
        run("chown", "-R", "proxy:proxy", str(home))
        self.folder.chmod(0o711)
        # It compares where its client was going with where the name leads, and keeps no connections where they differ.
        hosts = home / "hosts"
        names = [HTTP1.name, *(f"n{number}.{DOMAIN}" for number in range(NAMES_MAX))]
        hosts.write_text("".join(f"{HTTP1.address(self.number)} {name}\n" for name in names))
        config = home / "squid.conf"
        config.write_text(f"""
visible_hostname bench
cache_effective_user proxy
pid_filename none
coredump_dir {home}
hosts_file {hosts}
http_port 127.0.0.1:{self.port + 100}
https_port 0.0.0.0:{self.port} intercept ssl-bump tls-cert={self.folder}/proxy-root.pem \
tls-key={self.folder}/proxy-root.key generate-host-certificates=on dynamic_cert_mem_cache_size=16MB
sslcrtd_program {SQUID_CERTGEN} -s {home}/certificates -M 16MB
sslcrtd_children 1 startup=1 idle=1
tls_outgoing_options cafile={self.folder}/origin-root.pem
acl hello at_step SslBump1
ssl_bump peek hello
ssl_bump bump all
http_access allow all
cache deny all
cache_mem 0 MB
access_log none
cache_log {home}/cache.log
cache_store_log none
client_persistent_connections on
server_persistent_connections on
client_idle_pconn_timeout 5 minutes
server_idle_pconn_timeout 5 minutes
via off
forwarded_for delete
shutdown_lifetime 0 seconds
pinger_enable off
""")
        return ["squid", "-N", "-f", str(config)]


class SslSplit(Proxy):
    name, number = "sslsplit", 14
    share = 1 / 3  # a new connection takes it 50 ms

    def command(self):
        # A leaf key of the same kind as everybody's: its own default is RSA.
        return ["sslsplit", "-u", "root", "-k", f"{self.folder}/proxy-root.key", "-c", f"{self.folder}/proxy-root.pem",
                "-K", f"{self.folder}/static.key", "ssl", "0.0.0.0", str(self.port)]


class Mitmproxy(Proxy):
    name, number = "mitmproxy", 15
    services = SERVICES
    share = 1 / 20

    def command(self):
        home = self.folder / "mitmproxy"
        home.mkdir(exist_ok=True)
        authority = (self.folder / "proxy-root.key").read_text() + (self.folder / "proxy-root.pem").read_text()
        (home / "mitmproxy-ca.pem").write_text(authority)
        options = ("connection_strategy=lazy", "upstream_cert=false", "stream_large_bodies=64k",
                   f"confdir={home}", f"ssl_verify_upstream_trusted_ca={self.folder}/origin-root.pem")
        return ["/usr/bin/python3", str(MITMDUMP), "--quiet", "--mode", "transparent",
                "--listen-host", "0.0.0.0", "--listen-port", str(self.port),
                *(argument for option in options for argument in ("--set", option))]

    def environment(self):
        return {**os.environ, "PYTHONPATH": str(INSTALLED / "mitmproxy"), "PYTHONDONTWRITEBYTECODE": "1"}


ALL = (HaProxy, Envoy, SslSplit, Squid, Mitmproxy, Sallyport)
NAMES = tuple(kind.name for kind in ALL)


def missing(name):
    """Why this proxy cannot be measured here; empty if it can."""
    program = {"haproxy": "haproxy", "envoy": ENVOY, "sslsplit": "sslsplit", "squid": "squid", "mitmproxy": MITMDUMP,
               "sallyport": BIN / "sallyport-proxy"}[name]
    if name == "squid" and os.geteuid() != 0:
        return "it wants to become another user, which needs root"
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") or os.path.exists(program)
    return "" if found else f"{program} is not installed"
