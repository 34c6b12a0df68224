"""Accumulate measurements in the process: one accumulator per metric, emptied by the sender.

The measured code appends to a list, or advances an `itertools.count`. Both are single steps of the interpreter that no
other thread can interrupt, so there is no lock, and a thread that ends leaves nothing behind. The list is bounded: the
thread that fills it summarizes it, unless another thread is doing so.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import native_thread
from .clamp import clamp
from .identity import Identity
from .metric_type import COUNTER, SET, TIMER
from .sketch import DistinctSketch, LogSketch, hash_of

SUMMARIZE_AT = 256  # waiting values after which the measured thread summarizes them itself
SUMMARIZE_COUNT = 1024  # values summarized at a time, while no other thread runs


@dataclass(frozen=True, slots=True)
class ValueSummary:
    """The values of an accumulator in one interval; for the fields see `wire.Batch`."""

    count: int
    sum: float | int
    min: float | int | None = None
    max: float | int | None = None
    last: float | int | None = None
    sketch: dict[str, Any] | None = None


class BufferedAccumulator(ABC):
    """Waiting values, and a summary of earlier ones. `values.append` can be called from any thread."""

    __slots__ = ("_count", "_lock", "identity", "values")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        # Times are stored as bare doubles in a quarter of the memory; other values can be ints, and stay ints.
        self.values: Any = array("d") if identity.type == TIMER else []
        self._reset()
        self._lock = native_thread.make_lock()

    @abstractmethod
    def _reset(self) -> None:
        """Start an empty summary, and set `_count` to 0."""
        self._count = 0

    @abstractmethod
    def _add_to_summary(self, values: Sequence[Any]) -> None:
        """Add some values to the summary."""

    @abstractmethod
    def _summary(self) -> ValueSummary:
        """Return the summary to send."""

    def add(self, value: Any) -> None:
        """Add one value; decorators do the same without this call. Never blocks."""
        self.values.append(value)
        if len(self.values) >= SUMMARIZE_AT:
            self.summarize()

    def summarize(self) -> None:
        """Add the waiting values to the summary, unless another thread does. Never blocks."""
        if self._lock.acquire(False):
            try:
                self._summarize_waiting()
            finally:
                self._lock.release()

    def _summarize_waiting(self) -> None:
        while taken := self.values[:SUMMARIZE_COUNT]:
            del self.values[: len(taken)]  # values appended meanwhile come after them
            self._add_to_summary(taken)
            self._count += len(taken)

    def collect(self) -> ValueSummary | None:
        """Return what was added since the last call; None if nothing. For the sender; waits for other threads."""
        if not self.values and not self._count:
            return None
        with self._lock:
            self._summarize_waiting()
            found = self._summary()
            self._reset()
        return found

    def reset_after_fork(self) -> None:
        """Discard what the parent process gathered and will send itself."""
        self._lock = native_thread.make_lock()
        del self.values[:]  # in place: decorators refer to this list
        self._reset()


class Distribution(BufferedAccumulator):
    """Accumulate the numbers of timers, gauges and histograms."""

    __slots__ = ("_last", "_max", "_min", "_sketch", "_sum")

    def _reset(self) -> None:
        super()._reset()
        self._sum: float | int = 0
        self._min: float | int | None = None
        self._max: float | int | None = None
        self._last: float | int | None = None
        self._sketch: LogSketch | None = None

    def _add_to_summary(self, values: Sequence[float | int]) -> None:
        if self._sketch is None:
            self._sketch = LogSketch()
        self._sketch.add_all(values)
        lowest, highest = min(values), max(values)
        self._min = lowest if self._min is None else min(self._min, lowest)
        self._max = highest if self._max is None else max(self._max, highest)
        self._sum = clamp(self._sum + sum(values))
        self._last = values[-1]

    def _summary(self) -> ValueSummary:
        sketch = self._sketch.to_document() if self._sketch else {}
        return ValueSummary(self._count, self._sum, self._min, self._max, self._last, sketch)


class CallCounter:
    """Count calls with the same `value` each. `tick` can be called from any thread at any time."""

    __slots__ = ("_seen", "identity", "tick", "value")

    def __init__(self, identity: Identity, value: float | int) -> None:
        self.identity = identity
        self.value = value
        self.tick = itertools.count().__next__
        self._seen = 0

    def count_new(self) -> int:
        now = self.tick()
        new, self._seen = now - self._seen, now + 1  # without the tick of this call
        return new

    def collect(self) -> ValueSummary | None:
        """Return what was counted since the last call, or None if nothing. For the sender."""
        count = self.count_new()
        return ValueSummary(count, clamp(count * self.value)) if count else None

    def reset_after_fork(self) -> None:
        """Discard what the parent process counted and will send itself."""
        self.count_new()


class CounterTotal(BufferedAccumulator):
    """Accumulate counters whose values vary."""

    __slots__ = ("_sum",)

    def _reset(self) -> None:
        super()._reset()
        self._sum: float | int = 0

    def _add_to_summary(self, values: Sequence[float | int]) -> None:
        self._sum = clamp(self._sum + sum(values))

    def _summary(self) -> ValueSummary:
        return ValueSummary(self._count, self._sum)


class DistinctValues(BufferedAccumulator):
    """Count distinct values, of which only the hashes are kept."""

    __slots__ = ("_sketch",)

    def _reset(self) -> None:
        super()._reset()
        self._sketch = DistinctSketch()

    def add(self, value: Any) -> None:
        super().add(hash_of(value))

    def _add_to_summary(self, values: Sequence[int]) -> None:
        self._sketch.add_hashes(values)

    def _summary(self) -> ValueSummary:
        return ValueSummary(self._count, self._sketch.estimate, sketch=self._sketch.to_document())


Accumulator = BufferedAccumulator | CallCounter


def accumulator(identity: Identity) -> BufferedAccumulator:
    if identity.type == COUNTER:
        return CounterTotal(identity)
    return DistinctValues(identity) if identity.type == SET else Distribution(identity)
