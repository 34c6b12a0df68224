"""When senders end: with their process, however it ends, and begin anew in a child after a fork.

A normal end runs atexit. Children of multiprocessing end without it and run finalizers of their own, which are
registered here whether this module was imported before the fork or in the child.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Any, Protocol


class Sender(Protocol):
    """What is ended and begun anew."""

    def ask_to_end(self, timeout_s: float | None = None) -> Any:
        """Begin to end; returns what `await_end` wants, None when there is nothing to wait for."""

    def await_end(self, asked: Any) -> None:
        """Wait until it has ended or its time is over."""

    def start_over_after_fork(self) -> None:
        """In a child process: forget what is the parent's."""


_senders: weakref.WeakSet[Any] = weakref.WeakSet()
_told_multiprocessing = False  # that children are to run `_finalize`
_finalized_pid = 0  # the child of multiprocessing that has its finalizer


def watch(sender: Sender) -> None:
    """End `sender` with the process, unless it is gone by then."""
    _senders.add(sender)


def forget(sender: Sender) -> None:
    """It has ended by itself."""
    _senders.discard(sender)


def close_all() -> None:
    """End all senders at once: together they take no longer than the one with the longest time to end."""
    asked = [(sender, sender.ask_to_end()) for sender in list(_senders)]
    for sender, waiting in asked:
        if waiting is not None:
            sender.await_end(waiting)
            forget(sender)


def end_with_child() -> None:
    """In a child of multiprocessing: have its end close what runs. To be called when a sender starts."""
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
    """A child of multiprocessing drops inherited finalizers, then asks for its own."""
    global _told_multiprocessing
    util = sys.modules.get("multiprocessing.util")
    if util is not None and not _told_multiprocessing:
        _told_multiprocessing = True
        util.register_after_fork(close_all, _finalize)


def _after_fork() -> None:
    for sender in list(_senders):
        sender.start_over_after_fork()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
