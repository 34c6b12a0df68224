"""Commit one block in one transaction: its events, its refused input and its verdict, all or nothing.

Choosing blocks and retrying is left to `ingest.server.committer`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import bson
from bson.binary import Binary
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from ingest.exceptions import StoreChangedError
from ingest.store.block_content import BlockContent, Verdict
from ingest.store.connection import DURABLE, Document
from ingest.store.store import QUARANTINE, VERDICT, Reservation, verdict_key
from ingest.wire.refusal import Refusal

QUARANTINE_MAX_COUNT = 100_000  # documents kept in quarantine; any more are only counted
QUARANTINE_MAX_BYTES = 256 * 2**20
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
        self._look_up_refusals(content)
        while True:
            try:
                verdict = self._transaction(reservation, content)
            except RetryTransactionError:
                if verdict := self.verdict_of(reservation):
                    return verdict
                self._look_up(reservation, content, newest=True)
                self._look_up_refusals(content)
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

    def _look_up_refusals(self, content: BlockContent) -> None:
        """Mark refusals as repeated whose request was sent again although it had arrived, and whose entry is there."""
        wanted = content.deliveries()
        for some in _slices(list(wanted), LOOKUP_COUNT):
            found = self._database[QUARANTINE].find({"delivery": {"$in": some}}, {"_id": 0, "delivery": 1})
            content.repeated.update(wanted[document["delivery"]] for document in found)

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
                repeated = content.repeated_count()
                verdict = Verdict(
                    stored=len(documents),
                    duplicates=len(content.duplicates) + repeated,
                    quarantined=content.refused_count + len(content.refused) - repeated,
                )
                self._database[VERDICT].insert_one(_document(reservation, verdict), session=session)
            except DuplicateKeyError:
                raise RetryTransactionError from None
            except BulkWriteError as error:
                faults = (error.details or {}).get("writeErrors", ())
                if all("delivery" in fault.get("keyPattern", ()) for fault in faults):
                    raise RetryTransactionError from None  # another ingester has stored the same request meanwhile
                raise
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
            {"_id": {"j": journal, "s": Int64(number), "i": index}} | refusal
            for index, refusal in enumerate(refusals)
            if index not in content.repeated
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
