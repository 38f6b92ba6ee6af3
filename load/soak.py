#!/usr/bin/env python3
"""A long run of mixed traffic through faults on both sides of the guard: `load/soak.py --minutes 30`

HTTP/1, HTTP/2, gRPC, WebSockets, slow streams and TCP that nobody reads, cut, stalled, sliced, reset, half closed and
corrupted. It is tests/e2e/test_chaos.py for longer, with a release build. It prints what was sent, what went wrong and
how, and the guard's memory, descriptors, tasks and connections of each minute. It ends with 0 if no wrong byte was
taken for right, nothing was executed twice that must not be, nothing is left behind, and memory is flat. Another
--seed makes other traffic and other faults.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=16, help="clients at one time")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--bin", type=Path, default=ROOT / "build/release/bin", help="the folder with sallyport in it")
    options = parser.parse_args()
    if not (options.bin / "sallyport").is_file():
        sys.exit(f"soak: no sallyport in {options.bin}: run ./dev build first")
    command = ["/usr/bin/python3", "-m", "pytest", "-q", "-s", "-rs", "-p", "no:cacheprovider"]
    command += ["tests/e2e/test_chaos.py", "--chaos-seconds", str(options.minutes * 60)]
    command += ["--chaos-workers", str(options.workers), "--chaos-seed", options.seed]
    environment = os.environ | {"SALLYPORT_BIN": str(options.bin.resolve()), "PYTHONDONTWRITEBYTECODE": "1"}
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    print(f"soak: {'passed' if code == 0 else 'FAILED'}: {options.minutes:g} minutes, seed {options.seed}")
    sys.exit(code)


main()
