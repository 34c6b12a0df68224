"""Recognise requests that clients send again because their answer was lost."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace

from bson.errors import InvalidBSON

from ingest.wire.batch import ReceivedBatch
from ingest.wire.bson_element import has_element, is_framed
from ingest.wire.refusal import Refusal

_WALKED_BYTES = 2**16  # of refused documents that are searched for an `id`: they may have an element in every two bytes
_ID = b"\x02id\0"
_ID_BYTES = 300  # of an element with one of at most 256 characters of ASCII


def delivered(batch: ReceivedBatch, payload: bytes) -> list[Refusal]:
    """Return the refusals of a request, each with a `delivery` if the request is known when it is sent again.

    That is so if a document of it has an `id`, as all that our own client sends: the same bytes are then a repetition,
    and not another sender's, or the same one's, that are alike.
    """
    if not batch.refusals or not (batch.ids or _has_id(batch)):
        return batch.refusals
    digest = hashlib.sha256(payload).hexdigest()[:32]
    return [replace(refusal, delivery=f"{digest}.{place}") for place, refusal in enumerate(batch.refusals)]


def _has_id(batch: ReceivedBatch) -> bool:
    if any("id" in command for command in batch.commands):
        return True
    left = _WALKED_BYTES
    for refusal in batch.refusals:
        first = refusal.raw[: int.from_bytes(refusal.raw[:4], "little")]
        if not is_framed(first):
            continue
        if _ends_in_id(first):
            return True
        left -= len(first)
        if left < 0:
            return False
        with contextlib.suppress(InvalidBSON):
            if has_element(first, b"id"):
                return True
    return False


def _ends_in_id(document: bytes) -> bool:
    """Return whether the last element is an `id`, where our client puts the one that it makes."""
    place = document.rfind(_ID, -_ID_BYTES)
    value = place + len(_ID) + 4
    return place > 0 and len(document) == value + int.from_bytes(document[value - 4 : value], "little") + 1
