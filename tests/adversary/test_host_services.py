"""Services of the machine that run, or fetch, what they are told to: they listen on unix sockets, which no network
namespace keeps away. Each is shown to be within reach where no guard is."""

import os
import pathlib
import socket
import threading

import pytest

import guard
import lab

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST))

# Where the services listen; {runtime} is the user's runtime directory.
SERVICES = {
    "docker": "/run/docker.sock",
    "containerd": "/run/containerd/containerd.sock",
    "podman": "/run/podman/podman.sock",
    "podman of the user": "{runtime}/podman/podman.sock",
    "cri-o": "/run/crio/crio.sock",
    "k3s": "/run/k3s/containerd/containerd.sock",
    "buildkit": "/run/buildkit/buildkitd.sock",
    "libvirt": "/run/libvirt/libvirt-sock",
    "incus": "/run/incus/unix.socket",
    "tailscale": "/run/tailscale/tailscaled.sock",
    "snapd": "/run/snapd.socket",
    "systemd": "/run/systemd/private",
    "systemd of the user": "{runtime}/systemd/private",
    "the system bus": "/run/dbus/system_bus_socket",
    "the session bus": "{runtime}/bus",
    "systemd-resolved": "/run/systemd/resolve/io.systemd.Resolve",
    "nscd": "/run/nscd/socket",
    "avahi": "/run/avahi-daemon/socket",
    "dirmngr": "{runtime}/gnupg/S.dirmngr",
    "X": "/tmp/.X11-unix/X0",
    "a terminal multiplexer": "/tmp/tmux-{uid}/default",
    "an editor": "{runtime}/emacs/server",
}


class Service:
    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.heard, self.server = [], socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        path.chmod(0o777)
        self.server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection:
                self.heard.append(connection.recv(100))
                connection.sendall(b"done")


@pytest.fixture(scope="module")
def services(world):
    runtime = lab.folder()
    paths = {
        name: pathlib.Path(text.format(runtime=runtime, uid=os.getuid())) for name, text in SERVICES.items()
    }
    made = {name: Service(path) for name, path in paths.items()}
    yield runtime, paths, made
    for name, service in made.items():
        service.server.close()
        paths[name].unlink(missing_ok=True)


@pytest.fixture(scope="module")
def guarded(world, services):
    bench = guard.Bench(world)
    with bench.session(policy=POLICY, env={"XDG_RUNTIME_DIR": str(services[0])}) as made:
        yield made
    bench.close()


@pytest.fixture(scope="module")
def unguarded(world):
    bench = guard.Bench(world)
    with bench.session(guarded=False) as made:
        yield made
    bench.close()


def tell(path):
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(5)
    try:
        stream.connect(path)
        stream.sendall(b"run this")
        return stream.recv(100)
    except OSError as error:
        return type(error).__name__


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_does_what_it_is_told(services, guarded, unguarded, world, name):
    """It would run the function's program, or look up its names, where no guard is."""
    _, paths, made = services
    assert unguarded.do(tell, str(paths[name])) == b"done" and made[name].heard == [b"run this"]
    made[name].heard.clear()
    assert guarded.do(tell, str(paths[name])) != b"done" and made[name].heard == []
    via_root = f"/proc/self/root{paths[name]}"
    if len(via_root) < 107:
        assert guarded.do(tell, via_root) != b"done" and made[name].heard == []
    assert guarded.get(HOST)["status"] == 200
