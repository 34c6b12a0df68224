"""BSON messages as events: one document, or several one after the other, in one message.

Good input is decoded once, a whole batch of messages in one call, and its bytes are passed on as they came. Only when
that call refuses something, or a document is out of the ordinary, each one is looked at by itself.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

from .batch import ReceivedBatch
from .bson_element import assembled, elements
from .error_boundary import guarded, refuse_failed
from .event import (
    FIELDS,
    LIMITS,
    MAX_MESSAGE_BYTES,
    MAX_TEXT_CHARS,
    STORED_LIMITS,
    Fault,
    complete,
    depth_fault_of,
    fault_of,
    shown,
)

_ANY_DATE = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_MS)
_LENGTH = struct.Struct("<i").unpack_from
_SMALL_BYTES = 700  # below this nothing is nested too deep and no event too big
_ALIKE_COUNT = 8  # from so many on it is worth while to look at all of them at once
_WITH_ID, _WITHOUT_ID = "with id", "without id"
_PLAIN: dict[tuple[str, ...], str] = {}  # orders of field names seen -> one of these, or empty: something is missing
RESTORED = "event_restored"
EVENT_COMMANDS = {"event_noval": LIMITS, RESTORED: STORED_LIMITS}  # commands that hold an event
_MARKS = {name: name.encode() + b"\x00" for name in FIELDS}  # a name as it lies in the bytes, among others
_TYPE, _CONTEXT, _TIMESTAMP, _EXTRA, _ID = (_MARKS[n] for n in ("type", "context", "timestamp", "extra", "id"))


def read_messages(messages: Sequence[bytes], intake: ReceivedBatch, now_ms: int) -> None:
    """Sort the documents of `messages` into `intake`. Never raises on bad input."""
    raws: list[bytes] = []
    for message in messages:
        if len(message) > MAX_MESSAGE_BYTES:
            break
        some, rest = split(message)
        if rest or not some:
            break
        raws += some
    else:
        joined = b"".join(messages)
        try:
            documents = bson.decode_all(joined)
        except Exception:  # noqa: BLE001 - bytes from outside: each document is looked at by itself
            pass
        else:
            _sort(documents, raws, joined, intake, now_ms)
            return
    for message in messages:
        read_message(message, intake, now_ms)


def read_message(message: bytes, intake: ReceivedBatch, now_ms: int) -> None:
    """Sort the documents of one message into `intake`."""
    if len(message) > MAX_MESSAGE_BYTES:
        intake.refuse(
            "oversized_message", f"the message has {len(message)} bytes; allowed are {MAX_MESSAGE_BYTES}", message
        )
        return
    raws, rest = split(message)
    joined = message[: len(message) - len(rest)] if rest else message
    try:
        documents = bson.decode_all(joined) if raws else []
    except Exception:  # noqa: BLE001 - bytes from outside: each document is looked at by itself
        for index, raw in enumerate(raws):
            _sort_alone(raw, intake, now_ms, index)
    else:
        _sort(documents, raws, joined, intake, now_ms)
    if rest or not raws:
        code = "bad_bson" if not rest or _length(rest) < 5 else "truncated_message"
        intake.refuse(code, f"{len(rest)} bytes at the end of the message are no whole document", rest, len(raws))


def split(message: bytes) -> tuple[list[bytes], bytes]:
    """The documents that lie one after the other in `message`, by their lengths, and what is left at the end."""
    position, end = 0, len(message)
    if end >= 5 and _LENGTH(message)[0] == end:
        return [message], b""
    raws = []
    while end - position >= 5:
        length = _LENGTH(message, position)[0]
        if length < 5 or length > end - position:
            break
        raws.append(message[position : position + length])
        position += length
    return raws, message[position:]


def _length(rest: bytes) -> int:
    return int(_LENGTH(rest)[0]) if len(rest) >= 4 else len(rest) + 5


def _sort(
    documents: Sequence[dict[str, Any]], raws: Sequence[bytes], joined: bytes, intake: ReceivedBatch, now_ms: int
) -> None:
    """Sort `documents`, which are `raws` decoded and `joined` in one piece, into `intake`."""
    if _are_alike(documents, raws, joined):
        intake.accept_all(raws, [document["id"] for document in documents] if "id" in documents[0] else [])
        return
    accept, plain, datetime = intake.accept, _PLAIN, dt.datetime
    for index, (document, raw) in enumerate(zip(documents, raws, strict=True)):
        if len(raw) <= _SMALL_BYTES:
            shape = tuple(document)
            known = plain.get(shape)
            if known:
                type_ = document["type"]
                if (
                    type(type_) is str
                    and 0 < len(type_) <= MAX_TEXT_CHARS
                    and type(document["context"]) is dict
                    and type(document["timestamp"]) is datetime
                    and raw.count(_TYPE) == raw.count(_CONTEXT) == raw.count(_TIMESTAMP) == 1
                    and ("extra" not in document or raw.count(_EXTRA) == 1)
                ):
                    if known is _WITHOUT_ID:
                        accept(raw, None)
                        continue
                    id_ = document["id"]
                    if type(id_) is str and 0 < len(id_) <= MAX_TEXT_CHARS and raw.count(_ID) == 1:
                        accept(raw, id_)
                        continue
            elif known is None:
                _learn(shape)
        _sort_one(document, raw, intake, now_ms, index)


def _are_alike(documents: Sequence[dict[str, Any]], raws: Sequence[bytes], joined: bytes) -> bool:
    """Whether all are small events with the same fields and none is there twice, found out for all of them at once.

    A field that each of them has, and whose name lies in all their bytes as often as there are documents, is there
    once in each. No name begins in one document and ends in the next: both end in a zero.
    """
    if len(raws) < _ALIKE_COUNT or max(map(len, raws)) > _SMALL_BYTES:
        return False
    names = tuple(documents[0])
    if not _PLAIN.get(names) or set(map(len, documents)) != {len(names)}:
        return False
    try:
        values = {name: [document[name] for document in documents] for name in names}
    except KeyError:
        return False
    return (
        set(map(type, values["context"])) == {dict}
        and set(map(type, values["timestamp"])) == {dt.datetime}
        and all(_are_texts(values[name]) for name in ("type", "id") if name in values)
        and all(joined.count(_MARKS[name]) == len(raws) for name in names)
    )


def _are_texts(values: Sequence[Any]) -> bool:
    return set(map(type, values)) == {str} and all(values) and max(map(len, values)) <= MAX_TEXT_CHARS


def _learn(shape: tuple[str, ...]) -> None:
    """Remember whether documents with these names in this order have all that an event has.

    Only orders of event fields are remembered, so that what producers send cannot grow the table without bound.
    """
    names = set(shape)
    if names <= FIELDS:
        complete_ = {"timestamp", "type", "context"} <= names
        _PLAIN[shape] = (_WITH_ID if "id" in names else _WITHOUT_ID) if complete_ else ""


def _sort_one(document: dict[str, Any], raw: bytes, intake: ReceivedBatch, now_ms: int, index: int) -> None:
    try:
        _judge(document, raw, intake, now_ms, index)  # which adds to `intake` as the last thing it does
    except Exception as error:  # noqa: BLE001 - the edge of a document: kept and said, and the next one is read
        refuse_failed(error, intake, raw, index)


def _judge(document: dict[str, Any], raw: bytes, intake: ReceivedBatch, now_ms: int, index: int) -> None:
    event, limits, check_fields = raw, LIMITS, True
    if "$command" in document:
        command = document["$command"]
        is_text = type(command) is str  # code is a str too, and has no hash
        if is_text and command in intake.known_commands:
            if fault := depth_fault_of(raw):
                intake.refuse(*fault, raw, index)
                return
            intake.commands.append(document)
            return
        if not is_text or command not in EVENT_COMMANDS:
            known = ", ".join((*EVENT_COMMANDS, *sorted(intake.known_commands)))
            intake.refuse("unknown_command", f"$command is {shown(command)}; allowed is {known}", raw, index)
            return
        event, document = _without_command(raw, document)
        limits, check_fields = EVENT_COMMANDS[command], False
    fault = fault_of(document, event, check_fields=check_fields, limits=limits)
    if fault := fault or _repetition(document, event, check_fields=check_fields):
        intake.refuse(*fault, raw, index)
        return
    intake.accept(complete(event, document, now_ms), document.get("id"))


def _repetition(document: Mapping[str, Any], raw: bytes, *, check_fields: bool) -> Fault | None:
    """Whether a top-level name is there twice, of which a decoded document shows the last only."""
    for name in document:
        mark = _MARKS.get(name)
        if mark is None or raw.count(mark) != 1:
            break
    else:
        return None
    names = Counter(name for name, _, _ in elements(raw))
    if names[b"id"] > 1:
        return "bad_id", "the event has two fields id"
    if check_fields and (repeated := [name.decode() for name, count in names.items() if count > 1]):
        return "repeated_field", f"the event has more than one field {repeated[0]}"
    return None


def _without_command(raw: bytes, document: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The document without its `$command`, cut out of the bytes."""
    document = {name: value for name, value in document.items() if name != "$command"}
    return assembled(*(raw[start:end] for name, start, end in elements(raw) if name != b"$command")), document


def _sort_alone(raw: bytes, intake: ReceivedBatch, now_ms: int, index: int) -> None:
    """Sort one document that may be what a batch failed on."""
    try:
        document = bson.decode(raw)
    except Exception as error:  # noqa: BLE001 - bytes from outside: whatever the decoder fails with
        fault = partial(_decode_fault, raw, error)
        guarded(lambda: intake.refuse(*fault(), raw, index), intake, raw, index)
    else:
        _sort_one(document, raw, intake, now_ms, index)


def _decode_fault(raw: bytes, error: Exception) -> tuple[str, str]:
    try:
        if fault := depth_fault_of(raw):
            return fault
        bson.decode(raw, _ANY_DATE)
    except Exception:  # noqa: BLE001 - as above; what is said is the first error
        return "bad_bson", f"not BSON: {error}"
    return "date_out_of_range", "a date lies outside the years 1 to 9999"
