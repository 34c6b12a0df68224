"""Reading refused input, mending it and sending it again through the acknowledged socket."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.json_util import RELAXED_JSON_OPTIONS, dumps
from bson.json_util import loads as loads_extended

from ingest import json_wire
from ingest.bson_wire import read_message
from ingest.client import AcknowledgedClient
from ingest.exceptions import IngestError
from ingest.intake import Intake
from ingest.store import QUARANTINE, Store

_ANY_DATE = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_AUTO)


class MendError(IngestError):
    """What was to be replayed is still no event; the text says why, `data` has the code."""

    code = "still_refused"


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of one replay."""

    key: Mapping[str, Any]
    accepted: bool
    message: str


def key_text(key: Mapping[str, Any]) -> str:
    """A quarantine `_id` as text, for an address or a form."""
    return f"{key['j']}.{key['s']}.{key['i']}"


def parse_key(text: str) -> dict[str, Any]:
    """The `_id` that `key_text` wrote. Raises `IngestError`."""
    journal, _, rest = text.partition(".")
    number, _, index = rest.partition(".")
    if not number.isdigit() or not index.isdigit():
        raise IngestError(f"{text!r} is no quarantine key: allowed is JOURNAL.BLOCK.INDEX")
    return {"j": journal, "s": int(number), "i": int(index)}


def decoded(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The refused document as far as it can be read; None when it cannot be."""
    raw = entry.get("raw")
    if raw is None:
        return None
    for read in (json_wire.loads, lambda raw: bson.decode(raw, _ANY_DATE)):
        try:
            value = read(raw)
        except (ValueError, BSONError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def as_text(document: Mapping[str, Any]) -> str:
    """The document as (extended) JSON for an edit form."""
    return dumps(document, indent=2, ensure_ascii=False, json_options=RELAXED_JSON_OPTIONS)


def from_text(text: str) -> dict[str, Any]:
    """What came back from an edit form. Raises `MendError`."""
    try:
        value = loads_extended(text)
    except (ValueError, TypeError, BSONError) as error:
        raise MendError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MendError(f"a JSON {type(value).__name__}; allowed is an object")
    if isinstance(value.get("timestamp"), str):
        try:
            value["timestamp"] = json_wire.parse_iso(value["timestamp"])
        except json_wire.DateError as error:
            raise MendError(error.args[1]) from None
    return value


def replay(
    store: Store, client: AcknowledgedClient, key: Mapping[str, Any], mended: Mapping[str, Any] | None = None
) -> Replay:
    """Send one entry again, as it is or `mended`, and mark it as replayed once it is on the ingester's disk.

    The event keeps its `id`, or gets one made of the key: replayed twice it is stored once. Input that still breaks
    the rules is not sent, so that it does not enter quarantine again. Raises `IngestError` when there is no such
    entry, `DeliveryError` when no ingester takes it.
    """
    found = store.database()[QUARANTINE].find_one({"_id": dict(key)})
    if found is None:
        raise IngestError(f"there is no quarantine entry {key_text(key)}: it was removed, or the key is mistyped")
    try:
        event = _event(found, mended)
    except MendError as error:
        return Replay(key, False, str(error))
    receipt = client.send([event])
    if receipt.accepted != 1:
        return Replay(key, False, receipt.rejected[0]["message"])
    store.database()[QUARANTINE].update_one({"_id": found["_id"]}, {"$set": {"replayed": dt.datetime.now(dt.UTC)}})
    return Replay(key, True, "accepted")


def _event(entry: Mapping[str, Any], mended: Mapping[str, Any] | None) -> bytes:
    document = dict(mended) if mended is not None else decoded(entry)
    if document is None:
        raise MendError("the input cannot be read as a document: write the event that it should have been")
    document.setdefault("id", f"quarantine:{key_text(entry['_id'])}")
    try:
        raw = bson.encode(document)
    except (BSONError, OverflowError, ValueError) as error:
        raise MendError(f"cannot be stored as BSON: {error}") from None
    intake = Intake("quarantine")
    read_message(raw, intake, 0)
    if intake.refusals:
        refusal = intake.refusals[0]
        raise MendError(f"{refusal.code}: {refusal.message}", fault=refusal.code)
    return raw
