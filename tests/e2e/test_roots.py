"""Who chose a root decides what its servers must show: a root that the system's distributor lists binds them to the rules
of public CAs, one that a person has added to RFC 5280. The system's files are replaced here, for one guard's eyes."""

import json
import pathlib

import pytest

import certificates
import guard
import lab
import origin

PORT = 9444
BUNDLE = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
LOCAL = pathlib.Path("/usr/local/share/ca-certificates")
PUBLIC, PRIVATE, LAX = "public.roots.example.com", "private.roots.example.com", "lax.roots.example.com"


@pytest.fixture(scope="module")
def street(world):
    """A server whose certificate no public CA would issue, one that has what they issue, and one below a root that only
    the distributor could get away with."""
    folder = lab.folder()
    root = certificates.Authority(folder, "a-root")
    lax = certificates.Authority(folder, "lax-root", extensions="basicConstraints=CA:TRUE")
    served = {
        PRIVATE: root.issue("a name of people's own", [PRIVATE]),
        PUBLIC: root.issue(PUBLIC, [PUBLIC]),
        LAX: lax.issue(LAX, [LAX]),
    }
    origin.Origin([lab.ORIGIN_V4], PORT, {"": served[PUBLIC], **served})
    world.dns.table.update({name: [lab.ORIGIN_V4] for name in served})
    bundle, local = folder / "bundle.crt", folder / "local"
    bundle.write_text(root.certificate.read_text() + lax.certificate.read_text())
    (local / "company").mkdir(parents=True)
    yield Street(world, bundle, local, (root.certificate, lax.certificate))


class Street:
    def __init__(self, world, bundle, local, roots):
        self.world, self.bundle, self.local, self.roots = world, bundle, local, roots

    def _replace_system_files(self):
        lab.own_mounts({BUNDLE: self.bundle, LOCAL: self.local})

    def ask(self, added=False, env=None, flags=()):
        """What a guard answers for each of the servers: None, or why it refused them."""
        for root in self.roots:
            copy = self.local / "company" / root.name
            copy.write_text(root.read_text()) if added else copy.unlink(missing_ok=True)
        bench = guard.Bench(self.world)
        endpoints = [guard.endpoint(host, ports=[PORT]) for host in (PUBLIC, PRIVATE, LAX)]
        options = {"preexec_fn": self._replace_system_files, "trust": False, "env": env, "flags": flags}
        with bench.session(policy=guard.policy(*endpoints), **options) as session:
            replies = {host: session.get(host, port=PORT) for host in (PUBLIC, PRIVATE, LAX)}
        bench.close()
        return {
            host: None if reply["status"] == 200 else json.loads(reply["body"])["text"]
            for host, reply in replies.items()
        }


def test_the_distributors_roots_bind_servers_to_the_rules_of_public_cas(street):
    said = street.ask()
    assert said[PUBLIC] is None and said[LAX] is None
    assert "its common name is none of the names" in said[PRIVATE]
    assert "if this CA is your own, give its CA as caBundle" in said[PRIVATE]


def test_roots_that_people_add_to_the_systems_bind_them_to_rfc_5280(street):
    said = street.ask(added=True)
    assert said[PUBLIC] is None and said[PRIVATE] is None
    assert "its basicConstraints are not critical" in said[LAX] and "have it issued again" in said[LAX]


def test_roots_of_upstream_ca_are_given_even_when_the_distributor_has_them(street):
    said = street.ask(flags=["--upstream-ca", street.bundle])
    assert said[PUBLIC] is None and said[PRIVATE] is None and said[LAX] is not None


def test_a_bundle_that_somebody_names_holds_both(street):
    """Those of its roots that the distributor has too are the distributor's."""
    assert street.ask(env={"SSL_CERT_FILE": str(street.bundle)}) == street.ask()
    other = street.bundle.with_name("other.crt")
    other.write_text(street.bundle.read_text())
    whole = street.bundle.read_text()
    street.bundle.write_text(street.world.root.read_text())
    try:
        said = street.ask(env={"SSL_CERT_FILE": str(other)})
    finally:
        street.bundle.write_text(whole)
    assert said[PUBLIC] is None and said[PRIVATE] is None and said[LAX] is not None
