"""Tell which keys are in the span that a request asks for.

A period is in a span if it starts there. For hours and shorter periods, a date in `from` or `to` is one of the viewer's
zone. For days and longer periods it is one of the zone of the keys, in which they begin and end: `from=2026-07` begins
with the key `2026-07-01` wherever the viewer is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aggregates.keys import period_length
from aggregates.keys.key_time import KeyTime
from aggregates.period import Unit
from aggregates.web.series.output_key import key_period
from aggregates.web.series.time_span import OPEN, TimeSpan, read_days, read_span

_DAYS: Final[frozenset[Unit]] = frozenset(("day", "week", "month", "year"))
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class KeySpan:
    """The span of a request as it applies to the keys of one output."""

    instants: TimeSpan  # for periods shorter than a day
    days: TimeSpan  # for the others: dates are those of the zone of the keys
    key_time: KeyTime

    def of(self, spelled: Unit) -> TimeSpan:
        """Return the span for keys of this precision; those that name a time are days if their task says so."""
        return self.days if spelled in _DAYS or _all_days(self.key_time) else self.instants

    def contains(self, key: Any) -> bool:
        """Return True if the period of `key` starts in the span. Keys that are no dates are in every span."""
        period = key_period(key, self.key_time.zone)
        return period is None or self.of(period.step).contains(period.ms)

    @property
    def is_open(self) -> bool:
        """Return True if it contains everything."""
        return self.outer() == OPEN

    def outer(self) -> TimeSpan:
        """Return the span that contains both."""
        starts, ends = (self.instants.start, self.days.start), (self.instants.end, self.days.end)
        return TimeSpan(
            min((each for each in starts if each is not None), default=None),
            max((each for each in ends if each is not None), default=None),
        )


def read_key_span(start: str, end: str, zone: str, key_time: KeyTime, now: datetime) -> KeySpan:
    """Parse the texts of a span for keys of `key_time`, as `time_span.read_span` does. Raise `BadRequestError`."""
    instants = read_span(start, end, zone, now)
    return KeySpan(instants, read_days(start, end, zone, key_time.zone, now), key_time)


def _all_days(key_time: KeyTime) -> bool:
    steps = () if key_time.step is None else (key_time.step, *key_time.others)
    return bool(steps) and all(period_length.seconds(step) >= _DAY_S for step in steps)
