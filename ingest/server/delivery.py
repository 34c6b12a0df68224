"""Recognise requests that clients send again because their answer was lost."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace

from bson.errors import InvalidBSON

from ingest.wire.batch import ReceivedBatch
from ingest.wire.bson_element import has_element, is_framed
from ingest.wire.refusal import Refusal

_LOOKED_AT = 100  # refusals of a request that are searched for an `id`


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
    for refusal in batch.refusals[:_LOOKED_AT]:
        first = refusal.raw[: int.from_bytes(refusal.raw[:4], "little")]
        with contextlib.suppress(InvalidBSON):
            if is_framed(first) and has_element(first, b"id"):
                return True
    return False
