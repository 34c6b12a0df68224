"""Read events from JSON messages: objects, each on a line or on several; dates as `{"$datetime": seconds}` or ISO 8601.

The HTTP receiver and the commands that read JSON use its parts too, so that all of them accept the same input.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import bson
from bson.errors import BSONError

from ..turn import NO_PAUSE, Turn
from .batch import ReceivedBatch
from .event import MAX_DEPTH, MAX_DOCUMENTS, MAX_MESSAGE_BYTES, Fault, complete, describe_value, fault_of
from .json_lines import lines_of, split_lines
from .json_value import loads
from .reader_failure import refuse_and_log
from .refusal import CUT, Refusal, RefusedValueError, TooManyDocumentsError, joined_values
from .text_encoding import describe_binary, is_binary, packing_of, to_utf_8
from .time_text import parse_time
from .value_ends import value_ends

NOT_JSON = "bad_json"
MAX_LINES = 10 * MAX_DOCUMENTS  # in one message; each takes time, even inside a value
_REFUSED_BYTES = 2 * MAX_DOCUMENTS  # the bytes of so many lines, or of fewer
_PIECE_BYTES = 2**16  # of lines that are split in one go
_LINE_END = re.compile(rb"[\r\n]")
_HALF_OF_PAIR = re.compile(rb"\xed[\xa0-\xbf]")  # as UTF-8 would encode it
_EMPTY = (NOT_JSON, "the message is empty")


@dataclass(slots=True)
class JsonInput:
    """A part of a message that should be one JSON value: the decoded value, or why it is none."""

    index: int
    raw: bytes
    value: Any = None
    fault: Fault | None = None


def read_message(message: bytes, batch: ReceivedBatch, now_ms: int, turn: Turn = NO_PAUSE) -> None:
    """Read the events of one message into `batch`, or refuse it whole if it has too many documents.

    Never raise on bad input; call `turn` between pieces of work.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        batch.refuse(
            "oversized_message", f"the message has {len(message)} bytes, more than {MAX_MESSAGE_BYTES}", message
        )
        return
    before = batch.checkpoint()
    try:
        for each in turn.between(split_message(message, turn)):
            if each.fault is not None:
                batch.refuse(*each.fault, each.raw, each.index)
                continue
            try:
                _read_value(each, batch, now_ms)  # adds to `batch` only as its last step
            except Exception as error:  # noqa: BLE001 - one value must not stop the rest: it is refused and logged
                refuse_and_log(error, batch, each.raw, each.index)
    except TooManyDocumentsError as error:
        batch.roll_back(before)
        _refuse_all(to_utf_8(message), error, batch, turn)
    else:
        batch.gather_refusals(before.refusals, turn)


def _refuse_all(text: bytes, error: TooManyDocumentsError, batch: ReceivedBatch, turn: Turn) -> None:
    """Refuse all values of a message, in pieces that quarantine keeps and that have no more values than allowed.

    What follows the first `MAX_LINES` lines is not told apart: it counts by lines, and is kept as text that was cut.
    """
    code, why = error.args
    index = begin = 0
    ends: list[int] = []  # of the values in a piece

    def refuse() -> None:
        nonlocal index, begin
        raw = text[begin : ends[-1]]
        sizes = [end - start - 1 for start, end in pairwise((begin, *ends))]
        batch.add_refusal(replace(Refusal(code, why, raw, index), **joined_values(raw, sizes)))
        index, begin = index + len(ends), ends[-1]
        ends.clear()
        turn()

    for end in error.ends or value_ends(text, MAX_LINES, turn):
        if ends and end - begin > _REFUSED_BYTES:
            refuse()
        ends.append(end)
    if ends:
        refuse()
    while begin < len(text):
        limit = begin + _REFUSED_BYTES
        end = max(text.rfind(b"\n", begin, limit), text.rfind(b"\r", begin, limit)) + 1 or limit
        if lines := sum(1 for line in text[begin:end].splitlines() if line.strip()):
            batch.add_refusal(Refusal(code, why, text[begin:end], index, lines, joined=CUT))
        index, begin = index + lines, end
        turn()


def split_message(message: bytes, turn: Turn = NO_PAUSE) -> Iterator[JsonInput]:
    """Yield the JSON values of a message, which are told apart by `split_lines`; never none.

    A packed message stays whole, as does a list that is broken off. So do adjacent lines without objects if there are
    bytes among them that no text has: some lines of binary data are JSON by chance, such as a single digit. Raise
    `TooManyDocumentsError` after `MAX_DOCUMENTS` values or `MAX_LINES` lines, blank ones aside.
    """
    text = to_utf_8(message)
    line = text.rstrip(b"\r\n")
    turn()
    if line and b"\n" not in line and b"\r" not in line:
        yield _whole(text, message)
        return
    # Lines of a tar archive may be events, but the first one of each file in it follows its header.
    if packing_of(message) and is_binary(message):
        yield JsonInput(0, message, fault=(NOT_JSON, f"not JSON in UTF-8: {describe_binary(message)}"))
        return
    if text.count(b"\n") + text.count(b"\r") >= MAX_DOCUMENTS and not _is_list_of_objects(text):
        _check_count(text, turn)
    values = _told_apart(text, message, turn)
    first, second = next(values, None), next(values, None)
    if first is None:
        yield JsonInput(0, message, fault=_EMPTY)
    elif second is None:
        first.raw = message
        yield first
    else:
        yield first
        yield second
        yield from values


def _check_count(text: bytes, turn: Turn) -> None:
    """Raise `TooManyDocumentsError` for a text with too many values, before they are decoded, which takes longer."""
    ends = array("q", value_ends(text, MAX_LINES, turn))
    if len(ends) > MAX_DOCUMENTS:
        raise TooManyDocumentsError(MAX_DOCUMENTS, ends=ends)
    if ends and ends[-1] < len(text):
        raise TooManyDocumentsError(MAX_LINES, "lines", ends)


def _told_apart(text: bytes, message: bytes, turn: Turn) -> Iterator[JsonInput]:
    """Yield the values of a message with several lines; none if all of them are blank."""
    run: list[JsonInput] = []  # values that may be pieces of binary data
    begin, binary = 0, False  # of this run: where it starts, and whether there is binary data in it
    place, index = yield from _leading_objects(text, turn)
    for start, _, each in split_lines(_counted(lines_of(text, place), turn), lambda raw: decoded(0, raw), turn):
        assert each is not None
        if not index and _is_no_json(each) and _is_list_of_objects(text):
            yield _whole(text, message)
            return
        if index == MAX_DOCUMENTS:
            raise TooManyDocumentsError(MAX_DOCUMENTS)
        each.index = index
        index += 1
        if _may_be_binary(each):
            begin = begin if run else start
            run.append(each)
            binary = binary or (_is_no_json(each) and is_binary(each.raw))
            continue
        yield from [_joined(run, text, begin, start)] if binary else run
        run, binary = [], False
        yield each
    yield from [_joined(run, text, begin, len(text))] if binary else run


def _leading_objects(text: bytes, turn: Turn) -> Generator[JsonInput, None, tuple[int, int]]:
    """Yield the objects at the start of a text, which need no more than their lines.

    Return where the first line begins that is something else, or the end, and the number of objects.
    """
    place = index = 0
    while place < len(text):
        end = _LINE_END.search(text, place + _PIECE_BYTES)
        piece = text[place : end.end() if end else len(text)]
        if not piece.strip():
            place += len(piece)
            continue
        for line in piece.splitlines(keepends=True):
            if line.strip():
                each = decoded(index, line.rstrip(b"\r\n"))
                if each.fault is not None or type(each.value) is not dict or not each.value or index == MAX_DOCUMENTS:
                    return place, index
                index += 1
                yield each
            place += len(line)
        turn()
    return place, index


def _counted(lines: Iterable[tuple[int, bytes]], turn: Turn) -> Iterator[tuple[int, bytes]]:
    """Yield lines. Raise `TooManyDocumentsError` after `MAX_LINES`."""
    for count, line in enumerate(turn.between(lines)):
        if count == MAX_LINES:
            raise TooManyDocumentsError(MAX_LINES, "lines")
        yield line


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


def _joined(run: Sequence[JsonInput], text: bytes, start: int, end: int) -> JsonInput:
    """Return one value for a run that holds binary data, with all bytes up to the next value."""
    index = run[0].index
    raw = text[start if index else 0 : end]
    return JsonInput(index, raw, fault=(NOT_JSON, f"not JSON in UTF-8: {describe_binary(raw)}"))


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
