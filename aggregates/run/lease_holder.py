"""Who holds a lease, so that another process on the same machine sees at once when the holder is dead."""

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
    """Host, and boot: pids of before a restart of the machine mean nothing. `pid` keeps forks apart in the cache."""
    return f"{socket.gethostname()}@{int(psutil.boot_time())}"


def _started(pid: int) -> str:
    return f"{psutil.Process(pid).create_time():.2f}"


def new_holder() -> str:
    """A name for one holding of a lease by this process."""
    pid = os.getpid()
    return _SEPARATOR.join((_machine(pid), str(pid), _started(pid), secrets.token_hex(4)))


def this_thread() -> str:
    """A name for what the calling thread waits for; the same at each call."""
    pid = os.getpid()
    return _SEPARATOR.join((_machine(pid), str(pid), _started(pid), f"thread{threading.get_ident()}"))


def is_dead(holder: str) -> bool:
    """Whether who holds or waits is a process of this machine that has ended. False when that cannot be known."""
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
