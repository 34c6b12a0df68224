"""Turn stored events back into events to send; the ingester accepts them without checking their fields."""

from __future__ import annotations

import hashlib

import bson
from bson import ObjectId

from .batch import ReceivedBatch
from .bson_document import RESTORED
from .bson_element import assembled, elements, text_element
from .bson_reader import read_message

_COMMAND = text_element("$command", RESTORED)
_OBJECT_ID = b"\x07"  # its type in BSON


def restored(raw: bytes) -> bytes:
    """Return a stored event to send, without `_id`, and with an `id` so that sending it twice is harmless.

    One without a timestamp, of another collection, gets that of an ObjectId in `_id`. Raise
    `bson.errors.InvalidBSON` if it is malformed.
    """
    found = {name: raw[start:end] for name, start, end in elements(raw)}
    key = found.pop(b"_id", b"")
    if b"timestamp" not in found and (moment := timestamp_of(key)):
        found[b"timestamp"] = moment
    if b"id" not in found:
        found[b"id"] = text_element("id", hashlib.sha256(raw).hexdigest()[:32])
    return assembled(_COMMAND, *found.values())


def timestamp_of(key: bytes) -> bytes:
    """Return the element `timestamp` for the element `_id` of a document: when its ObjectId was made; empty if none."""
    if key[:1] != _OBJECT_ID:
        return b""
    return bson.encode({"timestamp": ObjectId(key[-12:]).generation_time})[4:-1]


def fault_of_stored(raw: bytes) -> str:
    """Return why an ingester would refuse a stored event; empty if it would accept it."""
    batch = ReceivedBatch("restore")
    read_message(restored(raw), batch, 0)
    return "; ".join(f"{refusal.code}: {refusal.message}" for refusal in batch.refusals)
