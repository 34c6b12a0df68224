"""Read times as people write them: `2011-07`, `2011-07-01T13:05+02:00`, `-7d`, `today`, milliseconds since 1970.

Dates are those of ISO 8601. A date names everything that it leaves open: `2011-07` is the whole month, so that it can
be both ends of a range. What people paste into addresses is read too: a `+` that arrives as a space, a space in place
of `T`, lower case, U+2212 as minus. A time after a day and a space is a time, never an offset. `24:00` and the leap
second `23:59:60` UTC are the last instant of their day.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from aggregates.clock import MAX_INSTANT, MAX_READING, MIN_INSTANT, WallClock, wall_clock
from aggregates.exceptions import TimeTextError

FORMS: Final = (
    "use a date (2011-07, 2011-07-01, 2011-07-01T13:00, 2011-07-01T13:00+02:00), "
    "now, today, or -90s, -30min, -12h, -7d, -4w, -6mo, -1y"
)
_TICK = timedelta(microseconds=1)  # the resolution of datetime
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RELATIVE = re.compile(r"-(\d{1,6})(s|min|h|d|w|mo|y)\Z", re.ASCII)
_UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_EPOCH_MS = re.compile(r"\d{5,15}\Z", re.ASCII)
_DIGITS_OF_DATE = re.compile(
    r"((?:19|20|21)\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])((?:[01]\d|2[0-3])[0-5]\d[0-5]\d)?\Z", re.ASCII
)
_DATE = re.compile(
    r"(?P<year>\d{4})"
    r"(?:-W(?P<week>\d\d)|-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?)?)?)?"
    r"(?P<zone> ?Z| ?[+-]\d\d(?::?\d\d)?| {1,2}\d\d(?::?\d\d)?)?\Z",
    re.ASCII,
)
_SPACE_FOR_T = re.compile(r"(\d{4}-\d\d-\d\d) (?=\d\d:\d\d)", re.ASCII)
_PASTED = str.maketrans("tzw\u2212", "TZW-")


@dataclass(frozen=True, slots=True)
class NamedTime:
    """Hold the first and last instant that a text names, both included; they are equal if it names one instant."""

    first: datetime  # aware, in UTC, like `last`
    last: datetime


def read_time(text: str, zone: str, now: datetime) -> NamedTime:
    """Return what `text` names, by the wall clock of `zone` unless it has an offset, and relative to `now`.

    A reading that occurs twice, where clocks are set back, is both; one that is skipped is the instant of the jump.
    Times beyond the years 1 to 9999 become the first or the last instant of them. Raise `TimeTextError`.
    """
    given = text.strip()
    if given == "now":
        return NamedTime(now, now)
    if given == "today":
        midnight = wall_clock(zone).reading(now).replace(hour=0, minute=0, second=0, microsecond=0)
        return _named(wall_clock(zone), midnight, _later(midnight, timedelta(days=1)))
    if match := _RELATIVE.match(given):
        moment = _back(now, int(match[1]), match[2])
        return NamedTime(moment, moment)
    if _EPOCH_MS.match(given):
        if match := _DIGITS_OF_DATE.match(given):
            date = "-".join(match.group(1, 2, 3))
            raise TimeTextError(f"{given!r} could be a date or milliseconds since 1970: write {date} for the date")
        moment = _milliseconds(int(given))
        return NamedTime(moment, moment)
    try:
        return _date(_SPACE_FOR_T.sub(r"\1T", given.translate(_PASTED)), zone)
    except ValueError:
        raise TimeTextError(f"{text[:60]!r} is not a point in time: {FORMS}") from None


def names_days(text: str) -> bool:
    """Return True if `text` names whole days: a date without a time, or today."""
    given = text.strip()
    match = _DATE.match(given.translate(_PASTED))
    return given == "today" or (match is not None and not match["hour"])


def _date(text: str, zone: str) -> NamedTime:
    match = _DATE.match(text)
    if match is None:
        raise ValueError(text)
    part = match.groupdict()
    clock = _clock(part, zone)
    year = int(part["year"])
    if part["week"]:
        start = datetime.fromisocalendar(year, int(part["week"]), 1)
        return _named(clock, start, _later(start, timedelta(days=7)))
    second, minute, hour = (int(part[name] or 0) for name in ("second", "minute", "hour"))
    microsecond = int((part["fraction"] or "0")[:6].ljust(6, "0"))
    if hour == 24 or second == 60:
        return _end_of_day(clock, datetime(year, int(part["month"] or 1), int(part["day"] or 1), 23, 59), part)
    start = datetime(year, int(part["month"] or 1), int(part["day"] or 1), hour, minute, second, microsecond)
    return _named(clock, start, _end(start, part))


def _end_of_day(clock: WallClock, last_minute: datetime, part: dict[str, str | None]) -> NamedTime:
    """Return the last instant of a day, named as 24:00 (ISO 8601) or by the leap second 23:59:60 UTC (RFC 3339)."""
    hour, minute, second = (int(part[name] or 0) for name in ("hour", "minute", "second"))
    if second == 60:
        last_minute = last_minute.replace(hour=hour, minute=minute)
        in_utc = clock.first(last_minute)
        if (in_utc.hour, in_utc.minute) != (23, 59) or part["fraction"]:
            raise ValueError(part)
    elif minute or second or (part["fraction"] or "").strip("0"):
        raise ValueError(part)
    last = _named(clock, last_minute, _later(last_minute, timedelta(minutes=1))).last
    return NamedTime(last, last)


def _clock(part: dict[str, str | None], zone: str) -> WallClock:
    """Return the clock that a date is read by. Raise `ValueError` for an offset that is malformed or has no time."""
    text = (part["zone"] or "").strip()
    if not text:
        return wall_clock(zone)
    if text == "Z":
        return wall_clock(UTC)
    if not part["hour"] and (not part["day"] or len(text) < 5 or text[0] not in "+-"):
        raise ValueError(text)
    sign = -1 if text[0] == "-" else 1  # a "+" in an address arrives as a space
    digits = text.lstrip("+-").replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or 0)
    if minutes > 59:
        raise ValueError(text)
    return wall_clock(timezone(sign * timedelta(hours=hours, minutes=minutes)))


def _end(start: datetime, part: dict[str, str | None]) -> datetime:
    """Return the reading at which what the parts name is over."""
    if part["fraction"]:
        return _later(start, timedelta(microseconds=10 ** max(6 - len(part["fraction"]), 0)))
    for name, length in (("second", timedelta(seconds=1)), ("minute", timedelta(minutes=1)),
                         ("hour", timedelta(hours=1)), ("day", timedelta(days=1))):  # fmt: skip
        if part[name]:
            return _later(start, length)
    if part["month"]:
        return _later(start, timedelta(days=31)).replace(day=1) if start < datetime(9999, 12, 1) else MAX_READING
    return start.replace(year=start.year + 1) if start.year < 9999 else MAX_READING


def _named(clock: WallClock, start: datetime, end: datetime) -> NamedTime:
    first, after = clock.span(start, end)
    if after <= first or after == MAX_INSTANT:
        return NamedTime(first, max(first, after))
    return NamedTime(first, after - _TICK)


def _later(moment: datetime, length: timedelta) -> datetime:
    try:
        return moment + length
    except OverflowError:
        return MAX_READING


def _milliseconds(count: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=count)
    except OverflowError:
        return MAX_INSTANT


def _back(now: datetime, count: int, unit: str) -> datetime:
    if unit in _UNITS_S:
        try:
            return now - timedelta(seconds=count * _UNITS_S[unit])
        except OverflowError:
            return MIN_INSTANT
    months = now.year * 12 + now.month - 1 - count * (12 if unit == "y" else 1)
    if months < 24:
        return MIN_INSTANT
    year, month = divmod(months, 12)
    return now.replace(year=year, month=month + 1, day=min(now.day, monthrange(year, month + 1)[1]))
