"""Read JSON from HTTP bodies and send the events to the ingester's acknowledged socket."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import bson
from bson.errors import BSONError
from django.conf import settings

from ingest.client import AcknowledgedClient
from ingest.exceptions import BodyError, DeliveryError
from ingest.wire import json_reader
from ingest.wire.refusal import Refusal

MAX_EVENTS = 100_000  # in one request
TIMEOUT_S = 5.0

_lock = threading.Lock()
_client: AcknowledgedClient | None = None


def send(body: bytes) -> dict[str, Any]:
    """Journal the events in `body` and return `{accepted, rejected: [{index, code, message}]}`, sorted by index.

    Block until they are on the ingester's disk. Raise `BodyError` for an empty body or too many events, `BusyError` if
    the journal is full, and `DeliveryError` if the ingester does not answer; a retry of events with ids is harmless.
    """
    values, refused = _read(body)
    documents: list[bytes] = []
    places: list[int] = []
    for index, value in values:
        try:
            documents.append(_encode(value))
            places.append(index)
        except _RefusedError as error:
            refused.append(Refusal(error.code, str(error), _raw(value, body), index))
    if refused:
        _connected().refuse(refused)
    rejected = [refusal.to_wire() for refusal in refused]
    accepted = 0
    if documents:
        receipt = _connected().send(documents)
        accepted = receipt.accepted
        rejected += [{**item, "index": places[item["index"]]} for item in receipt.rejected]
    return {"accepted": accepted, "rejected": sorted(rejected, key=lambda item: item["index"])}


def _raw(value: Any, body: bytes) -> bytes:
    """Return one value of `body` as JSON again, or the whole body if that is impossible."""
    try:
        return json.dumps(value, default=str).encode()
    except (ValueError, RecursionError):
        return body


class _RefusedError(Exception):
    """A value that cannot be sent as an event. All other checks are the ingester's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _read(body: bytes) -> tuple[list[tuple[int, Any]], list[Refusal]]:
    """Return `(index, value)` for what is JSON, and refusals for what is not."""
    if not body.strip():
        raise BodyError("the body is empty: send an event, a list of events, or one event per line")
    try:
        value = json_reader.loads(body)
    except (ValueError, RecursionError) as error:
        return _one_by_one(body, error)
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_EVENTS:
        raise BodyError(f"{len(values)} events at once are too many: send at most {MAX_EVENTS}")
    return list(enumerate(values)), []


def _one_by_one(body: bytes, error: Exception) -> tuple[list[tuple[int, Any]], list[Refusal]]:
    """Read the items of a list, or the lines, of a body that cannot be read as a whole; keep the good ones."""
    pieces: list[bytes]
    try:
        value = json.loads(body)
        pieces = [json.dumps(item).encode() for item in value] if isinstance(value, list) else []
    except (ValueError, RecursionError):
        pieces = [line for line in body.splitlines() if line.strip()]
    if len(pieces) < 2 and not isinstance(error, json_reader.DateError):
        return [], [_refusal(0, error, body)]
    good, refused = [], []
    for index, piece in enumerate(pieces or [body]):
        try:
            good.append((index, json_reader.loads(piece)))
        except (ValueError, RecursionError) as fault:
            refused.append(_refusal(index, fault, piece))
    return good, refused


def _refusal(index: int, error: Exception, raw: bytes) -> Refusal:
    if isinstance(error, json_reader.DateError):
        code, message = error.args
    elif isinstance(error, RecursionError):
        code, message = "nested_too_deep", "objects or arrays are nested too deep"
    else:
        code, message = "bad_json", f"not JSON in UTF-8: {error}"
    return Refusal(code, message, raw, index)


def _encode(value: Any) -> bytes:
    """Return a value as BSON for the ingester to check. Raise `_RefusedError` if BSON cannot hold it."""
    if not isinstance(value, dict):
        raise _RefusedError("not_a_document", f"a JSON {type(value).__name__}; must be an object")
    if "$command" in value:
        raise _RefusedError("unknown_command", "commands are not accepted over HTTP")
    try:
        if isinstance(value.get("timestamp"), str):
            value["timestamp"] = json_reader.parse_iso(value["timestamp"])
        if "id" not in value:
            value["id"] = uuid.uuid4().hex  # makes the client's retry after a time-out harmless
        return bson.encode(value)
    except json_reader.DateError as error:
        raise _RefusedError(*error.args) from None
    except RecursionError:
        raise _RefusedError("nested_too_deep", "objects or arrays are nested too deep") from None
    except (BSONError, OverflowError, ValueError, TypeError) as error:
        raise _RefusedError("bad_json", f"cannot be stored as BSON: {error}") from None


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
