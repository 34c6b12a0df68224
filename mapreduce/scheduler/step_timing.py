"""Time limits and progress interval of steps, learned from the steps that are done. Pure: durations in, limits out.

A second attempt costs little, because the first result wins: until this job has finished a step, it is based on earlier
jobs. Abandoning an attempt wastes its work: that is based on this job alone.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

BACKUP_FACTOR = 1.5  # an idle worker starts a second attempt after this many typical durations
LIMIT_FACTOR = 3.0  # the first attempt is abandoned after this many typical durations without progress
LIMIT_FLOOR_S = 5.0  # replacing a killed process takes a second or more; idle workers help long before
BACKUP_FLOOR_S = 0.02
PROGRESS_EVERY_S = 0.25  # longest time between two progress reports of a step
_REMEMBERED = 64


@dataclass
class StepTiming:
    """Durations, limits and progress interval of one kind of step of one job."""

    ceiling_s: float  # longest time without progress for any attempt
    first_s: float = 60.0  # limit until a step of this job is done
    before_s: float | None = None  # typical duration in earlier jobs; None = unknown
    first_backup_s: float | None = None  # time to a second attempt while no duration is known; None = no second attempt
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def add(self, duration_s: float) -> None:
        self.durations.append(duration_s)

    @property
    def typical_s(self) -> float | None:
        """Return the median duration in this job; None until a step is done."""
        return statistics.median(self.durations) if self.durations else None

    def limit_s(self, attempt: int) -> float:
        """Return the longest time without progress for attempt 1, 2, ...: doubled with each, up to the ceiling."""
        typical = self.typical_s
        first = self.first_s if typical is None else max(LIMIT_FACTOR * typical, LIMIT_FLOOR_S)
        return min(first * 2.0 ** min(attempt - 1, 30), self.ceiling_s)

    def backup_after_s(self) -> float | None:
        """Return the time after which an idle worker starts a second attempt; None = no second attempt."""
        typical = self.before_s if self.typical_s is None else self.typical_s
        return self.first_backup_s if typical is None else max(BACKUP_FACTOR * typical, typical + BACKUP_FLOOR_S)

    def progress_every_s(self) -> float:
        """Return the interval at which a step must report progress, so that it does not count as hung.

        Most steps end before their first report; a slower one reports before a second attempt is due.
        """
        backup = self.backup_after_s()
        typical = self.before_s if self.typical_s is None else self.typical_s
        return PROGRESS_EVERY_S if backup is None or typical is None else min(PROGRESS_EVERY_S, (typical + backup) / 2)
