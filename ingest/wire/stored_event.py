"""Turn stored events back into events to send; the ingester accepts them without checking their fields."""

from __future__ import annotations

import hashlib

from .batch import ReceivedBatch
from .bson_element import assembled, elements, text_element
from .bson_reader import RESTORED, read_message

_COMMAND = text_element("$command", RESTORED)


def restored(raw: bytes) -> bytes:
    """Return a stored event ready to send: unchanged except that `_id` is removed and a missing `id` is added, which
    makes restoring it twice harmless. Raise `bson.errors.InvalidBSON` if it is malformed."""
    found = list(elements(raw))
    kept = [raw[start:end] for name, start, end in found if name != b"_id"]
    if all(name != b"id" for name, _, _ in found):
        kept.append(text_element("id", hashlib.sha256(raw).hexdigest()[:32]))
    return assembled(_COMMAND, *kept)


def fault_of_stored(raw: bytes) -> str:
    """Return why an ingester would refuse a stored event; empty if it would accept it."""
    intake = ReceivedBatch("restore")
    read_message(restored(raw), intake, 0)
    return "; ".join(f"{refusal.code}: {refusal.message}" for refusal in intake.refusals)
