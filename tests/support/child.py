"""Run code in a separate or forked process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, with warnings as errors; return its exit code and output."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def in_child(action: Callable[[], None]) -> None:
    """Run `action` in a forked process; fail if it fails or hangs."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    ended: list[int] = []  # its status

    def has_ended() -> bool:
        ended.extend(status for found, status in [os.waitpid(pid, os.WNOHANG)] if found)
        return bool(ended)

    try:
        eventually(has_ended, what="the end of the child")
    finally:
        if not ended:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(ended[0]) == 0
