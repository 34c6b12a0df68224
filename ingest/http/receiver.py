"""Read JSON from HTTP bodies and send the events to the ingester's acknowledged socket."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from ingest.client import AcknowledgedClient
from ingest.exceptions import BodyError, DeliveryError
from ingest.wire import json_value
from ingest.wire.event import fault_of
from ingest.wire.json_reader import JsonInput, decoded, encode_event, split_message
from ingest.wire.refusal import Refusal, RefusedValueError
from ingest.wire.text_encoding import escaped_bytes, to_escaped_text, to_text

MAX_EVENTS = 100_000  # in one request
TIMEOUT_S = 5.0

_lock = threading.Lock()
_client: AcknowledgedClient | None = None


def send(body: bytes) -> dict[str, Any]:
    """Journal the events in `body` and return `{accepted, rejected: [{index, code, message}]}`, sorted by index.

    Block until they are on the ingester's disk. Raise `BodyError` for an empty body or too many events, `BusyError` if
    the journal is full, and `DeliveryError` if the ingester does not answer; a retry of events with ids is harmless.
    """
    values = _read(body)
    refused: list[Refusal] = []
    documents: list[bytes] = []
    places: list[int] = []
    raws = _OriginalItems(body)
    for each in values:
        try:
            if each.fault is not None:
                raise RefusedValueError(*each.fault)  # noqa: TRY301 - one place for both kinds of refusal
            documents.append(_encode(each.value))
            places.append(each.index)
        except RefusedValueError as error:
            refused.append(Refusal(error.args[0], error.args[1], each.raw or raws[each.index], each.index))
    if refused:
        _connected().refuse(refused)
    rejected = [refusal.to_wire() for refusal in refused]
    accepted = 0
    if documents:
        receipt = _connected().send(documents)
        accepted = receipt.accepted
        rejected += [{**item, "index": places[item["index"]]} for item in receipt.rejected]
    return {"accepted": accepted, "rejected": sorted(rejected, key=lambda item: item["index"])}


class _OriginalItems:
    """The items of a body that is a list, as they were sent, else the whole body; found when one is asked for."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._items: list[str] | None = None

    def __getitem__(self, index: int) -> bytes:
        if self._items is None:
            self._items = json_value.array_items(to_text(self._body)) or []
        return self._items[index].encode() if index < len(self._items) else self._body


def _read(body: bytes) -> list[JsonInput]:
    """Return the values in `body`; those of a list that can be decoded as a whole without their text."""
    if not body.strip():
        raise BodyError("the body is empty: send an event, a list of events, or one event per line")
    try:
        value = json_value.loads(body)
    except (ValueError, RecursionError):
        found = _one_by_one(body)
    else:
        many = isinstance(value, list)
        found = [JsonInput(n, b"", item) for n, item in enumerate(value)] if many else [JsonInput(0, body, value)]
    _check_count(found)
    return found


def _one_by_one(body: bytes) -> list[JsonInput]:
    """Read the items of a list, or the lines, of a body that cannot be read as a whole, so that the good ones count."""
    items = json_value.array_items(to_escaped_text(body))
    return split_message(body) if items is None else [decoded(n, escaped_bytes(item)) for n, item in enumerate(items)]


def _check_count(values: Sequence[Any]) -> None:
    if len(values) > MAX_EVENTS:
        raise BodyError(f"{len(values)} events at once are too many: send at most {MAX_EVENTS}")


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
