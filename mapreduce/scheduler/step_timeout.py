"""How long a step may take, learned from the steps that are done. Pure: durations in, time limits out.

A second try costs little, because of two answers the first counts: it goes by earlier jobs while nothing is known of
this one. To give an attempt up costs it: that goes by this job alone.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

BACKUP_FACTOR = 1.5  # a step is begun a second time on an idle worker after this many typical durations
LIMIT_FACTOR = 3.0  # the first attempt is given up after this many typical durations without progress
LIMIT_FLOOR_S = 5.0  # a killed process costs a second or more; idle workers help out long before
BACKUP_FLOOR_S = 0.02
SAY_S = 0.25  # a step that goes on says so at least this often
_REMEMBERED = 64


@dataclass
class StepTimeout:
    """Durations of one kind of step of one job."""

    ceiling_s: float  # no attempt may be without progress for longer
    first_s: float = 60.0  # the limit while nothing is known
    before_s: float | None = None  # the typical duration in earlier jobs; None = not known
    first_backup_s: float | None = None  # after what time a second try begins while nothing is known; None = never
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def add(self, duration_s: float) -> None:
        """Take in the duration of a step that is done."""
        self.durations.append(duration_s)

    @property
    def typical_s(self) -> float | None:
        """The median duration; None while nothing is known."""
        return statistics.median(self.durations) if self.durations else None

    def limit_s(self, attempt: int) -> float:
        """How long attempt 1, 2, ... may be without progress: it doubles with each, up to the ceiling."""
        typical = self.typical_s
        first = self.first_s if typical is None else max(LIMIT_FACTOR * typical, LIMIT_FLOOR_S)
        return min(first * 2.0 ** min(attempt - 1, 30), self.ceiling_s)

    def backup_after_s(self) -> float | None:
        """After what time an idle worker begins the same step too; None = not yet."""
        typical = self.before_s if self.typical_s is None else self.typical_s
        return self.first_backup_s if typical is None else max(BACKUP_FACTOR * typical, typical + BACKUP_FLOOR_S)

    def say_after_s(self) -> float:
        """How often a step is to show its progress, so that it is not taken for one that hangs.

        Most say nothing, because they take no longer than others; a slower one does before it is begun a second time.
        """
        backup = self.backup_after_s()
        typical = self.before_s if self.typical_s is None else self.typical_s
        return SAY_S if backup is None or typical is None else min(SAY_S, (typical + backup) / 2)
