"""Read stored events, newest first, and count them, partition by partition.

The view `event` would have to sort the union of all partitions; reading them one by one uses their indexes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pymongo.database import Database

from aggregates.web.mongo import QUERY_LIMIT_MS
from ingest.store.partition import read_partitions
from ingest.store.store import KEY, STORE

Partition = tuple[str, int]  # collection and the first id that belongs to it


def partitions(database: Database[dict[str, Any]]) -> list[Partition]:
    """List the collections that hold events, oldest first; empty before the ingester has prepared the store."""
    document = database[STORE].find_one(KEY, {"partitions": 1})
    if document is None:
        return []
    return [(partition.name, partition.first_id) for partition in read_partitions(document["partitions"])]


def newest_id(database: Database[dict[str, Any]]) -> int:
    """Return the highest stored id, or 0 if there are no events."""
    found = latest(database, 1)
    return int(found[0]["_id"]) if found else 0


def latest(
    database: Database[dict[str, Any]],
    count: int,
    *,
    condition: Mapping[str, Any] | None = None,
    below: int | None = None,
) -> list[dict[str, Any]]:
    """Return up to `count` events that match `condition`, newest id first, with ids below `below` if given."""
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
    """Count the events with ids in (above, through] by type."""
    counts: dict[str, int] = {}
    for group in _groups(database, above, {"_id": {"$gt": above, "$lte": through}}, "$type"):
        counts[str(group["_id"])] = counts.get(str(group["_id"]), 0) + group["count"]
    return counts


def count_by_second(database: Database[dict[str, Any]], above: int, since: datetime) -> dict[int, dict[str, int]]:
    """Count the events with ids above `above` and timestamps from `since` on, by second since 1970, then by type."""
    second = {"$toLong": {"$divide": [{"$toLong": "$timestamp"}, 1000]}}
    counts: dict[int, dict[str, int]] = {}
    wanted = {"_id": {"$gt": above}, "timestamp": {"$gte": since}}
    for group in _groups(database, above, wanted, {"second": second, "type": "$type"}):
        of_second = counts.setdefault(int(group["_id"]["second"]), {})
        kind = str(group["_id"]["type"])
        of_second[kind] = of_second.get(kind, 0) + group["count"]
    return counts


def _groups(database: Database[dict[str, Any]], above: int, wanted: Mapping[str, Any], by: Any) -> Iterator[Any]:
    """Count the wanted events by `by` in each partition that can hold ids above `above`."""
    pipeline: list[dict[str, Any]] = [{"$match": wanted}, {"$group": {"_id": by, "count": {"$sum": 1}}}]
    for name, first_id in reversed(partitions(database)):
        yield from database[name].aggregate(pipeline, maxTimeMS=QUERY_LIMIT_MS)
        if first_id <= above + 1:
            return


def _with_bound(condition: Mapping[str, Any] | None, bound: Mapping[str, Any] | None) -> dict[str, Any]:
    """Combine both conditions; with `$and`, because the caller's condition can already contain `_id`."""
    parts = [dict(condition)] if condition else []
    if bound:
        parts.append({"_id": dict(bound)})
    return {"$and": parts} if len(parts) > 1 else (parts[0] if parts else {})
