"""Use threads and locks of the operating system, also where gevent has patched in its own.

The sender of measurements must run in parallel with the measured code, not take turns with it. Functions are looked up
at each use, since a program can be patched after this module was imported.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any


def is_green() -> bool:
    """Return True if gevent has patched this process's threads."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading") or monkey.is_module_patched("thread"))


def _original(module: str, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


def make_lock() -> Any:
    """Return a lock between threads of the operating system. Hold it only where no greenlet can switch."""
    return _original("_thread", "allocate_lock")()


def make_reentrant_lock() -> Any:
    """Return a lock that its owner can acquire again, as a signal handler or destructor that measures will."""
    return _original("_thread", "RLock")()


def pause(seconds: float) -> None:
    """Block this thread of the operating system, and no other."""
    _original("time", "sleep")(seconds)


def start_thread(function: Any) -> None:
    """Run `function()` in a thread of the operating system that does not keep the process alive."""
    _original("_thread", "start_new_thread")(function, ())


def acquire_within(lock: Any, timeout_s: float) -> bool:
    """Try for `timeout_s` to acquire `lock`, and return True on success. Under gevent other greenlets run meanwhile."""
    if not is_green():
        return bool(lock.acquire(True, max(timeout_s, 0.0)))
    deadline = time.monotonic() + timeout_s
    while not lock.acquire(False):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True
