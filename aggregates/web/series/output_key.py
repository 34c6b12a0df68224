"""Parse the keys of output documents: `dimension/.../period`, the period last.

Periods are plain ISO 8601: `2011`, `2011-07`, `2011-W27`, `2011-07-01`, `2011-07-01T13:00`, down to fractions of a
second, with or without an offset. Without one they name what the clock of a zone shows, see `aggregates.clock`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from aggregates.clock import wall_clock
from aggregates.period import Unit
from aggregates.web.series.time_span import instant_ms

_PERIOD = re.compile(
    r"(?P<year>\d{4})"
    r"(?:-W(?P<week>\d\d)|-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:[T ](?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r"(?P<offset>Z|[+-]\d\d:?\d\d)?)?)?)?\Z",
    re.ASCII,
)
_BARE_YEARS = range(1900, 2200)  # four digits outside this range are a number, not a year


@dataclass(frozen=True, slots=True)
class Period:
    """The period at the end of a key."""

    ms: float  # its start, in milliseconds since 1970 (UTC); the first one if that reading of the clock occurs twice
    step: Unit  # the precision of the text, which may be finer than the period is long
    offset: timedelta | None = None  # that of the text, if it has its own: so it names one of two doubled hours


@lru_cache(maxsize=65536)
def parse_period(text: str, zone: str) -> Period | None:
    """Parse a period, in time zone `zone` unless it has an offset. Return None if `text` is not a date.

    A reading that the clock of the zone skips starts where the clock jumps over it.
    """
    match = _PERIOD.match(text)
    if match is None:
        return None
    year, week, month, day, hour, minute, second, fraction, offset = match.groups()
    step: Unit
    try:
        if week:
            reading, step = datetime.fromisocalendar(int(year), int(week), 1), "week"
        elif not month:
            if int(year) not in _BARE_YEARS:
                return None
            reading, step = datetime(int(year), 1, 1), "year"
        else:
            microsecond = int(fraction[:6].ljust(6, "0")) if fraction else 0
            reading = datetime(
                int(year), int(month), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), microsecond
            )
            step = "second" if second else "minute" if minute else "hour" if hour else "day" if day else "month"
        own = None if offset is None else _offset(offset)
        clock = wall_clock(zone if own is None else own)
        return Period(instant_ms(clock.first(reading)), step, own if own is None else own.utcoffset(None))
    except (ValueError, OverflowError):
        return None


def split_key(key: str) -> tuple[str, str]:
    """Return the dimensions (all parts but the last, joined by `/`) and the last part."""
    head, _, last = (key if type(key) is str else str(key)).rpartition("/")  # BSON's code is a kind of text, too
    return head, last


def complete_parts(prefix: str) -> str:
    """Return the complete key parts in `prefix`, shared by all keys that start with it: `celery/` for `celery/2`."""
    return prefix[: prefix.rfind("/") + 1]


def key_period(key: Any, zone: str) -> Period | None:
    """Return the period of a key; None if it neither is nor ends with a date.

    `zone` is that whose clock the key names, unless the key is a datetime or has an offset.
    """
    if isinstance(key, str):
        return parse_period((key if type(key) is str else str(key)).rpartition("/")[2], zone)
    if isinstance(key, datetime):
        return Period(instant_ms(key if key.tzinfo else key.replace(tzinfo=UTC)), "second", timedelta(0))
    return None


def chart_x(key: Any, zone: str) -> Any:
    """Return the x value for a key in a chart: the start of its period if it has one, else the key itself.

    Keys that are neither text, dates nor numbers become text.
    """
    period = key_period(key, zone)
    if period is not None:
        return period.ms
    if isinstance(key, str):
        return str(key)
    if isinstance(key, bool) or not isinstance(key, int | float):
        return str(key)
    return key


def _offset(text: str) -> timezone:
    if text == "Z":
        return UTC
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))
