"""Write periods into keys, and convert the period in a key to a span of time, for `map` and `period(key)` of tasks.

Keys name what the clock of a zone shows (UTC unless it is given): `2011-07-01T13:00` in `Europe/Berlin` holds every
instant at which that clock shows 13 o'clock. So an hour that occurs twice, where clocks are set back, spans both; one
that is skipped is an empty span. Years are written with four digits, and everything is clamped to the years 1 to 9999.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal

from aggregates.clock import MAX_READING, WallClock, wall_clock

Unit = Literal["year", "month", "week", "day", "hour", "minute", "second"]
Zone = str | tzinfo

SECONDS: Final[dict[Unit, int]] = {"week": 604_800, "day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
_DAY = timedelta(days=1)


class Span(tuple[datetime, datetime]):
    """A pair of aware datetimes in UTC, start inclusive and end exclusive, which also says how its key is read.

    The aggregate learns the zone and the length of its periods from it. A plain pair works too, but says less.
    """

    unit: Unit
    unit_count: int  # 5 for five minutes
    zone: tzinfo  # whose clock the key names

    def __new__(cls, start: datetime, end: datetime, unit: Unit, unit_count: int = 1, zone: tzinfo = UTC) -> Span:
        self = super().__new__(cls, (start, end))
        self.unit, self.unit_count, self.zone = unit, unit_count, zone
        return self

    def __getnewargs__(self) -> tuple[datetime, datetime, Unit, int, tzinfo]:
        """Return what copies and pickles are made of."""
        return (*self, self.unit, self.unit_count, self.zone)


Pair = tuple[datetime, datetime]


# From keys to spans


def minute(text: str, zone: Zone = UTC, count: int = 1) -> Span:
    """Return the minute `2011-07-01T13:05`, or the `count` minutes that start there.

    Seconds of zero and an offset (`Z`, `+02:00`) may follow; an offset replaces `zone`. Raise `ValueError` for another
    text; so do all functions that read a key.
    """
    return _clock_span(text, zone, "minute", count)


def hour(text: str, zone: Zone = UTC, count: int = 1) -> Span:
    """Return the hour that starts at `2011-07-01T13:00` (or `T13`), or the `count` hours that start there."""
    return _clock_span(text, zone, "hour", count)


def day(text: str, zone: Zone = UTC) -> Span:
    """Return the calendar day `2011-07-01` in `zone`; 23 or 25 hours long if clocks change."""
    start = datetime.strptime(text, "%Y-%m-%d")
    return _span(start, _after(start, 1), "day", zone)


def week(text: str, zone: Zone = UTC) -> Span:
    """Return the seven days from `2011-06-27` on, a Monday in the keys of `week_key`; `2011-W26` is accepted too."""
    start = datetime.fromisoformat(text) if "W" in text[:8] else datetime.strptime(text, "%Y-%m-%d")
    return _span(start, _after(start, 7), "week", zone)


def month(text: str, zone: Zone = UTC) -> Span:
    """Return the month whose first day is `2011-07-01`; `2011-07` is accepted too."""
    start = datetime.strptime(text[:7], "%Y-%m")
    return _span(start, _after(start, 32).replace(day=1) if start < _LAST_MONTH else MAX_READING, "month", zone)


def year(text: str, zone: Zone = UTC) -> Span:
    """Return the year whose first day is `2011-01-01`; `2011` is accepted too."""
    start = datetime.strptime(text[:4], "%Y")
    return _span(start, start.replace(year=start.year + 1) if start.year < 9999 else MAX_READING, "year", zone)


# From timestamps to keys


def minute_key(timestamp: datetime, zone: Zone = UTC, count: int = 1) -> str:
    """Return the minute of an event as `2011-07-01T13:05`; `count` minutes together start at a multiple from midnight.

    Raise `ValueError` if `count` does not divide a day.
    """
    return _floored(timestamp, zone, count).isoformat()[:16]


def hour_key(timestamp: datetime, zone: Zone = UTC, count: int = 1) -> str:
    """Return the hour of an event as `2011-07-01T13:00`; `count` as for `minute_key`."""
    return _floored(timestamp, zone, 60 * count).isoformat()[:16]


def day_key(timestamp: datetime, zone: Zone = UTC) -> str:
    """Return the day of an event as `2011-07-01`."""
    return _reading(timestamp, zone).isoformat()[:10]


def week_key(timestamp: datetime, zone: Zone = UTC) -> str:
    """Return the week of an event as its Monday, `2011-06-27`. (1 January of the year 1 is a Monday.)"""
    reading = _reading(timestamp, zone)
    return (reading - reading.weekday() * _DAY).isoformat()[:10]


def month_key(timestamp: datetime, zone: Zone = UTC) -> str:
    """Return the month of an event as its first day, `2011-07-01`."""
    return f"{_reading(timestamp, zone).isoformat()[:7]}-01"


def year_key(timestamp: datetime, zone: Zone = UTC) -> str:
    """Return the year of an event as its first day, `2011-01-01`."""
    return f"{_reading(timestamp, zone).isoformat()[:4]}-01-01"


# Spans


def overlaps(one: Pair, other: Pair) -> bool:
    """Return True if the two spans share an instant; an empty one shares none."""
    return max(one[0], other[0]) < min(one[1], other[1])


def union(one: Pair, other: Pair) -> Pair:
    """Return the smallest span that contains both."""
    return min(one[0], other[0]), max(one[1], other[1])


_LAST_MONTH = datetime(9999, 12, 1)


def _reading(timestamp: datetime, zone: Zone) -> datetime:
    if zone is UTC and timestamp.tzinfo is UTC:
        return timestamp  # by far the most frequent case
    return wall_clock(zone).reading(timestamp)


def _floored(timestamp: datetime, zone: Zone, minutes: int) -> datetime:
    reading = _reading(timestamp, zone)
    if minutes == 1:
        return reading
    if minutes < 1 or 1440 % minutes:
        raise ValueError(f"{minutes} minutes do not divide a day: use 5, 15, 60, 360 or another divisor of 1440")
    start = (reading.hour * 60 + reading.minute) // minutes * minutes
    return reading.replace(hour=start // 60, minute=start % 60)


def _clock_span(text: str, zone: Zone, unit: Unit, count: int) -> Span:
    if count < 1:
        raise ValueError(f"count = {count}: a period has at least one {unit}")
    start = datetime.fromisoformat(text)
    if len(text) < 13 or start.second or start.microsecond:
        raise ValueError(f"{text!r} is not the start of a minute such as 2011-07-01T13:05")
    length = timedelta(seconds=count * SECONDS[unit])
    if start.tzinfo is not None:
        instant = wall_clock(start.tzinfo).first(start.replace(tzinfo=None))
        return Span(instant, _later(instant, length), unit, count, wall_clock(zone).zone)
    return _span(start, _later(start, length), unit, zone, count)


def _span(start: datetime, end: datetime, unit: Unit, zone: Zone, count: int = 1) -> Span:
    clock: WallClock = wall_clock(zone)
    return Span(*clock.span(start, end), unit, count, clock.zone)


def _after(start: datetime, days: int) -> datetime:
    return _later(start, days * _DAY)


def _later(moment: datetime, length: timedelta) -> datetime:
    try:
        return moment + length
    except OverflowError:
        return MAX_READING.replace(tzinfo=moment.tzinfo)
