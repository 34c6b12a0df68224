"""Parse the time spans of requests and charts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from aggregates.exceptions import TimeTextError
from aggregates.time_reader import NamedTime, names_days, read_time
from aggregates.web.exceptions import BadRequestError
from ingest.time_zone import is_zone, zone_advice

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """A span of time, both ends included."""

    start: datetime | None  # None = open
    end: datetime | None  # None = open
    _from_ms: float = field(init=False, repr=False, compare=False)
    _to_ms: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_from_ms", -math.inf if self.start is None else instant_ms(self.start))
        object.__setattr__(self, "_to_ms", math.inf if self.end is None else instant_ms(self.end))

    def contains(self, ms: float) -> bool:
        """Return True if `ms` (milliseconds since 1970) is in the span."""
        return self._from_ms <= ms <= self._to_ms


OPEN: Final = TimeSpan(None, None)


def read_span(start: str, end: str, zone: str, now: datetime) -> TimeSpan:
    """Parse a span from two texts, relative to `now`; an empty text leaves that side open.

    It runs from the first instant of what `start` names to the last one of what `end` names, see `time_reader`. Dates
    without an offset are read in `zone`. Raise `BadRequestError` naming the parameter (`from` or `to`), the value and
    what is allowed, also if the span would end before it starts.
    """
    span = _span(_named("from", start, zone, now), _named("to", end, zone, now))
    if span.start is not None and span.end is not None and span.start > span.end:
        raise BadRequestError(f"from = {start[:60]!r} is after to = {end[:60]!r}: swap them", parameter="from")
    return span


def read_days(start: str, end: str, zone: str, day_zone: str, now: datetime) -> TimeSpan:
    """Parse a span as `read_span` does, but read dates without a time, and `today`, in `day_zone`.

    One that ends before it starts contains nothing: the dates may be in order in `zone`.
    """
    first, last = (day_zone if names_days(text) else zone for text in (start, end))
    return _span(_named("from", start, first, now), _named("to", end, last, now))


def asked_span(given: Mapping[str, str], default_zone: str, now: datetime) -> TimeSpan:
    """Return the span that the parameters `from`, `to` and `tz` of a request name, for dates that MongoDB has stored.

    These are cut to milliseconds, so that the first one in the span is never before it. Raise `BadRequestError`.
    """
    zone = read_zone(given.get("tz", ""), default_zone)
    span = read_span(given.get("from", ""), given.get("to", ""), zone, now)
    return span if span.start is None else TimeSpan(_next_millisecond(span.start), span.end)


def _next_millisecond(moment: datetime) -> datetime:
    rest = moment.microsecond % 1000
    return moment if not rest or moment > _LAST else moment + timedelta(microseconds=1000 - rest)


def read_zone(name: str, default: str) -> str:
    """Return `name` if it is a time zone, `default` if it is empty. Raise `BadRequestError` otherwise.

    A `+`, as in `Etc/GMT+5`, may arrive as a space.
    """
    found = name.replace(" ", "+")
    if found and not is_zone(found):
        raise BadRequestError(f"tz = {name[:60]!r} is not a time zone: use {zone_advice(name)}", parameter="tz")
    return found or default


def _span(first: NamedTime | None, last: NamedTime | None) -> TimeSpan:
    return TimeSpan(first.first if first else None, last.last if last else None)


def _named(parameter: str, text: str, zone: str, now: datetime) -> NamedTime | None:
    if not text.strip():
        return None
    try:
        return read_time(text, zone, now)
    except TimeTextError as error:
        raise BadRequestError(f"{parameter} = {error}", parameter=parameter) from None


def instant_ms(moment: datetime) -> float:
    """Return milliseconds since 1970, rounded as those of keys are, so that equal instants are equal numbers.

    Far from 1970 a double has no microseconds left; the last one of a day is still not the next day.
    """
    since = moment - _EPOCH
    ms = round(since / _MS, 3)
    return math.nextafter(ms, -math.inf) if ms.is_integer() and int(ms) * _MS > since else ms
