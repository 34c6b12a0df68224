"""Turn the cells of a row into the fields of an event: `FIELD=COLUMN:TYPE`."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ingest.exceptions import LoadError
from ingest.number_text import decimal_number, whole_number
from ingest.wire.json_value import loads
from ingest.wire.time_text import DateError, parse_time

FIELDS = ("type", "timestamp", "id", "context", "extra")
UNITS = {"seconds": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # of a type that counts from 1970
TYPES = ("text", "int", "float", "json", *UNITS)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_COUNT = re.compile(r"(-?\d+)(?:\.(\d+))?", re.ASCII)
# By their number of digits: the unit of counts since 1970, all from 1973 on.
_UNIT_BY_DIGITS = {9: "seconds", 10: "seconds", 12: "ms", 13: "ms", 15: "us", 16: "us", 18: "ns", 19: "ns"}
_HOUR_DIGITS = 10
_DATE_DIGITS = frozenset((8, 12, 14, 17))  # to the day, minute, second and millisecond
_YEARS = range(1900, 2200)  # with which digits are a date, whether it exists or not


@dataclass(frozen=True, slots=True)
class Column:
    """The source of a field of an event: a column of a CSV file, or a text that is the same for all rows."""

    field: str  # a path such as context.user
    column: str
    type: str = "text"
    constant: bool = False


def parse_mapping(texts: Sequence[str]) -> list[Column]:
    """Parse `field=column`, `field=column:type` and `field==text`. Raise `LoadError`."""
    found = []
    for text in texts:
        name, separator, column = text.partition("=")
        if not separator or not column or name.split(".")[0] not in FIELDS:
            raise LoadError(
                f"--map {text!r}: write FIELD=COLUMN, FIELD=COLUMN:TYPE or FIELD==TEXT; fields are type, timestamp, "
                f"id, context.NAME, extra and extra.NAME, types are {', '.join(TYPES)}"
            )
        if column.startswith("="):
            found.append(Column(name, column[1:], constant=True))
            continue
        head, _, type_ = column.rpartition(":")
        found.append(Column(name, head, type_) if head and type_ in TYPES else Column(name, column))
    refuse_conflicts([column.field for column in found])
    return found


def refuse_conflicts(fields: Sequence[str]) -> None:
    """Raise `LoadError` if a field is given twice, or both as a value and as a document with fields."""
    given = Counter(fields)
    for field, count in given.items():
        if count > 1:
            raise LoadError(f"{field} is given twice: leave one of them out")
        parents = accumulate(field.split(".")[:-1], "{}.{}".format)
        if parent := next((each for each in parents if each in given), None):
            raise LoadError(f"{parent} and {field} exclude each other: a value has no fields; leave one out")


def document_of(cells: Sequence[str], columns: Sequence[Column], places: Mapping[str, int]) -> dict[str, Any]:
    """Return the event of a row, without empty cells. Raise `ValueError` that names the column and the cell.

    An empty timestamp is refused: without one, the event would get the time of loading, which is none of the row's.
    """
    document: dict[str, Any] = {}
    for column in columns:
        text = column.column if column.constant else cells[places[column.column]]
        if text == "":
            if column.field == "timestamp" and not column.constant:
                raise ValueError(
                    f"column {column.column}: the time is empty: fill it in, or load such rows without a column for "
                    "timestamp, which stores them with the time of loading"
                )
            continue
        *parents, last = column.field.split(".")
        target = document
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = _typed(text, column)
    return document


def _typed(text: str, column: Column) -> Any:
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise _unreadable(text, column, "not UTF-8: save the file as UTF-8")
    stripped = text.strip(" ")
    if column.type in UNITS:
        if counted := _COUNT.fullmatch(stripped):
            return _since_epoch(counted, column.type, column)
    elif column.type == "int":
        with suppress(ValueError):
            if -(2**63) <= (number := whole_number(stripped)) < 2**63:
                return number
    elif column.type == "float":
        with suppress(ValueError):
            return decimal_number(stripped)
    elif column.type == "json":
        try:
            return loads(text)
        except (ValueError, RecursionError) as error:
            reason = error.args[-1] if len(error.args) == 2 else error
            raise _unreadable(text, column, f"not JSON: {reason}") from None
    elif column.field == "timestamp":
        return _time(stripped, column)
    else:
        return text
    raise _unreadable(text, column, f"cannot be read as {column.type}")


def _unreadable(text: str, column: Column, why: str) -> ValueError:
    shown = f"{text[:57]!r}..." if len(text) > 60 else repr(text)
    return ValueError(f"column {column.column}: {shown} {'is ' if why.startswith('not') else ''}{why}")


def _time(text: str, column: Column) -> dt.datetime:
    """Return the moment of a cell: a date, or a count since 1970 whose unit its number of digits tells."""
    counted = _COUNT.fullmatch(text)
    if counted is None:
        try:
            return parse_time(text)
        except DateError as error:
            raise ValueError(f"column {column.column}: {error.args[1]}") from None
    digits = len(counted[1])
    if counted[2] is None and text[0] != "-" and int(text[:4]) in _YEARS:
        if digits in _DATE_DIGITS:
            try:
                return _date(text)
            except DateError as error:
                raise _unreadable(text, column, f"is no date: {error.args[1]}") from None
        if digits in _UNIT_BY_DIGITS and _names_time(text):
            unit, date = _UNIT_BY_DIGITS[digits], _marked(text[: _even(digits)])
            rest = ":00" if digits == _HOUR_DIGITS else f".{text[14:]}" if digits > 14 else ""
            raise _unreadable(
                text, column, f"could be a date with its time or {unit} since 1970: write {date}{rest}, or say what it "
                f"counts: --map {column.field}={column.column}:{unit}"
            )  # fmt: skip
    if digits in _UNIT_BY_DIGITS and text[0] not in "-0":
        return _since_epoch(counted, _UNIT_BY_DIGITS[digits], column)
    raise _unreadable(
        text, column, "is no date such as 20240131, and too short or long for seconds or milliseconds since 1970: "
        f"write 2024-01-31T12:00:00Z, or say what it counts: --map {column.field}={column.column}:seconds (ms, us, ns)"
    )  # fmt: skip


def _date(digits: str) -> dt.datetime:
    """Return the moment of a date without marks, read as the same one with marks is. Raise `DateError`."""
    return parse_time(_marked(digits))


def _marked(digits: str) -> str:
    """Return `20240131153059250` as `2024-01-31T15:30:59.250`, or as much of it as there are digits."""
    ends = ((8, 10, "T"), (10, 12, ":"), (12, 14, ":"), (14, 17, "."))
    times = "".join(f"{mark}{digits[start:end]}" for start, end, mark in ends if start < len(digits))
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}{times}"


def _even(count: int) -> int:
    """Return how many of so many digits are those of a date to the hour, minute or second."""
    return min(count, 14) // 2 * 2


def _names_time(digits: str) -> bool:
    """Return whether the digits begin with a date and its hour, minute and second, as far as there are so many."""
    if len(digits) < _HOUR_DIGITS:
        return False
    try:
        _date(digits[: _even(len(digits))])
    except DateError:
        return False
    return True


def _since_epoch(counted: re.Match[str], unit: str, column: Column) -> dt.datetime:
    whole, fraction = int(counted[1]), counted[2]
    try:
        moment = _EPOCH + dt.timedelta(
            seconds=whole // UNITS[unit], microseconds=whole % UNITS[unit] * 10**6 // UNITS[unit]
        )
        part = float(f"0.{fraction}") / UNITS[unit] if fraction else 0.0
        return moment + dt.timedelta(seconds=-part if counted[1].startswith("-") else part)
    except OverflowError:
        raise _unreadable(counted[0], column, f"is outside the years 1 to 9999 in {unit} since 1970") from None
