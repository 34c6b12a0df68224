"""Check decoded BSON documents, one by one or many alike ones at once, and add the events among them to a batch."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.dbref import DBRef

from .batch import ReceivedBatch
from .bson_element import DOCUMENT, assembled, elements
from .command_check import command_fault
from .event import (
    FIELDS,
    LIMITS,
    MAX_TEXT_CHARS,
    STORED_LIMITS,
    Fault,
    complete,
    depth_fault_of,
    describe_value,
    fault_of,
)
from .reader_failure import refuse_and_log, refuse_on_failure

_ANY_DATE = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_MS)
_SMALL_BYTES = 700  # up to this size nothing can be nested too deep
_ALIKE_COUNT = 8  # from this many documents on, checking all of them at once pays off
_WITH_ID, _WITHOUT_ID = "with id", "without id"
_PLAIN: dict[tuple[str, ...], str] = {}  # ordered field names -> one of these, or "" if a required field is missing
RESTORED = "event_restored"
EVENT_COMMANDS = {"event_noval": LIMITS, RESTORED: STORED_LIMITS}  # commands that carry an event
_MARKS = {name: name.encode() + b"\x00" for name in FIELDS}  # a field name as encoded in BSON
_TYPE, _CONTEXT, _TIMESTAMP, _EXTRA, _ID = (_MARKS[n] for n in ("type", "context", "timestamp", "extra", "id"))


def add_alike(documents: Sequence[dict[str, Any]], raws: Sequence[bytes], joined: bytes, batch: ReceivedBatch) -> bool:
    """Add `documents` to `batch` if all are ordinary events with the same fields; return whether they are.

    `raws` are their encoded forms, and `joined` is all of those in one piece.
    """
    if not _are_alike(documents, raws, joined):
        return False
    batch.accept_all(raws, [document["id"] for document in documents] if "id" in documents[0] else [])
    return True


def add_each(
    documents: Sequence[dict[str, Any]], raws: Sequence[bytes], batch: ReceivedBatch, now_ms: int, first: int = 0
) -> None:
    """Check `documents` one by one, and add or refuse each; the first one stands at index `first` in its message."""
    accept, plain, datetime = batch.accept, _PLAIN, dt.datetime
    for index, (document, raw) in enumerate(zip(documents, raws, strict=True), first):
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
        _add_one(document, raw, batch, now_ms, index)


def _are_alike(documents: Sequence[dict[str, Any]], raws: Sequence[bytes], joined: bytes) -> bool:
    """Return whether all are small valid events with the same fields, each once. Checks all of them at once.

    A field that every document has, and whose name occurs in `joined` as often as there are documents, is there once
    in each. A match cannot span two documents, because names and documents both end in a zero byte.
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
    """Remember whether documents with these field names, in this order, are complete events.

    Other field names are not remembered, so that producers cannot make the table grow without bound.
    """
    names = set(shape)
    if names <= FIELDS:
        complete_ = {"timestamp", "type", "context"} <= names
        _PLAIN[shape] = (_WITH_ID if "id" in names else _WITHOUT_ID) if complete_ else ""


def _add_one(document: dict[str, Any], raw: bytes, batch: ReceivedBatch, now_ms: int, index: int) -> None:
    try:
        _check_and_add(document, raw, batch, now_ms, index)  # adds to `batch` only as its last step
    except Exception as error:  # noqa: BLE001 - one document must not stop the rest: it is refused and logged
        refuse_and_log(error, batch, raw, index)


def _check_and_add(document: dict[str, Any], raw: bytes, batch: ReceivedBatch, now_ms: int, index: int) -> None:
    event, limits, check_fields = raw, LIMITS, True
    if "$command" in document:
        command = document["$command"]
        is_text = type(command) is str  # bson.Code is a str too, but not hashable
        if is_text and command in batch.known_commands:
            if fault := depth_fault_of(raw):
                batch.refuse(*fault, raw, index)
            elif wrong := command_fault(document):
                batch.refuse("bad_command", wrong, raw, index)
            else:
                batch.commands.append(document)
            return
        if not is_text or command not in EVENT_COMMANDS:
            known = ", ".join((*EVENT_COMMANDS, *sorted(batch.known_commands)))
            batch.refuse("unknown_command", f"$command is {describe_value(command)}; use {known}", raw, index)
            return
        event, document = _without_command(raw, document)
        limits, check_fields = EVENT_COMMANDS[command], False
    if isinstance(document.get("context"), DBRef) and _is_document(event, b"context"):
        document = {**document, "context": {}}  # the driver has made something else of a document with $ref and $id
    fault = fault_of(document, event, check_fields=check_fields, limits=limits)
    if fault := fault or _repetition(document, event, check_fields=check_fields):
        batch.refuse(*fault, raw, index)
        return
    batch.accept(complete(event, document, now_ms), document.get("id"))


def _repetition(document: Mapping[str, Any], raw: bytes, *, check_fields: bool) -> Fault | None:
    """Return a fault if a top-level name occurs twice; the decoded document shows only the last one."""
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


def _is_document(raw: bytes, name: bytes) -> bool:
    """Return whether the last element called `name`, the one that decoding keeps, is a document."""
    return [raw[start] for found, start, _ in elements(raw) if found == name][-1:] == [DOCUMENT]


def _without_command(raw: bytes, document: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Return the event without its `$command`, encoded and decoded."""
    document = {name: value for name, value in document.items() if name != "$command"}
    return assembled(*(raw[start:end] for name, start, end in elements(raw) if name != b"$command")), document


def add_alone(raw: bytes, batch: ReceivedBatch, now_ms: int, index: int) -> None:
    """Add one document of a batch that could not be decoded as a whole."""
    try:
        document = bson.decode(raw)
    except Exception as error:  # noqa: BLE001 - untrusted bytes: the decoder can fail in any way
        fault = partial(_decode_fault, raw, error)
        refuse_on_failure(lambda: batch.refuse(*fault(), raw, index), batch, raw, index)
    else:
        _add_one(document, raw, batch, now_ms, index)


def _decode_fault(raw: bytes, error: Exception) -> tuple[str, str]:
    try:
        if fault := depth_fault_of(raw):
            return fault
        bson.decode(raw, _ANY_DATE)
    except Exception:  # noqa: BLE001 - as above; the first error is reported
        return "bad_bson", f"not BSON: {error}"
    return "date_out_of_range", "a date is outside the years 1 to 9999"
