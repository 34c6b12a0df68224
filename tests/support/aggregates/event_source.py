"""Write events into a store as an ingester does: reserve ids for a block, insert its events, settle it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ingest.journal.block import BlockBounds
from ingest.store.store import Reservation, Store
from mapreduce.codec import CODEC

NOON = datetime(2011, 7, 1, 12, tzinfo=UTC)


def event(kind: str = "nop", at: datetime = NOON, project: str = "p", **extra: Any) -> dict[str, Any]:
    """Return an event as the ingester stores it, without its id."""
    return {"type": kind, "timestamp": at, "context": {"project": project}, "extra": extra}


@dataclass
class Block:
    """Reserved ids with events that are not stored yet."""

    reservation: Reservation
    events: list[dict[str, Any]]


class Producer:
    """Write to the store as one ingester: `send` stores at once, `reserve` and `settle` do it in two steps."""

    def __init__(self, store: Store) -> None:
        self.store = store
        store.prepare()
        self._journal = str(uuid.uuid4())
        self._number = 0

    def reserve(self, events: Sequence[Mapping[str, Any]]) -> Block:
        self._number += 1
        found = self.store.reserve(
            self.store.identity(),
            (self._journal, self._number),
            BlockBounds(self._number, self._number, self._number),
            len(events),
        )
        return Block(found, [{"_id": found.first + n, **item} for n, item in enumerate(events)])

    def settle(self, block: Block) -> int:
        database = self.store.database()
        collection = database.get_collection(block.reservation.partition.name, codec_options=CODEC)
        if block.events:
            collection.insert_many(block.events)
        self.store.settle(self.store.identity(), [block.reservation.block])
        return block.reservation.first + block.reservation.count - 1

    def send(self, *events: Mapping[str, Any]) -> int:
        """Store events; return the id of the last one."""
        return self.settle(self.reserve(list(events)))


def rotate(store: Store) -> None:
    """Open the next partition, which holds the ids from the next one on."""
    database = store.database()
    document = database["ingest.store"].find_one({"_id": "event"})
    assert document is not None
    number = max(entry["n"] for entry in document["partitions"]) + 1
    database.create_collection(f"event.{number}")
    database["ingest.store"].update_one(
        {"_id": "event"}, {"$push": {"partitions": {"n": number, "first": document["next"]}}}
    )
