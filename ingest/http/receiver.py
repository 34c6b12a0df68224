"""Read JSON from HTTP bodies and send the events to the ingester's acknowledged socket."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterator
from typing import Any

from django.conf import settings

from ingest.client import AcknowledgedClient
from ingest.client.receipt import moved
from ingest.exceptions import BodyError, DeliveryError
from ingest.turn import NO_PAUSE, Turn, sleeping_turn
from ingest.wire.event import fault_of
from ingest.wire.json_reader import JsonInput, decoded, encode_event, split_message
from ingest.wire.json_value import array_items
from ingest.wire.refusal import Refusal, RefusedValueError, gathered
from ingest.wire.text_encoding import to_utf_8

TIMEOUT_S = 5.0

_lock = threading.Lock()
_client: AcknowledgedClient | None = None


def send(body: bytes) -> dict[str, Any]:
    """Journal the events in `body` and return `{accepted, rejected: [{index, code, message}]}`, sorted by index.

    One of `rejected` that stands for several events has their `count`, and `indexes` if they are not too many. Block
    until all are on the ingester's disk, and let other requests run now and then. Raise `BodyError` for an empty body,
    `TooManyDocumentsError` (then nothing is journalled), `BusyError` if the journal is full, and `DeliveryError` if the
    ingester does not answer; a retry of events with ids is harmless.
    """
    turn = sleeping_turn()
    refused: list[Refusal] = []
    documents: list[bytes] = []
    places: list[int] = []
    has_ids = False
    for each in _read(body, turn):
        has_ids = has_ids or (isinstance(each.value, dict) and "id" in each.value)
        try:
            if each.fault is not None:
                raise RefusedValueError(*each.fault)  # noqa: TRY301 - one place for both kinds of refusal
            documents.append(_encode(each.value))
            places.append(each.index)
        except RefusedValueError as error:
            refused.append(Refusal(error.args[0], error.args[1], each.raw, each.index))
        turn()
    refused = gathered(turn.between(refused))
    if refused:
        # If an event has an `id`, the same body is a repetition, of which nothing is quarantined twice either.
        _connected().refuse(refused, hashlib.sha256(body).hexdigest() if has_ids else "")
    rejected = [refusal.to_wire() for refusal in refused]
    accepted = 0
    if documents:
        receipt = _connected().send(turn.between(documents))
        accepted = receipt.accepted
        rejected += [moved(refusal, places.__getitem__) for refusal in receipt.rejected]
    return {"accepted": accepted, "rejected": sorted(rejected, key=lambda item: item["index"])}


def _read(body: bytes, turn: Turn = NO_PAUSE) -> Iterator[JsonInput]:
    """Yield the values in `body`, each decoded by itself: the items of a list, or those of a message."""
    if not body.strip():
        raise BodyError("the body is empty: send an event, a list of events, or one event per line")
    text = to_utf_8(body)
    places = array_items(text, turn)
    turn()  # one long value is read in steps of some 80 ms, each one call
    if places is None:
        yield from split_message(body, turn)
        return
    for index, place in enumerate(places):
        yield decoded(index, text[place])


def _encode(value: Any) -> bytes:
    """Return a value as the BSON of an event. Raise `RefusedValueError` if the ingester would refuse it.

    It would keep what it refuses as BSON with an `id`; here it can still be kept as it was sent.
    """
    if isinstance(value, dict):
        if "$command" in value:
            raise RefusedValueError("unknown_command", "commands are not accepted over HTTP")
        if "id" not in value:
            value["id"] = uuid.uuid4().hex  # makes the client's retry after a time-out harmless
    event = encode_event(value)
    if fault := fault_of(value, event):
        raise RefusedValueError(*fault)
    return event


def _connected() -> AcknowledgedClient:
    """Return this process's client for the ingester's current address. Raise `DeliveryError` if none is known."""
    global _client
    try:
        address = settings.ZARKOV.connect_address("ack_bind_address")
    except Exception as error:
        if getattr(error, "code", None) is None:
            raise
        raise DeliveryError(f"no ingester is running: {error}") from None
    with _lock:
        if _client is None or _client.addr != address:
            keys = settings.ZARKOV.client_keys()
            _client = AcknowledgedClient(address, timeout_s=TIMEOUT_S, attempts=2, source="http", keys=keys)
        return _client


def close() -> None:
    """Close this process's client; the next event opens another. For tests and the end of the process."""
    global _client
    with _lock:
        held, _client = _client, None
    if held is not None:
        held.close()
