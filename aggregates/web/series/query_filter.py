"""Check query parameters from clients: filters (harmless operators, bounded depth and size), fields and numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aggregates.web.compute_thread import compute
from aggregates.web.exceptions import BadRequestError
from ingest.number_text import decimal_number
from ingest.wire.json_value import loads_as_written
from ingest.wire.refusal import RefusedValueError
from ingest.wire.text_check import fault_of_texts

COMPARE = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists"})
COMBINE = frozenset({"$and", "$or", "$nor"})
MAX_DEPTH = 8
MAX_TERMS = 200
_FIELD = re.compile(r"[^$\0.][^$\0]*\Z")
_DIGITS = re.compile(r"[0-9]{1,12}\Z")
ALLOWED = ", ".join(sorted(COMPARE | COMBINE))


def read_filter(text: str, parameter: str) -> dict[str, Any]:
    """Parse a filter from JSON. Raise `BadRequestError` naming `parameter` and what is not allowed."""
    return check_filter(read_json(text, parameter), parameter)


def read_json(text: str, parameter: str) -> Any:
    """Parse the JSON of a parameter. Raise `BadRequestError` for what JSON has not, and for names that stand twice.

    It is raised for names and texts that BSON cannot hold, too.
    """
    return compute(len(text), _read_json, text, parameter)


def _read_json(text: str, parameter: str) -> Any:
    try:
        found = loads_as_written(text)
    except RefusedValueError as error:
        raise BadRequestError(f"{parameter}: {error.args[1]}", parameter=parameter) from None
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"{parameter} is not JSON: {error}", parameter=parameter) from None
    if fault := fault_of_texts(found):
        raise BadRequestError(f"{parameter}: {fault}", parameter=parameter)
    return found


def check_filter(document: Any, parameter: str) -> dict[str, Any]:
    """Return `document` as a MongoDB filter. Raise `BadRequestError` for other operators, depth or size.

    `{"$datetime": seconds}` becomes a date, as on the JSON socket.
    """
    return _Checker(parameter).filter(document, 0)


def check_field(name: Any, parameter: str) -> str:
    """Return `name` if it is a dotted field path. Raise `BadRequestError` for operators and empty names."""
    if not isinstance(name, str) or not _FIELD.match(name) or len(name) > 256 or ".." in name or name.endswith("."):
        raise BadRequestError(f"{parameter}: {name!r:.300} is not a field name", parameter=parameter)
    return name


def read_number(text: str, parameter: str, least: int, most: int, default: int) -> int:
    """Parse a whole number from `least` to `most`; empty = `default`. Raise `BadRequestError`."""
    if not text:
        return default
    if not _DIGITS.match(text) or not least <= int(text) <= most:
        raise BadRequestError(
            f"{parameter} = {text[:60]!r} is not a whole number from {least} to {most}", parameter=parameter
        )
    return int(text)


class _Checker:
    """Walk one filter and count its terms."""

    def __init__(self, parameter: str) -> None:
        self._parameter = parameter
        self._terms = 0

    def filter(self, document: Any, depth: int) -> dict[str, Any]:
        self._count(depth)
        if not isinstance(document, Mapping):
            raise self._refused(f"{document!r} is not a document of conditions")
        result: dict[str, Any] = {}
        for name, condition in document.items():
            if name in COMBINE:
                if not isinstance(condition, list) or not condition:
                    raise self._refused(f"{name} needs a list of conditions")
                result[name] = [self.filter(part, depth + 1) for part in condition]
            elif name.startswith("$"):
                raise self._refused(f"operator {name} is not allowed: use {ALLOWED}")
            else:
                result[check_field(name, self._parameter)] = self._condition(condition, depth + 1)
        return result

    def _condition(self, condition: Any, depth: int) -> Any:
        operators = isinstance(condition, Mapping) and any(name.startswith("$") for name in condition)
        if not operators or "$datetime" in condition:
            return self._value(condition, depth)
        result = {}
        for name, value in condition.items():
            if name not in COMPARE:
                raise self._refused(f"operator {name} is not allowed: use {ALLOWED}")
            if name in {"$in", "$nin"} and not isinstance(value, list):
                raise self._refused(f"{name} needs a list")
            result[name] = bool(value) if name == "$exists" else self._value(value, depth)
        return result

    def _value(self, value: Any, depth: int) -> Any:
        self._count(depth)
        if isinstance(value, Mapping):
            if set(value) == {"$datetime"}:
                return self._moment(value["$datetime"])
            if any(name.startswith("$") for name in value):
                raise self._refused("operators are not allowed inside a value")
            return {name: self._value(item, depth + 1) for name, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, depth + 1) for item in value]
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise self._refused(f"{value} does not fit into 64 bits")
        return value

    def _moment(self, seconds: Any) -> datetime:
        try:
            found = decimal_number(seconds) if isinstance(seconds, str) else float(seconds)
            return datetime.fromtimestamp(found, UTC)
        except (TypeError, ValueError, OverflowError, OSError):
            raise self._refused(f"$datetime needs seconds since 1970, not {seconds!r}") from None

    def _count(self, depth: int) -> None:
        self._terms += 1
        if depth > MAX_DEPTH or self._terms > MAX_TERMS:
            raise self._refused(f"more than {MAX_DEPTH} levels or {MAX_TERMS} terms")

    def _refused(self, what: str) -> BadRequestError:
        return BadRequestError(f"{self._parameter}: {what[:300]}", parameter=self._parameter)
