"""Name lease holders, so that another process on the same machine can tell at once that a holder is dead."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from functools import cache

import psutil

_SEPARATOR = "|"


@cache
def _machine(pid: int) -> str:
    """Return host and boot time: pids are reused after a reboot. `pid` gives each fork its own cache entry."""
    return f"{socket.gethostname()}@{int(psutil.boot_time())}"


def _started(pid: int) -> str:
    return f"{psutil.Process(pid).create_time():.2f}"


def new_holder() -> str:
    """Return a new unique holder name for this process."""
    pid = os.getpid()
    return _SEPARATOR.join((_machine(pid), str(pid), _started(pid), secrets.token_hex(4)))


def this_thread() -> str:
    """Return a name for the calling thread as a waiter; the same on every call."""
    pid = os.getpid()
    return _SEPARATOR.join((_machine(pid), str(pid), _started(pid), f"thread{threading.get_ident()}"))


def is_dead(holder: str) -> bool:
    """Return True if `holder` is a process of this machine that has ended; False if that cannot be known."""
    try:
        machine, pid, started, _ = holder.split(_SEPARATOR)
    except ValueError:
        return False
    if machine != _machine(os.getpid()):
        return False
    try:
        return _started(int(pid)) != started or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
