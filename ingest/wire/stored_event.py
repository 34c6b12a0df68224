"""Stored events as they are sent to be stored again: what the store holds it takes back, fields unchecked."""

from __future__ import annotations

import hashlib

from .batch import ReceivedBatch
from .bson_element import assembled, elements, text_element
from .bson_reader import RESTORED, read_message

_COMMAND = text_element("$command", RESTORED)


def restored(raw: bytes) -> bytes:
    """A stored event as one to be sent: byte for byte, without `_id`, and with an `id` that makes restoring it twice
    harmless. Raises `bson.errors.InvalidBSON`."""
    found = list(elements(raw))
    kept = [raw[start:end] for name, start, end in found if name != b"_id"]
    if all(name != b"id" for name, _, _ in found):
        kept.append(text_element("id", hashlib.sha256(raw).hexdigest()[:32]))
    return assembled(_COMMAND, *kept)


def fault_of_stored(raw: bytes) -> str:
    """Why an ingester would not take a stored event back; empty when it would."""
    intake = ReceivedBatch("restore")
    read_message(restored(raw), intake, 0)
    return "; ".join(f"{refusal.code}: {refusal.message}" for refusal in intake.refusals)
