"""Large bodies in flat memory: 1 GiB each way, 4 GiB with --huge."""

import pathlib
import threading
import time

import pytest

import guard
import lab

POLICY = guard.policy(guard.endpoint("v4.example.com"))


def resident_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


class MemoryWatch:
    """The largest resident size of each process of the guard while the block runs."""

    def __init__(self, session):
        self.session, self.peaks = session, {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self):
        self.before = {pid: resident_kib(pid) for pid in self.session.guards()}
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _sample(self):
        while not self._stop.wait(0.05):
            for pid in self.before:
                try:
                    self.peaks[pid] = max(self.peaks.get(pid, 0), resident_kib(pid))
                except OSError:
                    pass

    def growth_kib(self):
        return max(self.peaks[pid] - self.before[pid] for pid in self.peaks)


def upload(total):
    stream = connect("v4.example.com", timeout=120)
    stream.sendall(
        f"POST /flood HTTP/1.1\r\nHost: v4.example.com\r\nContent-Length: {total}\r\nConnection: close\r\n\r\n".encode()
    )
    block = b"u" * (1 << 20)
    for _ in range(total // len(block)):
        stream.sendall(block)
    return Reader(stream).response()


def download(total):
    stream = connect("v4.example.com", timeout=120)
    stream.sendall(
        f"GET /download?bytes={total} HTTP/1.1\r\nHost: v4.example.com\r\nConnection: close\r\n\r\n".encode()
    )
    reader = Reader(stream)
    reader.head()
    got, block = len(reader.buffer), bytearray(1 << 20)
    while size := stream.recv_into(block):
        got += size
    return got


def need_plain_build():
    if lab.is_sanitized(guard.SALLYPORT):
        pytest.skip("a sanitizer's allocator keeps what is freed: its memory says nothing")


@pytest.fixture(scope="module", params=[upload, download], ids=["upload", "download"])
def transfer(request, world):
    """One huge body through a guard: how much, what came of it, and by how much the guard grew."""
    amount = (4 if request.config.getoption("--huge") else 1) << 30
    bench = guard.Bench(world)
    with bench.session(policy=POLICY, flags=["--quiet"]) as session:
        session.do(request.param, 64 << 20)  # what is allocated once is allocated now
        with MemoryWatch(session) as watch:
            start = time.monotonic()
            result = session.do(request.param, amount)
            seconds = time.monotonic() - start
        record = session.wait_for_records(lambda r: len(guard.exchanges(r)) == 2)[-1]
    bench.close()
    yield {"amount": amount, "result": result, "record": record, "growth_kib": watch.growth_kib(), "seconds": seconds}


def test_a_huge_body_arrives_whole(transfer):
    amount, result = transfer["amount"], transfer["result"]
    if isinstance(result, dict):
        assert result["status"] == 200 and str(amount).encode() in result["body"]
        assert transfer["record"]["bytes_up"] == amount
    else:
        assert result == amount and transfer["record"]["bytes_down"] == amount


def test_a_huge_body_passes_in_flat_memory(transfer):
    need_plain_build()
    assert transfer["growth_kib"] < 2048, transfer


@pytest.fixture(scope="module")
def crowd(world):
    """Many bodies at once: what came of each, and by how much the guard grew."""

    def many(number, size):
        import threading

        results = []
        threads = [
            threading.Thread(
                target=lambda: results.append(len(get("v4.example.com", f"/download?bytes={size}")["body"]))
            )
            for _ in range(number)
        ]
        [t.start() for t in threads]
        [t.join() for t in threads]
        return results

    bench = guard.Bench(world)
    with bench.session(policy=POLICY) as session:
        session.do(many, 2, 1 << 20)
        with MemoryWatch(session) as watch:
            sizes = session.do(many, 32, 8 << 20)
    bench.close()
    yield {"sizes": sizes, "growth_kib": watch.growth_kib()}


def test_many_bodies_at_once_arrive_whole(crowd):
    assert crowd["sizes"] == [8 << 20] * 32


def test_many_bodies_at_once_take_memory_for_each_and_not_for_their_size(crowd):
    need_plain_build()
    assert crowd["growth_kib"] < 32 * 256
