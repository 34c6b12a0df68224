"""The flag that SIGTERM and SIGINT set, and that everything that runs for long waits for."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopSignal:
    """A flag that SIGTERM and SIGINT set. Setting it wakes everything that waits on `fileno()`.

    Can be used from any thread, and from a gevent loop that watches `fileno()`.
    """

    def __init__(self) -> None:
        self._set = False
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)

    def set(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Set the flag; as a signal handler, or called by the program itself."""
        if not self._set:
            self._set = True
            os.write(self._write_end, b"x")

    def is_set(self) -> bool:
        return self._set

    def fileno(self) -> int:
        """Return a descriptor that becomes readable, and stays so, once the flag is set."""
        return self._read_end

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block the thread until the flag is set, for at most `timeout_s`. Return True if it is set."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._set:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            # In slices, because only the main thread runs Python's signal handlers.
            select.select([self._read_end], [], [], 0.5 if left is None else min(left, 0.5))
        return self._set

    def close(self) -> None:
        """Close the descriptors; `is_set` still works."""
        os.close(self._read_end)
        os.close(self._write_end)


@contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Yield a `StopSignal` that SIGTERM and SIGINT set, and restore the previous handlers at the end."""
    stop = StopSignal()
    before = {number: signal.signal(number, stop.set) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()
