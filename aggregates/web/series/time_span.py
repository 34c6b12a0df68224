"""Parse time spans as people write them (`-7d`, `now`, `today`, `2011-07-01`) and step through calendar periods."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from aggregates.definition.fields import is_zone
from aggregates.web.exceptions import BadRequestError
from aggregates.web.series.output_key import Unit, parse_period

_RELATIVE = re.compile(r"-(\d{1,6})(s|min|h|d|w|mo|y)\Z", re.ASCII)
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_EPOCH_MS = re.compile(r"\d{5,15}\Z", re.ASCII)
_LENGTHS = {
    "week": timedelta(days=7),
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1),
}
ALLOWED = "use a date (2011-07-01, 2011-07-01T13:00), now, today, or -90s, -30min, -12h, -7d, -4w, -6mo, -1y"
_EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
_LATEST = datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TimeSpan:
    start: datetime | None  # included; None = open
    end: datetime | None  # included; None = open

    def contains(self, ms: float) -> bool:
        """Return True if `ms` (milliseconds since 1970) is in the span."""
        if self.start is not None and ms < self.start.timestamp() * 1000:
            return False
        return self.end is None or ms <= self.end.timestamp() * 1000


def read_span(start: str, end: str, zone: str, now: datetime) -> TimeSpan:
    """Parse a span from two texts, relative to `now`; an empty text leaves that side open.

    Raise `BadRequestError` naming the parameter (`from` or `to`), the value and what is allowed.
    """
    return TimeSpan(_moment("from", start, zone, now), _moment("to", end, zone, now))


def read_zone(name: str, default: str) -> str:
    """Return `name` if it is a time zone, `default` if it is empty. Raise `BadRequestError` otherwise."""
    if name and not is_zone(name):
        raise BadRequestError(
            f"tz = {name[:60]!r} is not a time zone: use a name such as Europe/Berlin", parameter="tz"
        )
    return name or default


def steps(first_ms: float, last_ms: float, step: Unit, zone: str) -> Iterator[float]:
    """Yield the start of each period from `first_ms` (itself a start) to `last_ms`, by the calendar of `zone`.

    Days, weeks, months and years start at local midnight, so they are right across daylight saving changes.
    """
    if step in ("second", "minute", "hour"):
        fixed_ms = _LENGTHS[step].total_seconds() * 1000
        count = int((last_ms - first_ms) // fixed_ms)
        yield from (first_ms + index * fixed_ms for index in range(count + 1))
        return
    tzinfo = ZoneInfo(zone)
    local = datetime.fromtimestamp(first_ms / 1000, tzinfo).replace(tzinfo=None)
    while (ms := local.replace(tzinfo=tzinfo).timestamp() * 1000) <= last_ms:
        yield ms
        local = _next(local, step)


def first_step(moment: datetime, step: Unit, zone: str) -> float:
    """Return the first start of a period of length `step` at or after `moment`, in milliseconds since 1970."""
    tzinfo = ZoneInfo(zone)
    local = moment.astimezone(tzinfo).replace(tzinfo=None)
    floor = local.replace(microsecond=0)
    for name, value in (("second", 0), ("minute", 0), ("hour", 0), ("day", 1), ("month", 1)):
        if name == step or (step == "week" and name == "day"):
            break
        floor = floor.replace(**{name: value})  # type: ignore[arg-type]
    if step == "week":
        floor -= timedelta(days=floor.weekday())
    if floor < local:
        floor = _next(floor, step)
    return floor.replace(tzinfo=tzinfo).timestamp() * 1000


def _next(local: datetime, step: Unit) -> datetime:
    if step == "year":
        return local.replace(year=local.year + 1)
    if step == "month":
        return local.replace(year=local.year + local.month // 12, month=local.month % 12 + 1)
    return local + _LENGTHS[step]


def _moment(parameter: str, text: str, zone: str, now: datetime) -> datetime | None:
    if not text:
        return None
    if text == "now":
        return now
    if text == "today":
        return now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        if match := _RELATIVE.match(text):
            return max(_back(now, int(match[1]), match[2]), _EARLIEST)
        if _EPOCH_MS.match(text):
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        # A "+" in a query string arrives as a space.
        if (period := parse_period(text, zone)) is not None:
            return min(max(datetime.fromtimestamp(period.ms / 1000, UTC), _EARLIEST), _LATEST)
    except (ValueError, OverflowError, OSError):
        pass
    raise BadRequestError(f"{parameter} = {text[:60]!r} is not a point in time: {ALLOWED}", parameter=parameter)


def _back(now: datetime, count: int, unit: str) -> datetime:
    if unit in _UNITS:
        try:
            return now - timedelta(seconds=count * _UNITS[unit])
        except OverflowError:
            return _EARLIEST
    months = now.year * 12 + now.month - 1 - count * (12 if unit == "y" else 1)
    if months < 24:
        return _EARLIEST
    year, month = divmod(months, 12)
    return now.replace(year=year, month=month + 1, day=min(now.day, 28))
