"""Where measurements gather in the process: one accumulator per metric, emptied by the sender.

The measured code appends to a list, or advances an `itertools.count`: single steps of the interpreter that no other
thread can split, so it needs no lock, and a thread that ends leaves nothing behind. The list is bounded: who finds it
full folds it into the summary, unless someone else is at it.
"""

from __future__ import annotations

import itertools
from array import array
from dataclasses import dataclass
from typing import Any

from ingest.metrics import native
from ingest.metrics.amount import bounded
from ingest.metrics.naming import COUNTER, SET, TIMER, Identity
from ingest.metrics.sketch import DistinctSketch, LogSketch, hash_of

FOLD_AT = 256  # values that wait in one accumulator before the measured thread itself folds them
SLICE = 1024  # values folded at a time: no other thread runs meanwhile


@dataclass(frozen=True, slots=True)
class Summary:
    """What an accumulator gathered since it was last emptied; see the fields of `wire.Batch`."""

    count: int
    sum: float | int
    min: float | int | None = None
    max: float | int | None = None
    last: float | int | None = None
    sketch: dict[str, Any] | None = None


class Distribution:
    """Gathers numbers: timers, gauges, histograms. `append` of `values` may be called from anywhere at any time."""

    __slots__ = ("_count", "_last", "_lock", "_max", "_min", "_sketch", "_sum", "identity", "values")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        # Times wait as bare doubles, a quarter of the memory; other values may be ints, and stay ints.
        self.values: Any = array("d") if identity.type == TIMER else []
        self._start_over()
        self._lock = native.make_lock()

    def _start_over(self) -> None:
        self._count = 0
        self._sum: float | int = 0
        self._min: float | int | None = None
        self._max: float | int | None = None
        self._last: float | int | None = None
        self._sketch: LogSketch | None = None

    def add(self, value: float | int) -> None:
        """Take one number; the decorators do the same without a call."""
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
            if self._sketch is None:
                self._sketch = LogSketch()
            self._sketch.add_all(taken)
            lowest, highest = min(taken), max(taken)
            self._min = lowest if self._min is None else min(self._min, lowest)
            self._max = highest if self._max is None else max(self._max, highest)
            self._sum = bounded(self._sum + sum(taken))
            self._last = taken[-1]
            self._count += len(taken)

    def cut(self) -> Summary | None:
        """What came since the last cut, None if nothing. For the sender; blocks while someone folds."""
        if not self.values and not self._count:
            return None
        with self._lock:
            self._fold()
            sketch = self._sketch.to_document() if self._sketch else {}
            found = Summary(self._count, self._sum, self._min, self._max, self._last, sketch)
            self._start_over()
        return found

    def start_over_after_fork(self) -> None:
        """Forget what the parent process gathered and is going to send itself."""
        self._lock = native.make_lock()
        del self.values[:]  # the same list: decorators hold on to it
        self._start_over()


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

    def cut(self) -> Summary | None:
        """What came since the last cut, None if nothing. For the sender."""
        count = self.taken()
        return Summary(count, bounded(count * self.value)) if count else None

    def start_over_after_fork(self) -> None:
        """Forget what the parent process counted and is going to send itself."""
        self.taken()


class Totals:
    """Gathers what counters count for when that varies."""

    __slots__ = ("_count", "_lock", "_sum", "identity", "values")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.values: list[float | int] = []
        self._count = 0
        self._sum: float | int = 0
        self._lock = native.make_lock()

    def add(self, value: float | int) -> None:
        """Take one number; blocks nobody."""
        self.values.append(value)
        if len(self.values) >= FOLD_AT and self._lock.acquire(False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        while taken := self.values[:SLICE]:
            del self.values[: len(taken)]
            self._count += len(taken)
            self._sum = bounded(self._sum + sum(taken))

    def cut(self) -> Summary | None:
        """What came since the last cut, None if nothing. For the sender; blocks while someone folds."""
        if not self.values and not self._count:
            return None
        with self._lock:
            self._fold()
            found = Summary(self._count, self._sum)
            self._count, self._sum = 0, 0
        return found

    def start_over_after_fork(self) -> None:
        """Forget what the parent process gathered and is going to send itself."""
        self._lock = native.make_lock()
        self.values.clear()
        self._count, self._sum = 0, 0


class Distinct:
    """Gathers values of which only the different ones count."""

    __slots__ = ("_count", "_lock", "_sketch", "identity", "values")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.values: list[int] = []
        self._count = 0
        self._sketch = DistinctSketch()
        self._lock = native.make_lock()

    def add(self, value: Any) -> None:
        """Take one value, of which only the hash is kept; blocks nobody."""
        self.values.append(hash_of(value))
        if len(self.values) >= FOLD_AT and self._lock.acquire(False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        while taken := self.values[:SLICE]:
            del self.values[: len(taken)]
            self._sketch.add_hashes(taken)
            self._count += len(taken)

    def cut(self) -> Summary | None:
        """What came since the last cut, None if nothing. For the sender; blocks while someone folds."""
        if not self.values and not self._count:
            return None
        with self._lock:
            self._fold()
            found = Summary(self._count, self._sketch.estimate, sketch=self._sketch.to_document())
            self._count, self._sketch = 0, DistinctSketch()
        return found

    def start_over_after_fork(self) -> None:
        """Forget what the parent process gathered and is going to send itself."""
        self._lock = native.make_lock()
        self.values.clear()
        self._count, self._sketch = 0, DistinctSketch()


Taker = Distribution | Totals | Distinct  # has add(value)
Accumulator = Taker | Ticks


def accumulator(identity: Identity) -> Taker:
    """The accumulator that suits the type."""
    if identity.type == COUNTER:
        return Totals(identity)
    return Distinct(identity) if identity.type == SET else Distribution(identity)
