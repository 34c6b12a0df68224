"""Encode answers as JSON, with a form for every BSON type."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from bson import Binary, DatetimeMS, Decimal128, Regex
from bson.timestamp import Timestamp

from mapreduce.codec import as_uuid

_WHOLE_DIGITS = 34  # of a Decimal128
_PIECE = 1_000  # items that are encoded at once
_PIECE_CHARS = 2**16  # of their texts
_SHORT = 4  # such as a point
_NUMBERS = {int, float, bool, type(None)}


def to_json(value: Any) -> bytes:
    """Return `value` as JSON in UTF-8. NaN and infinities become null, bytes base64, UUIDs their text.

    Dates become ISO 8601 in UTC; outside the years 1 to 9999, milliseconds since 1970. Keys of documents become text.
    Never raises for BSON types.
    """
    try:
        return json.dumps(value, allow_nan=False, default=plain, ensure_ascii=False).encode("utf-8", "backslashreplace")
    except (ValueError, TypeError):
        return json.dumps(plain(value), allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace")


def to_json_in_pieces(value: Any) -> bytes:
    """Return the same as `to_json`, for what is too large for one call of C, which lets no other thread run."""
    if type(value) is dict and not (_is_one_piece(value.values()) and _chars(value) <= _PIECE_CHARS):
        named = (to_json_in_pieces(name) + b": " + to_json_in_pieces(value[name]) for name in value)
        return b"{" + b", ".join(named) + b"}"
    if type(value) is list and not _is_one_piece(value):
        parts = (value[start : start + _PIECE] for start in range(0, len(value), _PIECE))
        return b"[" + b", ".join(map(_items, parts)) + b"]"
    if type(value) is str and len(value) > _PIECE_CHARS:
        parts_of_text = (value[start : start + _PIECE_CHARS] for start in range(0, len(value), _PIECE_CHARS))
        return b'"' + b"".join(to_json(part)[1:-1] for part in parts_of_text) + b'"'
    return to_json(value)


def _items(values: list[Any]) -> bytes:
    return to_json(values)[1:-1] if _is_one_piece(values) else b", ".join(map(to_json_in_pieces, values))


def _is_one_piece(values: Collection[Any]) -> bool:
    """Return True for at most `_PIECE` items that hold no others, or are all points: short lists of such items.

    What decides is what they hold at any depth: a list of one series is short, too. Their texts must be short together.
    """
    if len(values) > _PIECE:
        return False
    kinds = set(map(type, values))
    if kinds == {list} and max(map(len, values)) <= _SHORT:
        values = list(chain.from_iterable(values))
        kinds = set(map(type, values))
    return kinds.isdisjoint((dict, list)) and (kinds <= _NUMBERS or _chars(values) <= _PIECE_CHARS)


def _chars(values: Iterable[Any]) -> int:
    return sum(len(value) for value in values if isinstance(value, str | bytes))


def plain(value: Any) -> Any:
    """Return `value` with JSON types only, at any depth."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, Binary) and (found := as_uuid(value)) is not value:
        return str(found)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, DatetimeMS):
        return int(value)
    if isinstance(value, Decimal128):
        return decimal_number(value)
    if isinstance(value, Timestamp):
        return moment_text(value.as_datetime())
    if isinstance(value, Regex):
        return str(value.pattern)
    return str(value)


def decimal_number(value: Decimal128) -> int | float | None:
    """Return a decimal as the number to write: a whole number exactly, another as the nearest double.

    Return None for NaN, infinities, and what no double can hold.
    """
    number = value.to_decimal()
    if not number.is_finite():
        return None
    if number == number.to_integral_value() and number.adjusted() < _WHOLE_DIGITS:
        return int(number)
    nearest = float(number)
    return nearest if math.isfinite(nearest) else None


def moment_text(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC with milliseconds and `Z`."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
