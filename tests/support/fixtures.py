"""Fixtures shared by tests/e2e, tests/adversary and tests/apps; their conftest.py imports this module's names."""

import functools
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import guard  # noqa: E402
import lab  # noqa: E402
import proxy  # noqa: E402
import witness  # noqa: E402
import world as world_module  # noqa: E402

IN_CI = os.environ.get("CI") == "true"
_entered = False


def missing(what):
    """Something that the test needs is not there: a failure in CI, a skip with the reason elsewhere."""
    if IN_CI:
        pytest.fail(f"CI must have {what}", pytrace=False)
    pytest.skip(f"needs {what}")


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            missing(program)


def need_root():
    if not lab.real_root:
        missing("root: another user cannot become a third one")


def pytest_configure(config):
    """The lab is entered before anything else, while this process has one thread. A second conftest finds it
    there."""
    global _entered
    binaries = pathlib.Path(os.environ.get("SALLYPORT_BIN", ""))
    if not _entered and (binaries / "sallyport").is_file():
        lab.enter(binaries.resolve())
        os.environ["SALLYPORT_BIN"] = str(lab.BIN)  # where the lab shows it
        _entered = True


def pytest_addoption(parser):
    try:
        parser.addoption("--huge", action="store_true", help="move 4 GiB instead of 1 GiB through the guard")
        parser.addoption("--crowd", type=int, help="how many silent connections test_crowd.py opens, without other limits")
        parser.addoption("--chaos-seconds", type=float, default=20, help="how long test_chaos.py sends its traffic")
        parser.addoption("--chaos-workers", type=int, default=16, help="how many clients send at one time")
        parser.addoption("--chaos-seed", default="1", help="what its faults and its traffic are drawn from")
        parser.addoption("--requests", type=int, default=300, help="differential test: requests for each server")
        parser.addoption("--seed", type=int, default=1, help="differential test: another seed, other requests")
        parser.addoption("--first", type=int, default=0, help="differential test: the number of its first case")
    except ValueError:
        pass  # both folders are run at once: the other conftest has added it


@functools.cache
def the_world():
    """One for the process, also when both folders are run at once and each has its fixture."""
    return world_module.World()


@functools.cache
def the_listeners():
    return witness.Listeners()


@pytest.fixture(scope="session")
def world():
    if not _entered:
        missing("the executable: set SALLYPORT_BIN to the folder with sallyport in it")
    need("ip", "nft", "openssl")
    return the_world()


@pytest.fixture(autouse=True)
def fresh(request):
    """Each test sees only its own traffic, unless it shares a guard with its module."""
    if "world" in request.fixturenames and not hasattr(request.module, "SHARES_TRAFFIC"):
        request.getfixturevalue("world").forget()


@pytest.fixture(params=["root", "ordinary"])
def user(request):
    """Runs the test as root and as an ordinary user."""
    if request.param == "ordinary":
        need_root()
    return request.param


@pytest.fixture
def bench(world):
    """A place to run guards as root."""
    made = guard.Bench(world)
    yield made
    made.close()


@pytest.fixture(scope="module")
def session(world, request):
    """One guard for all tests of a module, under the module's POLICY."""
    made = guard.Bench(world)
    with made.session(policy=request.module.POLICY) as running:
        yield running
    made.close()


@pytest.fixture(scope="session")
def fast_clock():
    """Makes variables with which a guard's time passes so many times faster: time-outs come sooner."""
    library = lab.BIN / "fast_clock.so"
    if not library.exists():
        missing("fast_clock.so beside the executables: build its target")
    return lambda factor: {"LD_PRELOAD": str(library), "FAST_CLOCK": str(factor)}


@pytest.fixture
def start(bench):
    """Starts proxies, and ends those that a test leaves running."""
    started = []

    def make(policy, *flags, **options):
        started.append(proxy.Proxy(bench, policy, *flags, **options))
        return started[-1]

    yield make
    for running in started:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def user_bench(world, user):
    """A place to run guards, as root and as an ordinary user."""
    made = guard.Bench(world, user)
    yield made
    made.close()


@pytest.fixture
def ordinary_bench(world):
    """A place to run guards as an ordinary user only."""
    need_root()
    made = guard.Bench(world, "ordinary")
    yield made
    made.close()


@pytest.fixture(scope="session")
def listeners(world):
    return the_listeners()


@pytest.fixture
def watch(world, listeners):
    """The witness, watching for the time of the test."""
    listeners.heard.clear()
    with witness.Witness(world.allowed_traffic()) as watching:
        yield watching
