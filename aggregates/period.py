"""Convert the period in a key to a span of time, for use in `period(key)` of tasks.

A span is a pair of timezone-aware datetimes in UTC, start inclusive and end exclusive. A malformed text raises
`ValueError`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

Span = tuple[datetime, datetime]


def _zone(name: str | tzinfo) -> tzinfo:
    return ZoneInfo(name) if isinstance(name, str) else name


def _span(start: datetime, end: datetime) -> Span:
    return start.astimezone(UTC), end.astimezone(UTC)


def minute(text: str, zone: str | tzinfo = UTC) -> Span:
    """Return the minute `2011-07-01T13:05`."""
    start = datetime.strptime(text, "%Y-%m-%dT%H:%M").replace(tzinfo=_zone(zone)).astimezone(UTC)
    return start, start + timedelta(minutes=1)


def hour(text: str, zone: str | tzinfo = UTC) -> Span:
    """Return the hour that starts at `2011-07-01T13:00`."""
    start = datetime.strptime(text, "%Y-%m-%dT%H:%M").replace(tzinfo=_zone(zone)).astimezone(UTC)
    return start, start + timedelta(hours=1)


def day(text: str, zone: str | tzinfo = UTC) -> Span:
    """Return the calendar day `2011-07-01` in `zone`; 23 or 25 hours long if clocks change."""
    start = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=_zone(zone))
    return _span(start, start + timedelta(days=1))


def week(text: str, zone: str | tzinfo = UTC) -> Span:
    """Return the week whose Monday is `2011-06-27`."""
    start = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=_zone(zone))
    return _span(start, start + timedelta(days=7))


def month(text: str, zone: str | tzinfo = UTC) -> Span:
    """Return the month whose first day is `2011-07-01`; `2011-07` is accepted too."""
    start = datetime.strptime(text[:7], "%Y-%m").replace(tzinfo=_zone(zone))
    return _span(start, (start + timedelta(days=32)).replace(day=1))


def year(text: str, zone: str | tzinfo = UTC) -> Span:
    """Return the year whose first day is `2011-01-01`; `2011` is accepted too."""
    start = datetime.strptime(text[:4], "%Y").replace(tzinfo=_zone(zone))
    return _span(start, start.replace(year=start.year + 1))


def overlaps(one: Span, other: Span) -> bool:
    """Return True if the two spans share an instant."""
    return one[0] < other[1] and other[0] < one[1]


def union(one: Span, other: Span) -> Span:
    """Return the smallest span that contains both."""
    return min(one[0], other[0]), max(one[1], other[1])
