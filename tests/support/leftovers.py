"""Nothing that tests started outlives them, however they end: SIGKILL of pytest, a worker of xdist that crashes.

A child cannot be trusted with that: PR_SET_PDEATHSIG follows the thread that started it, is not handed on to
grandchildren, and a stopped process does not see a SIGTERM. So every process carries a mark in its environment, which
all that it starts inherit, and a guard beside it looks who is left with the mark once it is gone.
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
_LOOK_EVERY_S = 0.2
_SETTLED_LOOKS = 3  # so often in a row nobody must be found: one may be in the middle of a fork


def guard(*folders: Path) -> None:
    """Have everything killed that this process starts from now on, and `folders` removed, once it has ended.

    Linux only; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    mark = f"{_MARK}{uuid.uuid4().hex}"
    subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), mark, *map(str, folders)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if not name.startswith(_MARK)},  # none of the guarded
        start_new_session=True,  # Ctrl-C and a kill of the whole group are not for it
    ).returncode = 0  # it outlives this process on purpose, so that leaving it alone is no fault
    os.environ[mark] = "1"


def marked(mark: str) -> Iterator[int]:
    """Ids of all processes that have `mark` in their environment."""
    wanted = f"{mark}=".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
            except OSError:  # somebody else's, or gone meanwhile
                continue
            if any(item.startswith(wanted) for item in environment):
                yield int(folder.name)


def _watch(parent: int, mark: str, folders: list[str]) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    calm = 0
    while calm < _SETTLED_LOOKS:
        left = list(marked(mark))
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        calm = 0 if left else calm + 1
        time.sleep(_LOOK_EVERY_S / 4)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _watch(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
