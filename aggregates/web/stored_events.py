"""Reads stored events, newest first or in order of id, partition by partition.

The view `event` would have to sort the union of all partitions; going through them one by one uses their indexes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo.database import Database

from aggregates.web.mongo import QUERY_LIMIT_MS
from ingest.store.partition import read_partitions
from ingest.store.store import KEY, STORE

Partition = tuple[str, int]  # collection and the first id that belongs to it


def partitions(database: Database[dict[str, Any]]) -> list[Partition]:
    """Collections that hold events, oldest first; none before the ingester has prepared the store."""
    document = database[STORE].find_one(KEY, {"partitions": 1})
    if document is None:
        return []
    return [(partition.name, partition.first_id) for partition in read_partitions(document["partitions"])]


def newest_id(database: Database[dict[str, Any]]) -> int:
    """The highest id stored, 0 when there is none."""
    found = latest(database, 1)
    return int(found[0]["_id"]) if found else 0


def latest(
    database: Database[dict[str, Any]],
    count: int,
    *,
    condition: Mapping[str, Any] | None = None,
    below: int | None = None,
) -> list[dict[str, Any]]:
    """Up to `count` events that meet `condition`, newest id first, only ids below `below` when it is given."""
    found: list[dict[str, Any]] = []
    for name, first_id in reversed(partitions(database)):
        if below is not None and first_id >= below:
            continue
        wanted = _with_bound(condition, {"$lt": below} if below is not None else None)
        cursor = database[name].find(wanted, limit=count - len(found)).sort("_id", -1).max_time_ms(QUERY_LIMIT_MS)
        found += cursor
        if len(found) >= count:
            break
    return found


def count_by_type(database: Database[dict[str, Any]], above: int, through: int) -> dict[str, int]:
    """How many events of each type have ids in (above, through]."""
    counts: dict[str, int] = {}
    for name, first_id in reversed(partitions(database)):
        groups = database[name].aggregate(
            [
                {"$match": {"_id": {"$gt": above, "$lte": through}}},
                {"$group": {"_id": "$type", "count": {"$sum": 1}}},
            ],
            maxTimeMS=QUERY_LIMIT_MS,
        )
        for group in groups:
            counts[str(group["_id"])] = counts.get(str(group["_id"]), 0) + group["count"]
        if first_id <= above + 1:
            break
    return counts


def count_by_second(database: Database[dict[str, Any]], above: int, since: datetime) -> dict[int, dict[str, int]]:
    """How many events with ids above `above` have a timestamp from `since` on: by second since 1970, then by type."""
    second = {"$toLong": {"$divide": [{"$toLong": "$timestamp"}, 1000]}}
    counts: dict[int, dict[str, int]] = {}
    for name, first_id in reversed(partitions(database)):
        groups = database[name].aggregate(
            [
                {"$match": {"_id": {"$gt": above}, "timestamp": {"$gte": since}}},
                {"$group": {"_id": {"second": second, "type": "$type"}, "count": {"$sum": 1}}},
            ],
            maxTimeMS=QUERY_LIMIT_MS,
        )
        for group in groups:
            of_second = counts.setdefault(int(group["_id"]["second"]), {})
            kind = str(group["_id"]["type"])
            of_second[kind] = of_second.get(kind, 0) + group["count"]
        if first_id <= above + 1:
            break
    return counts


def _with_bound(condition: Mapping[str, Any] | None, bound: Mapping[str, Any] | None) -> dict[str, Any]:
    """Both conditions at once; the caller's own may already say something about `_id`."""
    parts = [dict(condition)] if condition else []
    if bound:
        parts.append({"_id": dict(bound)})
    return {"$and": parts} if len(parts) > 1 else (parts[0] if parts else {})
