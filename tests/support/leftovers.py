"""Kill everything that tests started, however they end: SIGKILL of pytest, or a crash of an xdist worker.

The children cannot do it themselves: PR_SET_PDEATHSIG follows the thread that started the child, is not inherited by
grandchildren, and a stopped process does not handle SIGTERM. Instead every test process sets a mark in its environment,
which all its descendants inherit, and a guard process kills those with the mark once it has ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

_MARK = "TESTS_CHILD_OF_"
_POLL_S = 0.2
_EMPTY_POLLS = 3  # consecutive looks without a process: one may be in the middle of a fork


def guard(*folders: Path) -> None:
    """Kill everything that this process starts from now on, and remove `folders`, once it has ended.

    Does nothing on systems other than Linux.
    """
    if sys.platform != "linux":
        return
    mark = f"{_MARK}{uuid.uuid4().hex}"
    subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), mark, *map(str, folders)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            name: value for name, value in os.environ.items() if not name.startswith(_MARK)
        },  # the guard itself carries no mark
        start_new_session=True,  # so that Ctrl-C or a kill of the process group does not reach the guard
    ).returncode = 0  # it outlives this process on purpose, so prevent the ResourceWarning
    os.environ[mark] = "1"


def marked(mark: str) -> Iterator[int]:
    """Yield the ids of all processes with `mark` in their environment."""
    wanted = f"{mark}=".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
            except OSError:  # belongs to another user, or has ended meanwhile
                continue
            if any(item.startswith(wanted) for item in environment):
                yield int(folder.name)


def _watch(parent: int, mark: str, folders: list[str]) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    empty_polls = 0
    while empty_polls < _EMPTY_POLLS:
        left = list(marked(mark))
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        empty_polls = 0 if left else empty_polls + 1
        time.sleep(_POLL_S / 4)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _watch(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
