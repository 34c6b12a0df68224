"""Which realtime aggregates to refresh now: decided from what is known, without any input or output.

What happens goes in (events became readable, a refresh ended), names to refresh come out. A failing aggregate is tried
again after a growing pause, which holds up no other one.
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
    """What pacing needs to know of a definition."""

    name: str
    kind: Kind = "event"
    inputs: frozenset[str] = frozenset()  # names of the aggregates that it reads
    version: object = None  # a changed definition is tried at once, whatever happened before


@dataclass
class _Item:
    target: RefreshTarget
    through: int | None = None  # events up to this one are in; None = not known
    dirty: bool = True  # tried once, whatever is known
    running: bool = False
    had_input: bool = False  # of one that reads aggregates: they had run when they were last looked at
    failures: int = 0
    not_before: float = 0.0
    last_start: float = field(default=float("-inf"))


class RefreshScheduler:
    """The state of all realtime aggregates. Times are seconds of one monotonic clock. Not thread-safe."""

    def __init__(self, *, refresh_min_s: float, incremental: int, most_at_once: int) -> None:
        self._refresh_min_s = refresh_min_s
        self._least = max(1, incremental)
        self._most_at_once = most_at_once
        self._items: dict[str, _Item] = {}
        self._available = 0

    def define(self, definitions: Iterable[RefreshTarget]) -> None:
        """These are the realtime aggregates now; what is known of those that stay is kept."""
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
        """All names."""
        return list(self._items)

    @property
    def running(self) -> int:
        """How many refreshes are under way."""
        return sum(item.running for item in self._items.values())

    def available(self, through: int) -> None:
        """Events up to this id may be read. A lower id than before tells of another store: all are looked at."""
        if through < self._available:
            for item in self._items.values():
                item.dirty = True
        self._available = through

    def start(self, now: float) -> list[str]:
        """Names to refresh now, longest waiting first; they count as running until `ended`."""
        free = self._most_at_once - self.running
        ready = [item for item in self._items.values() if self._wants(item) and self._ready_at(item) <= now]
        ready.sort(key=lambda item: item.last_start)
        chosen = ready[: max(free, 0)]
        for item in chosen:
            item.running, item.dirty, item.last_start = True, False, now
        return [item.target.name for item in chosen]

    def _wants(self, item: _Item) -> bool:
        if item.running:
            return False
        if item.dirty or item.target.kind == "collection":
            return True
        if item.target.kind == "aggregate":
            return False
        return item.through is None or self._available - item.through >= self._least

    def _ready_at(self, item: _Item) -> float:
        pause = POLLED_PAUSE_S if item.target.kind == "collection" else self._refresh_min_s
        return max(item.not_before, item.last_start + pause)

    def wake_at(self) -> float | None:
        """When `start` may have something to say although nothing happened; None when only events can change that."""
        if self.running >= self._most_at_once:
            return None
        times = [self._ready_at(item) for item in self._items.values() if self._wants(item)]
        return min(times, default=None)

    def succeeded(self, name: str, through: int | None, *, moved: bool) -> None:
        """A refresh ended well at this position; `moved` makes those that read its output look."""
        if item := self._end(name):
            item.through, item.failures, item.not_before = through, 0, 0.0
        if moved:
            for other in self._items.values():
                if name in other.target.inputs:
                    other.dirty, other.failures, other.not_before = True, 0, 0.0

    def compared(self, behind: Mapping[str, bool | None]) -> None:
        """Which of those that read aggregates have not taken in what these hold now, whoever refreshed them.

        None says that an input has not run yet. One that is failing keeps its pause, unless its input has only just
        come into being.
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
        """A refresh failed; returns the pause until the next attempt."""
        item = self._end(name)
        if item is None:
            return 0.0
        pause = float(min(FIRST_PAUSE_S * 2**item.failures, LONGEST_PAUSE_S))
        item.failures += 1
        item.not_before, item.dirty = now + pause, True
        return pause

    def busy(self, name: str, now: float) -> None:
        """Another process is at it."""
        self._later(name, now + BUSY_PAUSE_S)

    def blocked(self, name: str, now: float) -> None:
        """A person has to ask for a full run; looked at again after a while."""
        self._later(name, now + BLOCKED_PAUSE_S)

    def _later(self, name: str, not_before: float) -> None:
        if item := self._end(name):
            item.not_before, item.dirty = not_before, True

    def _end(self, name: str) -> _Item | None:
        item = self._items.get(name)
        if item is not None:
            item.running = False
        return item
