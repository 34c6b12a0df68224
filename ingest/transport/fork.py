"""Keep objects with sockets, locks or files usable in a process that was forked while other threads used them."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """An object that must reset itself in a forked process."""

    def after_fork(self) -> None:
        """Drop the parent's sockets, locks and files without closing them. Runs in the child's only thread."""


_registered: WeakSet[Forkable] = WeakSet()


def register(forkable: Forkable) -> None:
    """Call `forkable.after_fork()` in every process forked from now on, for as long as `forkable` lives."""
    _registered.add(forkable)


def _after_fork() -> None:
    for forkable in list(_registered):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork)
