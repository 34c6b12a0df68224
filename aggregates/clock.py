"""Convert between the wall clock of a time zone and instants: readings that occur twice, never, or at the ends of time.

A reading is a naive datetime, what the clock on the wall shows; an instant is an aware datetime in UTC. Where clocks
are set back, a reading occurs twice; where they are set forward, some readings never occur (PEP 495 calls them fold and
gap). Results are clamped to the years 1 to 9999, where datetime ends; nothing here raises `OverflowError`.

Any tzinfo will do. One that tells a name of the time zone database is that zone, one that never changes its offset is
that offset; another keeps its own rules, but has no name by which other processes could find it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

MIN_READING: Final = datetime.min
MAX_READING: Final = datetime.max
MIN_INSTANT: Final = MIN_READING.replace(tzinfo=UTC)
MAX_INSTANT: Final = MAX_READING.replace(tzinfo=UTC)
_TICK = timedelta(microseconds=1)  # the resolution of datetime
_SECOND = timedelta(seconds=1)
_FIRST_CHANGE = datetime(1800, 1, 1, tzinfo=UTC)  # no zone of the database had changed its offset before
_PROBE = timedelta(days=3)  # shorter than any offset has lasted (Africa/Freetown, four days in 1939)
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{6}))?)?\Z", re.ASCII)
_SAMPLES = tuple(datetime(year, month, 1, 12) for year in range(1850, 2050, 5) for month in range(1, 13))


class WallClock:
    """The wall clock of one zone. Immutable; cheap to call, use `wall_clock` to get one."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone: Final = zone
        self.fixed_offset: Final = zone.utcoffset(None) if isinstance(zone, timezone) else None  # None: it may change

    @property
    def name(self) -> str:
        """Return the name by which `wall_clock` finds the zone: `UTC`, `Europe/Berlin`, `+02:00`; "" if it has none."""
        if isinstance(self.zone, ZoneInfo):
            return self.zone.key or ""
        if self.fixed_offset is None:
            return ""
        return str(self.zone).removeprefix("UTC") or "UTC"

    def reading(self, instant: datetime) -> datetime:
        """Return what the clock shows at an aware datetime."""
        try:
            return self._local(instant).replace(tzinfo=None, fold=0)
        except OverflowError:
            return MIN_READING if instant.year < 5000 else MAX_READING

    def first(self, reading: datetime) -> datetime:
        """Return the first instant at which the clock shows `reading`.

        For a reading that never occurs, the instant at which the clock jumps over it.
        """
        if reading <= MIN_READING:
            return MIN_INSTANT
        before, after = self._offsets(reading)
        if before < after:
            return self._jump(reading, before, after)
        return _instant(reading, before)

    def last(self, reading: datetime) -> datetime:
        """Return the last instant at which the clock shows `reading`; like `first` unless it occurs twice."""
        if reading >= MAX_READING:
            return MAX_INSTANT
        before, after = self._offsets(reading)
        if before < after:
            return self._jump(reading, before, after)
        return _instant(reading, after)

    def end(self, reading: datetime) -> datetime:
        """Return the instant, exclusive, at which the clock has shown everything below `reading` for the last time.

        It differs from `last` where `reading` itself occurs twice and what is before it does not.
        """
        if reading >= MAX_READING:
            return MAX_INSTANT
        if reading <= MIN_READING:
            return MIN_INSTANT
        inside = reading - _TICK
        before, after = self._offsets(inside)
        if before < after:
            return self._jump(inside, before, after)
        return _instant(reading, after)

    def span(self, start: datetime, end: datetime) -> tuple[datetime, datetime]:
        """Return the smallest span of instants, end exclusive, that holds all readings from `start` up to `end`.

        It is empty, at the jump, if none of these readings occurs.
        """
        return self.first(start), self.end(end)

    def offset(self, instant: datetime) -> timedelta:
        """Return what the clock is ahead of UTC at an aware datetime in UTC."""
        try:
            offset = self._local(instant).utcoffset()
        except OverflowError:  # at the ends of time, where the reading has no year
            offset = self._offset_at(instant.replace(tzinfo=None))
        assert offset is not None
        return offset

    def offsets(self, start: datetime, end: datetime) -> list[tuple[datetime, timedelta]]:
        """Return the offsets between two instants in order, each with the instant from which it holds.

        The first holds from `start`.
        """
        found = [(start, self.offset(start))]
        if start < _FIRST_CHANGE < end:
            start = _FIRST_CHANGE
        while self.fixed_offset is None and start < end:
            probe = min(start + _PROBE, end) if end - start > _PROBE else end
            offset = self.offset(probe)
            if offset != found[-1][1]:
                found.append((self._change(start, probe, found[-1][1]), offset))
            start = probe
        return found

    def _offsets(self, reading: datetime) -> tuple[timedelta, timedelta]:
        """Return the offsets of the first and the second occurrence; the first is smaller only if there is none."""
        if self.fixed_offset is not None:
            return self.fixed_offset, self.fixed_offset
        offset = self._offset_at
        before, after = offset(reading.replace(fold=0) if reading.fold else reading), offset(reading.replace(fold=1))
        assert before is not None
        assert after is not None
        return before, after

    def _local(self, instant: datetime) -> datetime:
        try:
            return instant.astimezone(self.zone)
        except (NotImplementedError, ValueError):  # a tzinfo without `dst`, which Python needs for this
            reading = instant.astimezone(UTC).replace(tzinfo=None)
            near = reading + (self._offset_at(reading) or timedelta(0))
            return (reading + (self._offset_at(near) or timedelta(0))).replace(tzinfo=self.zone)

    def _offset_at(self, reading: datetime) -> timedelta | None:
        if isinstance(self.zone, ZoneInfo):
            return self.zone.utcoffset(reading)
        return reading.replace(tzinfo=self.zone).utcoffset()  # other classes may want to see themselves in it

    def _jump(self, reading: datetime, before: timedelta, after: timedelta) -> datetime:
        """Return the instant at which the offset changes from `before` to `after`, which is a whole second."""
        low, high = _instant(reading, after), _instant(reading, before)  # around the jump
        if self.offset(low) == after or self.offset(high) == before:
            return high  # a clock that does not know its own gaps, or the ends of time
        return self._change(low, high, before)

    def _change(self, low: datetime, high: datetime, before: timedelta) -> datetime:
        """Return the whole second at which the offset `before`, which holds at `low` and not at `high`, ends."""
        while high - low > _SECOND:
            middle = low + (high - low) / 2
            low, high = (middle, high) if self.offset(middle) == before else (low, middle)
        return high.replace(microsecond=0)


def wall_clock(zone: str | tzinfo) -> WallClock:
    """Return the clock of a zone, given by its IANA name, an offset such as `+02:00`, or any tzinfo.

    Raise `zoneinfo.ZoneInfoNotFoundError` or `ValueError` for a name that is unknown, and whatever a tzinfo raises.
    """
    if isinstance(zone, str):
        return _by_name(zone)
    try:
        return _by_zone(zone)
    except TypeError:  # not hashable, as those of dateutil
        return _by_identity(_Identity(zone))


@lru_cache(maxsize=1024)
def _by_name(name: str) -> WallClock:
    if name == "UTC":
        return _by_zone(UTC)
    if match := _OFFSET.match(name):
        hours, minutes, seconds, microseconds = (int(part or 0) for part in match.groups()[1:])
        offset = timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
        return _by_zone(timezone(-offset if match[1] == "-" else offset))
    return _by_zone(ZoneInfo(name))


@lru_cache(maxsize=1024)
def _by_zone(zone: tzinfo) -> WallClock:
    return _clock_of(zone)


class _Identity:
    """A tzinfo that is looked up as the object it is."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone

    def __hash__(self) -> int:
        return id(self.zone)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.zone is other.zone


@lru_cache(maxsize=1024)
def _by_identity(identity: _Identity) -> WallClock:
    return _clock_of(identity.zone)


def _clock_of(zone: tzinfo) -> WallClock:
    for name in _names(zone):
        try:
            return WallClock(UTC if name == "UTC" else ZoneInfo(name))
        except (ValueError, KeyError, OSError):  # no name of the database; ZoneInfoNotFoundError is a KeyError
            continue
    offset = _fixed_offset(zone)
    return WallClock(zone if offset is None else timezone(offset) if offset else UTC)


def _names(zone: tzinfo) -> Iterator[str]:
    """Yield what may be the name of a zone: that of zoneinfo, of pytz, and of the file that dateutil has read."""
    for attribute in ("key", "zone", "_filename"):
        name: Any = getattr(zone, attribute, None)
        if isinstance(name, str):
            yield name.rpartition("/zoneinfo/")[2].removeprefix("posix/")  # `posix/` are the same zones once more


def _fixed_offset(zone: tzinfo) -> timedelta | None:
    """Return the offset of a zone that always has the same; None if it changes.

    Only `datetime.timezone` is believed without a date: others answer with their standard time, or with zero.
    """
    if isinstance(zone, timezone):
        return zone.utcoffset(None)
    offsets = {sample.replace(tzinfo=zone).utcoffset() for sample in _SAMPLES}
    return offsets.pop() if len(offsets) == 1 else None


def clamp(moment: datetime) -> datetime:
    """Return an aware datetime as the same instant in UTC, or the nearest that UTC can name."""
    return wall_clock(UTC).reading(moment).replace(tzinfo=UTC)


def _instant(reading: datetime, offset: timedelta) -> datetime:
    try:
        return (reading - offset).replace(tzinfo=UTC, fold=0)
    except OverflowError:
        return MIN_INSTANT if reading.year < 5000 else MAX_INSTANT
