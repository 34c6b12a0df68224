"""Commits one block: its events, its refused input and its verdict, all in one transaction or not at all.

Which blocks there are and when to try again is `ingest.server.committer`'s.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import bson
from bson.binary import Binary
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from ingest.exceptions import StoreChangedError
from ingest.journal.block import Block
from ingest.journal.record import RecordKind, read_events
from ingest.wire.bson_element import split_documents
from ingest.store.connection import DURABLE, Document
from ingest.store.store import QUARANTINE, VERDICT, Reservation
from ingest.wire.refusal import Refusal

QUARANTINE_MAX_COUNT = 100_000  # documents kept in quarantine; beyond that they are only counted
QUARANTINE_MAX_BYTES = 256 * 2**20
_ID = struct.Struct("<i5sq").pack  # length, element, value
_ID_ELEMENT = b"\x12_id\x00"
_ID_BYTES = 13
_DUPLICATE = 11000
# What MongoDB says of one document and would say of it again: BadValue, InvalidBSON, DollarPrefixedFieldName,
# DottedFieldName, InvalidIdField, EmptyFieldName, DocumentValidationFailure, BSONObjectTooLarge, Location17280
# (key too large), and Overflow (nested too deep). Everything else concerns the server, and waits.
# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
REFUSED_CODES = frozenset({2, 15, 22, 52, 53, 56, 57, 121, 10334, 17280})
# For these it refuses to read a whole command, and does not say which of its documents is the cause: Overflow (nested
# deeper than 200, counted over references and scopes of code) and InvalidBSON (a boolean of 2, for one).
UNREADABLE_CODES = frozenset({15, 22})
SHOWN_CHARS = 500  # of what MongoDB says: it may name every level of a deep document
LOOKUP_COUNT = 5_000  # ids per query


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a block's input."""

    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0
    revoked: bool = False

    @classmethod
    def from_document(cls, document: Document) -> Verdict:
        """As it stands in MongoDB."""
        if document.get("revoked"):
            return cls(revoked=True)
        return cls(document["stored"], document["duplicates"], document["quarantined"])

    @property
    def received(self) -> int:
        """Events and refused input in the block."""
        return self.stored + self.duplicates + self.quarantined


@dataclass(slots=True)
class Content:
    """A block's events and refusals, and what was found out about single events on the way."""

    events: list[bytes] = field(default_factory=list)
    ids: dict[int, str] = field(default_factory=dict)  # by index in `events`
    refusals: list[bytes] = field(default_factory=list)
    duplicates: set[int] = field(default_factory=set)  # indexes
    refused: dict[int, Refusal] = field(default_factory=dict)  # by index: MongoDB's refusals

    @classmethod
    def of(cls, block: Block) -> Content:
        """What lies in the records of `block`."""
        content = cls()
        for record in block.records:
            if record.kind is RecordKind.REFUSALS:
                content.refusals += split_documents(record.payload)
                continue
            events, ids = read_events(record)
            base = len(content.events)
            content.ids.update((base + index, id_) for index, id_ in enumerate(ids) if id_ is not None)
            content.events += events
        content.drop_repeated_ids()
        return content

    def drop_repeated_ids(self) -> None:
        """Of events with one id the first stays."""
        first: dict[str, int] = {}
        for index, id_ in self.ids.items():
            if first.setdefault(id_, index) != index:
                self.duplicates.add(index)

    def kept(self) -> list[int]:
        """Indexes of the events that are to be inserted."""
        return [i for i in range(len(self.events)) if i not in self.duplicates and i not in self.refused]

    def documents(self, first: int) -> tuple[list[int] | range, list[RawBSONDocument]]:
        """Index and document of each event to be inserted; the event at index 0 has `_id` first."""
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
    return Refusal("refused_by_store", f"MongoDB: {message:.{SHOWN_CHARS}} ({code})", event)


class RaceError(Exception):
    """An id that was not stored a moment ago is stored now, or MongoDB refused one event: look again."""


class BlockCommit:
    """Commits blocks one after the other in one session. Blocking; one thread each.

    After an error of MongoDB go on with it: the next transaction has a higher number in the same session, so that the
    server gives up the one before, if it is still open there, and refuses what of it comes late
    (https://github.com/mongodb/specifications/blob/master/source/transactions/transactions.md).
    """

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._session = database.client.start_session()
        self._expect_duplicates = False  # the last block had some: look before inserting

    @property
    def session_id(self) -> Binary:
        """Names the session to the server, so that another process can end what this one left undone."""
        found: Binary = self._session.session_id["id"]
        return found

    def serves(self, database: Database[Document]) -> bool:
        """Whether `database` is reached through the same client."""
        return database.client is self._database.client

    def close(self) -> None:
        """End the session."""
        self._session.end_session()

    def run(self, reservation: Reservation, content: Content, *, first_try: bool = False) -> Verdict:
        """Commit `content` under the reserved ids and return its verdict, or the one that it has already.

        `first_try` says that the ids were reserved just now, so that there cannot be a verdict to find. Raises
        `pymongo.errors.PyMongoError` when nothing was committed or nobody knows: call it again. Raises
        `StoreChangedError` when an id that was just given out is taken.
        """
        if not first_try and (verdict := self.verdict_of(reservation)):
            return verdict
        self._look_up(reservation, content, newest=self._expect_duplicates)
        while True:
            try:
                verdict = self._transaction(reservation, content)
            except RaceError:
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
        """The block's verdict, None while it has none."""
        found = self._database[VERDICT].find_one(_key(reservation))
        return Verdict.from_document(found) if found else None

    def _look_up(self, reservation: Reservation, content: Content, *, newest: bool) -> None:
        """Mark events whose id is stored: in older partitions always, in the newest when `newest`."""
        wanted = {id_: index for index, id_ in content.ids.items() if index not in content.duplicates}
        if not wanted:
            return
        own = reservation.partition
        names = [p.name for p in reservation.partitions if p.first_id < own.first_id or (newest and p == own)]
        for name in names:
            for some in _slices(list(wanted), LOOKUP_COUNT):
                found = self._database[name].find({"id": {"$in": some}}, {"_id": 0, "id": 1}).hint("id")
                content.duplicates.update(wanted[document["id"]] for document in found)

    def _single_out(self, reservation: Reservation, content: Content) -> bool:
        """Note the events for whose sake MongoDB reads no command that they are in; return whether there are any.

        An event of ours that it must take comes first: when it refuses that too, the cause lies in no event.
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
        """Insert and take back; return MongoDB's error when it does not even read the command."""
        session = self._session
        with session.start_transaction():
            try:
                self._database.command(
                    {"insert": reservation.partition.name, "documents": documents, "ordered": True}, session=session
                )
            except OperationFailure as error:
                if error.code in UNREADABLE_CODES:
                    return error
                raise
            finally:
                if session.in_transaction:
                    session.abort_transaction()
        return None

    def _transaction(self, reservation: Reservation, content: Content) -> Verdict:
        indexes, documents = content.documents(reservation.first)
        session = self._session
        with session.start_transaction(write_concern=DURABLE):  # leaving it commits, or aborts on an error
            try:
                if documents:
                    self._insert(reservation, content, indexes, documents, session)
                self._insert_refusals(reservation, content, session)
                verdict = Verdict(
                    stored=len(documents),
                    duplicates=len(content.duplicates),
                    quarantined=len(content.refusals) + len(content.refused),
                )
                self._database[VERDICT].insert_one(_document(reservation, verdict), session=session)
            except DuplicateKeyError:
                raise RaceError from None
        return verdict

    def _insert(
        self,
        reservation: Reservation,
        content: Content,
        indexes: Sequence[int],
        documents: list[RawBSONDocument],
        session: ClientSession,
    ) -> None:
        reply = self._database.command(
            {"insert": reservation.partition.name, "documents": documents, "ordered": True}, session=session
        )
        for error in reply.get("writeErrors", ()):
            self._explain(reservation, content, indexes[error["index"]], error)

    def _explain(self, reservation: Reservation, content: Content, index: int, error: Document) -> None:
        """Raise `RaceError` once the fault of the event at `index` is noted, or the error if it is nobody's."""
        code, message = error["code"], error.get("errmsg", "")
        pattern = list(error.get("keyPattern", ()))
        if code == _DUPLICATE and pattern == ["_id"]:
            raise StoreChangedError(
                f"id {reservation.first + index} was just given out and is in {reservation.partition.name} already: "
                "the database was restored or written to by others; run `manage.py doctor`"
            )
        if code == _DUPLICATE and pattern == ["id"]:
            raise RaceError
        if code == _DUPLICATE or code in REFUSED_CODES:
            content.refused[index] = _refused(message, code, content.events[index])
            raise RaceError
        raise PyMongoError(f"MongoDB refuses to insert into {reservation.partition.name}: {message} ({code})")

    def _insert_refusals(self, reservation: Reservation, content: Content, session: ClientSession) -> None:
        refused = [
            refusal.to_document("store", dt.datetime.now(dt.UTC)) for _, refusal in sorted(content.refused.items())
        ]
        refusals = [*map(bson.decode, content.refusals), *refused]
        room = self._quarantine_room() if refusals else 0
        journal, number = reservation.block
        documents = [
            {"_id": {"j": journal, "s": Int64(number), "i": index}} | refusal for index, refusal in enumerate(refusals)
        ]
        if documents[:room]:
            self._database[QUARANTINE].insert_many(documents[:room], session=session)

    def _quarantine_room(self) -> int:
        statistics = self._database.command("collStats", QUARANTINE)
        if statistics.get("size", 0) >= QUARANTINE_MAX_BYTES:
            return 0
        return max(0, QUARANTINE_MAX_COUNT - int(statistics.get("count", 0)))


def _key(reservation: Reservation) -> Document:
    journal, number = reservation.block
    return {"_id": {"j": journal, "s": Int64(number)}}


def _document(reservation: Reservation, verdict: Verdict) -> Document:
    return {
        **_key(reservation),
        "from": Int64(reservation.span.first),
        "to": Int64(reservation.span.last),
        "first": Int64(reservation.first),
        "stored": verdict.stored,
        "duplicates": verdict.duplicates,
        "quarantined": verdict.quarantined,
    }


def _slices(values: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
