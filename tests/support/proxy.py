"""Runs `sallyport-proxy`: the guard alone, as in a pod."""

import signal
import subprocess
import time

import guard
import lab

PROXY = str(lab.BIN / "sallyport-proxy")
PORT = 15001


class Proxy:
    """`sallyport-proxy`, listening for redirected connections on PORT unless `flags` say where it listens.
    `prefix`: a command that runs it somewhere else."""

    def __init__(self, bench, policy, *flags, prefix=()):
        listen = ["--listen", f"0.0.0.0:{PORT}", "--listen", f"[::]:{PORT}"]
        if any("listen" in str(flag) for flag in flags):
            listen = []
        bench.write_policy(policy)
        self.bench = bench
        self.process = subprocess.Popen(
            [
                *prefix,
                PROXY,
                "--policy",
                bench.policy_file,
                *listen,
                "--ca-cert",
                bench.world.guard_root.certificate,
                "--ca-key",
                bench.world.guard_root.key,
                "--record",
                bench.record,
                "--upstream-ca",
                bench.world.root,
                "--admin",
                bench.admin,
                *map(str, flags),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=bench.environment,
        )

    def wait_until_ready(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.process.stderr.read()}")
            try:
                if self.bench.metrics("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError("not ready in 20 s")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=20)
        guard.no_sanitizer_report(err)
        return self.process.returncode, err
