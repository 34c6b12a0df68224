"""Compact old verdicts into one document per journal, so that they do not accumulate for ever.

A replay needs a verdict until the block's records are removed from the journal's files. After that only its counts
matter: one atomic update adds them to the journal's document in `ingest.journal`, with the highest block number
included (`folded`). Verdicts up to that number are then removed. Any that a crash leaves are not counted again (see
`ingest.store.ingester_report`) and are removed by the next compaction. No transaction is used, because one left open by
a killed process would block others for a minute.
"""

from __future__ import annotations

from typing import Any

from bson.int64 import Int64

from ingest.store.connection import Document
from ingest.store.store import JOURNAL, VERDICT, Store, verdicts_of

COUNTS = ("stored", "duplicates", "quarantined")


def compact(store: Store, journal: str, through: int) -> int:
    """Compact the journal's verdicts whose records, up to `through`, are removed; return how many. Safe to repeat.

    Only the process that holds the journal may call it.
    """
    open_numbers = [int(block["s"]) for block in store.open_blocks(journal)]
    verdicts = []
    for verdict in store.database()[VERDICT].find(verdicts_of(journal), sort=[("_id", 1)]):
        if int(verdict["to"]) > through or any(number <= int(verdict["_id"]["s"]) for number in open_numbers):
            break
        if verdict.get("revoked"):
            break  # a late commit may still come, and must fail because of this verdict
        verdicts.append(verdict)
    return _compact(store, journal, verdicts)


def retire(store: Store, journal: str) -> int:
    """Compact all verdicts of a journal whose files are gone and mark it as retired; return how many verdicts.

    Only the process that held the journal when its last file was removed may call it. The journal's document stays, so
    that files restored from a backup are not mistaken for new ones.
    """
    count = _compact(store, journal, list(store.database()[VERDICT].find(verdicts_of(journal))))
    journals = store.database()[JOURNAL]
    journals.update_one({"_id": journal}, [{"$set": {"retired": {"$ifNull": ["$retired", "$$NOW"]}}}], upsert=True)
    long_ago: Document = {"$expr": {"$lt": ["$retired", {"$subtract": ["$$NOW", 3_600_000]}]}, "retired": {"$ne": None}}
    store.remove_numbers([document["_id"] for document in journals.find(long_ago, {"_id": 1})])
    return count


def is_retired(store: Store, journal: str) -> bool:
    """Return whether the journal was drained and removed."""
    return store.database()[JOURNAL].find_one({"_id": journal, "retired": {"$ne": None}}) is not None


def _compact(store: Store, journal: str, verdicts: list[Document]) -> int:
    if not verdicts:
        return 0
    database = store.database()
    known = database[JOURNAL].find_one({"_id": journal}) or {}
    compacted = int(known.get("folded", 0))
    fresh = [verdict for verdict in verdicts if int(verdict["_id"]["s"]) > compacted]
    highest = max((int(verdict["_id"]["s"]) for verdict in fresh), default=compacted)
    if fresh:
        increments: Any = {name: Int64(sum(verdict[name] for verdict in fresh)) for name in COUNTS}
        if known:
            unchanged = {"_id": journal, "folded": known.get("folded")}
            database[JOURNAL].update_one(unchanged, {"$inc": increments, "$set": {"folded": Int64(highest)}})
        else:
            database[JOURNAL].insert_one({"_id": journal, "folded": Int64(highest), **increments})
    database[VERDICT].delete_many(verdicts_of(journal, highest))
    return len(fresh)
