"""Read stored events, newest first, and count them, partition by partition.

The view `event` would have to sort the union of all partitions; reading them one by one uses their indexes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bson
from bson.codec_options import CodecOptions
from pymongo.database import Database

from aggregates.web.compute_thread import AnswerPlace, compute
from aggregates.web.mongo import QUERY_LIMIT_MS
from ingest.store.partition import read_partitions
from ingest.store.store import KEY, STORE

MAX_BYTES = 8 * 2**20  # of events in memory, and one batch of MongoDB's
_AT_ONCE = 25  # events in a batch: many large ones are known as such before they are all in memory

Partition = tuple[str, int]  # collection and the first id that belongs to it


@dataclass(frozen=True)
class EventPage:
    """Some events, newest id first."""

    events: list[dict[str, Any]]
    size_bytes: int
    may_have_more: bool


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
    """Return up to `count` events that match `condition`, newest id first, with ids below `below` if given.

    They are fewer if they have more than `MAX_BYTES`, so that 1,000 events of 1 MiB are not in memory together.
    """
    return latest_page(database, count, condition=condition, below=below).events


def latest_page(
    database: Database[dict[str, Any]],
    count: int,
    *,
    condition: Mapping[str, Any] | None = None,
    below: int | None = None,
    place: AnswerPlace | None = None,
) -> EventPage:
    """Return the same as a page, which tells whether there may be more events; `place` is that of the answer."""
    found: list[dict[str, Any]] = []
    size_bytes = 0
    for name, first_id in reversed(partitions(database)):
        if below is not None and first_id >= below:
            continue
        wanted = _with_bound(condition, math.inf if below is None else below)
        cursor: Any = (
            database[name].find_raw_batches(wanted, batch_size=_AT_ONCE, limit=count - len(found)).sort("_id", -1)
        )
        with cursor.max_time_ms(QUERY_LIMIT_MS) as batches:
            for batch in batches:
                size_bytes += len(batch)
                if place is not None:
                    place.take(len(batch))
                found += compute(len(batch), _decode, batch, database.codec_options)
                if len(found) >= count or size_bytes > MAX_BYTES:
                    return EventPage(found, size_bytes, may_have_more=True)
    return EventPage(found, size_bytes, may_have_more=False)


def _decode(batch: bytes, options: CodecOptions[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(bson.decode_iter(batch, options))


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


def _with_bound(condition: Mapping[str, Any] | None, below: float) -> dict[str, Any]:
    """Combine the condition with a bound, which only numbers meet: what another program gave another id is no event.

    The caller's condition can already contain `_id`, too.
    """
    bound = {"_id": {"$lt": below}}
    return {"$and": [dict(condition), bound]} if condition else bound
