"""Share a process while long input is read: readers call a `Turn` between pieces of their work.

How others get to run is left to the caller, since readers know of no event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

TURN_S = 0.02  # work between two pauses
SHORT_TURN_S = 0.002  # the same where many work at once: others wait for the turns of all of them
# Not 0: after gevent's `sleep(0)` the loop runs up to 50 callbacks, here of 20 ms each, before it looks at sockets.
PAUSE_S = 0.0001
_MANY = 64  # small pieces of work between two looks at the clock

Item = TypeVar("Item")


class Turn:
    """Call `pause` if the turn has passed since it returned the last time, or since the `Turn` was made."""

    def __init__(self, pause: Callable[[], object], turn_s: float | None = None) -> None:
        self._pause = pause
        self._turn_s = TURN_S if turn_s is None else turn_s
        self._began = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._began >= self._turn_s:
            self._pause()
            self._began = time.monotonic()

    def between(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items that take little time each, with a pause now and then."""
        for number, item in enumerate(items):
            if not number % _MANY:
                self()
            yield item


class _WithoutPause(Turn):
    def __init__(self) -> None:
        super().__init__(lambda: None)

    def __call__(self) -> None:
        pass


def sleeping_turn() -> Turn:
    """Return a short `Turn` that sleeps: other requests of a web process, or other threads, go on meanwhile."""
    return Turn(partial(time.sleep, PAUSE_S), SHORT_TURN_S)


NO_PAUSE: Turn = _WithoutPause()  # for programs that read nothing else meanwhile
