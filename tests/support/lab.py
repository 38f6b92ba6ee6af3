"""A lab: this process moves into namespaces of its own, where it may be the whole outside world.

Origins, the name server and the witness are threads of the test process; the guard and its command are its children.
The lab is made so that also an attack that succeeds does no harm: its only interface is its loopback, it sees no
process but its own, and the machine's files are read-only to it, with empty folders where one writes. Nothing stays
behind when the process ends, however it ends. Every pytest process has its own lab.
"""

import ctypes
import itertools
import os
import pathlib
import shutil
import signal
import stat
import subprocess

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x10000000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
PR_SET_PDEATHSIG = 1
SYS_MOUNT_SETATTR, MOUNT_ATTR_RDONLY, AT_FDCWD = 442, 1, -100

ROOT = pathlib.Path("/run/lab")
SUPPORT = ROOT / "support"  # this folder, where the guarded command can read it whoever it runs as
BIN = ROOT / "bin"
ORDINARY_UID = 65534

# Where the outside world lives. All of these are addresses of the lab's loopback.
RESOLVER = "192.0.2.53"
LOCAL_RESOLVER = "127.0.0.53"
ORIGIN_V4, ORIGIN_V6 = "127.0.0.10", "fd5a:11a1::10"
NGINX_V4 = "127.0.0.30"
STORE_V4 = "127.0.0.31"
CLOUD_V4 = "127.0.0.32"  # what the applications of tests/apps call
NOBODY_LISTENS_V4 = "127.0.0.40"
CHAOS_V4 = "127.0.0.20"  # the gate before the origin of a chaos run
OUTSIDE_V4, OUTSIDE_V6 = "192.0.2.66", "2001:db8::66"
METADATA, PRIVATE = "169.254.169.254", "10.66.0.1"
CAPTURED_V4, CAPTURED_V6 = "192.0.2.90", "2001:db8::90"  # nobody's: for redirecting to sallyport-proxy
# What a policy of the lab says so that its endpoints may be dialled at all.
ADDRESSES = ["127.0.0.0/8", "fd5a:11a1::/64"]

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
real_root = os.geteuid() == 0


def _check(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _mount(source, target, kind, flags, data=None):
    encode = lambda text: None if text is None else str(text).encode()
    _check(_libc.mount(encode(source), encode(target), encode(kind), flags, encode(data)), f"mount {target}")


def _new_namespaces():
    """Returns in a child, which is the first process of the lab. The parent waits, and ends as the child does."""
    flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID
    if not real_root:
        flags |= CLONE_NEWUSER
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(flags), "unshare")
    if not real_root:
        pathlib.Path("/proc/self/setgroups").write_text("deny")
        pathlib.Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        pathlib.Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    child = os.fork()
    if child != 0:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(
                number, lambda got, _: os.kill(child, signal.SIGINT if got == signal.SIGINT else signal.SIGKILL)
            )
        status = os.waitpid(child, 0)[1]
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    die_with_parent()
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("proc", "/proc", "proc", 0)


def _make_read_only():
    """All that is mounted but devices and /proc: what runs in the lab as root must not change the machine."""
    points = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    read_only = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    for point in dict.fromkeys(points):
        if point.startswith(("/proc", "/dev")):
            continue
        result = _libc.syscall(
            SYS_MOUNT_SETATTR,
            AT_FDCWD,
            point.encode().decode("unicode_escape").encode(),
            0,
            ctypes.byref(read_only),
            ctypes.sizeof(read_only),
        )
        if point == "/":
            _check(result, "making / read-only")


def _replace_file(path, text):
    """Lets the lab see another content at `path`; the file can be rewritten in place later."""
    copy = ROOT / "etc" / pathlib.Path(path).name
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(text)
    target = pathlib.Path(os.path.realpath(path))
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount(copy, target, None, MS_BIND)


def own_mounts(sources):
    """For a child before its command runs: it sees other files or folders at these paths, and nobody else does."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    for target, source in sources.items():
        _mount(source, os.path.realpath(target), None, MS_BIND)


def set_resolver(address):
    (ROOT / "etc" / "resolv.conf").write_text(f"nameserver {address}\n")


def _private_folders():
    for folder in ("/run", "/dev/shm", "/var/tmp", "/tmp"):
        _mount("tmpfs", folder, "tmpfs", 0, "mode=1777")
    ROOT.mkdir(mode=0o755)


def _bring_up_loopback():
    commands = ["link set lo up"]
    for address in (RESOLVER, OUTSIDE_V4, METADATA, PRIVATE, CAPTURED_V4):
        commands.append(f"address add {address}/32 dev lo")
    for address in (ORIGIN_V6, OUTSIDE_V6, CAPTURED_V6):
        commands.append(f"-6 address add {address}/128 dev lo nodad")
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)


def enter(binaries):
    """Called once, before the process has threads. `binaries` is the folder with sallyport and sallyport-proxy.
    Returns in another process than the one that called."""
    support = pathlib.Path(__file__).resolve().parent
    repository = support.parents[1]
    where = os.getcwd()
    _new_namespaces()
    _make_read_only()
    # Held open: the folders may lie under a path that the private ones hide.
    shown = {BIN: binaries, SUPPORT: support, repository: repository}
    held = {target: os.open(source, os.O_PATH) for target, source in shown.items()}
    _private_folders()
    for target, descriptor in held.items():
        if not target.is_dir():
            target.mkdir(parents=True)
        _mount(f"/proc/self/fd/{descriptor}", target, None, MS_BIND)
        os.close(descriptor)
    _make_files()
    _bring_up_loopback()
    os.chdir(where if os.path.isdir(where) else repository)
    os.environ["SALLYPORT_LAB"] = str(os.getpid())


def _make_files():
    _replace_file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.0.10 in-hosts-file.example.com\n")
    _replace_file("/etc/resolv.conf", "")
    _replace_file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    set_resolver(RESOLVER)


def folder():
    """A new empty folder in which everybody may write."""
    path = ROOT / f"work-{next(_numbers)}"
    path.mkdir()
    path.chmod(0o1777)
    return path


def remove(path):
    shutil.rmtree(path, ignore_errors=True)


def die_with_parent():
    """For preexec_fn: helpers such as nginx end with the test process, however that ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def children(pid):
    """All living descendants of a process."""
    found, queue = [], [pid]
    while queue:
        parent = queue.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            try:
                line = pathlib.Path(f"/proc/{parent}/task/{task}/children").read_text()
            except OSError:
                continue
            found += (new := [int(word) for word in line.split()])
            queue += new
    return found


def state(pid):
    """The letter of the process's state: R, S, T, Z …; empty when there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid):
    return state(pid) not in ("", "Z", "X")


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def runs_sallyport(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("sallyport")
    except OSError:
        return False


def _files(top):
    found = set()
    for folder_name, folders, files in os.walk(top):
        if folder_name == str(ROOT) or (folder_name != top and os.path.ismount(folder_name)):
            folders[:] = []  # the lab's own, or shown in it
            continue
        found.update(os.path.join(folder_name, name) for name in folders + files)
    found.discard(str(ROOT))
    return found


def traces():
    """What a guarded command could leave behind, as far as the lab can see it. Orphans become children of the lab's
    first process, which is this one."""
    files = set()
    for top in ("/run", "/dev/shm", "/var/tmp", "/tmp"):
        files |= _files(top)
    mine = {f"{pid} {command_line(pid)}" for pid in children(os.getpid()) if alive(pid)}
    return {
        "files": files,
        "processes": mine,
        "rules": subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout,
        "links": subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout,
        "named namespaces": sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else [],
        "mounts": sorted(
            line.split(" ", 3)[3] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        ),
    }


def is_sanitized(binary):
    """Whether the program was built with AddressSanitizer or ThreadSanitizer, which change memory and time."""
    data = pathlib.Path(binary).read_bytes()
    return b"__asan_init" in data or b"__tsan_init" in data


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)
