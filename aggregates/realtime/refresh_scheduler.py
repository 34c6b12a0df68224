"""Decide which realtime aggregates to refresh now. Does no I/O.

Facts go in (events became readable, a refresh ended), names to refresh come out. A failing aggregate is retried after
growing pauses, without delaying others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
BUSY_PAUSE_S = 0.25
BLOCKED_PAUSE_S = 5.0
POLLED_PAUSE_S = 1.0

Kind = Literal["event", "aggregate", "collection"]


@dataclass(frozen=True)
class RefreshTarget:
    """The parts of a definition that scheduling needs."""

    name: str
    kind: Kind = "event"
    inputs: frozenset[str] = frozenset()  # names of the aggregates that it reads
    version: object = None  # a changed definition is refreshed without waiting for its pause


@dataclass
class _Item:
    target: RefreshTarget
    through: int | None = None  # events up to this one are included; None = not known
    dirty: bool = True  # refresh once even without news
    running: bool = False
    had_input: bool = False  # its input aggregates had run at the last comparison
    failures: int = 0
    not_before: float = 0.0
    last_start: float = field(default=float("-inf"))


class RefreshScheduler:
    """Schedule the refreshes of all realtime aggregates. Times are seconds of one monotonic clock. Not thread-safe."""

    def __init__(self, *, refresh_min_s: float, incremental: int, most_at_once: int) -> None:
        self._refresh_min_s = refresh_min_s
        self._least_new_events = max(1, incremental)
        self._most_at_once = most_at_once
        self._items: dict[str, _Item] = {}
        self._readable_through = 0

    def define(self, definitions: Iterable[RefreshTarget]) -> None:
        """Set the realtime aggregates; those that were known before keep their state."""
        items: dict[str, _Item] = {}
        for target in definitions:
            item = self._items.get(target.name)
            if item is None:
                item = _Item(target)
            elif item.target != target:
                item.target, item.dirty, item.failures, item.not_before = target, True, 0, 0.0
            items[target.name] = item
        self._items = items

    @property
    def names(self) -> list[str]:
        return list(self._items)

    @property
    def running(self) -> int:
        return sum(item.running for item in self._items.values())

    def events_readable(self, through: int) -> None:
        """Note that events up to this id can be read. A lower id than before means another store: all are refreshed."""
        if through < self._readable_through:
            for item in self._items.values():
                item.dirty = True
        self._readable_through = through

    def start(self, now: float) -> list[str]:
        """Return names to refresh now, longest waiting first. They count as running until their end is reported."""
        free = self._most_at_once - self.running
        ready = [item for item in self._items.values() if self._is_due(item) and self._ready_at(item) <= now]
        ready.sort(key=lambda item: item.last_start)
        chosen = ready[: max(free, 0)]
        for item in chosen:
            item.running, item.dirty, item.last_start = True, False, now
        return [item.target.name for item in chosen]

    def _is_due(self, item: _Item) -> bool:
        if item.running:
            return False
        if item.dirty or item.target.kind == "collection":
            return True
        if item.target.kind == "aggregate":
            return False
        return item.through is None or self._readable_through - item.through >= self._least_new_events

    def _ready_at(self, item: _Item) -> float:
        pause = POLLED_PAUSE_S if item.target.kind == "collection" else self._refresh_min_s
        return max(item.not_before, item.last_start + pause)

    def wake_at(self) -> float | None:
        """Return when `start` can next return names without new facts; None if it cannot."""
        if self.running >= self._most_at_once:
            return None
        times = [self._ready_at(item) for item in self._items.values() if self._is_due(item)]
        return min(times, default=None)

    def succeeded(self, name: str, through: int | None, *, moved: bool) -> None:
        """Note that a refresh succeeded at this position; `moved` makes the readers of its output due."""
        if item := self._end_refresh(name):
            item.through, item.failures, item.not_before = through, 0, 0.0
        if moved:
            for other in self._items.values():
                if name in other.target.inputs:
                    other.dirty, other.failures, other.not_before = True, 0, 0.0

    def inputs_compared(self, behind: Mapping[str, bool | None]) -> None:
        """Note which aggregates are behind the aggregates that they read; None means that an input has not run yet.

        A failing aggregate keeps its pause, unless its input has just run for the first time.
        """
        for name, state in behind.items():
            item = self._items.get(name)
            if item is None:
                continue
            if state:
                item.dirty = True
                if not item.had_input:
                    item.failures, item.not_before = 0, 0.0
            item.had_input = state is not None

    def failed(self, name: str, now: float) -> float:
        """Note that a refresh failed; return the pause until the next attempt."""
        item = self._end_refresh(name)
        if item is None:
            return 0.0
        pause = float(min(FIRST_PAUSE_S * 2**item.failures, LONGEST_PAUSE_S))
        item.failures += 1
        item.not_before, item.dirty = now + pause, True
        return pause

    def busy(self, name: str, now: float) -> None:
        """Note that another process holds the lease; retry shortly."""
        self._retry_at(name, now + BUSY_PAUSE_S)

    def blocked(self, name: str, now: float) -> None:
        """Note that a person must request a full run; check again after a while."""
        self._retry_at(name, now + BLOCKED_PAUSE_S)

    def _retry_at(self, name: str, not_before: float) -> None:
        if item := self._end_refresh(name):
            item.not_before, item.dirty = not_before, True

    def _end_refresh(self, name: str) -> _Item | None:
        item = self._items.get(name)
        if item is not None:
            item.running = False
        return item
