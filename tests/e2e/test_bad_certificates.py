"""Servers whose certificates are no good, each in its own way: refused with the reason in the answer and in the record,
before anything of the request, and of its credential, is on the way."""

import json

import pytest

import certificates
import guard
import lab
import origin

SHARES_TRAFFIC = True
PORT = 9443
ADDRESS = lab.ORIGIN_V6
SECRET = "sk-live-never-to-be-seen-by-a-stranger"
MARK = "body-that-no-stranger-may-see"

# How each server is wrong: what it serves, made from the world's certificates, and the reason.
REASONS = {
    "expired": "upstream-expired",
    "not-yet": "upstream-not-yet-valid",
    "wrong-host": "upstream-wrong-host",
    "self-signed": "upstream-self-signed",
    "unknown-root": "upstream-untrusted",
    "unknown-root-sent": "upstream-untrusted",
    "incomplete-chain": "upstream-untrusted",
    "expired-issuer": "upstream-expired",
    "issued-by-a-server": "upstream-certificate",
    "revoked": "upstream-revoked",
    "no-crl-of-its-issuer": "upstream-certificate",
    "weak": "upstream-weak-key",
    "weak-issuer": "upstream-weak-key",
    "sha1": "upstream-weak-key",
    "sha1-issuer": "upstream-weak-key",
    "nul-in-name": "upstream-wrong-host",
    "only-in-subject": "upstream-wrong-host",
    "deep.wildcard": "upstream-wrong-host",
    "part-of-a-label": "upstream-wrong-host",
    "wildcard-for-all": "upstream-wrong-host",
    "for-clients": "upstream-certificate",
    "name-is-none": "upstream-certificate",
    "without-key-id": "upstream-certificate",
    "own-ca": "upstream-own-ca",
    "own-ca-below": "upstream-own-ca",
}
LISTED = ("revoked", "no-crl-of-its-issuer")


def host_of(kind):
    return f"{kind}.bad.example.com"


def name_with_nul(host):
    """A subjectAltName of one DNS name, in DER: the host, a NUL byte and a name of somebody else's."""
    name = host.encode() + b"\0.evil.example"
    names = b"\x82" + bytes([len(name)]) + name
    return "DER:" + (b"\x30" + bytes([len(names)]) + names).hex(":")


def bad_servers(world, folder):
    root = certificates.Authority(folder, "bad-root")
    stranger = certificates.Authority(folder, "stranger")
    issue = root.issue
    intermediate = certificates.Authority(folder, "intermediate", root)
    weak = certificates.Authority(folder, "weak-ca", root, rsa_bits=1024)
    sha1 = certificates.Authority(folder, "sha1-ca", root, digest="sha1")
    below = certificates.Authority(folder, "below-own-ca", world.guard_root)
    server = issue("a-server", ["a-server.example.com"])
    impostor = certificates.Authority(folder, "impostor")
    impostor.certificate, impostor.key = server

    def one(kind, by=root, hosts=None, **options):
        return by.issue(kind, hosts or [host_of(kind)], **options)

    revoked = one("revoked")
    root.revoke(revoked[0])
    served = {
        "expired": one("expired", start=-20, end=-2),
        "not-yet": one("not-yet", start=5, end=20),
        "wrong-host": one("wrong-host", hosts=["someone-else.example.org"]),
        "self-signed": certificates.self_signed(folder, "self", [host_of("self-signed")]),
        "unknown-root": one("unknown-root", stranger),
        "unknown-root-sent": certificates.sent_with(one("unknown-root-sent", stranger), stranger),
        "incomplete-chain": one("incomplete-chain", intermediate),
        "expired-issuer": certificates.sent_with(one("expired-issuer", old := expired_ca(folder, root)), old),
        "issued-by-a-server": certificates.sent_with(one("issued-by-a-server", impostor), impostor),
        "revoked": revoked,
        "no-crl-of-its-issuer": certificates.sent_with(one("no-crl-of-its-issuer", intermediate), intermediate),
        "weak": one("weak", rsa_bits=1024),
        "weak-issuer": certificates.sent_with(one("weak-issuer", weak), weak),
        "sha1": one("sha1", digest="sha1"),
        "sha1-issuer": certificates.sent_with(one("sha1-issuer", sha1), sha1),
        "nul-in-name": one("nul-in-name", names=name_with_nul(host_of("nul-in-name"))),
        "only-in-subject": root.issue(
            host_of("only-in-subject"), [], extensions="authorityKeyIdentifier=keyid\nextendedKeyUsage=serverAuth\n"
        ),
        "deep.wildcard": one("deep.wildcard", hosts=["*.bad.example.com"]),
        "part-of-a-label": one("part-of-a-label", hosts=["part-*.bad.example.com"]),
        "wildcard-for-all": one("wildcard-for-all", names="DNS:*"),
        "for-clients": one(
            "for-clients",
            extensions="authorityKeyIdentifier=keyid\nextendedKeyUsage=clientAuth\n"
            f"subjectAltName=DNS:{host_of('for-clients')}\n",
        ),
        "name-is-none": one("name-is-none", hosts=[host_of("name-is-none"), "*.*.example.com"]),
        "without-key-id": one(
            "without-key-id",
            extensions="authorityKeyIdentifier=none\nextendedKeyUsage=serverAuth\n"
            f"subjectAltName=DNS:{host_of('without-key-id')}\n",
        ),
        "own-ca": one("own-ca", world.guard_root),
        "own-ca-below": certificates.sent_with(one("own-ca-below", below), below),
    }
    return root, {host_of(kind): files for kind, files in served.items()}


def expired_ca(folder, root):
    made = certificates.Authority(folder, "expired-ca", root)
    made.certificate, made.key = root.issue(
        "expired-ca-old",
        [],
        start=-20,
        end=-1,
        extensions="basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
        "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n",
    )
    return made


class Street:
    """The bad servers, and a guard that has a credential for each of them."""

    def __init__(self, world):
        self.bench = guard.Bench(world)
        folder = self.bench.folder
        root, served = bad_servers(world, folder)
        good = root.issue("good", ["good.bad.example.com"])
        self.server = origin.Origin([lab.ORIGIN_V4], PORT, {"": good, **served})
        # Servers that are known by an address: there is no server name to choose a certificate by.
        self.by_address = {
            "other-address": origin.Origin([ADDRESS], PORT + 1, {"": root.issue("other-ip", ["2001:db8::99"])}),
            "address-as-name": origin.Origin([ADDRESS], PORT + 2, {"": root.issue("as-name", [], names=f"DNS:{ADDRESS}")}),
            "address": origin.Origin([ADDRESS], PORT + 3, {"": root.issue("ip", [ADDRESS])}),
        }
        world.dns.table.update({name: [lab.ORIGIN_V4] for name in (*served, "good.bad.example.com")})
        secret = folder / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o644)
        trusted = folder / "trusted.pem"
        trusted.write_text(root.certificate.read_text() + world.guard_root.certificate.read_text())
        crl = {"file": str(root.crl())}
        endpoints = [
            guard.endpoint(host_of(kind), ports=[PORT], credential="key", crl=crl if kind in LISTED else None)
            for kind in REASONS
        ]
        endpoints.append(guard.endpoint("good.bad.example.com", ports=[PORT], credential="key", crl=crl))
        endpoints.append(
            guard.endpoint(ADDRESS, ports=[server.port for server in self.by_address.values()], credential="key")
        )
        credential = {
            "name": "key",
            "secret": {"file": str(secret)},
            "inject": {"header": "Authorization", "format": "Bearer {}"},
        }
        flags = ["--ca-cert", world.guard_root.certificate, "--ca-key", world.guard_root.key]
        self.session = self.bench.session(
            policy=guard.policy(*endpoints, credentials=[credential]),
            flags=[*flags, "--upstream-ca", trusted],
            trust=False,
        )

    def servers(self):
        return [self.server, *self.by_address.values()]

    def post(self, host, port, **where):
        """The answer to a request with a body, and the records that it left."""
        before = len(self.session.bench.records())
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        request = (
            f"POST /take?{MARK} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {len(MARK)}\r\n"
            f"Connection: close\r\n\r\n{MARK}"
        )
        reply = self.session.ask(host, request.encode(), port=port, **where)
        records = self.session.wait_for_records(lambda r: len(guard.exchanges(r[before:])) == 1)
        return reply, guard.exchanges(records[before:])[0]


@pytest.fixture(scope="module")
def street(world):
    made = Street(world)
    with made.session:
        yield made
    made.bench.close()


def is_refused(street, reply, record, reason, host):
    assert reply["status"] == 502 and reply["headers"]["sallyport-denied"] == reason, reply
    assert (record["decision"], record["reason"]) == ("error", reason)
    assert host in json.loads(reply["body"])["text"] and SECRET not in str(reply) + str(record)
    assert not any(server.requests for server in street.servers()), "not even a head has arrived"


@pytest.mark.parametrize("kind", REASONS)
def test_each_is_refused_with_its_own_reason(street, kind):
    connections = len(street.server.connections)
    reply, record = street.post(host_of(kind), PORT)
    is_refused(street, reply, record, REASONS[kind], host_of(kind))
    assert len(street.server.connections) > connections, "the server was reached, and its certificate seen"


@pytest.mark.parametrize("kind", ["other-address", "address-as-name"])
def test_an_address_must_stand_in_the_certificate_as_one(street, kind):
    reply, record = street.post(ADDRESS, street.by_address[kind].port, address=ADDRESS, sni=None)
    is_refused(street, reply, record, "upstream-wrong-host", ADDRESS)


def test_the_good_ones_beside_them_get_the_request_and_the_credential(street):
    """What is refused above is refused for its certificate."""
    for server, host, where in (
        (street.server, "good.bad.example.com", {}),
        (street.by_address["address"], ADDRESS, {"address": ADDRESS, "sni": None}),
    ):
        reply, record = street.post(host, server.port, **where)
        assert reply["status"] == 200 and record["credential"] == "key", reply
        assert [(r.header("authorization"), r.body.decode()) for r in server.requests] == [(f"Bearer {SECRET}", MARK)]
        server.forget()
