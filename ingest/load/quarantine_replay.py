"""Read quarantined input, mend it, and send it again through the acknowledged socket."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.binary import Binary
from bson.errors import BSONError
from bson.int64 import Int64
from bson.json_util import RELAXED_JSON_OPTIONS, dumps
from pymongo import UpdateOne
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.exceptions import IngestError
from ingest.load.quarantine_text import read_mended
from ingest.store import quarantine
from ingest.store.connection import Document
from ingest.store.quarantine import key_text
from ingest.store.store import QUARANTINE
from ingest.wire.batch import ReceivedBatch
from ingest.wire.bson_reader import read_message
from ingest.wire.codec import decode
from ingest.wire.json_reader import encode_event
from ingest.wire.json_value import loads
from ingest.wire.refusal import RefusedValueError
from ingest.wire.text_encoding import describe_binary, encoding_of, is_read_as_windows_1252, readable_text
from ingest.wire.time_text import parse_time

REQUEST_ENTRIES = 500
MAX_MENDED_BYTES = 65_536  # longer text that is no document is not put into an edit form


class UnknownEntryError(IngestError, code="unknown_entry"):
    """No quarantine entry has this key."""


class MendError(IngestError, code="still_refused"):
    """The input is still not a valid event. The text says why, `data` has the code."""


@dataclass(frozen=True, slots=True)
class ReplayedEntry:
    """The result of replaying one entry."""

    key: Mapping[str, Any]
    accepted: bool
    message: str


def decoded(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the refused document as far as it can be read, or None if it cannot be."""
    raw = entry.get("raw")
    if raw is None:
        return None
    for read in (loads, decode):
        try:
            value = read(raw)
        except (ValueError, BSONError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def raw_text(raw: bytes) -> str:
    """Return input as text, with a replacement for what is none."""
    return raw.decode(encoding_of(raw), "replace")


def text_to_mend(entry: Mapping[str, Any]) -> str:
    """Return the text of an edit form: what a replay would send, else the input if it is text, or an empty text."""
    mended = mended_of(entry)
    if mended is not None:
        return as_text(mended)
    raw = entry.get("raw", b"")
    return "" if len(raw) > MAX_MENDED_BYTES else readable_text(raw) or ""


def is_offered_as_windows_1252(entry: Mapping[str, Any]) -> bool:
    """Return whether `text_to_mend` takes bytes of the input that are no UTF-8 for Windows-1252, which is a guess."""
    return mended_of(entry) is None and bool(text_to_mend(entry)) and is_read_as_windows_1252(entry["raw"])


def as_text(document: Mapping[str, Any]) -> str:
    """Return the document as extended JSON for an edit form; empty if it is nested too deep to be shown.

    It is the relaxed form, except that small 64-bit integers are marked, so that `from_text` returns the same types
    also without the original.
    """
    try:
        text = dumps(_with_marked_integers(document), indent=2, ensure_ascii=False, json_options=RELAXED_JSON_OPTIONS)
    except RecursionError:
        return ""
    return text.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair: as JSON writes it


def _with_marked_integers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_marked_integers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_marked_integers(item) for item in value]
    if type(value) is Int64 and -(2**31) <= value < 2**31:
        return {"$numberLong": str(int(value))}
    return value


def from_text(text: str, original: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Parse the text of an edit form, as JSON receivers do; what is as in `original` stays so. Raise `MendError`."""
    try:
        shown = "" if original is None else as_text(original)
        value = loads(text) if original is None or not shown else read_mended(text, shown, original)
        if not isinstance(value, dict):
            raise MendError(f"a JSON {type(value).__name__}; must be an object")
        if isinstance(value.get("timestamp"), str):
            value["timestamp"] = parse_time(value["timestamp"])
    except RefusedValueError as error:
        raise MendError(error.args[1]) from None
    except RecursionError:
        raise MendError("objects or arrays are nested too deep") from None
    except ValueError as error:
        raise MendError(f"not JSON: {error}") from None
    return value


def mended_of(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a replay sends: the kept mended document, else the input, or None if that is unreadable."""
    mended = entry.get("mended")
    return decode(mended) if mended is not None else decoded(entry)


def keep_mended(database: Database[Document], key: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Keep a mended document for a later replay. Raise `MendError` if it is not a valid event yet."""
    entry = _found(database, key)
    raw, _ = _event(entry, document)
    database[QUARANTINE].update_one({"_id": entry["_id"]}, {"$set": {"mended": Binary(raw)}})


def replay_all(
    database: Database[Document],
    client: AcknowledgedClient,
    entries: Iterable[Mapping[str, Any]],
    *,
    mended: Mapping[str, Any] | None = None,
    by: str = "",
) -> Iterator[ReplayedEntry]:
    """Send entries again in batches, each as it was mended or as it is, and yield their outcomes.

    An event keeps its `id`, or gets one made of the entry's key, so that it is stored once however often it is
    replayed; a replay under another `id` is refused. Input that still breaks the rules is not sent. `by` is recorded
    with the time. Raise `DeliveryError` if no ingester accepts a batch: entries that were yielded before are replayed,
    and replaying all of them again is harmless.
    """
    waiting = iter(entries)
    while batch := list(itertools.islice(waiting, REQUEST_ENTRIES)):
        ready: list[tuple[Mapping[str, Any], bytes, str]] = []
        for entry in batch:
            try:
                ready.append((entry, *_event(entry, mended if mended is not None else mended_of(entry))))
            except MendError as error:
                yield ReplayedEntry(entry["_id"], False, str(error))
        sent: list[Mapping[str, Any]] = []
        events: list[bytes] = []
        claimed = _claim(database, [(entry["_id"], event_id) for entry, _, event_id in ready])
        for entry, raw, event_id in ready:
            under = claimed.get(key_text(entry["_id"]), event_id)
            if under == event_id:
                sent.append(entry)
                events.append(raw)
            else:
                yield ReplayedEntry(
                    entry["_id"], False, f"it was replayed under id {under!r}: another id would store it twice"
                )
        receipt = client.send(events)
        rejected = {refusal["index"]: refusal["message"] for refusal in receipt.rejected}
        accepted = [entry["_id"] for index, entry in enumerate(sent) if index not in rejected]
        note = {"replayed": dt.datetime.now(dt.UTC)} | ({"by": by} if by else {})
        database[QUARANTINE].update_many({"_id": {"$in": accepted}}, {"$set": note})
        for index, entry in enumerate(sent):
            yield ReplayedEntry(entry["_id"], index not in rejected, rejected.get(index, "accepted"))


def _found(database: Database[Document], key: Mapping[str, Any]) -> Document:
    found = quarantine.find(database, key)
    if found is None:
        raise UnknownEntryError(
            f"there is no quarantine entry {key_text(key)}: it was removed, or the key is mistyped", key=key_text(key)
        )
    return found


def _claim(database: Database[Document], ids: Sequence[tuple[Mapping[str, Any], str]]) -> dict[str, str]:
    """Record the `id` under which each entry is first sent. Return the recorded ids by the entries' `key_text`.

    Done before anything is sent, so that an entry is stored under one id, however often it is mended and replayed.
    """
    if not ids:
        return {}
    entries = database[QUARANTINE]
    first = [UpdateOne({"_id": key, "replay_id": {"$exists": False}}, {"$set": {"replay_id": id_}}) for key, id_ in ids]
    entries.bulk_write(first, ordered=False)
    found = entries.find({"_id": {"$in": [key for key, _ in ids]}}, {"replay_id": 1})
    return {key_text(entry["_id"]): entry["replay_id"] for entry in found}


def _unreadable(raw: bytes) -> str:
    if readable_text(raw) is None:
        return f"the input cannot be read as a document: {describe_binary(raw)}. Download it, and load its events"
    return "the input cannot be read as a document: write the event that it should have been"


def _event(entry: Mapping[str, Any], mended: Mapping[str, Any] | None) -> tuple[bytes, str]:
    """Return the event to send for an entry, and its `id`. Raise `MendError` if it breaks the rules."""
    if mended is None:
        raise MendError(_unreadable(entry.get("raw", b"")))
    document = dict(mended)
    document.setdefault("id", f"quarantine:{key_text(entry['_id'])}")
    try:
        raw = encode_event(document)
    except RefusedValueError as error:
        raise MendError(f"{error.args[0]}: {error.args[1]}", fault=error.args[0]) from None
    checked = ReceivedBatch("quarantine")
    read_message(raw, checked, 0)
    if checked.refusals:
        refusal = checked.refusals[0]
        raise MendError(f"{refusal.code}: {refusal.message}", fault=refusal.code)
    return raw, document["id"]
