"""Read events from JSON messages: objects, each on a line or on several; dates as `{"$datetime": seconds}` or ISO 8601.

The HTTP receiver and the commands that read JSON use its parts too, so that all of them accept the same input.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

import bson
from bson.errors import BSONError

from .batch import ReceivedBatch
from .event import MAX_DEPTH, MAX_MESSAGE_BYTES, Fault, complete, describe_value, fault_of
from .json_lines import split_lines
from .json_value import loads
from .reader_failure import refuse_on_failure
from .refusal import RefusedValueError
from .text_encoding import describe_binary, is_binary, packing_of, to_utf_8
from .time_text import parse_time

NOT_JSON = "bad_json"
_HALF_OF_PAIR = re.compile(rb"\xed[\xa0-\xbf]")  # as UTF-8 would encode it
_EMPTY = (NOT_JSON, "the message is empty")


@dataclass(slots=True)
class JsonInput:
    """A part of a message that should be one JSON value: the decoded value, or why it is none."""

    index: int
    raw: bytes
    value: Any = None
    fault: Fault | None = None


def read_message(message: bytes, batch: ReceivedBatch, now_ms: int) -> None:
    """Read the events of one message into `batch`. Never raise on bad input."""
    if len(message) > MAX_MESSAGE_BYTES:
        batch.refuse(
            "oversized_message", f"the message has {len(message)} bytes, more than {MAX_MESSAGE_BYTES}", message
        )
        return
    for each in split_message(message):
        if each.fault is not None:
            batch.refuse(*each.fault, each.raw, each.index)
        else:
            refuse_on_failure(lambda each=each: _read_value(each, batch, now_ms), batch, each.raw, each.index)  # type: ignore[misc]


def split_message(message: bytes) -> list[JsonInput]:
    """Return the JSON values of a message, which are told apart by `split_lines`; never none.

    A packed message stays whole, as does a list that is broken off. So do adjacent lines without objects if there are
    bytes among them that no text has: some lines of binary data are JSON by chance, such as a single digit.
    """
    text = to_utf_8(message)
    if b"\n" not in text and b"\r" not in text and text:
        return [_whole(text, message)]
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return [JsonInput(0, message, fault=_EMPTY)]
    found: list[JsonInput] = []
    for index, line in enumerate(lines):
        each = decoded(index, line)
        if each.fault is not None:
            return _told_apart(text, message)
        found.append(each)
    if len(found) == 1:
        found[0].raw = message
    return found


def _told_apart(text: bytes, message: bytes) -> list[JsonInput]:
    """Return the values of a message of which not every line is one."""
    # Lines of a tar archive may be events, but the first one of each file in it follows its header.
    if is_binary(message) and packing_of(message):
        return [JsonInput(0, message, fault=(NOT_JSON, f"not JSON in UTF-8: {describe_binary(message)}"))]
    lines = text.splitlines(keepends=True)
    spans = [
        (span.first, span.value)
        for span in split_lines(enumerate(lines), lambda raw: decoded(0, raw))
        if span.value is not None
    ]
    found = [value for _, value in spans]
    if not found:
        return [JsonInput(0, message, fault=_EMPTY)]
    for index, each in enumerate(found):
        each.index = index
    if _is_no_json(found[0]) and _is_list_of_objects(text):
        return [_whole(text, message)]
    if len(found) == 1:
        found[0].raw = message
    elif any(_is_no_json(each) and is_binary(each.raw) for each in found):
        starts = [0, *accumulate(map(len, lines))]
        return _with_binary_whole(text, message, found, [0, *(starts[first] for first, _ in spans[1:]), len(text)])
    return found


def _whole(text: bytes, message: bytes) -> JsonInput:
    """Decode a message that is one value; what is kept of it is what was sent, and not its text in UTF-8."""
    found = decoded(0, text)
    found.raw = message
    return found


def _is_list_of_objects(text: bytes) -> bool:
    """Return whether the text starts like a list of objects, and not like a line of a log such as `[INFO] ...`."""
    start = text.lstrip(b"\xef\xbb\xbf \t\r\n")
    return start[:1] == b"[" and start[1:].lstrip()[:1] == b"{"


def decoded(index: int, raw: bytes, *, extended: bool = True) -> JsonInput:
    """Decode one value of a message, which stands at `index` in it, as `loads` does."""
    try:
        return JsonInput(index, raw, loads(raw, extended=extended))
    except (ValueError, RecursionError) as error:
        return JsonInput(index, raw, None, fault_of_error(error, raw))


def _is_no_json(each: JsonInput) -> bool:
    return each.fault is not None and each.fault[0] == NOT_JSON


def _may_be_binary(each: JsonInput) -> bool:
    """Return whether a value may be a piece of binary data: it is no object of JSON, or has no field."""
    if each.fault is not None:
        return _is_no_json(each) or not each.raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    return not isinstance(each.value, dict) or not each.value


def _with_binary_whole(
    text: bytes, message: bytes, values: Sequence[JsonInput], starts: Sequence[int]
) -> list[JsonInput]:
    """Join the runs of values between objects that hold binary data; each run has the bytes up to the next value."""
    found: list[JsonInput] = []
    for joinable, group in groupby(values, _may_be_binary):
        run = list(group)
        if joinable and any(_is_no_json(each) and is_binary(each.raw) for each in run):
            raw = message if len(run) == len(values) else text[starts[run[0].index] : starts[run[-1].index + 1]]
            run = [JsonInput(run[0].index, raw, fault=(NOT_JSON, f"not JSON in UTF-8: {describe_binary(raw)}"))]
        found += run
    return found


def fault_of_error(error: Exception, raw: bytes) -> Fault:
    """Return code and message for an error of `loads` on `raw`."""
    if isinstance(error, RefusedValueError):
        code, message = error.args
        return code, message
    if isinstance(error, RecursionError):
        return "nested_too_deep", f"objects or arrays are nested deeper than {MAX_DEPTH}"
    if isinstance(error, UnicodeDecodeError) and _HALF_OF_PAIR.match(error.object, error.start):
        return NOT_JSON, f"not JSON in UTF-8: half of a surrogate pair at byte {error.start}"
    return NOT_JSON, f"not JSON in UTF-8: {describe_binary(raw) if is_binary(raw) else error}"


def _read_value(given: JsonInput, batch: ReceivedBatch, now_ms: int) -> None:
    """Add a decoded JSON value to `batch`; its raw form is kept if it is refused."""
    value, check_fields = given.value, True
    if isinstance(value, dict) and "$command" in value:
        if (command := value.pop("$command")) != "event_noval":
            message = f"$command is {describe_value(command)}; use event_noval"
            batch.refuse("unknown_command", message, given.raw, given.index)
            return
        check_fields = False
    try:
        encoded = encode_event(value)
    except RefusedValueError as error:
        batch.refuse(error.args[0], error.args[1], given.raw, given.index)
        return
    if fault := fault_of(value, encoded, check_fields=check_fields):
        batch.refuse(*fault, given.raw, given.index)
    else:
        batch.accept(complete(encoded, value, now_ms), value.get("id"))


def encode_event(value: Any) -> bytes:
    """Return a decoded JSON value as the BSON of an event, whose fields are not checked yet.

    A timestamp that is text becomes a date, in `value` too. Raise `RefusedValueError` if it is no object, the timestamp
    is no time, or BSON cannot hold it.
    """
    if not isinstance(value, dict):
        raise RefusedValueError("not_a_document", f"a JSON {type(value).__name__}; must be an object")
    if isinstance(value.get("timestamp"), str):
        value["timestamp"] = parse_time(value["timestamp"])
    try:
        return bson.encode(value)
    except RecursionError:
        raise RefusedValueError("nested_too_deep", f"objects or arrays are nested deeper than {MAX_DEPTH}") from None
    except (BSONError, OverflowError, ValueError, TypeError) as error:
        raise RefusedValueError(NOT_JSON, f"cannot be stored as BSON: {error}") from None
