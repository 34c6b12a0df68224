"""Find tests that fail now and then: `python -m tests.repeat --times 50 tests/ingest/store/test_rotation.py`.

Each run is a pytest process of its own, in random order. Without paths it is the whole suite, as `make test` runs it.
Busy loops compete for the processors, as other programs do.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.leftovers import guard

# Ends with its parent, however that ends.
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1_000_000): pass"
_lock = threading.Lock()


@contextlib.contextmanager
def busy_loops(number: int) -> Iterator[None]:
    """Keep this many processors busy meanwhile."""
    loops = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run(paths: Sequence[str], log: Path) -> bool:
    """Run pytest once, print a line about it, and return whether it passed; keep its output only if it failed."""
    how = ["-n", "0", *paths] if paths else ["-n", "auto", "--dist", "loadscope"]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="zarkov-repeat-") as scratch, log.open("wb") as output:
        command = [sys.executable, "-m", "pytest", "-q", f"--basetemp={scratch}/run", *how]
        ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    last = log.read_text(errors="replace").splitlines()[-1:]
    passed = ended.returncode == 0
    if passed:
        log.unlink()
    with _lock:
        print(
            f"{time.monotonic() - started:6.0f} s  {' '.join(paths) or 'suite'}: {' '.join(last)}",
            "" if passed else f"see {log}", flush=True,
        )  # fmt: skip
    return passed


def repeat(paths: Sequence[str], times: int, jobs: int) -> int:
    """Run each path, or without paths the suite, so many times, `jobs` at a time; return how many runs failed."""
    logs = Path(tempfile.mkdtemp(prefix="zarkov-repeat-"))
    wanted = [[path] for path in paths] or [[]]
    rounds = [(each, logs / f"{number}.log") for number, each in enumerate(wanted * times, 1)]
    with ThreadPoolExecutor(jobs) as pool:
        failed = sum(not passed for passed in pool.map(run, *zip(*rounds, strict=True)))
    with contextlib.suppress(OSError):  # not empty: a run failed
        logs.rmdir()
    print(f"{len(rounds) - failed} passed, {failed} failed")
    return failed


def main() -> None:
    """Read the command line, and exit with 1 if a run failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", nargs="*", help="modules or tests; none = the whole suite")
    parser.add_argument("--times", type=int, default=6, help="runs of each (6)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time (1)")
    parser.add_argument("--busy", type=int, default=2, help="busy loops beside them (2)")
    options = parser.parse_args()
    guard()  # the runs end with this process, however it ends
    with busy_loops(options.busy):
        failed = repeat(options.paths, options.times, options.jobs)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
