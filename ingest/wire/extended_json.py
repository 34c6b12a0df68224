"""Read the values of MongoDB's extended JSON, as mongoexport and drivers write them, and our own `{"$datetime": s}`.

Canonical and relaxed form of version 2 (https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/) and what
differs in version 1. Stricter than `bson.json_util`, which reads `{"$numberLong": "1_0"}`; and `{"$ref": ...}` stays
the document that it is in the store. Documents whose names merely begin with `$`, such as queries, are left alone.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Mapping
from decimal import DecimalException
from typing import Any

from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from .refusal import RefusedValueError
from .time_text import DateError, parse_time

CODE = "bad_extended_json"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_INTEGER = re.compile(r"-?\d+", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}", re.ASCII)
_HEX = re.compile(r"[0-9a-fA-F]{1,8}", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}", re.ASCII)
_REGEX_OPTIONS = frozenset("ilmsux")


def holds_value(document: dict[str, Any]) -> bool:
    """Return whether a name stands for a value: then `value_of` has something to do."""
    return not _NAMES.isdisjoint(document)


def value_of(document: dict[str, Any]) -> Any:
    """Return the value that a decoded JSON object stands for; the object itself if it stands for none.

    Raise `RefusedValueError` (`DateError` for dates) if a known name has a malformed value, or stands with others.
    """
    for name in document:
        if name in _READERS:
            reader, others = _READERS[name]
            strange = [other for other in document if other != name and other not in others]
            if strange and name != "$datetime":
                raise _refused(name, document[name], f"stands alone in its object; {strange[0]!r:.60} stands beside it")
            return reader(document)
    return document


def date_of(document: Mapping[str, Any]) -> Any:
    """Return the date of `{"$datetime": seconds since 1970}`. Raise `DateError`."""
    seconds = document["$datetime"]
    if len(document) != 1 or isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise DateError("bad_timestamp", f"{document!r:.80} is not a date: use {{'$datetime': seconds since 1970}}")
    return _moment(seconds, seconds, "seconds")


def _moment(seconds: float, given: float, unit: str) -> dt.datetime:
    try:
        return _EPOCH + dt.timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise DateError("date_out_of_range", f"{given!r} {unit} are outside the years 1 to 9999") from None


def _refused(name: str, value: Any, wanted: str) -> RefusedValueError:
    return RefusedValueError(CODE, f"{name} is {value!r:.60}: it {wanted}")


def _date(document: Mapping[str, Any]) -> dt.datetime:
    value = document["$date"]
    if isinstance(value, str):
        try:
            return parse_time(value)
        except DateError as error:
            raise DateError(error.args[0], f"$date: {error.args[1]}") from None
    if isinstance(value, bool) or not isinstance(value, int):  # Int64, of $numberLong, is an int
        raise DateError("bad_timestamp", f"$date is {value!r:.60}: it takes ISO 8601 or milliseconds since 1970")
    try:
        return _EPOCH + dt.timedelta(milliseconds=int(value))
    except OverflowError:
        raise DateError("date_out_of_range", f"{int(value)} milliseconds are outside the years 1 to 9999") from None


def _integer(document: Mapping[str, Any], name: str, bits: int) -> int:
    value = document[name]
    text = str(value) if type(value) is int else value
    if type(text) is str and len(text) <= 20 and _INTEGER.fullmatch(text):
        number = int(text)
        if -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            return number
    raise _refused(name, value, f'takes a whole number of {bits} bits as text, such as "5"')


def _double(document: Mapping[str, Any]) -> float:
    value = document["$numberDouble"]
    if type(value) is str:
        if value in _NOT_FINITE:
            return _NOT_FINITE[value]
        if _NUMBER.fullmatch(value) and math.isfinite(number := float(value)):
            return number
    raise _refused("$numberDouble", value, 'takes a number as text, such as "1.5", or NaN, Infinity, -Infinity')


def _decimal(document: Mapping[str, Any]) -> Decimal128:
    value = document["$numberDecimal"]
    if type(value) is str and value.isascii() and (value in _NOT_FINITE or _NUMBER.fullmatch(value)):
        try:
            return Decimal128(value)
        except DecimalException:
            pass
    raise _refused("$numberDecimal", value, 'takes a number of at most 34 digits as text, such as "1.5"')


def _object_id(document: Mapping[str, Any]) -> ObjectId:
    value = document["$oid"]
    if type(value) is str and len(value) == 24 and _HEX.fullmatch(value[:8]) and ObjectId.is_valid(value):
        return ObjectId(value)
    raise _refused("$oid", value, "takes 24 hexadecimal digits")


def _binary(document: Mapping[str, Any]) -> Any:
    value, kind = document["$binary"], document.get("$type", "00")
    if isinstance(value, dict) and "$type" not in document and value.keys() == {"base64", "subType"}:
        value, kind = value["base64"], value["subType"]
    kind = f"{kind:02x}" if type(kind) is int and kind >= 0 else kind
    if type(value) is str and type(kind) is str and _BASE64.fullmatch(value) and _HEX.fullmatch(kind):
        number = int(kind, 16)
        number = number & 0xFF if number >= 0xFFFFFF80 else number  # as mongoexport wrote subtypes of 128 and more
        try:
            data = base64.b64decode(value, validate=True)
            return Binary(data, number) if number else data
        except (binascii.Error, ValueError):
            pass
    raise _refused("$binary", document["$binary"], "takes {'base64': text, 'subType': one or two hexadecimal digits}")


def _uuid(document: Mapping[str, Any]) -> Binary:
    value = document["$uuid"]
    if type(value) is str and _UUID.fullmatch(value):
        return Binary.from_uuid(uuid.UUID(value))
    raise _refused("$uuid", value, "takes a UUID such as 0fb1ee3f-9b4a-4f3c-8a3d-3d6c5f6f1a2b")


def _timestamp(document: Mapping[str, Any]) -> Timestamp:
    value = document["$timestamp"]
    if isinstance(value, dict) and value.keys() == {"t", "i"}:
        parts = (value["t"], value["i"])
        if all(isinstance(part, int) and not isinstance(part, bool) and 0 <= part < 2**32 for part in parts):
            return Timestamp(*map(int, parts))
    raise _refused("$timestamp", value, "takes {'t': seconds, 'i': counter}, both from 0 to 4294967295")


def _regex(document: Mapping[str, Any], name: str, pattern: Any, options: Any) -> Regex[str]:
    if type(pattern) is type(options) is str and "\0" not in pattern and set(options) <= _REGEX_OPTIONS:
        return Regex(pattern, options)
    raise _refused(name, document[name], "takes a pattern and options, of i, l, m, s, u and x, as text")


def _regular_expression(document: Mapping[str, Any]) -> Regex[str]:
    value = document["$regularExpression"]
    known = value if isinstance(value, dict) and value.keys() == {"pattern", "options"} else {}
    return _regex(document, "$regularExpression", known.get("pattern"), known.get("options"))


def _regex_of_version_1(document: dict[str, Any]) -> Any:
    if not isinstance(document["$regex"], str):  # the operator of a query
        return document
    return _regex(document, "$regex", document["$regex"], document.get("$options", ""))


def _text(document: Mapping[str, Any]) -> str:
    value = document["$symbol"]
    if type(value) is str:
        return value
    raise _refused("$symbol", value, "takes text")


def _code(document: Mapping[str, Any]) -> Code:
    value, scope = document["$code"], document.get("$scope")
    if type(value) is str and ("$scope" not in document or isinstance(scope, dict)):
        return Code(value, scope)
    raise _refused("$code", value, "takes text, and $scope a document")


def _extreme(document: Mapping[str, Any], name: str, value: Any) -> Any:
    if type(document[name]) is int and document[name] == 1:
        return value
    raise _refused(name, document[name], "takes 1")


def _undefined(document: Mapping[str, Any]) -> None:
    if document["$undefined"] is not True:
        raise _refused("$undefined", document["$undefined"], "takes true")


def _pointer(document: Mapping[str, Any]) -> dict[str, Any]:
    value = document["$dbPointer"]
    if isinstance(value, dict) and value.keys() == {"$ref", "$id"}:
        return value
    raise _refused("$dbPointer", value, "takes {'$ref': collection, '$id': ObjectId}")


# The reader of each name, and the names that may stand beside it.
_READERS: dict[str, tuple[Callable[[dict[str, Any]], Any], frozenset[str]]] = {
    "$datetime": (date_of, frozenset()),
    "$date": (_date, frozenset()),
    "$oid": (_object_id, frozenset()),
    "$numberInt": (lambda document: _integer(document, "$numberInt", 32), frozenset()),
    "$numberLong": (lambda document: Int64(_integer(document, "$numberLong", 64)), frozenset()),
    "$numberDouble": (_double, frozenset()),
    "$numberDecimal": (_decimal, frozenset()),
    "$binary": (_binary, frozenset({"$type"})),
    "$uuid": (_uuid, frozenset()),
    "$timestamp": (_timestamp, frozenset()),
    "$regularExpression": (_regular_expression, frozenset()),
    "$regex": (_regex_of_version_1, frozenset({"$options"})),
    "$symbol": (_text, frozenset()),
    "$code": (_code, frozenset({"$scope"})),
    "$minKey": (lambda document: _extreme(document, "$minKey", MinKey()), frozenset()),
    "$maxKey": (lambda document: _extreme(document, "$maxKey", MaxKey()), frozenset()),
    "$undefined": (_undefined, frozenset()),
    "$dbPointer": (_pointer, frozenset()),
}
_NAMES = frozenset(_READERS)
