"""Where measurements gather in the process: one accumulator per metric, emptied by the sender.

The measured code appends to a list, or advances an `itertools.count`: single steps of the interpreter that no other
thread can split, so it needs no lock, and a thread that ends leaves nothing behind. The list is bounded: who finds it
full folds it into the summary, unless someone else is at it.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import native
from .amount import bounded
from .naming import COUNTER, SET, TIMER, Identity
from .sketch import DistinctSketch, LogSketch, hash_of

FOLD_AT = 256  # values that wait in one accumulator before the measured thread itself folds them
SLICE = 1024  # values folded at a time: no other thread runs meanwhile


@dataclass(frozen=True, slots=True)
class ValueSummary:
    """What an accumulator gathered since it was last emptied; see the fields of `wire.Batch`."""

    count: int
    sum: float | int
    min: float | int | None = None
    max: float | int | None = None
    last: float | int | None = None
    sketch: dict[str, Any] | None = None


class Gathering(ABC):
    """Values that wait, and a summary that they are brought into. `values.append` may be called from anywhere."""

    __slots__ = ("_count", "_lock", "identity", "values")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        # Times wait as bare doubles, a quarter of the memory; other values may be ints, and stay ints.
        self.values: Any = array("d") if identity.type == TIMER else []
        self._start_over()
        self._lock = native.make_lock()

    @abstractmethod
    def _start_over(self) -> None:
        """An empty summary; sets `_count` to 0."""
        self._count = 0

    @abstractmethod
    def _take_in(self, taken: Sequence[Any]) -> None:
        """Bring some values into the summary."""

    @abstractmethod
    def _summary(self) -> ValueSummary:
        """The summary as it is sent."""

    def add(self, value: Any) -> None:
        """Take one value; the decorators do the same without a call. Blocks nobody."""
        self.values.append(value)
        if len(self.values) >= FOLD_AT:
            self.fold()

    def fold(self) -> None:
        """Bring the waiting values into the summary, unless someone is at it. Never blocks."""
        if self._lock.acquire(False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        while taken := self.values[:SLICE]:
            del self.values[: len(taken)]  # what was appended meanwhile stands behind them
            self._take_in(taken)
            self._count += len(taken)

    def cut(self) -> ValueSummary | None:
        """What came since the last cut, None if nothing. For the sender; blocks while someone folds."""
        if not self.values and not self._count:
            return None
        with self._lock:
            self._fold()
            found = self._summary()
            self._start_over()
        return found

    def start_over_after_fork(self) -> None:
        """Forget what the parent process gathered and is going to send itself."""
        self._lock = native.make_lock()
        del self.values[:]  # the same list: decorators hold on to it
        self._start_over()


class Distribution(Gathering):
    """Gathers numbers: timers, gauges, histograms."""

    __slots__ = ("_last", "_max", "_min", "_sketch", "_sum")

    def _start_over(self) -> None:
        super()._start_over()
        self._sum: float | int = 0
        self._min: float | int | None = None
        self._max: float | int | None = None
        self._last: float | int | None = None
        self._sketch: LogSketch | None = None

    def _take_in(self, taken: Sequence[float | int]) -> None:
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
    """Counts calls that all count for the same `value`. `tick` may be called from anywhere at any time."""

    __slots__ = ("_seen", "identity", "tick", "value")

    def __init__(self, identity: Identity, value: float | int) -> None:
        self.identity = identity
        self.value = value
        self.tick = itertools.count().__next__
        self._seen = 0

    def taken(self) -> int:
        """Ticks since the last look; to look is a tick too, which is left out."""
        now = self.tick()
        found = now - self._seen
        self._seen = now + 1
        return found

    def cut(self) -> ValueSummary | None:
        """What came since the last cut, None if nothing. For the sender."""
        count = self.taken()
        return ValueSummary(count, bounded(count * self.value)) if count else None

    def start_over_after_fork(self) -> None:
        """Forget what the parent process counted and is going to send itself."""
        self.taken()


class Totals(Gathering):
    """Gathers what counters count for when that varies."""

    __slots__ = ("_sum",)

    def _start_over(self) -> None:
        super()._start_over()
        self._sum: float | int = 0

    def _take_in(self, taken: Sequence[float | int]) -> None:
        self._sum = bounded(self._sum + sum(taken))

    def _summary(self) -> ValueSummary:
        return ValueSummary(self._count, self._sum)


class Distinct(Gathering):
    """Gathers values of which only the different ones count, and only their hashes are kept."""

    __slots__ = ("_sketch",)

    def _start_over(self) -> None:
        super()._start_over()
        self._sketch = DistinctSketch()

    def add(self, value: Any) -> None:
        """Take one value; blocks nobody."""
        super().add(hash_of(value))

    def _take_in(self, taken: Sequence[int]) -> None:
        self._sketch.add_hashes(taken)

    def _summary(self) -> ValueSummary:
        return ValueSummary(self._count, self._sketch.estimate, sketch=self._sketch.to_document())


Accumulator = Gathering | Ticks


def accumulator(identity: Identity) -> Gathering:
    """The accumulator that suits the type."""
    if identity.type == COUNTER:
        return Totals(identity)
    return Distinct(identity) if identity.type == SET else Distribution(identity)
