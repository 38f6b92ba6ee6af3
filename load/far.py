"""A server 20 milliseconds away, and a function that opens a new TLS connection for each of its calls to it.

Without the guard each call pays for three round trips: TCP, TLS, and the request. With it, the function's connections
end in the guard, next to it, and a kept connection of the guard's carries the requests.
"""

import json
import subprocess
import sys
from pathlib import Path

from lab import FAR_ADDRESS, FAR_NAME, LOAD_SECONDS_MAX, PORT, Service, origin_config, run

HERE = Path(__file__).resolve().parent
ONE_WAY_MS = 10
NEAR_END = "10.203.0.1"
PERCENTILES = (10, 25, 50, 75, 90, 99)


class FarService(Service):
    """As a Service, but the server itself is behind the line; proxies have the addresses of the HTTP/1 one."""

    def __init__(self):
        super().__init__("far", "10.200.0")

    def address(self, number):
        return FAR_ADDRESS if number == FAR_NUMBER else super().address(number)


FAR_NUMBER = 0  # in the place of a proxy's: no proxy
FAR = FarService()


class FarServer:
    """The origin at the other end of the line. Made once in a lab; ends with it."""

    def __init__(self, lab):
        self._lab = lab
        place = lab.new_namespace()
        line = lab.start(sys.executable, str(HERE / "delay.py"), "near", "distant", str(ONE_WAY_MS),
                         stdout=subprocess.PIPE, text=True)
        if line.stdout.readline() != "ready\n":
            raise RuntimeError("the line to the far server could not be made: is there /dev/net/tun?")
        run("ip", "link", "set", "distant", "netns", str(place))
        inside = ["nsenter", f"--net=/proc/{place}/ns/net", "--"]
        run("ip", "address", "add", f"{NEAR_END}/32", "dev", "near")
        run("ip", "link", "set", "near", "up")
        run("ip", "route", "add", f"{FAR_ADDRESS}/32", "dev", "near", "src", NEAR_END)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
        for device in ("lo", "distant"):
            run(*inside, "ip", "link", "set", device, "up")
        run(*inside, "ip", "address", "add", f"{FAR_ADDRESS}/32", "dev", "distant")
        run(*inside, "ip", "route", "add", "default", "dev", "distant", "src", FAR_ADDRESS)
        lab.start(*inside, *origin_config(lab.folder, "far-nginx", [f"listen {FAR_ADDRESS}:{PORT} ssl backlog=4096"]))
        self._generator(FAR_NUMBER, "origin-root", 1, retry_s=5)

    def _generator(self, number, root, calls, **options):
        # As urllib3, Go and curl do. Without it the request would wait for one more round trip, with the guard or not.
        arguments = ("connections", "--no-delay", "--requests", str(calls))
        return self._lab.load(number, root, *arguments, service=FAR, **options)

    def _requests(self, number, root, calls):
        """Python's client library, in the client's namespace, with a hosts file that says where the name leads."""
        hosts = self._lab.hosts_file(f"hosts-{number}", {FAR_NAME: FAR.address(number)})
        client = ["/usr/bin/python3", str(HERE / "requests_client.py"), str(calls), f"https://{FAR_NAME}/1k",
                  str(self._lab.folder / f"{root}.pem")]
        mounted = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts), *client]
        done = subprocess.run(self._lab.in_client(*mounted), capture_output=True, text=True, timeout=LOAD_SECONDS_MAX)
        if done.returncode != 0:
            raise RuntimeError(f"the far server through requests: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def measure(self, samples, proxy, sizes):
        """Milliseconds of a call, by percentile: without the guard and with it, by both clients."""
        clients = {"generator": self._generator, "requests": self._requests}
        self._generator(proxy.number, "proxy-root", 2)
        for name, client in clients.items():
            for way, number, root in (("without", FAR_NUMBER, "origin-root"), ("with", proxy.number, "proxy-root")):
                figures = client(number, root, sizes.far)
                for percentile in PERCENTILES:
                    samples.add(f"far_{name}_p{percentile}_ms", way, figures[f"p{percentile}_us"] / 1e3)
