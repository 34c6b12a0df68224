"""Parse the keys of output documents: `dimension/.../period`, the period last.

Periods are plain ISO 8601: `2011`, `2011-07`, `2011-W27`, `2011-07-01`, `2011-07-01T13:00`, down to fractions of a
second, with or without an offset. Without one they are local times in the requested zone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

Unit = Literal["year", "month", "week", "day", "hour", "minute", "second"]

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

    ms: float  # its start, in milliseconds since 1970 (UTC)
    step: Unit  # its length, taken from the precision of the text


@lru_cache(maxsize=65536)
def parse_period(text: str, zone: str) -> Period | None:
    """Parse a period, in time zone `zone` unless it has an offset. Return None if `text` is not a date."""
    match = _PERIOD.match(text)
    if match is None:
        return None
    part = match.groupdict()
    year = int(part["year"])
    try:
        if part["week"]:
            local = datetime.fromisocalendar(year, int(part["week"]), 1)
            return Period(_ms(local.replace(tzinfo=ZoneInfo(zone))), "week")
        if not part["month"] and year not in _BARE_YEARS:
            return None
        microsecond = int((part["fraction"] or "0")[:6].ljust(6, "0"))
        second, minute, hour = (int(part[name] or 0) for name in ("second", "minute", "hour"))
        tzinfo = _offset(part["offset"]) or ZoneInfo(zone)
        moment = datetime(
            year, int(part["month"] or 1), int(part["day"] or 1), hour, minute, second, microsecond, tzinfo
        )
        return Period(_ms(moment), _step(part))
    except (ValueError, OverflowError):
        return None


def split_key(key: str) -> tuple[str, str]:
    """Return the dimensions (all parts but the last, joined by `/`) and the last part."""
    head, _, last = key.rpartition("/")
    return head, last


def complete_parts(prefix: str) -> str:
    """Return the complete key parts in `prefix`, shared by all keys that start with it: `celery/` for `celery/2`."""
    return prefix[: prefix.rfind("/") + 1]


def chart_x(key: Any, zone: str) -> Any:
    """Return the x value for a key in a chart: milliseconds if the key is or ends with a date, else the key itself.

    Keys that are neither text, dates nor numbers become text.
    """
    if isinstance(key, str):
        period = parse_period(key.rpartition("/")[2], zone)
        return key if period is None else period.ms
    if isinstance(key, datetime):
        return _ms(key if key.tzinfo else key.replace(tzinfo=UTC))
    if isinstance(key, bool) or not isinstance(key, int | float):
        return str(key)
    return key


def _step(part: dict[str, str | None]) -> Unit:
    steps: tuple[Unit, ...] = ("second", "minute", "hour", "day", "month")
    return next((step for step in steps if part[step] is not None), "year")


def _offset(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text == "Z":
        return UTC
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))


def _ms(moment: datetime) -> float:
    return float(round(moment.timestamp() * 1000, 3))
