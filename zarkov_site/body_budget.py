"""Bound the bytes of request bodies that a process works on at a time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator

from aggregates.web import large_work
from aggregates.web.exceptions import UnavailableError
from ingest.free_memory import return_free_memory

SMALL_BYTES = 2**16  # bodies up to this size do not wait for larger ones
TURN_WITHIN_S = 60.0
LARGE_BYTES = 2**22  # larger ones take turns with large answers
_RETURN_EVERY_S = 1.0


class ByteBudget:
    """Give out at most `most_bytes` at a time, in order of arrival. Threads and greenlets can share it."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._used_bytes = 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[threading.Event, int]] = deque()

    @contextlib.contextmanager
    def held(self, size_bytes: int, within_s: float = TURN_WITHIN_S) -> Iterator[None]:
        """Hold `size_bytes`, or all there is if that is less. Raise `UnavailableError` if it takes too long."""
        size_bytes = min(size_bytes, self._most_bytes)
        self._take(size_bytes, within_s)
        try:
            yield
        finally:
            with self._lock:
                self._used_bytes -= size_bytes
                self._give_out()

    def _take(self, size_bytes: int, within_s: float) -> None:
        given = threading.Event()
        entry = given, size_bytes
        with self._lock:
            self._waiting.append(entry)
            self._give_out()
        try:
            given.wait(within_s)
        finally:
            with self._lock:
                if not given.is_set():
                    self._waiting.remove(entry)
                    self._give_out()
        if not given.is_set():
            raise UnavailableError("too many large requests are under way: send it again later")

    def _give_out(self) -> None:
        while self._waiting and self._used_bytes + self._waiting[0][1] <= self._most_bytes:
            given, size_bytes = self._waiting.popleft()
            self._used_bytes += size_bytes
            given.set()


class BodyBudget:
    """Give bodies their turn by size: work on one takes up to eight times its bytes."""

    def __init__(self, small_bytes: int = 4 * 2**20, large_bytes: int = 8 * 2**20) -> None:
        self._small = ByteBudget(small_bytes)
        self._large = ByteBudget(large_bytes)
        self._returned_at = 0.0

    @contextlib.contextmanager
    def held(self, size_bytes: int) -> Iterator[None]:
        """Hold the bytes of a body while it is worked on, at most until `large_work.end_body` is called.

        Raise `UnavailableError` after `TURN_WITHIN_S`.
        """
        with contextlib.ExitStack() as held:
            held.enter_context((self._small if size_bytes <= SMALL_BYTES else self._large).held(size_bytes))
            if size_bytes > LARGE_BYTES:
                held.callback(self._return_memory)
                held.enter_context(large_work.of_process.inside(large_work.BODIES, TURN_WITHIN_S))
            held.enter_context(large_work.body_of_request(held.close))
            yield

    def _return_memory(self) -> None:
        if time.monotonic() > self._returned_at + _RETURN_EVERY_S:
            self._returned_at = time.monotonic()
            return_free_memory()
