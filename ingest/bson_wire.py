"""BSON messages as events: one document, or several one after the other, in one message.

Good input is decoded once, a whole batch of messages in one call, and its bytes are passed on as they came. Only when
that call refuses something, or a document is out of the ordinary, each one is looked at by itself.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from ingest.event import FIELDS, MAX_DEPTH, MAX_TEXT_CHARS, complete, fault_of
from ingest.intake import Intake

MAX_MESSAGE_BYTES = 16 * 2**20
_ANY_DATE = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_MS)
_LENGTH = struct.Struct("<i").unpack_from
_SMALL_BYTES = 700  # below this nothing is nested too deep and no event too big
_WITH_ID, _WITHOUT_ID = "with id", "without id"
_PLAIN: dict[tuple[str, ...], str] = {}  # orders of field names seen -> one of these, or empty: something is missing
_ID_ELEMENT = b"\x02id\x00"


def read_messages(messages: Sequence[bytes], intake: Intake, now_ms: int) -> None:
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
        try:
            documents = bson.decode_all(b"".join(messages))
        except (BSONError, RecursionError):
            pass
        else:
            _sort(documents, raws, intake, now_ms)
            return
    for message in messages:
        read_message(message, intake, now_ms)


def read_message(message: bytes, intake: Intake, now_ms: int) -> None:
    """Sort the documents of one message into `intake`."""
    if len(message) > MAX_MESSAGE_BYTES:
        intake.refuse(
            "oversized_message", f"the message has {len(message)} bytes; allowed are {MAX_MESSAGE_BYTES}", message
        )
        return
    raws, rest = split(message)
    try:
        documents = bson.decode_all(message if not rest else message[: len(message) - len(rest)]) if raws else []
    except (BSONError, RecursionError):
        for index, raw in enumerate(raws):
            _sort_alone(raw, intake, now_ms, index)
    else:
        _sort(documents, raws, intake, now_ms)
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


def _sort(documents: Sequence[dict[str, Any]], raws: Sequence[bytes], intake: Intake, now_ms: int) -> None:
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
                ):
                    if known is _WITHOUT_ID:
                        accept(raw, None)
                        continue
                    id_ = document["id"]
                    if type(id_) is str and 0 < len(id_) <= MAX_TEXT_CHARS and raw.count(_ID_ELEMENT) == 1:
                        accept(raw, id_)
                        continue
            elif known is None:
                _learn(shape)
        _sort_one(document, raw, intake, now_ms, index)


def _learn(shape: tuple[str, ...]) -> None:
    """Remember whether documents with these names in this order have all that an event has.

    Only orders of event fields are remembered, so that what producers send cannot grow the table without bound.
    """
    names = set(shape)
    if names <= FIELDS:
        complete_ = {"timestamp", "type", "context"} <= names
        _PLAIN[shape] = (_WITH_ID if "id" in names else _WITHOUT_ID) if complete_ else ""


def _sort_one(document: dict[str, Any], raw: bytes, intake: Intake, now_ms: int, index: int) -> None:
    check_fields = True
    if "$command" in document:
        command = document["$command"]
        if isinstance(command, str) and command in intake.known_commands:
            intake.commands.append(document)
            return
        if command != "event_noval":
            known = ", ".join(("event_noval", *sorted(intake.known_commands)))
            intake.refuse("unknown_command", f"$command is {command!r:.80}; allowed is {known}", raw, index)
            return
        raw, document = _without_command(raw, document)
        check_fields = False
    if fault := fault_of(document, len(raw), check_fields=check_fields):
        intake.refuse(*fault, raw, index)
        return
    id_ = document.get("id")
    if id_ is not None and raw.count(_ID_ELEMENT) > 1 and _count_top_level(raw, b"id") > 1:
        intake.refuse("bad_id", "the event has two fields id", raw, index)
        return
    intake.accept(complete(raw, document, now_ms), id_)


def _without_command(raw: bytes, document: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The document without its `$command`, cut out of the bytes."""
    document = {name: value for name, value in document.items() if name != "$command"}
    kept = b"".join(raw[start:end] for name, start, end in elements(raw) if name != b"$command")
    return struct.pack("<i", len(kept) + 5) + kept + b"\x00", document


def _sort_alone(raw: bytes, intake: Intake, now_ms: int, index: int) -> None:
    """Sort one document that may be what a batch failed on."""
    try:
        document = bson.decode(raw)
    except (BSONError, RecursionError) as error:
        intake.refuse(*_decode_fault(raw, error), raw, index)
    else:
        _sort_one(document, raw, intake, now_ms, index)


def _decode_fault(raw: bytes, error: Exception) -> tuple[str, str]:
    if "recursion" in str(error):
        return "nested_too_deep", f"documents or arrays are nested deeper than {MAX_DEPTH}"
    try:
        bson.decode(raw, _ANY_DATE)
    except (BSONError, RecursionError):
        return "bad_bson", f"not BSON: {error}"
    return "date_out_of_range", "a date lies outside the years 1 to 9999"


def _count_top_level(raw: bytes, wanted: bytes) -> int:
    return sum(name == wanted for name, _, _ in elements(raw))


def elements(raw: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each top-level element of a valid document (https://bsonspec.org/spec.html)."""
    position = 4
    while raw[position]:
        name_end = raw.index(b"\x00", position + 1)
        value = name_end + 1
        end = value + _SIZES[raw[position]](raw, value)
        yield raw[position + 1 : name_end], position, end
        position = end


def _fixed(size: int) -> Callable[[bytes, int], int]:
    return lambda raw, at: size


def _counted(extra: int) -> Callable[[bytes, int], int]:
    return lambda raw, at: int(_LENGTH(raw, at)[0]) + extra


def _regex(raw: bytes, at: int) -> int:
    return raw.index(b"\x00", raw.index(b"\x00", at) + 1) + 1 - at


_SIZES: dict[int, Callable[[bytes, int], int]] = {
    0x01: _fixed(8), 0x02: _counted(4), 0x03: _counted(0), 0x04: _counted(0), 0x05: _counted(5), 0x06: _fixed(0),
    0x07: _fixed(12), 0x08: _fixed(1), 0x09: _fixed(8), 0x0A: _fixed(0), 0x0B: _regex, 0x0C: _counted(16),
    0x0D: _counted(4), 0x0E: _counted(4), 0x0F: _counted(0), 0x10: _fixed(4), 0x11: _fixed(8), 0x12: _fixed(8),
    0x13: _fixed(16), 0x7F: _fixed(0), 0xFF: _fixed(0),
}  # fmt: skip
