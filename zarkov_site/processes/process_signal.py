"""Signal a child process and everything that it has started."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process group that honcho made for a child."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def resume_family(pid: int) -> None:
    """Let those of a child and its descendants go on that are suspended."""
    for process in _family(pid):
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_STOPPED:
                process.resume()


def _family(pid: int) -> list[psutil.Process]:
    """Return a child and its descendants, including those that have left its process group, as mongod does."""
    with contextlib.suppress(psutil.NoSuchProcess):
        child = psutil.Process(pid)
        return [child, *child.children(recursive=True)]
    return []


def kill_family(pid: int) -> None:
    """Kill a child and all its descendants."""
    started = _family(pid)
    signal_group(pid, signal.SIGKILL)
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
