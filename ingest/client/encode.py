"""Makes events ready to be sent so that they must be answered: encoded, with an `id`, and such as a door can read."""

from __future__ import annotations

import uuid

import bson
from bson.errors import InvalidBSON

from .push import Event
from ..exceptions import EventTooLargeError
from ..wire.bson_element import assembled, has_element, is_framed, text_element
from ..wire.event import MAX_MESSAGE_BYTES


def prepared(event: Event) -> bytes:
    """The event as BSON, with an `id`, so that sending it again stores nothing twice.

    Raises `bson.errors` for what BSON cannot hold and for bytes that are not one document, and `EventTooLargeError` for
    what no door takes: neither could ever be delivered.
    """
    raw = _with_id(event) if isinstance(event, bytes) else _encoded(event)
    if len(raw) > MAX_MESSAGE_BYTES:
        raise EventTooLargeError(
            f"an event of {len(raw)} bytes cannot be sent: a message has {MAX_MESSAGE_BYTES} at most, and an event "
            "should have far less (1 MiB)"
        )
    return raw


def _encoded(event: Event) -> bytes:
    assert not isinstance(event, bytes)
    return bson.encode(event if "id" in event else {**event, "id": uuid.uuid4().hex})


def _with_id(raw: bytes) -> bytes:
    if not is_framed(raw):
        raise InvalidBSON(f"{raw[:20]!r}...: the length in it is not that of these {len(raw)} bytes: not one document")
    try:
        named = has_element(raw, b"id")
    except InvalidBSON:  # it can be delivered: the ingester will say what is wrong inside, and keep it
        return raw
    return raw if named else assembled(raw[4:-1], text_element("id", uuid.uuid4().hex))
