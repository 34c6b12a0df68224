"""Read times written as text, by RFC 3339 and by ISO 8601 in its extended and basic forms."""

from __future__ import annotations

import datetime as dt
import re

from .refusal import RefusedValueError

_DAY = dt.timedelta(days=1)
_USUAL_ENDS = {20: "Z", 24: "Z", 27: "Z", 25: "+00:00", 29: "+00:00", 32: "+00:00"}  # by length
_FORM = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d-?\d)"
    r"(?:[Tt ](?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?"
    r" ?(?P<zone>[Zz]|(?P<sign>[+-])(?P<hours>\d\d)(?::?(?P<minutes>[0-5]\d))?)?)?",
    re.ASCII,
)


class DateError(RefusedValueError):
    """An invalid or out-of-range date; `args` are code and message."""


def parse_time(text: str) -> dt.datetime:
    """Return the moment that `text` names, in UTC; without an offset it is read as UTC. Raise `DateError`.

    What RFC 3339 allows is read: `t` and `z`, any number of digits of a fraction (those beyond microseconds are cut
    off), and the leap second `23:59:60` UTC, which is the first instant of the next day as POSIX counts. Of ISO 8601
    also `24:00`, the end of a day, offsets such as `+0200` and `+02`, basic forms and weeks.
    """
    if not _is_usual(text) and _FORM.fullmatch(text) is None:
        raise _malformed(text)
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        found = _parse(text)
    if found.tzinfo is dt.UTC:
        return found
    try:
        return found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)
    except OverflowError:
        raise _out_of_range(text) from None


def _is_usual(text: str) -> bool:
    """Return whether it has the form of most times in UTC; these need no regular expression, which takes longer."""
    end = _USUAL_ENDS.get(len(text))
    return end is not None and text.endswith(end) and text[10] == "T" and text[16] == ":" and text[19] in "Z+.,"


def _parse(text: str) -> dt.datetime:
    form = _FORM.fullmatch(text)
    if form is None:
        raise _malformed(text)
    part = form.groupdict(default="0")
    hour, minute, second = (int(part[name]) for name in ("hour", "minute", "second"))
    fraction = int(part["fraction"][:6].ljust(6, "0"))
    try:
        whole = hour == 24 and not minute and not second and not fraction
        leap = second == 60
        clock = dt.time(0 if whole else hour, minute, 59 if leap else second, tzinfo=_zone(part))
        found = dt.datetime.combine(dt.date.fromisoformat(part["date"]), clock)
    except ValueError:
        raise (_out_of_range if part["date"].startswith("0000") else _nonexistent)(text) from None
    try:
        if whole:
            return found + _DAY
        if leap:
            return _after_leap_second(found, text)
        return found + dt.timedelta(microseconds=fraction)
    except OverflowError:
        raise _out_of_range(text) from None


def _zone(part: dict[str, str]) -> dt.tzinfo | None:
    if part["zone"] in ("0", "Z", "z"):
        return None if part["zone"] == "0" else dt.UTC
    offset = dt.timedelta(hours=int(part["hours"]), minutes=int(part["minutes"]))
    return dt.timezone(-offset if part["sign"] == "-" else offset)


def _after_leap_second(before: dt.datetime, text: str) -> dt.datetime:
    """Return the moment after a leap second, given the second before it; leap seconds end a day in UTC."""
    following = before + dt.timedelta(seconds=1)
    in_utc = following.astimezone(dt.UTC) if following.tzinfo else following
    if in_utc.hour or in_utc.minute:
        raise DateError("bad_timestamp", f"time {text!r:.60} has 60 seconds: only 23:59:60 in UTC is a leap second")
    return following


def _malformed(text: str) -> DateError:
    return DateError("bad_timestamp", f"timestamp {text!r:.60} is not ISO 8601, such as 2011-07-01T13:00:00Z")


def _nonexistent(text: str) -> DateError:
    return DateError("bad_timestamp", f"timestamp {text!r:.60} names a day, a time or an offset that does not exist")


def _out_of_range(text: str) -> DateError:
    return DateError("date_out_of_range", f"timestamp {text!r:.60} is outside the years 1 to 9999")
