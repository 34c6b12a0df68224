"""The peer of `ingest.push` and `ingest.ack`: a bare `insert_many` of dicts, batches of 1,000, unordered, durable."""

from __future__ import annotations

import time
from typing import Any

from pymongo import WriteConcern
from pymongo.database import Database

BATCH = 1_000


def insert(database: Database[dict[str, Any]], events: list[dict[str, Any]]) -> float:
    """Insert copies of `events` into a new collection with the indexes that the event store has; return seconds."""
    collection = database.get_collection("peer", write_concern=WriteConcern("majority", j=True))
    collection.drop()
    collection.create_index("id", unique=True, partialFilterExpression={"id": {"$exists": True}})
    batches = [[dict(event) for event in events[at : at + BATCH]] for at in range(0, len(events), BATCH)]
    started = time.perf_counter()
    for batch in batches:
        collection.insert_many(batch, ordered=False)
    return time.perf_counter() - started
