"""Parse time spans as people write them: `-7d`, `now`, `today`, `2011-07-01`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from aggregates.definition.fields import is_zone
from aggregates.web.exceptions import BadRequestError
from aggregates.web.series.output_key import parse_period

_RELATIVE = re.compile(r"-(\d{1,6})(s|min|h|d|w|mo|y)\Z", re.ASCII)
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_EPOCH_MS = re.compile(r"\d{5,15}\Z", re.ASCII)
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
