"""Tell how long the periods of a series are, and list where they start.

The aggregate's key time says it, as long as the data agrees. Otherwise it is measured from the spacing of the starts,
whatever the form of the keys: years, months, weeks or days by the clock of the keys' zone, else a fixed length. Times
are milliseconds since 1970; a *reading* is what the clock shows, as milliseconds since its own 1970-01-01T00:00.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from aggregates.clock import MAX_INSTANT, MIN_INSTANT, wall_clock
from aggregates.keys.key_time import KeyTime, Step
from aggregates.period import SECONDS, Unit

DAY_MS: Final = 86_400_000
_LENGTHS_MS: Final = {
    "year": 31_556_952_000,  # on average in the Gregorian calendar
    "month": 2_629_746_000,
    **{unit: seconds * 1000 for unit, seconds in SECONDS.items()},
}
_MINUTES = (720, 480, 360, 240, 180, 120, 60, 30, 20, 15, 10, 5, 3, 2, 1)
FIXED_S: Final = (*(60 * minutes for minutes in _MINUTES), 30, 20, 15, 10, 5, 3, 2, 1)
SEVERAL: Final = 8  # starts from which on a single odd one is not believed
_COARSE: Final[tuple[Unit, ...]] = (
    "year",
    "month",
    "week",
)  # units whose forms, such as 2011-W27, leave no doubt about the length
_CHUNK = 1_000
_SPARSE_MS = 7 * DAY_MS  # on average between starts
_EPOCH = datetime(1970, 1, 1)
_MS = timedelta(milliseconds=1)
_MIN_MS: Final = (datetime.min - _EPOCH) / _MS


@dataclass(frozen=True)
class Granularity:
    """The length of the periods of a series, and where they start."""

    step: Step
    zone: str  # whose clock the periods follow
    instants: bool = False  # the keys tell doubled hours apart, so that each of them is a period
    anchor_ms: int = 0  # a reading at which a period of a fixed length starts
    strict: bool = True  # a time that starts no period is odd; False if the data has no common length

    @property
    def length_ms(self) -> int:
        """Return the length of a period, on average."""
        return _LENGTHS_MS[self.step] if isinstance(self.step, str) else self.step * 1000

    @property
    def name(self) -> str:
        """Return the unit, or an ISO 8601 duration such as `PT5M`, `PT6H` or `P10D`."""
        if isinstance(self.step, str):
            return self.step
        for letter, seconds in (("P{}D", 86_400), ("PT{}H", 3_600), ("PT{}M", 60), ("PT{}S", 1)):
            if self.step % seconds == 0:
                return letter.format(self.step // seconds)
        raise AssertionError(self.step)

    def starts(self, first_ms: float, last_ms: float) -> list[float]:
        """List the starts of all periods from `first_ms` to `last_ms`, both included, ascending."""
        if last_ms < first_ms:
            return []
        if self.step in ("year", "month"):
            return _calendar_starts(self.step, self.zone, first_ms, last_ms)
        found = self._fixed_starts(first_ms, last_ms)
        if first_ms <= _MIN_MS:  # the first period of all is the one that the clock shows then, or would show at first
            shift = wall_clock(self.zone).offsets(MIN_INSTANT, MIN_INSTANT)[0][1] // _MS
            return [_MIN_MS, *(start for start in found if start > max(_MIN_MS, _MIN_MS - shift))]
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
        stretches = _stretches(self.zone, first_ms - DAY_MS, last_ms)
        for begin, end, shift in stretches:
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


def measure(
    starts: Sequence[float], key_time: KeyTime, spelled: Unit, *, instants: bool = False, shown_zone: str = ""
) -> Granularity:
    """Return the granularity of ascending `starts`, of which there is at least one.

    `spelled` is the finest precision of the keys, the last resort for a single start. `instants` says that keys have
    offsets or are datetimes: then their days may also be those of `shown_zone`.
    """
    found = _Measure(starts, key_time.zone, instants)
    if key_time.step is not None and (said := found.fitting(key_time.step)):
        return said
    if spelled in _COARSE and (said := found.fitting(spelled)):
        return said
    if found.count == 1:
        return found.single(spelled)
    best = found.measured()
    if instants and shown_zone not in ("", key_time.zone):
        other = _Measure(starts, shown_zone, instants).measured()
        if other.length_ms > best.length_ms:
            return other
    return best


class _Measure:
    """The starts of one series, with what the clock of a zone shows at each."""

    def __init__(self, starts: Sequence[float], zone: str, instants: bool) -> None:
        self._zone = zone
        self._instants = instants
        self._starts = starts
        # Starts at which the clock jumps, with the first reading that it skips; the first instant of all is one too.
        self._jumps: dict[float, float] = {_MIN_MS: -math.inf} if starts[0] <= _MIN_MS else {}
        self._readings = self._read()
        self.count = 1 if starts[0] == starts[-1] else len(starts)
        self._allowed = 0 if self.count < SEVERAL else max(1, self.count // 100)

    def _read(self) -> Sequence[float]:
        starts = self._starts
        whole: Sequence[float] = list(map(int, starts))
        if whole != starts:
            whole = starts  # fractions of milliseconds
        offset = wall_clock(self._zone).fixed_offset
        if offset is not None:
            shift = offset // _MS
            return [start + shift for start in whole] if shift else whole
        if starts[-1] - starts[0] > _SPARSE_MS * len(starts):
            return [self._read_one(start) for start in whole]
        readings: list[float] = []
        shown = None
        for begin, end, shift in _stretches(self._zone, starts[0] - DAY_MS, starts[-1]):
            if shown is not None and begin + shift > shown:
                self._jumps[float(begin)] = shown
            readings += [start + shift for start in whole[bisect_left(starts, begin) : bisect_left(starts, end)]]
            shown = end + shift
        return readings

    def _read_one(self, start: float) -> float:
        """Return one reading, which is faster than to follow the zone through centuries between few starts."""
        clock = wall_clock(self._zone)
        before, shift = (clock.offset(_instant(at)) // _MS for at in (max(start - 1, _MIN_MS), start))
        if before < shift:
            self._jumps[start] = start + before
        return start + shift

    def fitting(self, step: Step) -> Granularity | None:
        """Return the granularity of this step if the starts agree with it, but for a few odd ones."""
        if step in ("year", "month"):
            return Granularity(step, self._zone, self._instants) if self._fits_calendar(step) else None
        found = Granularity(step, self._zone, self._instants)
        anchors = [0] if DAY_MS % found.length_ms == 0 else []
        if not anchors or self.count >= SEVERAL:
            anchors += [int(self._readings[i]) % found.length_ms for i in {0, len(self._readings) // 2}]
        return next(
            (replace(found, anchor_ms=anchor) for anchor in anchors if self._fits(found.length_ms, anchor)), None
        )

    def single(self, spelled: Unit) -> Granularity:
        """Return the granularity of a single start: as it is spelled, but for hours written with minutes of zero."""
        units: tuple[Unit, ...] = ("hour", "minute") if spelled in ("hour", "minute", "second") else (spelled,)
        return next(filter(None, map(self.fitting, units)), self._finest())

    def measured(self) -> Granularity:
        """Return the longest granularity that all starts agree with, but for a few odd ones."""
        if self._fits(DAY_MS, 0):
            coarse = map(self.fitting, _COARSE)
            return next(filter(None, coarse), Granularity("day", self._zone, self._instants))
        plain = next((seconds for seconds in FIXED_S if self._fits(seconds * 1000, 0)), 0)
        if self.count >= SEVERAL:  # enough to believe in periods that start off the clock's own hours
            anchor = int(self._readings[len(self._readings) // 2])
            for seconds in FIXED_S:
                if seconds > plain and self._fits(seconds * 1000, anchor % (seconds * 1000)):
                    return self._of_length(seconds, anchor % (seconds * 1000))
        return self._of_length(plain) if plain else self._finest()

    def _of_length(self, seconds: int, anchor_ms: int = 0) -> Granularity:
        units: dict[int, Unit] = {3_600: "hour", 60: "minute", 1: "second"}
        return Granularity(units.get(seconds, seconds), self._zone, self._instants, anchor_ms)

    def _finest(self) -> Granularity:
        return Granularity("second", self._zone, self._instants, strict=False)

    def _fits(self, length: int, anchor: int) -> bool:
        odd = 0
        for at in range(0, len(self._readings), _CHUNK):  # most lengths that do not fit are refused by the first chunk
            odd += self._odd(at, length, anchor)
            if odd > self._allowed:
                return False
        return True

    def _odd(self, at: int, length: int, anchor: int) -> int:
        """Count the readings of a chunk at which no period starts."""
        readings = self._readings[at : at + _CHUNK]
        if anchor:
            rests = [(reading - anchor) % length for reading in readings]
        else:
            rests = [reading % length for reading in readings]
        odd = len(rests) - rests.count(0)
        if odd and self._jumps:
            for start, reading, rest in zip(self._starts[at : at + _CHUNK], readings, rests, strict=True):
                odd -= bool(rest) and reading - rest >= self._jumps.get(start, math.inf)
        return odd

    def _fits_calendar(self, step: Step) -> bool:
        if not self._fits(DAY_MS, 0):
            return False
        odd = 0
        for reading in self._readings:
            day = _EPOCH + max(reading // DAY_MS * DAY_MS, _MIN_MS) * _MS
            odd += day.day != 1 or (step == "year" and day.month != 1)
            if odd > self._allowed:
                return False
        return True


def _stretches(zone: str, first_ms: float, last_ms: float) -> list[tuple[int, int, int]]:
    """Return the stretches of time with one offset, as begin, end (exclusive) and offset, all in milliseconds."""
    begin, end = math.floor(first_ms), math.floor(last_ms) + 1
    offsets = wall_clock(zone).offsets(_instant(begin), _instant(end))
    begins = [begin, *(_ms(instant) for instant, _ in offsets[1:]), end]
    return [(*ends, offset // _MS) for ends, (_, offset) in zip(pairwise(begins), offsets, strict=True)]


def _calendar_starts(step: Step, zone: str, first_ms: float, last_ms: float) -> list[float]:
    clock = wall_clock(zone)
    reading = clock.reading(_instant(first_ms))
    months = 12 if step == "year" else 1
    number = (reading.year * 12 + (reading.month - 1 if months == 1 else 0)) // months  # of the period, from year 0
    found: list[float] = []
    while (year := number * months // 12) < 10_000:
        start = float(_ms(clock.first(datetime(year, number * months % 12 + 1, 1))))
        if start > last_ms:
            break
        if start >= first_ms:
            found.append(start)
        number += 1
    return found


def _ceil(value: int, length: int, anchor: int) -> int:
    return value + (anchor - value) % length


def _instant(ms: float) -> datetime:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + ms * _MS
    except OverflowError:
        return MIN_INSTANT if ms < 0 else MAX_INSTANT


def _ms(instant: datetime) -> int:
    return (instant.replace(tzinfo=None) - _EPOCH) // _MS
