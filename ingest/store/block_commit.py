"""Commit one block in one transaction: its events, its refused input and its verdict, all or nothing.

Choosing blocks and retrying is left to `ingest.server.committer`.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import bson
from bson.binary import Binary
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from ingest.exceptions import StoreChangedError
from ingest.journal.block import Block
from ingest.journal.record import RecordKind, read_events
from ingest.store.connection import DURABLE, Document
from ingest.store.store import QUARANTINE, VERDICT, Reservation, verdict_key
from ingest.wire.bson_element import split_documents
from ingest.wire.refusal import Refusal

QUARANTINE_MAX_COUNT = 100_000  # documents kept in quarantine; any more are only counted
QUARANTINE_MAX_BYTES = 256 * 2**20
_ID = struct.Struct("<i5sq").pack  # length, element, value
_ID_ELEMENT = b"\x12_id\x00"
_ID_BYTES = 13
_DUPLICATE = 11000
# Permanent errors of single documents: BadValue, InvalidBSON, DollarPrefixedFieldName, DottedFieldName, InvalidIdField,
# EmptyFieldName, DocumentValidationFailure, BSONObjectTooLarge, Location17280 (key too large), and Overflow (nested too
# deep). Every other error concerns the server and is retried.
# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
REFUSED_CODES = frozenset({2, 15, 22, 52, 53, 56, 57, 121, 10334, 17280})
# With these MongoDB rejects a whole command without naming the document at fault: Overflow (nested deeper than 200,
# references and scopes of code included) and InvalidBSON (such as a boolean with the value 2).
UNREADABLE_CODES = frozenset({15, 22})
MOST_MESSAGE_CHARS = 500  # kept of MongoDB's message, which can name every level of a deep document
LOOKUP_COUNT = 5_000  # ids per query


@dataclass(frozen=True, slots=True)
class Verdict:
    """The final outcome of a block: events stored, duplicates skipped, and input quarantined; or revoked."""

    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0
    revoked: bool = False  # the block was released without being committed

    @classmethod
    def from_document(cls, document: Document) -> Verdict:
        if document.get("revoked"):
            return cls(revoked=True)
        return cls(document["stored"], document["duplicates"], document["quarantined"])

    @property
    def received(self) -> int:
        """Return the number of events and refused documents in the block."""
        return self.stored + self.duplicates + self.quarantined


@dataclass(slots=True)
class BlockContent:
    """A block's events and refusals, and the faults of single events found while committing it."""

    events: list[bytes] = field(default_factory=list)  # raw BSON without `_id`
    ids: dict[int, str] = field(default_factory=dict)  # index in `events` -> the producer's id
    refusals: list[bytes] = field(default_factory=list)  # quarantine documents, encoded
    refused_count: int = 0  # documents that these stand for
    duplicates: set[int] = field(default_factory=set)  # indexes of events that are already stored
    refused: dict[int, Refusal] = field(default_factory=dict)  # index -> refusal of an event that MongoDB rejected

    @classmethod
    def of(cls, block: Block) -> BlockContent:
        content = cls()
        for record in block.records:
            if record.kind is RecordKind.REFUSALS:
                content.refusals += split_documents(record.payload)
                content.refused_count += record.count
                continue
            events, ids = read_events(record)
            base = len(content.events)
            content.ids.update((base + index, id_) for index, id_ in enumerate(ids) if id_ is not None)
            content.events += events
        content.drop_repeated_ids()
        return content

    def drop_repeated_ids(self) -> None:
        """Mark all but the first event with the same id as duplicates."""
        first: dict[str, int] = {}
        for index, id_ in self.ids.items():
            if first.setdefault(id_, index) != index:
                self.duplicates.add(index)

    def kept(self) -> list[int]:
        """Return the indexes of the events to insert."""
        return [i for i in range(len(self.events)) if i not in self.duplicates and i not in self.refused]

    def documents(self, first: int) -> tuple[list[int] | range, list[RawBSONDocument]]:
        """Return index and document of each event to insert; the event at index i gets `first + i` as `_id`."""
        events, pack = self.events, _ID
        if not self.duplicates and not self.refused:
            return range(len(events)), [
                RawBSONDocument(pack(len(raw) + _ID_BYTES, _ID_ELEMENT, id_) + raw[4:])
                for id_, raw in enumerate(events, first)
            ]
        kept = self.kept()
        return kept, [
            RawBSONDocument(pack(len(events[i]) + _ID_BYTES, _ID_ELEMENT, first + i) + events[i][4:]) for i in kept
        ]


def _refused(message: str, code: int | None, event: bytes) -> Refusal:
    return Refusal("refused_by_store", f"MongoDB: {message:.{MOST_MESSAGE_CHARS}} ({code})", event)


class RetryTransactionError(Exception):
    """A producer's id was stored in the meantime, or MongoDB refused one event: the transaction must be repeated."""


class BlockCommit:
    """Commit blocks one after another in one session. Blocking; each thread needs its own instance.

    Keep using the instance after a MongoDB error: the next transaction has a higher number in the same session, which
    makes the server abort the previous one if it is still open, and refuse its late commands
    (https://github.com/mongodb/specifications/blob/master/source/transactions/transactions.md).
    """

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._session = database.client.start_session()
        self._expect_duplicates = False  # the last block had some: look ids up before inserting

    @property
    def session_id(self) -> Binary:
        """Return the server's id of the session, by which another process can end it if this one dies."""
        found: Binary = self._session.session_id["id"]
        return found

    def serves(self, database: Database[Document]) -> bool:
        """Return whether `database` uses the same client."""
        return database.client is self._database.client

    def close(self) -> None:
        self._session.end_session()

    def run(self, reservation: Reservation, content: BlockContent, *, first_try: bool = False) -> Verdict:
        """Commit `content` under the reserved ids and return its verdict, or the one it already has.

        `first_try` skips the search for that verdict, which cannot exist if the ids were reserved just now. Raise
        `pymongo.errors.PyMongoError` if nothing was committed or the outcome is unknown: call it again. Raise
        `StoreChangedError` if one of the reserved ids is already in use.
        """
        if not first_try and (verdict := self.verdict_of(reservation)):
            return verdict
        self._look_up(reservation, content, newest=self._expect_duplicates)
        while True:
            try:
                verdict = self._transaction(reservation, content)
            except RetryTransactionError:
                if verdict := self.verdict_of(reservation):
                    return verdict
                self._look_up(reservation, content, newest=True)
            except OperationFailure as error:
                if error.code not in UNREADABLE_CODES or not self._single_out(reservation, content):
                    raise
            else:
                self._expect_duplicates = verdict.duplicates > 0
                return verdict

    def verdict_of(self, reservation: Reservation) -> Verdict | None:
        """Return the block's verdict, or None if it has none yet."""
        found = self._database[VERDICT].find_one(verdict_key(reservation.block))
        return Verdict.from_document(found) if found else None

    def _look_up(self, reservation: Reservation, content: BlockContent, *, newest: bool) -> None:
        """Mark events whose id is already stored as duplicates; search the block's own partition only if `newest`."""
        wanted = {id_: index for index, id_ in content.ids.items() if index not in content.duplicates}
        if not wanted:
            return
        own = reservation.partition
        names = [p.name for p in reservation.partitions if p.first_id < own.first_id or (newest and p == own)]
        for name in names:
            for some in _slices(list(wanted), LOOKUP_COUNT):
                found = self._database[name].find({"id": {"$in": some}}, {"_id": 0, "id": 1}).hint("id")
                content.duplicates.update(wanted[document["id"]] for document in found)

    def _single_out(self, reservation: Reservation, content: BlockContent) -> bool:
        """Record the events that make MongoDB reject their whole command; return whether there are any.

        An ordinary event is tried first: if MongoDB rejects that too, the cause is not in the events.
        """
        ordinary = RawBSONDocument(bson.encode({"_id": Int64(reservation.first), "type": "ordinary"}))
        if self._trial(reservation, [ordinary]) is not None:
            return False
        indexes, documents = content.documents(reservation.first)
        waiting = [list(zip(indexes, documents, strict=True))]
        found: dict[int, Refusal] = {}
        while waiting:
            some = waiting.pop()
            error = self._trial(reservation, [document for _, document in some])
            if error is None:
                continue
            if len(some) == 1:
                index = some[0][0]
                found[index] = _refused(str(error), error.code, content.events[index])
            else:
                waiting += [some[: len(some) // 2], some[len(some) // 2 :]]
        content.refused.update(found)
        return bool(found)

    def _trial(self, reservation: Reservation, documents: list[RawBSONDocument]) -> OperationFailure | None:
        """Insert `documents` and abort; return MongoDB's error if it rejects the whole command."""
        session = self._session
        with session.start_transaction():
            try:
                self._insert(reservation, documents)
            except OperationFailure as error:
                if error.code in UNREADABLE_CODES:
                    return error
                raise
            finally:
                if session.in_transaction:
                    session.abort_transaction()
        return None

    def _transaction(self, reservation: Reservation, content: BlockContent) -> Verdict:
        indexes, documents = content.documents(reservation.first)
        session = self._session
        with session.start_transaction(write_concern=DURABLE):  # commits on exit, aborts on an error
            try:
                reply = self._insert(reservation, documents) if documents else {}
                for error in reply.get("writeErrors", ()):
                    self._explain(reservation, content, indexes[error["index"]], error)
                self._insert_refusals(reservation, content)
                verdict = Verdict(
                    stored=len(documents),
                    duplicates=len(content.duplicates),
                    quarantined=content.refused_count + len(content.refused),
                )
                self._database[VERDICT].insert_one(_document(reservation, verdict), session=session)
            except DuplicateKeyError:
                raise RetryTransactionError from None
        return verdict

    def _insert(self, reservation: Reservation, documents: list[RawBSONDocument]) -> Document:
        """Insert up to the first document that MongoDB refuses. Return its reply."""
        command = {"insert": reservation.partition.name, "documents": documents, "ordered": True}
        return self._database.command(command, session=self._session)

    def _explain(self, reservation: Reservation, content: BlockContent, index: int, error: Document) -> None:
        """Record a fault of the event at `index` and raise `RetryTransactionError`; raise any other error as it is."""
        code, message = error["code"], error.get("errmsg", "")
        pattern = list(error.get("keyPattern", ()))
        if code == _DUPLICATE and pattern == ["_id"]:
            raise StoreChangedError(
                f"id {reservation.first + index} was just reserved but is already in {reservation.partition.name}: "
                "the database was restored, or another program wrote to it; run `manage.py doctor`"
            )
        if code == _DUPLICATE and pattern == ["id"]:
            raise RetryTransactionError
        if code == _DUPLICATE or code in REFUSED_CODES:
            content.refused[index] = _refused(message, code, content.events[index])
            raise RetryTransactionError
        raise PyMongoError(f"MongoDB refuses to insert into {reservation.partition.name}: {message} ({code})")

    def _insert_refusals(self, reservation: Reservation, content: BlockContent) -> None:
        refused = [
            refusal.to_document("store", dt.datetime.now(dt.UTC)) for _, refusal in sorted(content.refused.items())
        ]
        refusals = [*map(bson.decode, content.refusals), *refused]
        space = self._quarantine_space() if refusals else 0
        journal, number = reservation.block
        documents = [
            {"_id": {"j": journal, "s": Int64(number), "i": index}} | refusal for index, refusal in enumerate(refusals)
        ]
        if documents[:space]:
            self._database[QUARANTINE].insert_many(documents[:space], session=self._session)

    def _quarantine_space(self) -> int:
        statistics = self._database.command("collStats", QUARANTINE)
        if statistics.get("size", 0) >= QUARANTINE_MAX_BYTES:
            return 0
        return max(0, QUARANTINE_MAX_COUNT - int(statistics.get("count", 0)))


def _document(reservation: Reservation, verdict: Verdict) -> Document:
    return {
        **verdict_key(reservation.block),
        "from": Int64(reservation.bounds.first),
        "to": Int64(reservation.bounds.last),
        "first": Int64(reservation.first),
        "stored": verdict.stored,
        "duplicates": verdict.duplicates,
        "quarantined": verdict.quarantined,
    }


def _slices(values: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
