"""Read events from JSON messages: one object, or one per line; dates as `{"$datetime": seconds}` or ISO 8601.

The HTTP receiver and the commands that read JSON use it too, so that all of them accept the same input.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import bson
from bson.errors import BSONError

from .batch import ReceivedBatch
from .event import MAX_DEPTH, MAX_MESSAGE_BYTES, complete, describe_value, fault_of
from .reader_failure import refuse_on_failure

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class DateError(ValueError):
    """An invalid or out-of-range date; `args` are code and message."""


def read_message(message: bytes, batch: ReceivedBatch, now_ms: int) -> None:
    """Read the events of one message into `batch`. Never raise on bad input."""
    if len(message) > MAX_MESSAGE_BYTES:
        batch.refuse(
            "oversized_message", f"the message has {len(message)} bytes, more than {MAX_MESSAGE_BYTES}", message
        )
        return
    lines = [line for line in message.splitlines() if line.strip()]
    if len(lines) != 1 and not _is_one_value(message):
        for index, line in enumerate(lines):
            read_line(line, batch, now_ms, index)
        if not lines:
            batch.refuse("bad_json", "the message is empty", message)
        return
    read_line(message, batch, now_ms)


def _is_one_value(message: bytes) -> bool:
    """Return whether the text is a single JSON value that spans several lines. Dates are not checked."""
    try:
        json.loads(message)
    except (ValueError, RecursionError):
        return False
    return True


def read_line(line: bytes, batch: ReceivedBatch, now_ms: int, index: int = 0) -> None:
    """Read the JSON value on `line` into `batch`."""
    refuse_on_failure(lambda: _read_line(line, batch, now_ms, index), batch, line, index)


def _read_line(line: bytes, batch: ReceivedBatch, now_ms: int, index: int) -> None:
    try:
        value = loads(line)
    except DateError as error:
        batch.refuse(error.args[0], error.args[1], line, index)
    except RecursionError:
        batch.refuse("nested_too_deep", f"objects or arrays are nested deeper than {MAX_DEPTH}", line, index)
    except ValueError as error:
        batch.refuse("bad_json", f"not JSON in UTF-8: {error}", line, index)
    else:
        read_value(value, line, batch, now_ms, index)


def read_value(value: Any, raw: bytes, batch: ReceivedBatch, now_ms: int, index: int = 0) -> None:
    """Add a decoded JSON value to `batch`; `raw` is kept if it is refused."""
    if not isinstance(value, dict):
        batch.refuse("not_a_document", f"a JSON {type(value).__name__}; must be an object", raw, index)
        return
    command = value.pop("$command", None)
    if command not in (None, "event_noval"):
        batch.refuse("unknown_command", f"$command is {describe_value(command)}; use event_noval", raw, index)
        return
    try:
        if isinstance(value.get("timestamp"), str):
            value["timestamp"] = parse_iso(value["timestamp"])
        encoded = bson.encode(value)
    except DateError as error:
        batch.refuse(error.args[0], error.args[1], raw, index)
    except RecursionError:
        batch.refuse("nested_too_deep", f"objects or arrays are nested deeper than {MAX_DEPTH}", raw, index)
    except (BSONError, OverflowError, ValueError) as error:
        batch.refuse("bad_json", f"cannot be stored as BSON: {error}", raw, index)
    else:
        if fault := fault_of(value, encoded, check_fields=command is None):
            batch.refuse(*fault, raw, index)
        else:
            batch.accept(complete(encoded, value, now_ms), value.get("id"))


def loads(text: bytes | str) -> Any:
    """Decode JSON; `{"$datetime": seconds}` becomes a date. Raise `ValueError`, `DateError` or `RecursionError`."""
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    return json.loads(text, object_hook=_hook, parse_constant=_constant, parse_float=_finite)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    # float() returns infinity for numbers that are too large
    if math.isinf(number := float(text)):
        raise ValueError(f"{text:.40} is beyond the range of a number, about 1.8e308")
    return number


def _hook(value: dict[str, Any]) -> Any:
    if "$datetime" not in value:
        return value
    seconds = value["$datetime"]
    if len(value) != 1 or isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise DateError("bad_timestamp", f"{value!r:.80} is not a date: use {{'$datetime': seconds since 1970}}")
    try:
        return _EPOCH + dt.timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise DateError("date_out_of_range", f"{seconds!r} seconds are outside the years 1 to 9999") from None


def parse_iso(text: str) -> dt.datetime:
    """Parse an ISO 8601 date and time; without an offset it is UTC. Raise `DateError` if it is invalid."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise DateError("bad_timestamp", f"timestamp {text!r:.60} is not ISO 8601 or seconds in $datetime") from None
    if time.tzinfo is None:
        return time.replace(tzinfo=dt.UTC)
    try:
        return time.astimezone(dt.UTC)
    except OverflowError:
        raise DateError("date_out_of_range", f"timestamp {text!r:.60} is outside the years 1 to 9999") from None
