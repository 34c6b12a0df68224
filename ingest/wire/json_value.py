"""Decode JSON text into the values that events hold. All readers of JSON use it, so that they accept the same input."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from .extended_json import date_of, holds_value, value_of
from .refusal import RefusedValueError
from .text_encoding import BYTE_ORDER_MARK, to_text

_FEW_OBJECTS = 8  # up to so many, a call per object takes no longer than counting the names
_MAY_HIDE_NAMES = ("\\", " :", "\t:", "\n:", "\r:")  # an escape, or a blank before a colon
BLANKS = " \t\n\r"  # that JSON allows between its parts
_BLANKS = re.compile(f"[{BLANKS}]*")
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


class RepeatedFieldError(RefusedValueError):
    """A JSON object has two fields of one name, of which a dict would keep the last."""


def loads(text: bytes | str, *, extended: bool = True) -> Any:
    """Decode JSON. `{"$datetime": seconds}` becomes a date, and MongoDB's extended JSON the values it stands for.

    Without `extended`, only `$datetime` is read and the rest of it stays as written. Raise `RefusedValueError` for a
    value that is JSON but that no event can hold, another `ValueError` for what is not JSON in UTF-8 (or in the
    encoding that a byte order mark names), and `RecursionError`.
    """
    text = to_text(text) if isinstance(text, bytes) else text.lstrip(BYTE_ORDER_MARK)
    text = text.strip(BLANKS)
    if '"$' in text or "\\u0024" in text:
        return _decode(_EXTENDED if extended else _DATES, text)
    if text.count("{") <= _FEW_OBJECTS or any(map(text.__contains__, _MAY_HIDE_NAMES)):
        return _decode(_PLAIN, text)
    value = _decode(_LOOSE, text)
    # Without escapes, `":` ends each name and may start a text; so equal numbers mean that no name was dropped.
    return value if text.count('":') == _count_names(value) else _decode(_PLAIN, text)


def _decode(decoder: json.JSONDecoder, text: str) -> Any:
    value, end = decoder.raw_decode(text)  # faster than `decode`, which looks for blanks with regular expressions
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def _count_names(value: Any) -> int:
    count, waiting = 0, [value]
    for each in waiting:
        if type(each) is dict:
            count += len(each)
            waiting += each.values()
        elif type(each) is list:
            waiting += each
    return count


def loads_as_written(text: bytes | str) -> Any:
    """Decode JSON as `loads` does, but into nothing but JSON's own types."""
    return _decode(_PLAIN, (to_text(text) if isinstance(text, bytes) else text).strip(BLANKS))


def is_one_value(text: bytes) -> bool:
    """Return whether the text is a single JSON value, whatever it holds."""
    try:
        _LENIENT.decode(to_text(text))
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def array_items(text: str) -> list[str] | None:
    """Return the texts of the items of a JSON array; None if the text is not one whole array.

    So each item can be decoded by itself if the array as a whole cannot be.
    """
    at = _BLANKS.match(text, 0).end()  # type: ignore[union-attr]
    if text[at : at + 1] != "[":
        return None
    items: list[str] = []
    at = _BLANKS.match(text, at + 1).end()  # type: ignore[union-attr]
    if text[at : at + 1] == "]":
        return items if not text[at + 1 :].strip() else None
    while True:
        end = end_of_value(text, at)
        if end is None:
            return None
        items.append(text[at:end])
        after = _BLANKS.match(text, end).end()  # type: ignore[union-attr]
        at = _BLANKS.match(text, after + 1).end()  # type: ignore[union-attr]
        mark = text[after : after + 1]
        if mark == "]":
            return items if at == len(text) else None
        if mark != ",":
            return None


def end_of_value(text: str, start: int) -> int | None:
    """Return where the JSON value that starts at `start` ends; None if no whole value does."""
    try:
        return _LENIENT.raw_decode(text, start)[1]
    except RecursionError:
        return _end_of_brackets(text, start)
    except ValueError:
        return None


def _end_of_brackets(text: str, start: int) -> int | None:
    depth = 0
    for token in _TOKENS.finditer(text, start):
        depth += _STEPS.get(token[0], 0)
        if depth == 0:
            return token.end()
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    raise RepeatedFieldError(
        "repeated_field", f"an object has more than one field {repeated[:60]!r}: leave one of them"
    )


def _with_dates(pairs: list[tuple[str, Any]]) -> Any:
    found = _unique(pairs)
    return date_of(found) if "$datetime" in found else found


def _with_values(pairs: list[tuple[str, Any]]) -> Any:
    found = _unique(pairs)
    return value_of(found) if holds_value(found) else found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    # float() returns infinity for numbers that are too large
    if math.isinf(number := float(text)):
        raise ValueError(f"{text:.40} is beyond the range of a number, about 1.8e308")
    return number


def _decoder(hook: Any) -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=hook, parse_constant=_constant, parse_float=_finite)


# Made once: `json.loads` with a hook makes a decoder for each call, which takes as long as decoding a small event.
_PLAIN, _DATES, _EXTENDED = _decoder(_unique), _decoder(_with_dates), _decoder(_with_values)
_LOOSE = _decoder(None)  # keeps the last of several fields of one name; 2.5 times as fast as _PLAIN for many objects
_LENIENT = json.JSONDecoder()
