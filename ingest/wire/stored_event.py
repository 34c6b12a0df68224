"""Turn stored events back into events to send; the ingester accepts them without checking their fields."""

from __future__ import annotations

import hashlib

from .batch import ReceivedBatch
from .bson_element import assembled, elements, text_element
from .bson_reader import RESTORED, read_message

_COMMAND = text_element("$command", RESTORED)


def restored(raw: bytes) -> bytes:
    """Return a stored event to send, without `_id`, and with an `id` so that sending it twice is harmless.

    Raise `bson.errors.InvalidBSON` if it is malformed.
    """
    found = list(elements(raw))
    kept = [raw[start:end] for name, start, end in found if name != b"_id"]
    if all(name != b"id" for name, _, _ in found):
        kept.append(text_element("id", hashlib.sha256(raw).hexdigest()[:32]))
    return assembled(_COMMAND, *kept)


def fault_of_stored(raw: bytes) -> str:
    """Return why an ingester would refuse a stored event; empty if it would accept it."""
    batch = ReceivedBatch("restore")
    read_message(restored(raw), batch, 0)
    return "; ".join(f"{refusal.code}: {refusal.message}" for refusal in batch.refusals)
