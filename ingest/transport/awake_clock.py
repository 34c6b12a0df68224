"""Measure the time in which a thread gets to run, for limits after which something is given up.

A machine that is suspended, a process that is stopped and a system that is overloaded let time pass in which nobody
could have done what is waited for. A limit that ends then gives up at the moment at which it could be done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST_STEP_S = 0.1
_TURN_S = 0.05


class AwakeClock:
    """Count seconds, but at most `longest_step_s` between two calls of `tick`, which are meant to be shorter apart."""

    def __init__(self, longest_step_s: float = LONGEST_STEP_S) -> None:
        self._longest_step_s = longest_step_s
        self._counted_s = 0.0
        self._last = time.monotonic()

    def tick(self) -> float:
        """Return the seconds counted so far."""
        now = time.monotonic()
        self._counted_s += min(now - self._last, self._longest_step_s)
        self._last = now
        return self._counted_s


def wait_while_moving(wait: Callable[[float], bool], moved: Callable[[], object], within_s: float) -> bool:
    """Return True as soon as `wait(timeout_s)` does, False if `moved()` has not changed for `within_s`."""
    clock, before, since = AwakeClock(), moved(), 0.0
    while not wait(_TURN_S):
        now, seen = clock.tick(), moved()
        if seen != before:
            before, since = seen, now
        elif now - since > within_s:
            return False
    return True


def has_ended(thread: threading.Thread, timeout_s: float) -> bool:
    """Wait for the end of `thread`, at most `timeout_s`; return whether it has ended."""
    thread.join(timeout_s)
    return not thread.is_alive()
