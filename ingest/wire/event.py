"""The rules for the fields of an event, and defaults for those that may be left out.

Pure: decoded documents and bytes in, faults and bytes out. Decoding is left to `ingest.wire.bson_reader` and
`ingest.wire.json_reader`.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .bson_element import is_deeper

FIELDS = frozenset({"timestamp", "type", "context", "extra", "id"})
MAX_EVENT_BYTES = 2**20
MAX_MESSAGE_BYTES = 16 * 2**20
MAX_DOCUMENTS = 100_000  # in one message; 16 MiB of ordinary events are fewer
MAX_TEXT_CHARS = 256
MAX_DEPTH = 100
# An embedded document takes at least 7 bytes (type, empty name, length, end): up to this size none is too deep.
_NEVER_TOO_DEEP_BYTES = MAX_DEPTH * 7
_HEADER_AND_DATE = struct.Struct("<i11sq").pack
_TIMESTAMP = b"\x09timestamp\x00"
_EMPTY_CONTEXT = b"\x03context\x00\x05\x00\x00\x00\x00"
_LENGTH = struct.Struct("<i")

Fault = tuple[str, str]  # code and message


@dataclass(frozen=True, slots=True)
class EventLimits:
    """The limits that protect the store: encoded size in bytes and nesting depth."""

    size_bytes: int = MAX_EVENT_BYTES
    depth: int = MAX_DEPTH


LIMITS = EventLimits()
# For events that were stored before: `complete` and `restored` add bytes, and MongoDB stores deeper documents.
STORED_LIMITS = EventLimits(MAX_EVENT_BYTES + 128, 180)


def fault_of(
    document: Mapping[str, Any], raw: bytes, *, check_fields: bool = True, limits: EventLimits = LIMITS
) -> Fault | None:
    """Return why `document`, encoded as `raw`, is not a valid event; None if it is valid.

    Without `check_fields` (`event_noval`) only what protects the store is checked: size, depth, `id`, `timestamp`, and
    top-level names that are reserved for MongoDB or the ingester.
    """
    if len(raw) > limits.size_bytes:
        return "event_too_big", f"the event has {len(raw)} bytes, more than {limits.size_bytes}"
    if fault := depth_fault_of(raw, limits):
        return fault
    return _field_fault(document) if check_fields else _store_fault(document)


def depth_fault_of(raw: bytes, limits: EventLimits = LIMITS) -> Fault | None:
    """Return a fault if `raw` is nested too deep; references and scopes of code count as levels."""
    if len(raw) > _NEVER_TOO_DEEP_BYTES and is_deeper(raw, limits.depth):
        return "nested_too_deep", f"documents or arrays are nested deeper than {limits.depth}"
    return None


def _field_fault(document: Mapping[str, Any]) -> Fault | None:
    unknown = sorted(document.keys() - FIELDS)
    if unknown:
        return "unknown_field", f"unknown field {_names(unknown)}; an event has {_KNOWN_FIELDS}"
    if "type" not in document:
        return "missing_type", "the event has no type"
    type_ = document["type"]
    if not _is_text(type_):
        return "bad_type", f"type is {describe_value(type_)}; must be text of 1 to {MAX_TEXT_CHARS} characters"
    if not isinstance(document.get("context", {}), dict):
        return "bad_context", f"context is {describe_value(document['context'])}; must be a document"
    return _store_fault(document)


def _store_fault(document: Mapping[str, Any]) -> Fault | None:
    if "_id" in document or any(name.startswith("$") for name in document):
        return "unknown_field", "_id is assigned by the ingester, and names starting with $ are reserved for MongoDB"
    if "id" in document and not _is_text(document["id"]):
        return "bad_id", f"id is {describe_value(document['id'])}; must be text of 1 to {MAX_TEXT_CHARS} characters"
    if "timestamp" in document and not isinstance(document["timestamp"], dt.datetime):
        return "bad_timestamp", f"timestamp is {describe_value(document['timestamp'])}; must be a date"
    return None


def _is_text(value: Any) -> bool:
    # bson.Code is a str too, but not hashable
    return type(value) is str and 0 < len(value) <= MAX_TEXT_CHARS


def describe_value(value: Any) -> str:
    """Return a refused value as text for a message: its type, and the value itself if it is simple, shortened."""
    name = type(value).__name__
    if isinstance(value, str | bytes):
        # A slice is plain text; the repr of bson.Code would include its scope, however deep.
        return f"{name} {value[:57]!r}..." if len(value) > 60 else f"{name} {value[:60]!r}"
    return f"{name} {value!r:.60}" if isinstance(value, int | float | dt.datetime) else name


def _names(names: Iterable[str]) -> str:
    return ", ".join(name[:60] for name in list(names)[:10])


def complete(raw: bytes, document: Mapping[str, Any], now_ms: int) -> bytes:
    """Return `raw` with timestamp and context added if they are missing; the rest is unchanged byte for byte."""
    if "context" not in document:
        raw = _LENGTH.pack(len(raw) + len(_EMPTY_CONTEXT)) + raw[4:-1] + _EMPTY_CONTEXT + b"\x00"
    if "timestamp" not in document:
        raw = _HEADER_AND_DATE(len(raw) + 19, _TIMESTAMP, now_ms) + raw[4:]
    return raw


_KNOWN_FIELDS = _names(sorted(FIELDS))  # made once: a message can have 100,000 documents with another field
