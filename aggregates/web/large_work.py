"""Let large bodies and large answers of a process take turns: either takes hundreds of megabytes while it lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from aggregates.web.exceptions import UnavailableError

BODIES, ANSWERS = 0, 1


class TakingTurns:
    """Let one of two sides in at a time; where both wait, they alternate. Threads and greenlets can share it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = [0, 0]
        self._waiting = [0, 0]
        self._turn = BODIES

    @contextmanager
    def inside(self, side: int, within_s: float) -> Iterator[None]:
        """Be inside within the block. Raise `UnavailableError` if the other side takes longer than `within_s`."""
        with self._changed:
            self._waiting[side] += 1
            try:
                entered = self._changed.wait_for(lambda: self._may_enter(side), within_s)
            finally:
                self._waiting[side] -= 1
                self._changed.notify_all()
            if not entered:
                raise UnavailableError("too many large requests are under way: send it again later")
            self._inside[side] += 1
            self._turn = 1 - side
        try:
            yield
        finally:
            with self._changed:
                self._inside[side] -= 1
                self._changed.notify_all()

    def _may_enter(self, side: int) -> bool:
        other = 1 - side
        return not self._inside[other] and (not self._waiting[other] or self._turn == side)


of_process = TakingTurns()
_end_of_body: ContextVar[Callable[[], object] | None] = ContextVar("_end_of_body", default=None)  # of this request


@contextmanager
def body_of_request(end: Callable[[], object]) -> Iterator[None]:
    """Let `end_body` call `end` within the block, in this greenlet or thread."""
    _end_of_body.set(end)
    try:
        yield
    finally:
        _end_of_body.set(None)


def end_body() -> None:
    """Give back what this request holds for its body, if anything: call it before you wait for a turn of an answer.

    Who waits for one turn and holds another one waits for itself, or for somebody who waits for it. A body whose
    answer is computed has been read.
    """
    end = _end_of_body.get()
    if end is not None:
        _end_of_body.set(None)
        end()
