"""Sums up old verdicts, so that there is not one document per block for ever.

A verdict is needed as long as a replay could ask for it: until its records are cut from the journal's files. After
that only its counts matter. They go to the journal's document in `ingest.journal`, and when the journal is gone, to
the one document `{_id: "done"}` of all journals that are.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from bson.int64 import Int64
from pymongo.client_session import ClientSession

from ingest.connection import DURABLE, Document
from ingest.store import JOURNAL, VERDICT, Store

DONE = "done"
BATCH = 10_000
NUMBERS_KEPT = dt.timedelta(hours=1)  # a reservation of a dead process may arrive late, but not that late
COUNTS = ("stored", "duplicates", "quarantined")


def fold(store: Store, journal: str, through: int) -> int:
    """Fold the journal's verdicts that end at or below record `through`; return how many. Safe to repeat.

    Only for the process that holds the journal, after the records were cut from its files.
    """
    return _fold(store, _spans(journal) | {"to": {"$lte": through}, "revoked": None}, journal)


def retire(store: Store, journal: str) -> int:
    """Fold everything of a journal whose files are gone into the sum of all such journals; return how many verdicts.

    Only for the process that held the journal when its last file was removed. A tombstone stays, so that files that
    come back from a copy are not taken for new ones.
    """
    count = 0
    while folded := _fold(store, _spans(journal), DONE):
        count += folded
    database = store.database()
    with database.client.start_session() as session, session.start_transaction(write_concern=DURABLE):
        found = database[JOURNAL].find_one({"_id": journal, "retired": None}, session=session)
        if found:
            _add(store, DONE, {name: found.get(name, 0) for name in COUNTS}, session)
        database[JOURNAL].replace_one({"_id": journal}, {"retired": dt.datetime.now(dt.UTC)}, True, session=session)
    long_ago = dt.datetime.now(dt.UTC) - NUMBERS_KEPT
    gone = [document["_id"] for document in database[JOURNAL].find({"retired": {"$lt": long_ago}}, {"_id": 1})]
    store.forget_numbers(gone)
    return count


def is_retired(store: Store, journal: str) -> bool:
    """Whether the journal was drained and removed before."""
    return store.database()[JOURNAL].find_one({"_id": journal, "retired": {"$ne": None}}) is not None


def _fold(store: Store, query: Document, target: str) -> int:
    database = store.database()
    with database.client.start_session() as session, session.start_transaction(write_concern=DURABLE):
        verdicts = list(database[VERDICT].find(query, {"from": 0, "to": 0, "first": 0}, session=session, limit=BATCH))
        if verdicts:
            sums: Document = {name: sum(verdict[name] for verdict in verdicts) for name in COUNTS}
            _add(store, target, sums | {"blocks": len(verdicts)}, session)
            database[VERDICT].delete_many({"_id": {"$in": [verdict["_id"] for verdict in verdicts]}}, session=session)
    return len(verdicts)


def _add(store: Store, target: str, counts: Document, session: ClientSession) -> None:
    increments: Any = {name: Int64(count) for name, count in counts.items()}
    store.database()[JOURNAL].update_one({"_id": target}, {"$inc": increments}, upsert=True, session=session)


def _spans(journal: str) -> Document:
    return {"_id": {"$gte": {"j": journal, "s": 0}, "$lte": {"j": journal, "s": Int64(2**63 - 1)}}}
