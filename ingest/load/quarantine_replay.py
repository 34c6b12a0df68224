"""Send quarantined input again through the acknowledged socket, as it is or mended."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.binary import Binary
from pymongo import UpdateOne
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.client.receipt import places_of
from ingest.exceptions import IngestError
from ingest.load.quarantine_input import MendError, document_count, documents_of, mended_of, why_unreadable
from ingest.store import quarantine
from ingest.store.connection import Document
from ingest.store.quarantine import key_text
from ingest.store.store import QUARANTINE
from ingest.turn import NO_PAUSE, Turn
from ingest.wire.batch import ReceivedBatch
from ingest.wire.bson_reader import read_message
from ingest.wire.json_reader import encode_event
from ingest.wire.refusal import RefusedValueError, stands_for_several

REQUEST_ENTRIES = 500  # with one document each
REQUEST_BYTES = 4 * 2**20  # of the input of such entries, unless one has more


class UnknownEntryError(IngestError, code="unknown_entry"):
    """No quarantine entry has this key."""


@dataclass(frozen=True, slots=True)
class ReplayedEntry:
    """The result of replaying one entry."""

    key: Mapping[str, Any]
    accepted: bool  # all of its documents
    message: str
    accepted_count: int  # of its documents
    refused_count: int

    @classmethod
    def of_one(cls, key: Mapping[str, Any], refusal: str = "") -> ReplayedEntry:
        """Return the result for an entry of one document, with the reason if that was refused."""
        return cls(key, not refusal, refusal or "accepted", 0 if refusal else 1, 1 if refusal else 0)


def keep_mended(database: Database[Document], key: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Keep a mended document for a later replay. Raise `MendError` if it is not a valid event yet."""
    entry = _found(database, key)
    raw, _ = _mended_event(entry, document)
    database[QUARANTINE].update_one({"_id": entry["_id"]}, {"$set": {"mended": Binary(raw)}})


def replay_all(
    database: Database[Document],
    client: AcknowledgedClient,
    entries: Iterable[Mapping[str, Any]],
    *,
    mended: Mapping[str, Any] | None = None,
    by: str = "",
    turn: Turn = NO_PAUSE,
) -> Iterator[ReplayedEntry]:
    """Send entries again, each as it was mended or as it is, and yield their outcomes; `turn` is called in between.

    An event keeps its `id`, or gets one made of the entry's key, so that it is stored once however often it is
    replayed; a replay under another `id` is refused. Input that still breaks the rules is not sent. Of an entry that
    stands for several documents, each is read by itself, and those that are events now are sent; the entry counts as
    replayed once all are. `by` is recorded with the time. Raise `DeliveryError` if no ingester accepts a batch: entries
    that were yielded before are replayed, and replaying all of them again is harmless.
    """
    note = {"by": by} if by else {}
    for batch in _batches(entries):
        if mended is None and stands_for_several(batch[0]):
            yield _replay_documents(database, client, batch[0], note, turn)
        else:
            yield from _replay_batch(database, client, batch, mended, note, turn)


def _batches(entries: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield entries that are sent together, within the limits; one that stands for several documents is alone."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    for entry in entries:
        entry_size, alone = len(entry.get("raw", b"")), stands_for_several(entry)
        if batch and (alone or len(batch) >= REQUEST_ENTRIES or size + entry_size > REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        if alone:
            yield [entry]
        else:
            batch.append(entry)
            size += entry_size
    if batch:
        yield batch


def _replay_batch(
    database: Database[Document],
    client: AcknowledgedClient,
    batch: Sequence[Mapping[str, Any]],
    mended: Mapping[str, Any] | None,
    note: Mapping[str, Any],
    turn: Turn,
) -> Iterator[ReplayedEntry]:
    ready: list[tuple[Mapping[str, Any], bytes, str]] = []
    for entry in batch:
        turn()
        try:
            ready.append((entry, *_mended_event(entry, mended if mended is not None else mended_of(entry))))
        except MendError as error:
            yield ReplayedEntry.of_one(entry["_id"], str(error))
    sent: list[Mapping[str, Any]] = []
    events: list[bytes] = []
    claimed = _claim(database, [(entry["_id"], event_id) for entry, _, event_id in ready])
    for entry, raw, event_id in ready:
        under = claimed.get(key_text(entry["_id"]), event_id)
        if under == event_id:
            sent.append(entry)
            events.append(raw)
        else:
            reason = f"it was replayed under id {under!r}: another id would store it twice"
            yield ReplayedEntry.of_one(entry["_id"], reason)
    receipt = client.send(events)
    rejected = {index: refusal["message"] for refusal in receipt.rejected for index in places_of(refusal)}
    accepted = [entry["_id"] for index, entry in enumerate(sent) if index not in rejected]
    _note_replay(database, accepted, note)
    for index, entry in enumerate(sent):
        yield ReplayedEntry.of_one(entry["_id"], rejected.get(index, ""))


def _replay_documents(
    database: Database[Document],
    client: AcknowledgedClient,
    entry: Mapping[str, Any],
    note: Mapping[str, Any],
    turn: Turn,
) -> ReplayedEntry:
    """Replay an entry of several documents: send those that are events now, each under its own id."""
    events: list[bytes] = []
    reasons: list[str] = []
    try:
        documents = list(documents_of(entry, turn))
    except MendError as error:
        return ReplayedEntry(entry["_id"], False, str(error), 0, document_count(entry))
    for number, document in enumerate(documents):
        turn()
        try:
            if isinstance(document, str):
                raise MendError(document)  # noqa: TRY301 - one place for both kinds of refusal
            events.append(_event(document, f"quarantine:{key_text(entry['_id'])}:{number}")[0])
        except MendError as error:
            reasons.append(str(error))
    receipt = client.send(turn.between(events))
    refused = len(reasons) + len(events) - receipt.accepted
    reasons += [refusal["message"] for refusal in receipt.rejected]
    if not refused:
        _note_replay(database, [entry["_id"]], note)
        return ReplayedEntry(entry["_id"], True, "accepted", receipt.accepted, 0)
    message = f"{receipt.accepted} of its documents accepted, {refused} still refused, the first of these: {reasons[0]}"
    return ReplayedEntry(entry["_id"], False, message, receipt.accepted, refused)


def _note_replay(database: Database[Document], keys: Sequence[Any], note: Mapping[str, Any]) -> None:
    replayed = {"replayed": dt.datetime.now(dt.UTC), **note}
    database[QUARANTINE].update_many({"_id": {"$in": list(keys)}}, {"$set": replayed})


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


def _mended_event(entry: Mapping[str, Any], mended: Mapping[str, Any] | None) -> tuple[bytes, str]:
    """Return the event to send for an entry, and its `id`. Raise `MendError` if it breaks the rules."""
    if stands_for_several(entry):
        count = document_count(entry)
        what = f"stands for {count} documents, which are replayed as they are" if count > 1 else "is cut out of others"
        raise MendError(f"the entry {what}: download them, mend the file, and load it")
    if mended is None:
        raise MendError(why_unreadable(entry.get("raw", b"")))
    return _event(mended, f"quarantine:{key_text(entry['_id'])}")


def _event(given: Mapping[str, Any], default_id: str) -> tuple[bytes, str]:
    """Return a document as the event to send, and its `id`. Raise `MendError` if it breaks the rules."""
    document = dict(given)
    document.setdefault("id", default_id)
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
