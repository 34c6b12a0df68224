"""Prepare events for `AcknowledgedClient`: encode them, add an `id`, and reject those that could never be delivered."""

from __future__ import annotations

import uuid

import bson
from bson.errors import InvalidBSON

from ..exceptions import EventTooLargeError
from ..wire.bson_element import assembled, has_element, is_framed, text_element
from ..wire.event import MAX_MESSAGE_BYTES
from .push import Event


def prepared(event: Event) -> bytes:
    """Return the event as BSON with an `id`, so that sending it again stores nothing twice.

    Raise an error from `bson.errors` if BSON cannot hold the event or its bytes are not one document, and
    `EventTooLargeError` if no receiver would accept it.
    """
    if isinstance(event, bytes):
        raw = _with_id(event)
    else:
        raw = bson.encode(event if "id" in event else {**event, "id": uuid.uuid4().hex})
    if len(raw) > MAX_MESSAGE_BYTES:
        raise EventTooLargeError(
            f"an event of {len(raw)} bytes cannot be sent: the limit is {MAX_MESSAGE_BYTES} for a message, and 1 MiB "
            "for an event"
        )
    return raw


def _with_id(raw: bytes) -> bytes:
    if not is_framed(raw):
        raise InvalidBSON(f"{raw[:20]!r}...: not one document: the length prefix does not match these {len(raw)} bytes")
    try:
        named = has_element(raw, b"id")
    except InvalidBSON:  # it can be delivered: the ingester quarantines it with the reason
        return raw
    return raw if named else assembled(raw[4:-1], text_element("id", uuid.uuid4().hex))
