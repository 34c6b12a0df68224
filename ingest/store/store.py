"""The event store in MongoDB: which block has which ids, the watermark, and the partitions that hold the events.

All of it is one document, `{_id: "event"}` in `ingest.store`, so that reserving ids, settling blocks, opening a
partition and reading the watermark are one atomic operation each. Inserting the events of a block is left to
`ingest.store.block_commit`.
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
from ingest.journal.journal import StoreIdentity
from ingest.store.connection import Connection, Document
from ingest.store.partition import (
    Partition,
    create_collection,
    create_partition,
    create_view,
    following_id,
    partition_name,
    partition_of,
    read_partitions,
    stored_numbers,
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
    IndexModel([("code", ASCENDING), ("source", ASCENDING), ("replayed", ASCENDING), ("count", ASCENDING)]),
    IndexModel([("delivery", ASCENDING)], unique=True, partialFilterExpression={"delivery": {"$exists": True}}),
]

BlockId = tuple[str, int]  # journal uuid and number


@dataclass(frozen=True, slots=True)
class Watermark:
    """The highest id up to which events can be read."""

    through: int  # that id; 0 while there are no events
    complete_through: dt.datetime  # events committed before it can all be read; timezone-aware, MongoDB's clock
    store: str  # uuid, new if the database was emptied
    epoch: int  # rises each time the database is restored
    partitions: tuple[Partition, ...]  # in ascending order of first_id


@dataclass(frozen=True, slots=True)
class Reservation:
    """The ids that are reserved for a block: `first` to `first + count - 1`."""

    block: BlockId
    first: int
    count: int
    bounds: BlockBounds  # the records that it was reserved for
    partitions: tuple[Partition, ...]  # in ascending order of first_id
    lowest_open: int  # lowest first id of all open blocks when this one was reserved
    watermark: Watermark  # at that time

    @property
    def partition(self) -> Partition:
        """Return the partition for the block's events."""
        return partition_of(self.partitions, self.first)


def connect(address: Callable[[], str] | str, database: str, *, selection_timeout_s: float = 5.0) -> Store:
    """Return the store in `database`. It connects when its first method is called."""
    return Store(Connection(address, database, selection_timeout_s=selection_timeout_s))


def read_watermark(database: Database[Document]) -> Watermark:
    """Return the current watermark of `database`, which must decode dates as timezone-aware.

    Raise `StoreUnpreparedError` if there is no store yet.
    """
    found = list(database[STORE].aggregate([{"$match": KEY}, {"$set": {"now": "$$NOW"}}]))
    if not found:
        raise StoreUnpreparedError(_unprepared(database[STORE]))
    return _watermark(found[0], found[0]["now"])


def verdict_key(block: BlockId) -> Document:
    """Return the `_id` of a block's verdict, as a filter."""
    return {"_id": {"j": block[0], "s": Int64(block[1])}}


def verdicts_of(journal: str, through: int = 2**63 - 1) -> Document:
    """Return a filter for the verdicts of a journal, up to block number `through`."""
    return {"_id": {"$gte": {"j": journal, "s": 0}, "$lte": {"j": journal, "s": Int64(through)}}}


class Store:
    """Read and update the store document. Blocking and thread-safe; methods can raise `pymongo.errors.PyMongoError`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def database(self) -> Database[Document]:
        """Return the database, with durable writes and majority reads."""
        return self.connection.database()

    def prepare(self) -> StoreIdentity:
        """Create store document, partition 1, view and collections if they are missing; safe to repeat and to race.

        Events in partitions without a store document keep their ids: new ids start above them.
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
        return StoreIdentity(document["store"], document["epoch"])

    def _create(self, database: Database[Document]) -> Document:
        left = stored_numbers(database) or [1]
        create_partition(database, partition_name(left[0]))
        lowest = [database[partition_name(n)].find_one({}, {"_id": 1}, sort=[("_id", 1)]) for n in left]
        following = following_id(database, map(partition_name, left))
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

    def restored(self) -> StoreIdentity:
        """Start a new epoch of the store after its database was restored from a backup; return its new identity.

        Journals and positions of earlier epochs are no longer trusted. New ids start above all existing events. Call it
        once, while no ingester runs. Raise `StoreUnpreparedError` if there is no store.
        """
        names = [partition.name for partition in read_partitions(self._read({"partitions": 1})["partitions"])]
        following = Int64(following_id(self.database(), names))
        self._document().update_one(
            KEY, [{"$set": {"epoch": {"$add": ["$epoch", 1]}, "next": {"$max": ["$next", following]}}}]
        )
        return self.identity()

    def identity(self) -> StoreIdentity:
        """Return the identity of the store. Raise `StoreUnpreparedError` if there is none yet."""
        document = self._read({"store": 1, "epoch": 1})
        return StoreIdentity(document["store"], document["epoch"])

    def watermark(self) -> Watermark:
        """Return the current watermark. Raise `StoreUnpreparedError` if there is no store yet."""
        return read_watermark(self.database())

    def now(self) -> dt.datetime:
        """Return the time by MongoDB's clock, timezone-aware."""
        found = next(iter(self._document().aggregate([{"$match": KEY}, {"$project": {"now": "$$NOW"}}])))
        now: dt.datetime = found["now"]
        return now

    def reserve(
        self,
        identity: StoreIdentity,
        block: BlockId,
        bounds: BlockBounds,
        count: int,
        settled: Sequence[BlockId] = (),
        *,
        session: Binary | None = None,
    ) -> Reservation:
        """Reserve `count` ids for `block`, and close the `settled` blocks in the same step.

        `session` is the session in which the block will be committed, see `end_sessions`. Idempotent: for a block that
        is already open the first reservation is returned. Raise `StaleBlockError` if its number was used and is
        settled, `StoreChangedError` if the database does not match `identity`.
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
            "j": journal, "s": Int64(number), "from": Int64(bounds.first), "to": Int64(bounds.last),
            "first": "$next", "n": Int64(count), "at": at, "session": session,
        }  # fmt: skip
        fresh = {"$let": {"vars": {"used": used}, "in": {"$gt": [number, "$$used.s"]}}}
        others = {"$filter": {"input": "$journals", "cond": {"$ne": ["$$this.j", journal]}}}
        still_open = _with_session(_without(settled), block, session)
        numbers = {"$concatArrays": [others, [{"j": journal, "s": Int64(number)}]]}
        document = self._update(
            identity,
            {
                "open": {"$cond": [fresh, {"$concatArrays": [still_open, [entry]]}, still_open]},
                "next": {"$cond": [fresh, {"$add": ["$next", Int64(count)]}, "$next"]},
                "journals": {"$cond": [fresh, numbers, "$journals"]},
                "at": at,
            },
        )
        for found in document["open"]:
            if (found["j"], found["s"]) == block:
                return _reservation(found, document)
        raise StaleBlockError(f"block {number} of journal {journal} was already reserved and is settled")

    def end_sessions(self, sessions: Sequence[Binary]) -> None:
        """Abort open transactions of sessions that nobody uses any more; they would hold their locks for a minute."""
        if sessions:
            self.connection.client().admin.command("killSessions", [{"id": session} for session in sessions])

    def settle(self, identity: StoreIdentity, settled: Sequence[BlockId]) -> Watermark:
        """Close blocks that have a verdict, so that the watermark can pass them; return it. Idempotent."""
        document = self._update(identity, {"open": _without(settled), "at": {"$max": ["$at", "$$NOW"]}})
        return _watermark(document, document["at"])

    def lowest_open(self) -> int | None:
        """Return the lowest first id of the open blocks; None if none is open."""
        return min((int(block["first"]) for block in self._read({"open": 1})["open"]), default=None)

    def open_blocks(self, journal: str | None = None) -> list[Document]:
        """Return the open blocks of one journal or of all as `{j, s, from, to, first, n, at}`, lowest id first."""
        blocks = [b for b in self._read({"open": 1})["open"] if journal in (None, b["j"])]
        return sorted(blocks, key=lambda block: int(block["first"]))

    def last_number(self, journal: str) -> int:
        """Return the highest block number that the journal has used, 0 if none."""
        return next((int(j["s"]) for j in self._read({"journals": 1})["journals"] if j["j"] == journal), 0)

    def remove_numbers(self, journals: Sequence[str]) -> None:
        """Remove the block numbers of journals that no longer exist."""
        if journals:
            self._document().update_one(KEY, {"$pull": {"journals": {"j": {"$in": list(journals)}}}})

    def settled_bounds(self, journal: str) -> list[BlockBounds]:
        """Return the bounds of the journal's blocks that have a verdict other than `revoked`."""
        found = self.verdicts().find(verdicts_of(journal) | {"revoked": None}, {"from": 1, "to": 1})
        return [BlockBounds(int(v["from"]), int(v["to"]), int(v["_id"]["s"])) for v in found]

    def verdicts(self) -> Collection[Document]:
        return self.database()[VERDICT]

    def _document(self) -> Collection[Document]:
        return self.database()[STORE]

    def _read(self, fields: Mapping[str, int] | None = None) -> Document:
        document = self._document().find_one(KEY, fields)
        if document is None:
            raise StoreUnpreparedError(_unprepared(self._document()))
        return document

    def _update(self, identity: StoreIdentity, fields: Document) -> Document:
        """Set fields in one step and return the new document. Raise `StoreChangedError` if it is of another store."""
        document = self._document().find_one_and_update(
            KEY | {"store": identity.store, "epoch": identity.epoch},
            [{"$set": fields}],
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            raise self._changed(identity)
        return document

    def _changed(self, identity: StoreIdentity) -> StoreChangedError:
        document = self._document().find_one(KEY)
        now = f"store {document['store']}, epoch {document['epoch']}" if document else "no store at all"
        return StoreChangedError(
            f"the database {self.database().name} holds {now}, not store {identity.store}, epoch {identity.epoch}: it "
            "was emptied, restored or replaced. Bring back the right one, or commit the journals to this one with "
            "`manage.py runingest --rebind`",
            store=identity.store,
        )


def _without(settled: Sequence[BlockId]) -> Any:
    if not settled:
        return "$open"
    keys = [{"j": journal, "s": Int64(number)} for journal, number in settled]
    return {"$filter": {"input": "$open", "cond": {"$not": [{"$in": [{"j": "$$this.j", "s": "$$this.s"}, keys]}]}}}


def _with_session(open_blocks: Any, block: BlockId, session: Binary | None) -> Any:
    """Return an expression for the open blocks in which `block`, if it is one of them, has the new session."""
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
        bounds=BlockBounds(int(entry["from"]), int(entry["to"]), int(entry["s"])),
        partitions=read_partitions(document["partitions"]),
        lowest_open=min(int(block["first"]) for block in document["open"]),
        watermark=_watermark(document, document["at"]),
    )


def _unprepared(collection: Collection[Document]) -> str:
    return f"the database {collection.database.name} has no event store: run `manage.py initdb` or start an ingester"
