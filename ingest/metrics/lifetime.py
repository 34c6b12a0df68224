"""End senders with their process, and restart them in a child after a fork.

A normal exit runs atexit. Children of multiprocessing exit without it and run finalizers of their own, which are
registered here, whether this module was imported before the fork or in the child.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Any

_senders: weakref.WeakSet[Any] = weakref.WeakSet()
_registered = False  # True once multiprocessing runs `_finalize` in its children
_finalized_pid = 0  # the child of multiprocessing that has its finalizer


def register(sender: Any) -> None:
    """Close `sender`, a `Publisher`, at the end of the process. Only a weak reference is kept."""
    _senders.add(sender)


def unregister(sender: Any) -> None:
    """Stop watching a sender that has ended by itself."""
    _senders.discard(sender)


def close_all() -> None:
    """Close all senders at the same time, so that it takes no longer than the slowest of them."""
    pending = [(sender, sender.begin_close()) for sender in list(_senders)]
    for sender, waiting in pending:
        if waiting is not None:
            sender.await_close(waiting)
            unregister(sender)


def end_with_child() -> None:
    """Make sure that the end of a child of multiprocessing closes all senders. To be called when a sender starts."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and _finalized_pid != os.getpid() and process.parent_process() is not None:
        _finalize()


def _finalize(_: object = None) -> None:
    global _finalized_pid
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        _finalized_pid = os.getpid()
        util.Finalize(None, close_all, exitpriority=100)


def _before_fork() -> None:
    """Make children of multiprocessing, which drop inherited finalizers, register their own."""
    global _registered
    util = sys.modules.get("multiprocessing.util")
    if util is not None and not _registered:
        _registered = True
        util.register_after_fork(close_all, _finalize)


def _after_fork() -> None:
    for sender in list(_senders):
        sender.reset_after_fork()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
