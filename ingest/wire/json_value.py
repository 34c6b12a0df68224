"""Decode JSON text into the values that events hold. All readers of JSON use it, so that they accept the same input."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

from ..turn import NO_PAUSE, Turn
from .event import MAX_DOCUMENTS, MAX_EVENT_BYTES
from .extended_json import date_of, holds_value, value_of
from .refusal import RefusedValueError, TooManyDocumentsError
from .text_encoding import BYTE_ORDER_MARK, to_text

# Of one value: objects, lists, texts ... An event has fewer, even if each takes two bytes of its BSON, as those inside
# of extended JSON may. Decoded, each takes a hundred bytes and more.
MAX_VALUES = MAX_EVENT_BYTES // 2
# Of one object, blanks aside: a byte of BSON takes at most six characters, as in "\\u0000".
MAX_JSON_CHARS = 8 * MAX_EVENT_BYTES
_FEW_OBJECTS = 8  # up to so many, a call per object takes no longer than counting the names
_MAY_HIDE_NAMES = ("\\", " :", "\t:", "\n:", "\r:")  # an escape, or a blank before a colon
BLANKS = " \t\n\r"  # that JSON allows between its parts
_BLANKS = re.compile(f"[{BLANKS}]*")
_TEXT = r'"(?:[^"\\]++|\\.)*+"'
_TEXTS = re.compile(_TEXT, re.DOTALL)
_TOKENS = re.compile(rf"{_TEXT}|[\[\]{{}}]", re.DOTALL)
_STEPS: dict[str | bytes, int] = {"[": 1, "{": 1, "]": -1, "}": -1, b"[": 1, b"{": 1, b"]": -1, b"}": -1}


def _nested(levels: int) -> str:
    """Return a pattern for what may stand in an object or list, which are nested in it up to so many levels."""
    inner = rf"|[\[{{]{_nested(levels - 1)}[\]}}]" if levels else ""
    return rf'(?:[^\[\]{{}}"]++|{_TEXT}{inner})*+'


# An item of a list: most objects and lists in one step, which is far quicker than one for each of their texts.
_ITEM = re.compile(rf"[\[{{]{_nested(3)}[\]}}]|{_TEXT}|[^\s\[\]{{}}\",]++".encode(), re.DOTALL)
_ITEM_BYTES = 2**18  # of an item that is found in one step
_BYTE_TOKENS = re.compile(_TOKENS.pattern.encode(), re.DOTALL)
_BEFORE_LIST = re.compile(rb"(?:\xef\xbb\xbf|[ \t\n\r]++)*+\[")
_BEFORE_ITEM = re.compile(rb"[ \t\n\r]*+")
_AFTER_ITEM = re.compile(rb"[ \t\n\r]*+([,\]])[ \t\n\r]*+")


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
    if len(text) > 2 * MAX_VALUES:
        _refuse_what_is_no_event(text)
    if '"$' in text or "\\u0024" in text:
        return _decode(_EXTENDED if extended else _DATES, text)
    if text.count("{") <= _FEW_OBJECTS or any(map(text.__contains__, _MAY_HIDE_NAMES)):
        return _decode(_PLAIN, text)
    value = _decode(_LOOSE, text)
    # Without escapes, `":` ends each name and may start a text; so equal numbers mean that no name was dropped.
    return value if text.count('":') == _count_names(value) else _decode(_PLAIN, text)


def _refuse_what_is_no_event(text: str) -> None:
    """Raise `RefusedValueError` for text that is too large to be an event, before memory is spent on its values."""
    if text.startswith("{") and len(text) - sum(map(text.count, BLANKS)) > MAX_JSON_CHARS:
        raise RefusedValueError(
            "event_too_big",
            f"the event has {len(text)} characters of JSON, more than {MAX_EVENT_BYTES} bytes of BSON can hold",
        )
    if _count_values(text) <= MAX_VALUES:
        return
    most_texts = 2 * MAX_VALUES  # each value may have a name
    rest, texts = _TEXTS.subn("", text, most_texts + 1)
    if texts <= most_texts and _count_values(rest) <= MAX_VALUES:
        return
    if text.startswith("["):
        raise RefusedValueError("not_a_document", f"a JSON list of more than {MAX_VALUES} values; must be an object")
    raise RefusedValueError(
        "event_too_big", f"the event has more than {MAX_VALUES} values, more than {MAX_EVENT_BYTES} bytes can hold"
    )


def _count_values(text: str) -> int:
    """Return the number of values in JSON without texts, or a higher one: commas and brackets in texts count too."""
    return text.count(",") + text.count("{") + text.count("[")


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


def array_items(text: bytes, turn: Turn = NO_PAUSE) -> list[slice] | None:
    """Return where the items of a JSON array stand; None if the text is not one whole array.

    So each item can be decoded by itself; whether it is JSON is not checked here. Raise `TooManyDocumentsError`.
    """
    start = _BEFORE_LIST.match(text)
    if start is None:
        return None
    items: list[slice] = []
    at = _BEFORE_ITEM.match(text, start.end()).end()  # type: ignore[union-attr]
    if text[at : at + 1] == b"]":
        return items if not text[at + 1 :].strip() else None
    for _ in turn.between(range(MAX_DOCUMENTS)):
        item = _ITEM.match(text, at, at + _ITEM_BYTES)
        end = item.end() if item else _end_of_brackets(turn.between(_BYTE_TOKENS.finditer(text, at)))
        after = _AFTER_ITEM.match(text, end) if end is not None else None
        if after is None:
            return None
        items.append(slice(at, end))
        at = after.end()
        if after[1] == b"]":
            return items if at == len(text) else None
    raise TooManyDocumentsError(MAX_DOCUMENTS)


def end_of_value(text: str, start: int) -> int | None:
    """Return where the JSON value that starts at `start` ends; None if no whole value does.

    Of long text, the brackets alone tell where an object or a list ends: decoded, it could take much memory.
    """
    if len(text) - start > 2 * MAX_VALUES and text[start] in "[{":
        return _end_of_brackets(_TOKENS.finditer(text, start))
    try:
        return _LENIENT.raw_decode(text, start)[1]
    except RecursionError:
        return _end_of_brackets(_TOKENS.finditer(text, start))
    except ValueError:
        return None


def _end_of_brackets(tokens: Iterable[re.Match[Any]]) -> int | None:
    """Return where the brackets are closed; None if they are not, or there is more between them than in any event."""
    depth = 0
    for token in islice(tokens, 4 * MAX_VALUES):  # each value may have a name, and two brackets
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
