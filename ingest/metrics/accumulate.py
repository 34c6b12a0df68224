"""Accumulate measurements in the process: one accumulator per metric, emptied by the sender.

The measured code appends to a list, or advances an `itertools.count`. Both are single steps of the interpreter that no
other thread can interrupt, so there is no lock, and a thread that ends leaves nothing behind. The list is bounded: the
thread that fills it folds it into the summary, unless another thread is folding.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import native_thread
from .bounded_sum import bounded
from .naming import COUNTER, SET, TIMER, Identity
from .sketch import DistinctSketch, LogSketch, hash_of

FOLD_AT = 256  # waiting values after which the measured thread folds them itself
SLICE = 1024  # values folded at a time, while no other thread runs


@dataclass(frozen=True, slots=True)
class ValueSummary:
    """The content of an accumulator since its last cut; for the fields see `wire.Batch`."""

    count: int
    sum: float | int
    min: float | int | None = None
    max: float | int | None = None
    last: float | int | None = None
    sketch: dict[str, Any] | None = None


class Gathering(ABC):
    """Waiting values, and the summary they are folded into. `values.append` can be called from any thread."""

    __slots__ = ("_count", "_lock", "identity", "values")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        # Times are stored as bare doubles in a quarter of the memory; other values can be ints, and stay ints.
        self.values: Any = array("d") if identity.type == TIMER else []
        self._start_over()
        self._lock = native_thread.make_lock()

    @abstractmethod
    def _start_over(self) -> None:
        """Start an empty summary, and set `_count` to 0."""
        self._count = 0

    @abstractmethod
    def _summarize(self, taken: Sequence[Any]) -> None:
        """Add some values to the summary."""

    @abstractmethod
    def _summary(self) -> ValueSummary:
        """Return the summary to send."""

    def add(self, value: Any) -> None:
        """Add one value; decorators do the same without this call. Never blocks."""
        self.values.append(value)
        if len(self.values) >= FOLD_AT:
            self.fold()

    def fold(self) -> None:
        """Add the waiting values to the summary, unless another thread does. Never blocks."""
        if self._lock.acquire(False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        while taken := self.values[:SLICE]:
            del self.values[: len(taken)]  # values appended meanwhile come after them
            self._summarize(taken)
            self._count += len(taken)

    def cut(self) -> ValueSummary | None:
        """Return what was added since the last cut, or None if nothing. For the sender; waits for a running fold."""
        if not self.values and not self._count:
            return None
        with self._lock:
            self._fold()
            found = self._summary()
            self._start_over()
        return found

    def start_over_after_fork(self) -> None:
        """Discard what the parent process gathered and will send itself."""
        self._lock = native_thread.make_lock()
        del self.values[:]  # in place: decorators refer to this list
        self._start_over()


class Distribution(Gathering):
    """Accumulate the numbers of timers, gauges and histograms."""

    __slots__ = ("_last", "_max", "_min", "_sketch", "_sum")

    def _start_over(self) -> None:
        super()._start_over()
        self._sum: float | int = 0
        self._min: float | int | None = None
        self._max: float | int | None = None
        self._last: float | int | None = None
        self._sketch: LogSketch | None = None

    def _summarize(self, taken: Sequence[float | int]) -> None:
        if self._sketch is None:
            self._sketch = LogSketch()
        self._sketch.add_all(taken)
        lowest, highest = min(taken), max(taken)
        self._min = lowest if self._min is None else min(self._min, lowest)
        self._max = highest if self._max is None else max(self._max, highest)
        self._sum = bounded(self._sum + sum(taken))
        self._last = taken[-1]

    def _summary(self) -> ValueSummary:
        sketch = self._sketch.to_document() if self._sketch else {}
        return ValueSummary(self._count, self._sum, self._min, self._max, self._last, sketch)


class Ticks:
    """Count calls that each count for the same `value`. `tick` can be called from any thread at any time."""

    __slots__ = ("_seen", "identity", "tick", "value")

    def __init__(self, identity: Identity, value: float | int) -> None:
        self.identity = identity
        self.value = value
        self.tick = itertools.count().__next__
        self._seen = 0

    def taken(self) -> int:
        """Return the ticks since the previous call, without the tick that each of these calls makes."""
        now = self.tick()
        found = now - self._seen
        self._seen = now + 1
        return found

    def cut(self) -> ValueSummary | None:
        """Return what was counted since the last cut, or None if nothing. For the sender."""
        count = self.taken()
        return ValueSummary(count, bounded(count * self.value)) if count else None

    def start_over_after_fork(self) -> None:
        """Discard what the parent process counted and will send itself."""
        self.taken()


class Totals(Gathering):
    """Accumulate counters whose values vary."""

    __slots__ = ("_sum",)

    def _start_over(self) -> None:
        super()._start_over()
        self._sum: float | int = 0

    def _summarize(self, taken: Sequence[float | int]) -> None:
        self._sum = bounded(self._sum + sum(taken))

    def _summary(self) -> ValueSummary:
        return ValueSummary(self._count, self._sum)


class Distinct(Gathering):
    """Count distinct values, of which only the hashes are kept."""

    __slots__ = ("_sketch",)

    def _start_over(self) -> None:
        super()._start_over()
        self._sketch = DistinctSketch()

    def add(self, value: Any) -> None:
        """Add one value. Never blocks."""
        super().add(hash_of(value))

    def _summarize(self, taken: Sequence[int]) -> None:
        self._sketch.add_hashes(taken)

    def _summary(self) -> ValueSummary:
        return ValueSummary(self._count, self._sketch.estimate, sketch=self._sketch.to_document())


Accumulator = Gathering | Ticks


def accumulator(identity: Identity) -> Gathering:
    """Return a new accumulator that suits the type."""
    if identity.type == COUNTER:
        return Totals(identity)
    return Distinct(identity) if identity.type == SET else Distribution(identity)
