"""The test world's certification authorities, made with openssl at run time: nothing is kept."""

import datetime
import subprocess

_CONFIG = """
[ca]
default_ca = test
[test]
dir = {folder}
database = $dir/{name}.index
new_certs_dir = $dir
serial = $dir/{name}.serial
crlnumber = $dir/{name}.crlnumber
default_md = sha256
default_crl_days = 30
policy = any
unique_subject = no
[any]
commonName = supplied
"""


def _openssl(*arguments, **options):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, **options)


def _stamp(days):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return moment.strftime("%Y%m%d%H%M%SZ")


class Authority:
    """A CA with the profile that strict verifiers ask for: a P-256 root, or with `issuer` a CA below another one.
        `extensions` are more of a root's, or others instead of the usual."""

    def __init__(self, folder, name, issuer=None, rsa_bits=None, digest="sha256", extensions=None):
        self.folder, self.name = folder, name
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self._config = folder / f"{name}.cnf"
        self._config.write_text(_CONFIG.format(folder=folder, name=name))
        (folder / f"{name}.index").write_text("")
        (folder / f"{name}.serial").write_text("1001")
        (folder / f"{name}.crlnumber").write_text("01")
        if issuer is not None:
            made = issuer.issue(
                name,
                [],
                rsa_bits=rsa_bits,
                digest=digest,
                extensions="basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
                "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n",
            )
            self.certificate, self.key = made
            return
        _openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            30,
            "-subj",
            f"/CN={name}",
            "-keyout",
            self.key,
            "-out",
            self.certificate,
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            *(["-addext", extensions] if extensions else []),
        )

    def issue(self, name, hosts, start=-2, end=20, rsa_bits=None, digest="sha256", names=None, extensions=None):
        """A server certificate; returns (certificate file, key file). `start` and `end` are days from now; `names` is
        a subjectAltName in OpenSSL's words, instead of the hosts; `extensions` are all of them."""
        certificate, key, request = (self.folder / f"{name}.{kind}" for kind in ("crt", "key", "csr"))
        algorithm = (
            ["rsa", "-pkeyopt", f"rsa_keygen_bits:{rsa_bits}"]
            if rsa_bits
            else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        )
        _openssl(
            "req", "-new", "-newkey", *algorithm, "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request
        )
        extension_file = self.folder / f"{name}.ext"
        names = names or ",".join(
            ("IP:" if host.replace(".", "").isdigit() or ":" in host else "DNS:") + host for host in hosts
        )
        extension_file.write_text(
            extensions
            or "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
            f"subjectAltName={names}\n"
        )
        _openssl(
            "ca",
            "-batch",
            "-notext",
            "-config",
            self._config,
            "-md",
            digest,
            "-cert",
            self.certificate,
            "-keyfile",
            self.key,
            "-in",
            request,
            "-out",
            certificate,
            "-startdate",
            _stamp(start),
            "-enddate",
            _stamp(end),
            "-extfile",
            extension_file,
        )
        return certificate, key

    def revoke(self, certificate):
        _openssl("ca", "-config", self._config, "-cert", self.certificate, "-keyfile", self.key, "-revoke", certificate)

    def crl(self):
        path = self.folder / f"{self.name}.crl"
        _openssl(
            "ca", "-config", self._config, "-cert", self.certificate, "-keyfile", self.key, "-gencrl", "-out", path
        )
        return path


def self_signed(folder, name, hosts):
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    _openssl(
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        20,
        "-subj",
        f"/CN={name}",
        "-keyout",
        key,
        "-out",
        certificate,
        "-addext",
        "subjectAltName=" + ",".join(f"DNS:{host}" for host in hosts),
    )
    return certificate, key


def sent_with(served, *issuers):
    """The same, with the certificates of its issuers after the server's own."""
    certificate, key = served
    whole = certificate.with_suffix(".chain")
    whole.write_text("".join(path.read_text() for path in (certificate, *(one.certificate for one in issuers))))
    return whole, key
