"""List where the periods of a series start, given how long they are and whose clock they follow.

Times are milliseconds since 1970; a *reading* is what the clock shows, as milliseconds since its own 1970-01-01T00:00.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from aggregates.clock import MAX_INSTANT, MAX_READING, MIN_INSTANT, wall_clock
from aggregates.keys import period_length
from aggregates.keys.period_length import Step

DAY_MS: Final = 86_400_000
MIN_MS: Final = (datetime.min - datetime(1970, 1, 1)) / timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1)
_MS = timedelta(milliseconds=1)
_MAX_MS: Final = (MAX_READING - _EPOCH) // _MS


@dataclass(frozen=True)
class Granularity:
    """The length of the periods of a series, and where they start."""

    step: Step
    zone: str  # whose clock the periods follow
    instants: bool = False  # the keys tell doubled hours apart, so that each of them is a period
    anchor_ms: int = 0  # a reading at which a period starts, if not at the clock's own hours, or in January
    strict: bool = True  # a time that starts no period is odd; False if the data has no common length
    listed: tuple[float, ...] = ()  # the only starts that are known, ascending, if the length of periods varies

    @property
    def length_ms(self) -> int:
        """Return the length of a period, on average, or a typical one if it varies."""
        return period_length.seconds(self.step) * 1000

    @property
    def name(self) -> str:
        """Return the unit, or an ISO 8601 duration such as `PT5M`, `PT6H`, `P10D` or `P3M`."""
        return period_length.name(self.step)

    @property
    def varies(self) -> bool:
        """Return True if the length of periods varies, so that only those are known which the data has."""
        return bool(period_length.least_s(self.step))

    def starts(self, first_ms: float, last_ms: float) -> list[float]:
        """List the starts of all known periods from `first_ms` to `last_ms`, both included, ascending."""
        if last_ms < first_ms:
            return []
        if self.varies:
            return list(self.listed[bisect_left(self.listed, first_ms) : bisect_right(self.listed, last_ms)])
        if months := period_length.months(self.step):
            return self._calendar_starts(months, first_ms, last_ms)
        found = self._fixed_starts(first_ms, last_ms)
        if first_ms <= MIN_MS:  # the first period of all is the one that the clock shows then, or would show at first
            shift = wall_clock(self.zone).offsets(MIN_INSTANT, MIN_INSTANT)[0][1] // _MS
            return [MIN_MS, *(start for start in found if start > max(MIN_MS, MIN_MS - shift))]
        return found

    def _fixed_starts(self, first_ms: float, last_ms: float) -> list[float]:
        offset = wall_clock(self.zone).fixed_offset
        if offset is not None:
            shift = offset // _MS
            first = _ceil(math.ceil(first_ms) + shift, self.length_ms, self.anchor_ms) - shift
            return list(map(float, range(first, math.floor(last_ms) + 1, self.length_ms)))
        return self._starts_by_offset(first_ms, last_ms)

    def _starts_by_offset(self, first_ms: float, last_ms: float) -> list[float]:
        """List the starts in each stretch of time in which the offset of the zone stays the same."""
        length, anchor = self.length_ms, self.anchor_ms
        both = self.instants and length < DAY_MS
        found: list[float] = []
        shown = None  # the first reading that was not shown yet
        for begin, end, shift in stretches(self.zone, first_ms - DAY_MS, last_ms):
            reading = _ceil(begin + shift, length, anchor)
            if shown is not None:
                skipped = _ceil(shown, length, anchor)
                if skipped < begin + shift < reading:
                    found.append(float(begin))  # the clock jumps over the start of a period
                elif not both:
                    reading = max(reading, skipped)
            found += map(float, range(reading - shift, end, length))
            shown = max(end + shift, shown or end + shift)
        return found[bisect_left(found, first_ms) :]

    def _calendar_starts(self, months: int, first_ms: float, last_ms: float) -> list[float]:
        clock = wall_clock(self.zone)
        month, rest_ms = month_of(self.anchor_ms)
        reading = (clock.reading(instant_at(first_ms)) - _EPOCH) // _MS - rest_ms
        number = month_of(reading)[0] - (month_of(reading)[0] - month) % months
        found: list[float] = []
        while number < 120_000:  # the year 10,000
            start = MIN_MS
            if number >= 12:
                start = float(_ms(clock.first(datetime(number // 12, number % 12 + 1, 1) + rest_ms * _MS)))
            if start > last_ms:
                break
            if start >= first_ms:
                found.append(start)
            number += months
        return found


def stretches(zone: str, first_ms: float, last_ms: float) -> list[tuple[int, int, int]]:
    """Return the stretches of time with one offset, as begin, end (exclusive) and offset, all in milliseconds."""
    begin, end = math.floor(first_ms), math.floor(last_ms) + 1
    offsets = wall_clock(zone).offsets(instant_at(begin), instant_at(end))
    begins = [begin, *(_ms(instant) for instant, _ in offsets[1:]), end]
    return [(*ends, offset // _MS) for ends, (_, offset) in zip(pairwise(begins), offsets, strict=True)]


def month_of(reading: float) -> tuple[int, int]:
    """Return the month of a reading, counted from January of the year 0, and how far it is from the month's start."""
    ms = int(min(max(reading, MIN_MS), _MAX_MS))
    day = _EPOCH + ms // DAY_MS * timedelta(days=1)
    return day.year * 12 + day.month - 1, ms % DAY_MS + (day.day - 1) * DAY_MS


def _ceil(value: int, length: int, anchor: int) -> int:
    return value + (anchor - value) % length


def instant_at(ms: float) -> datetime:
    """Return the instant of a time in milliseconds, or the nearest that datetime can name."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + ms * _MS
    except OverflowError:
        return MIN_INSTANT if ms < 0 else MAX_INSTANT


def _ms(instant: datetime) -> int:
    return (instant.replace(tzinfo=None) - _EPOCH) // _MS
