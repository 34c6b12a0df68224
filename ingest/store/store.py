"""The event store in MongoDB: who has which ids, what may be read, and the partitions that hold the events.

All of it is one document, `{_id: "event"}` in `ingest.store`, so that reserving ids, settling blocks, opening a
partition and reading the watermark are one atomic operation each. How a block gets into its partition is
`ingest.store.block_commit`'s.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.binary import Binary
from bson.int64 import Int64
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from ingest.exceptions import StaleBlockError, StoreChangedError, StoreUnpreparedError
from ingest.journal.block import BlockBounds
from ingest.journal.journal import StoreMark
from ingest.store.connection import Connection, Document
from ingest.store.partition import (
    Partition,
    create_collection,
    create_partition,
    create_view,
    partition_name,
    partition_of,
    read_partitions,
)

STORE = "ingest.store"
VERDICT = "ingest.verdict"
JOURNAL = "ingest.journal"
QUARANTINE = "quarantine"
KEY = {"_id": "event"}
_QUARANTINE_INDEXES = [
    IndexModel([("time", DESCENDING), ("_id", DESCENDING)]),
    IndexModel([("code", ASCENDING), ("time", DESCENDING), ("_id", DESCENDING)]),
    IndexModel([("source", ASCENDING), ("time", DESCENDING), ("_id", DESCENDING)]),
    IndexModel([("code", ASCENDING), ("source", ASCENDING), ("replayed", ASCENDING)]),
]

BlockId = tuple[str, int]  # journal uuid and number


@dataclass(frozen=True, slots=True)
class Watermark:
    """What may be read: ids up to `through`. Every event committed before `complete_through` is among them."""

    through: int  # 0 while there are no events
    complete_through: dt.datetime  # timezone-aware, MongoDB's clock
    store: str  # uuid, new when the database was emptied
    epoch: int  # rises when the database was restored
    partitions: tuple[Partition, ...]  # in rising order of first_id


@dataclass(frozen=True, slots=True)
class Reservation:
    """Ids `first` to `first + count - 1` are the block's own; `span` are the records it was reserved for."""

    block: BlockId
    first: int
    count: int
    span: BlockBounds
    partitions: tuple[Partition, ...]
    lowest_open: int  # lowest first id of all open blocks when this one was reserved
    watermark: Watermark

    @property
    def partition(self) -> Partition:
        """Where the block's events go."""
        return partition_of(self.partitions, self.first)


def connect(address: Callable[[], str] | str, database: str, *, selection_timeout_s: float = 5.0) -> Store:
    """The store in `database`. Nothing is contacted before the first call of a method."""
    return Store(Connection(address, database, selection_timeout_s=selection_timeout_s))


def read_watermark(database: Database[Document]) -> Watermark:
    """What may be read now from `database`, which has to read dates as timezone-aware.

    Raises `StoreUnpreparedError` when there is no store yet.
    """
    found = list(database[STORE].aggregate([{"$match": KEY}, {"$set": {"now": "$$NOW"}}]))
    if not found:
        raise StoreUnpreparedError(_unprepared(database[STORE]))
    return _watermark(found[0], found[0]["now"])


class Store:
    """The store document. Blocking and thread-safe; methods raise `pymongo.errors.PyMongoError` as it comes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def database(self) -> Database[Document]:
        """The database with the durability that promises rest on."""
        return self.connection.database()

    def prepare(self) -> StoreMark:
        """Make store document, partition 1, view and collections where they are missing; safe to repeat and to race.

        Events that lie in partitions without a store document keep their ids: new ones begin above them.
        """
        database = self.database()
        for name in (VERDICT, JOURNAL, QUARANTINE):
            create_collection(database, name)
        database[QUARANTINE].create_indexes(_QUARANTINE_INDEXES)
        document = self._document().find_one(KEY)
        if document is None:
            document = self._create(database)
        for partition in read_partitions(document["partitions"]):
            create_partition(database, partition.name)
        create_view(database, read_partitions(document["partitions"]))
        return StoreMark(document["store"], document["epoch"])

    def _create(self, database: Database[Document]) -> Document:
        left = sorted(
            int(name.removeprefix("event."))
            for name in database.list_collection_names(filter={"name": {"$regex": r"^event\.[0-9]+$"}})
        ) or [1]
        create_partition(database, partition_name(left[0]))
        highest = [database[partition_name(n)].find_one({}, {"_id": 1}, sort=[("_id", DESCENDING)]) for n in left]
        lowest = [database[partition_name(n)].find_one({}, {"_id": 1}, sort=[("_id", 1)]) for n in left]
        following = max([int(found["_id"]) for found in highest if found], default=0) + 1
        entries = [
            {"n": n, "first": Int64(found["_id"] if found else following)}
            for n, found in zip(left, lowest, strict=True)
            if found or n == left[-1]
        ]
        entries[0]["first"] = Int64(1)
        made = {
            "store": str(uuid.uuid4()),
            "epoch": 1,
            "next": Int64(following),
            "at": dt.datetime.fromtimestamp(0, dt.UTC),
            "partitions": entries,
            "open": [],
            "journals": [],
        }
        with contextlib.suppress(DuplicateKeyError):
            self._document().update_one(KEY, {"$setOnInsert": made}, upsert=True)
        return self._read()

    def restored(self) -> StoreMark:
        """Say that the database was brought back from a copy: from now on it is another epoch of the same store.

        Journals and positions of the epoch before are not trusted any more. New ids begin above every event there is.
        Each call is a new epoch; call it while no ingester runs. Raises `StoreUnpreparedError`.
        """
        database = self.database()
        names = [partition.name for partition in read_partitions(self._read({"partitions": 1})["partitions"])]
        highest = [database[name].find_one({}, {"_id": 1}, sort=[("_id", DESCENDING)]) for name in names]
        following = Int64(max((int(found["_id"]) for found in highest if found), default=0) + 1)
        self._document().update_one(
            KEY, [{"$set": {"epoch": {"$add": ["$epoch", 1]}, "next": {"$max": ["$next", following]}}}]
        )
        return self.mark()

    def mark(self) -> StoreMark:
        """Identity of the store. Raises `StoreUnpreparedError`."""
        document = self._read({"store": 1, "epoch": 1})
        return StoreMark(document["store"], document["epoch"])

    def watermark(self) -> Watermark:
        """What may be read now. Raises `StoreUnpreparedError` when there is no store yet."""
        return read_watermark(self.database())

    def now(self) -> dt.datetime:
        """MongoDB's clock, timezone-aware."""
        found: dt.datetime = next(iter(self._document().aggregate([{"$match": KEY}, {"$project": {"now": "$$NOW"}}])))[
            "now"
        ]
        return found

    def reserve(
        self,
        mark: StoreMark,
        block: BlockId,
        span: BlockBounds,
        count: int,
        settled: Sequence[BlockId] = (),
        *,
        session: Binary | None = None,
    ) -> Reservation:
        """Give `block` its ids, and close the `settled` blocks in the same step.

        `session` names the session in which the block will be committed, see `end_sessions`.
        Idempotent: a block that is open already is answered as it was reserved first. Raises `StaleBlockError` when
        its number was used and is settled, `StoreChangedError` when the database is not the one of `mark`.
        """
        journal, number = block
        used = {
            "$ifNull": [
                {"$first": {"$filter": {"input": "$journals", "cond": {"$eq": ["$$this.j", journal]}}}},
                {"s": 0},
            ]
        }
        at = {"$max": ["$at", "$$NOW"]}
        entry = {
            "j": journal, "s": Int64(number), "from": Int64(span.first), "to": Int64(span.last),
            "first": "$next", "n": Int64(count), "at": at, "session": session,
        }  # fmt: skip
        fresh = {"$let": {"vars": {"used": used}, "in": {"$gt": [number, "$$used.s"]}}}
        others = {"$filter": {"input": "$journals", "cond": {"$ne": ["$$this.j", journal]}}}
        still_open = _with_session(_without(settled), block, session)
        document = self._document().find_one_and_update(
            KEY | {"store": mark.store, "epoch": mark.epoch},
            [
                {
                    "$set": {
                        "open": {"$cond": [fresh, {"$concatArrays": [still_open, [entry]]}, still_open]},
                        "next": {"$cond": [fresh, {"$add": ["$next", Int64(count)]}, "$next"]},
                        "journals": {
                            "$cond": [
                                fresh,
                                {"$concatArrays": [others, [{"j": journal, "s": Int64(number)}]]},
                                "$journals",
                            ]
                        },
                        "at": at,
                    }
                }
            ],
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            raise self._changed(mark)
        for found in document["open"]:
            if (found["j"], found["s"]) == block:
                return _reservation(found, document)
        raise StaleBlockError(f"block {number} of journal {journal} was reserved before and is settled")

    def end_sessions(self, sessions: Sequence[Binary]) -> None:
        """Abort what a process that is gone left open: else its last transaction holds its locks for a minute."""
        if sessions:
            self.connection.client().admin.command("killSessions", [{"id": session} for session in sessions])

    def settle(self, mark: StoreMark, settled: Sequence[BlockId]) -> Watermark:
        """Close blocks whose verdict is known, so that the watermark can pass them. Idempotent."""
        document = self._document().find_one_and_update(
            KEY | {"store": mark.store, "epoch": mark.epoch},
            [{"$set": {"open": _without(settled), "at": {"$max": ["$at", "$$NOW"]}}}],
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            raise self._changed(mark)
        return _watermark(document, document["at"])

    def lowest_open(self) -> int | None:
        """Lowest first id of the open blocks; None when none is open."""
        return min((int(block["first"]) for block in self._read({"open": 1})["open"]), default=None)

    def open_blocks(self, journal: str | None = None) -> list[Document]:
        """The open blocks, of one journal or of all, as `{j, s, from, to, first, n, at}`, lowest id first."""
        blocks = [b for b in self._read({"open": 1})["open"] if journal in (None, b["j"])]
        return sorted(blocks, key=lambda block: int(block["first"]))

    def last_number(self, journal: str) -> int:
        """The highest block number that the journal has used, 0 when none."""
        return next((int(j["s"]) for j in self._read({"journals": 1})["journals"] if j["j"] == journal), 0)

    def forget_numbers(self, journals: Sequence[str]) -> None:
        """Forget which block numbers were used by journals that are gone."""
        if journals:
            self._document().update_one(KEY, {"$pull": {"journals": {"j": {"$in": list(journals)}}}})

    def settled_spans(self, journal: str) -> list[BlockBounds]:
        """Record spans of the journal that have a verdict other than `revoked`."""
        found = self.verdicts().find(
            {"_id": {"$gte": {"j": journal, "s": 0}, "$lte": {"j": journal, "s": Int64(2**63 - 1)}}, "revoked": None},
            {"from": 1, "to": 1},
        )
        return [BlockBounds(int(v["from"]), int(v["to"]), int(v["_id"]["s"])) for v in found]

    def verdicts(self) -> Collection[Document]:
        """The collection of verdicts."""
        return self.database()[VERDICT]

    def _document(self) -> Collection[Document]:
        return self.database()[STORE]

    def _read(self, fields: Mapping[str, int] | None = None) -> Document:
        document = self._document().find_one(KEY, fields)
        if document is None:
            raise StoreUnpreparedError(_unprepared(self._document()))
        return document

    def _changed(self, mark: StoreMark) -> StoreChangedError:
        document = self._document().find_one(KEY)
        now = f"store {document['store']}, epoch {document['epoch']}" if document else "no store at all"
        return StoreChangedError(
            f"the database {self.database().name} holds {now}, not store {mark.store}, epoch {mark.epoch}: it was "
            "emptied, restored or swapped. Bring back the right one, or take the journals into this one with "
            "`manage.py runingest --rebind`",
            store=mark.store,
        )


def _without(settled: Sequence[BlockId]) -> Any:
    if not settled:
        return "$open"
    keys = [{"j": journal, "s": Int64(number)} for journal, number in settled]
    return {"$filter": {"input": "$open", "cond": {"$not": [{"$in": [{"j": "$$this.j", "s": "$$this.s"}, keys]}]}}}


def _with_session(open_blocks: Any, block: BlockId, session: Binary | None) -> Any:
    """Open blocks, with the session of `block` as it is now, if it is among them."""
    is_block = {"$and": [{"$eq": ["$$this.j", block[0]]}, {"$eq": ["$$this.s", block[1]]}]}
    renewed = {"$mergeObjects": ["$$this", {"session": session}]}
    return {"$map": {"input": open_blocks, "as": "this", "in": {"$cond": [is_block, renewed, "$$this"]}}}


def _watermark(document: Mapping[str, Any], now: dt.datetime) -> Watermark:
    lowest = min(document["open"], key=lambda block: block["first"], default=None)
    return Watermark(
        through=int(lowest["first"] if lowest else document["next"]) - 1,
        complete_through=lowest["at"] if lowest else now,
        store=document["store"],
        epoch=document["epoch"],
        partitions=read_partitions(document["partitions"]),
    )


def _reservation(entry: Mapping[str, Any], document: Mapping[str, Any]) -> Reservation:
    return Reservation(
        block=(entry["j"], int(entry["s"])),
        first=int(entry["first"]),
        count=int(entry["n"]),
        span=BlockBounds(int(entry["from"]), int(entry["to"]), int(entry["s"])),
        partitions=read_partitions(document["partitions"]),
        lowest_open=min(int(block["first"]) for block in document["open"]),
        watermark=_watermark(document, document["at"]),
    )


def _unprepared(collection: Collection[Document]) -> str:
    return f"the database {collection.database.name} has no event store: run `manage.py initdb` or start an ingester"
