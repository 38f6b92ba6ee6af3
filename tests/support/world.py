"""The outside world of the tests: names, certificates, origins. Made once per lab."""

import subprocess
import time

import certificates
import dns
import lab
import origin

# Names of the lab, and where they lead.
_BOTH = [lab.ORIGIN_V4, lab.ORIGIN_V6]
_NAMES = {
    "api.example.com": _BOTH,
    "v4.example.com": [lab.ORIGIN_V4],
    "v6.example.com": [lab.ORIGIN_V6],
    "other.example.com": _BOTH,
    "denied.example.com": _BOTH,
    "deep.sub.example.com": _BOTH,
    "learned.example.com": _BOTH,
    "nginx.example.com": [lab.NGINX_V4],
    "chaos.example.com": [lab.CHAOS_V4],
    "down.example.com": [lab.NOBODY_LISTENS_V4],
    "half-down.example.com": [lab.NOBODY_LISTENS_V4, lab.ORIGIN_V4],
    "servfail.example.com": dns.SERVFAIL,
    "silent.example.com": dns.SILENCE,
    "no-address.example.com": [],
    # Names that lead where no policy of these tests lets them.
    "to-loopback.example.com": [lab.ORIGIN_V4],
    "to-metadata.example.com": [lab.METADATA],
    "to-private.example.com": [lab.PRIVATE],
    "to-mapped.example.com": ["::ffff:" + lab.PRIVATE],
    "to-outside.example.com": [lab.OUTSIDE_V4],
    "to-synthetic.example.com": ["198.18.0.1"],
    "rebinding.example.com": (dns.ROTATE, [lab.ORIGIN_V4, lab.METADATA]),
    # One name for each thing that can be wrong with a certificate.
    "expired.example.com": _BOTH,
    "not-yet.example.com": _BOTH,
    "wrong-host.example.com": _BOTH,
    "self-signed.example.com": _BOTH,
    "unknown-root.example.com": _BOTH,
    "revoked.example.com": _BOTH,
    "weak.example.com": _BOTH,
    "own-ca.example.com": _BOTH,
}

_NGINX = """
daemon off;
user root root;
master_process off;
error_log {folder}/nginx.err;
pid {folder}/nginx.pid;
worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_max_body_size 0;
  keepalive_requests 100000;
  gzip on; gzip_types *; gzip_min_length 1;
  server {{
    listen {address}:443 ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    root {folder}/www;
    location / {{ }}
    location /answer {{ default_type text/plain; return 200 "nginx here\\n"; }}
  }}
  server {{  # the same over HTTP/2
    listen {address}:8443 ssl http2;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    root {folder}/www;
    location / {{ }}
    location /answer {{ default_type text/plain; return 200 "nginx here\\n"; }}
    location /protocol {{ default_type text/plain; return 200 "$server_protocol $http_x_a $http_cookie"; }}
  }}
}}
"""


class World:
    """`tls` is the HTTPS origin on port 443 (and `tls_8443` beside it), `plain` the HTTP origin on port 80; `root` is
    what --upstream-ca gets."""

    def __init__(self):
        self.folder = lab.folder()
        self.authority = certificates.Authority(self.folder, "test-root")
        self.root = self.authority.certificate
        served = self._certificates()
        addresses = [lab.ORIGIN_V4, lab.ORIGIN_V6]
        self.tls = origin.Origin(addresses, 443, served)
        self.tls_8443 = origin.Origin(addresses, 8443, served)
        self.plain = origin.Origin(addresses, 80)
        self.dns = dns.NameServer([lab.RESOLVER, lab.LOCAL_RESOLVER], dict(_NAMES))
        self._nginx = None

    def _certificates(self):
        issue = self.authority.issue
        good = [
            name
            for name in _NAMES
            if name
            not in (
                "expired.example.com",
                "not-yet.example.com",
                "wrong-host.example.com",
                "self-signed.example.com",
                "unknown-root.example.com",
                "revoked.example.com",
                "weak.example.com",
                "own-ca.example.com",
            )
        ]
        self.good = issue("good", [*good, "in-hosts-file.example.com", lab.ORIGIN_V4, lab.ORIGIN_V6])
        stranger = certificates.Authority(self.folder, "stranger-root")
        # The guard of a test can be given this root as its own; the origin then holds a certificate from it.
        self.guard_root = certificates.Authority(self.folder, "guard-root")
        revoked = issue("revoked", ["revoked.example.com"])
        self.authority.revoke(revoked[0])
        self.crl = self.authority.crl()
        return {
            "": self.good,
            "expired.example.com": issue("expired", ["expired.example.com"], start=-20, end=-2),
            "not-yet.example.com": issue("not-yet", ["not-yet.example.com"], start=5, end=20),
            "wrong-host.example.com": issue("wrong-host", ["someone-else.example.org"]),
            "self-signed.example.com": certificates.self_signed(self.folder, "self", ["self-signed.example.com"]),
            "unknown-root.example.com": stranger.issue("unknown", ["unknown-root.example.com"]),
            "revoked.example.com": revoked,
            "weak.example.com": issue("weak", ["weak.example.com"], rsa_bits=1024),
            "own-ca.example.com": self.guard_root.issue("own-ca", ["own-ca.example.com"]),
        }

    def allowed_traffic(self):
        """What a guard may put on the wire in this world: to the origins and to the name server."""
        ports = [("tcp", address, port) for address in (lab.ORIGIN_V4, lab.ORIGIN_V6) for port in (80, 443, 8443)]
        ports += [("tcp", lab.NGINX_V4, 443), ("tcp", lab.NGINX_V4, 8443), ("tcp", lab.NOBODY_LISTENS_V4, 443)]
        return ports + [(protocol, lab.RESOLVER, 53) for protocol in ("tcp", "udp")]

    def forget(self):
        for server in (self.tls, self.tls_8443, self.plain, self.dns):
            server.forget()

    def requests(self):
        return [*self.tls.requests, *self.tls_8443.requests, *self.plain.requests]

    def saw(self, text):
        """The requests that hold `text`, whichever origin they came to."""
        return [r for server in (self.tls, self.tls_8443, self.plain) for r in server.saw(text)]

    def start_nginx(self):
        if self._nginx is not None:
            return
        folder = self.folder / "nginx"
        (folder / "www").mkdir(parents=True)
        (folder / "www" / "file").write_bytes(b"0123456789" * 100_000)
        certificate, key = self.good
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, address=lab.NGINX_V4, certificate=certificate, key=key))
        self._nginx = subprocess.Popen(
            ["nginx", "-p", str(folder), "-c", str(config)], preexec_fn=lab.die_with_parent, stderr=subprocess.DEVNULL
        )
        import socket

        for _ in range(100):
            try:
                socket.create_connection((lab.NGINX_V4, 443), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("nginx did not start")
