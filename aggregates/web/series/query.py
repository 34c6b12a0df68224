"""Reads aggregates: which documents a question needs, and how many at most. Everything below `zagg.` can be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.database import Database

from aggregates.web.exceptions import ForbiddenError, TooLargeError
from aggregates.web.mongo import QUERY_LIMIT_MS
from aggregates.web.series import points
from aggregates.web.series.output_key import below_parts, parse_period, split_key
from aggregates.web.series.points import ChartData, Fill
from aggregates.web.series.time_span import TimeSpan, is_sliding, read_span

NAMESPACE = "zagg."
MAX_DOCUMENTS = 250_000
_NAME = re.compile(r"[^\0$.][^\0$]*\Z")
_AFTER = "\U0010ffff"  # behind every key that begins with what stands before it

Documents = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class SeriesQuery:
    """One question for time series; equal questions are one question to the live streams."""

    name: str  # the aggregate's output, without `zagg.`
    fields: tuple[str, ...] = ()  # empty = all that are numbers
    prefix: str = ""  # only keys that begin with it
    start: str = ""  # as `aggregates.web.series.time_span` reads it; empty = open
    end: str = ""
    zone: str = "UTC"  # of keys without an offset
    fill: Fill = ""
    limit: int = 100  # series at most, the largest ones

    @property
    def slides(self) -> bool:
        """Whether the answer changes with the clock alone."""
        return is_sliding(self.start, self.end)

    def locked(self, prefix: str) -> SeriesQuery:
        """The same question about keys below `prefix` only, which its own prefix can narrow but not leave."""
        return self if self.prefix.startswith(prefix) else replace(self, prefix=prefix)


def collection_name(name: str, prefix: str = NAMESPACE) -> str | None:
    """The collection that `prefix` and `name` make, None when there cannot be one of that name.

    Raises `ForbiddenError` outside `zagg.`.
    """
    full = prefix + name
    if not full.startswith(NAMESPACE):
        raise ForbiddenError(f"{full[:120]!r} lies outside {NAMESPACE}", collection=full[:120])
    rest = full[len(NAMESPACE) :]
    possible = _NAME.match(rest) and ".." not in rest and not rest.endswith(".") and len(full.encode()) <= 200
    return full if possible else None


def below(prefix: str) -> dict[str, str]:
    """The condition that a key begins with `prefix`, which an index answers."""
    return {"$gte": prefix, "$lt": prefix + _AFTER}


def names(database: Database[dict[str, Any]]) -> list[str]:
    """All aggregates that can be read, without `zagg.`, in alphabetical order."""
    found = database.list_collection_names(filter={"name": {"$regex": r"^zagg\."}})
    return sorted(name[len(NAMESPACE) :] for name in found)


def read_range(
    database: Database[dict[str, Any]], collection: str | None, begin: str | None, end: str | None
) -> Documents:
    """Documents with `begin <= _id <= end` in order of `_id`; an empty bound is open (the question of `/q`).

    Raises `TooLargeError` instead of reading more than `MAX_DOCUMENTS`.
    """
    if collection is None:
        return []
    bounds = {operator: bound for operator, bound in (("$gte", begin), ("$lte", end)) if bound}
    return _read(database, collection, {"_id": bounds} if bounds else {}, {"value": 1})


def read_series(database: Database[dict[str, Any]], query: SeriesQuery, now: datetime | None = None) -> ChartData:
    """The answer to `query`, by one query to MongoDB (and two one-key looks when a range is given).

    Raises `BadRequestError` for a range that is none and `TooLargeError` for too much.
    """
    now = now or datetime.now(UTC)
    span = read_span(query.start, query.end, query.zone, now)
    collection = collection_name(query.name)
    if collection is None:
        return ChartData([])
    bounds = _bounds(database, collection, query.prefix, span)
    documents = _read(database, collection, {"_id": bounds} if bounds else {}, {"value": 1})
    chart = points.by_dimension(documents, zone=query.zone, prefix=query.prefix, fields=query.fields, span=span)
    points.keep_largest(chart, query.limit)
    points.fill_in(chart, query.fill, span, query.zone, now)
    return chart


def read_ranked(
    database: Database[dict[str, Any]],
    collection: str | None,
    condition: Mapping[str, Any],
    sort: str,
    limit: int,
) -> list[dict[str, Any]]:
    """The first `limit` documents that meet `condition` by the order of `sort` (`-field` = largest first)."""
    if collection is None:
        return []
    direction = -1 if sort.startswith("-") else 1
    cursor = database[collection].find(dict(condition), {"state": 0}).sort([(sort.lstrip("-"), direction), ("_id", 1)])
    return list(cursor.limit(limit).max_time_ms(QUERY_LIMIT_MS))


def stream(
    database: Database[dict[str, Any]], collection: str, prefix: str, span: TimeSpan, zone: str
) -> Iterator[Any]:
    """All documents of a range in order of `_id`, as they arrive; for exports of any size.

    A switch of generations does not break it: an open cursor goes on reading the old one.
    """
    bounds = _bounds(database, collection, prefix, span)
    with database[collection].find({"_id": bounds} if bounds else {}, {"state": 0}).sort("_id", 1) as cursor:
        for document in cursor:
            key = document["_id"]
            period = parse_period(split_key(key)[1], zone) if isinstance(key, str) else None
            if period is None or span.contains(period.ms):
                yield document


def _read(
    database: Database[dict[str, Any]], collection: str, condition: Mapping[str, Any], fields: Mapping[str, Any]
) -> list[dict[str, Any]]:
    cursor = database[collection].find(condition, fields, batch_size=20_000).sort("_id", 1)
    documents = list(cursor.limit(MAX_DOCUMENTS + 1).max_time_ms(QUERY_LIMIT_MS))
    if len(documents) > MAX_DOCUMENTS:
        raise TooLargeError(
            f"more than {MAX_DOCUMENTS} documents of {collection}: ask for a shorter range, or use the export",
            collection=collection,
        )
    return documents


def _bounds(database: Database[dict[str, Any]], collection: str, prefix: str, span: TimeSpan) -> dict[str, Any]:
    """Bounds of `_id` for keys below `prefix`, narrowed by the span where dates follow the prefix directly.

    They may let in a little more than the span, never less: exact is the check of each period.
    """
    parts = below_parts(prefix)
    bounds: dict[str, Any] = dict(below(prefix)) if prefix else {}
    if span.start is None and span.end is None:
        return bounds
    for direction in (1, -1):
        edge = database[collection].find_one(
            {"_id": bounds} if bounds else {}, {"_id": 1}, sort=[("_id", direction)], max_time_ms=QUERY_LIMIT_MS
        )
        key = edge["_id"] if edge else None
        if not isinstance(key, str) or parse_period(key[len(parts) :], "UTC") is None or "W" in key[len(parts) :]:
            return bounds
    margin = timedelta(days=2)  # offsets of zones, and year and month keys that begin on the day itself
    if span.start is not None:
        bounds["$gte"] = max(f"{parts}{span.start - margin:%Y-%m}" if span.start.year >= 1000 else parts, prefix)
    if span.end is not None and 1000 <= span.end.year < 9999:
        bounds["$lt"] = min(f"{parts}{span.end + margin:%Y-%m-%d}{_AFTER}", prefix + _AFTER)
    return bounds
