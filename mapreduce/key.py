"""Keys as MongoDB compares `_id`: one form per value, a total order, and a hash that all processes share.

Equal numbers of different types are one key, booleans are never equal to numbers, dates are truncated to milliseconds,
and documents are compared field by field in order (MongoDB manual, "Comparison/Sort Order").
"""

from __future__ import annotations

import datetime
import math
import struct
import uuid
from collections.abc import Callable, Hashable, Mapping
from decimal import Context
from typing import Any

from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.timestamp import Timestamp

from mapreduce.exceptions import KeyRefusedError

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)
TEXT_MARK = b"S"  # first byte of a string's canonical bytes
_EXACT = Context(prec=40)  # a Decimal128 has 34 digits
_ALLOWED = (
    "a string, number, boolean, datetime, None, bytes, UUID, ObjectId, or a document of these (not an array, a regular "
    "expression or NaN)"
)


def normalise(key: Any) -> Any:
    """Return the one form shared by `key` and every value that MongoDB considers equal to it. Idempotent.

    A naive datetime counts as UTC, as in BSON. Raise `KeyRefusedError` if `key` cannot be an `_id`.
    """
    if isinstance(key, list | tuple):
        raise _refused(key)
    return _normal(key)


def _normal(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Code):
        return _text(value)
    if value is None or isinstance(value, bool | ObjectId | Timestamp | MinKey | MaxKey):
        return value
    if isinstance(value, int | float | Decimal128):
        return _number(value)
    if isinstance(value, datetime.datetime | DatetimeMS):
        return _date(value)
    if isinstance(value, bytes | uuid.UUID):
        return _binary(value)
    if isinstance(value, Mapping):
        return {_field(name): _normal(item) for name, item in value.items()}
    if isinstance(value, list | tuple):  # inside a document only
        return [_normal(item) for item in value]
    raise _refused(value)


def _refused(value: Any) -> KeyRefusedError:
    return KeyRefusedError(f"key {value!r} of type {type(value).__name__}: must be {_ALLOWED}")


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise KeyRefusedError(f"key {value!r}: must be text that can be encoded as UTF-8") from None
    return str.__str__(value)  # of a subclass such as an enumeration its text, which is what BSON stores


def _field(name: Any) -> str:
    if not isinstance(name, str) or name.startswith("$") or "\0" in name:
        raise KeyRefusedError(f"key with field name {name!r}: must be a string without a leading $ and without NUL")
    return _text(name)


def _number(value: Any) -> Any:
    if isinstance(value, Decimal128):
        return _decimal(value)
    if isinstance(value, float):
        if math.isnan(value):
            raise _refused(value)
        if not value.is_integer() or not _INT64_MIN <= int(value) <= _INT64_MAX:
            return float(value)
    number = int(value)
    if not _INT64_MIN <= number <= _INT64_MAX:
        raise KeyRefusedError(f"key {number}: must be a whole number of 64 bits")
    return number


def _decimal(value: Decimal128) -> Any:
    exact = value.to_decimal()
    if exact.is_nan():
        raise _refused(value)
    if exact.is_infinite():
        return float(exact)
    # Check the exponent first: int() of 1E+6000 would build all its digits.
    if exact.is_zero() or (exact.adjusted() < 20 and exact == exact.to_integral_value(context=_EXACT)):
        whole = int(exact)
        if _INT64_MIN <= whole <= _INT64_MAX:
            return whole
    as_float = float(exact)
    if math.isfinite(as_float) and as_float == exact:
        return as_float
    return Decimal128(_EXACT.normalize(exact))


def _date(value: datetime.datetime | DatetimeMS) -> Any:
    if isinstance(value, DatetimeMS):
        milliseconds = int(value)
        try:
            return _EPOCH + datetime.timedelta(milliseconds=milliseconds)
        except OverflowError:
            return value
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    milliseconds = (value - _EPOCH) // _MILLISECOND
    return _EPOCH + datetime.timedelta(milliseconds=milliseconds)


def _binary(value: bytes | uuid.UUID) -> Any:
    if isinstance(value, uuid.UUID):
        return value
    subtype = value.subtype if isinstance(value, Binary) else 0
    if subtype == 0:
        return bytes(value)
    return uuid.UUID(bytes=bytes(value)) if subtype == 4 and len(value) == 16 else value


def canonical(key: Any) -> bytes:
    """Return bytes that are equal exactly if the normalised keys are equal, and that define a total order of keys.

    Strings sort by code point. The order is the engine's, not MongoDB's. `key` is normalised, or was when it was
    encoded: BSON gives whole numbers beyond 32 bits back as `Int64`.
    """
    kind = type(key)
    if kind is str:
        return TEXT_MARK + key.encode()  # type: ignore[no-any-return]
    if kind is int:
        return b"I" + struct.pack(">Q", key + 2**63)
    if kind is dict:
        return b"{" + b"".join(_sized(name.encode()) + _sized(canonical(item)) for name, item in key.items())
    if kind is list:
        return b"[" + b"".join(_sized(canonical(item)) for item in key)
    scalar = _SCALARS.get(kind) or next((_SCALARS[base] for base in kind.__mro__ if base in _SCALARS), None)
    return scalar(key) if scalar else canonical(_normal(key))


def as_written(key: Any) -> Any:
    """Return a key, which was normalised and encoded, as it was before: `Int64` is for tasks an ordinary number."""
    kind = type(key)
    if kind is str or kind is int or (kind is dict and not any(type(item) in _ENLARGED for item in key.values())):
        return key
    return normalise(key)


_ENLARGED = frozenset({Int64, dict, list})


def _sized(part: bytes) -> bytes:
    return struct.pack(">I", len(part)) + part


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    Int64: lambda key: canonical(int(key)),
    type(None): lambda _: b"0",
    bool: lambda key: b"T" if key else b"F",
    float: lambda key: b"D" + struct.pack(">d", key),
    Decimal128: lambda key: b"E" + key.bid,
    datetime.datetime: lambda key: b"M" + struct.pack(">q", (key - _EPOCH) // _MILLISECOND),
    DatetimeMS: lambda key: b"M" + struct.pack(">q", int(key)),
    bytes: lambda key: b"B\x00" + key,
    Binary: lambda key: b"B" + bytes([key.subtype]) + bytes(key),
    uuid.UUID: lambda key: b"B\x04" + key.bytes,
    ObjectId: lambda key: b"O" + key.binary,
    Timestamp: lambda key: b"Z" + struct.pack(">II", key.time, key.inc),
    MinKey: lambda _: b"-",
    MaxKey: lambda _: b"~",
}


def identity(key: Any) -> tuple[Hashable, Any]:
    """Return `(group name, normalised key)`; strings and whole numbers are their own names, others use `canonical`.

    A plain `str` or `int` can skip this call: it is its own name, and is checked when it is written.
    """
    normal = normalise(key)
    if type(normal) is str or type(normal) is int:
        return normal, normal
    return canonical(normal), normal
