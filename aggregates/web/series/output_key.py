"""Reads the keys of aggregates: `dimension/.../period`, the period last, as DESIGN sections 7 and 8 say.

Periods are ISO 8601 in one of its plain forms: `2011`, `2011-07`, `2011-W27`, `2011-07-01`, `2011-07-01T13:00` and on
to fractions of a second, with or without an offset. Without one they are local times of the zone that is asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

Step = Literal["year", "month", "week", "day", "hour", "minute", "second"]

_PERIOD = re.compile(
    r"(?P<year>\d{4})"
    r"(?:-W(?P<week>\d\d)|-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:[T ](?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r"(?P<offset>Z|[+-]\d\d:?\d\d)?)?)?)?\Z",
    re.ASCII,
)
_BARE_YEARS = range(1900, 2200)  # a last part of four digits outside them is a number, not a year


@dataclass(frozen=True, slots=True)
class Period:
    """The period that a key ends with."""

    ms: float  # its first moment, milliseconds since 1970 in UTC
    step: Step  # how precisely it is written


@lru_cache(maxsize=65536)
def parse_period(text: str, zone: str) -> Period | None:
    """The period that `text` is, in time zone `zone` unless it has an offset; None when it is no date."""
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
    """The dimensions (all parts but the last, joined by `/`) and the last part."""
    head, _, last = key.rpartition("/")
    return head, last


def below_parts(prefix: str) -> str:
    """The whole parts of keys in `prefix`, which all keys that begin with it share: `celery/2` has `celery/`."""
    return prefix[: prefix.rfind("/") + 1]


def x_of(key: Any, zone: str) -> Any:
    """The x of a document in a chart: milliseconds when the key ends with a date, else the key itself.

    Dates and numbers as keys stand for themselves; other keys become text.
    """
    if isinstance(key, str):
        period = parse_period(key.rpartition("/")[2], zone)
        return key if period is None else period.ms
    if isinstance(key, datetime):
        return _ms(key if key.tzinfo else key.replace(tzinfo=UTC))
    if isinstance(key, bool) or not isinstance(key, int | float):
        return str(key)
    return key


def _step(part: dict[str, str | None]) -> Step:
    for name, step in (
        ("second", "second"),
        ("minute", "minute"),
        ("hour", "hour"),
        ("day", "day"),
        ("month", "month"),
    ):
        if part[name] is not None:
            return step  # type: ignore[return-value]
    return "year"


def _offset(text: str | None) -> timezone | None:
    if text is None:
        return None
    if text == "Z":
        return UTC
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))


def _ms(moment: datetime) -> float:
    return float(round(moment.timestamp() * 1000, 3))
