"""Read output documents of aggregates from MongoDB, a bounded number at a time, only from collections below `zagg.`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pymongo.database import Database

from aggregates.web.exceptions import ForbiddenError, TooLargeError
from aggregates.web.mongo import QUERY_LIMIT_MS
from aggregates.web.series import output_position, points
from aggregates.web.series.fill import Fill, fill_in
from aggregates.web.series.key_span import KeySpan, read_key_span
from aggregates.web.series.output_key import complete_parts, parse_period
from aggregates.web.series.points import ChartData
from aggregates.web.series.time_span import TimeSpan

NAMESPACE = "zagg."
MAX_DOCUMENTS = 250_000
_NAME = re.compile(r"[^\0$.][^\0$]*\Z")
_MARGIN = timedelta(days=2)  # for zone offsets, and for year and month keys that start on that day
_AFTER = "\U0010ffff"  # sorts after every key that starts with the text before it

Documents = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class SeriesQuery:
    """A time series query; live streams share one channel among equal queries."""

    name: str  # the aggregate's output, without `zagg.`
    fields: tuple[str, ...] = ()  # empty = all numeric fields
    prefix: str = ""  # only keys that start with it
    start: str = ""  # a text for `time_span.read_span`; empty = open
    end: str = ""  # like `start`
    zone: str = "UTC"  # time zone of `start` and `end`, and of the viewer; keys are read in that of their aggregate
    fill: Fill = ""  # what to put in periods without data; empty = nothing
    limit: int = 100  # maximum number of series; the largest are kept

    def limited_to(self, prefix: str) -> SeriesQuery:
        """Return the query limited to keys below `prefix`; its own prefix can only narrow that further."""
        return self if self.prefix.startswith(prefix) else replace(self, prefix=prefix)


def collection_name(name: str, prefix: str = NAMESPACE) -> str | None:
    """Return the collection named `prefix + name`, or None if MongoDB does not allow that name.

    Raise `ForbiddenError` outside `zagg.`.
    """
    full = prefix + name
    if not full.startswith(NAMESPACE):
        raise ForbiddenError(f"{full[:120]!r} is outside {NAMESPACE}", collection=full[:120])
    rest = full[len(NAMESPACE) :]
    possible = _NAME.match(rest) and ".." not in rest and not rest.endswith(".") and len(full.encode()) <= 200
    return full if possible else None


def starts_with(prefix: str) -> dict[str, str]:
    """Return the condition that a key starts with `prefix`, in a form that uses the index."""
    return {"$gte": prefix, "$lt": prefix + _AFTER}


def list_aggregates(database: Database[dict[str, Any]]) -> list[str]:
    """List all aggregates that can be read, without `zagg.`, in alphabetical order."""
    found = database.list_collection_names(filter={"name": {"$regex": r"^zagg\."}})
    return sorted(name[len(NAMESPACE) :] for name in found)


def read_range(
    database: Database[dict[str, Any]], collection: str | None, begin: str | None, end: str | None
) -> Documents:
    """Return documents with `begin <= _id <= end` in order of `_id` (for `/q`); an empty bound is open.

    Raise `TooLargeError` instead of reading more than `MAX_DOCUMENTS`.
    """
    if collection is None:
        return []
    bounds = {operator: bound for operator, bound in (("$gte", begin), ("$lte", end)) if bound}
    return _read(database, collection, {"_id": bounds} if bounds else {}, {"value": 1})


def read_series(
    database: Database[dict[str, Any]],
    query: SeriesQuery,
    position: Mapping[str, Any],
    now: datetime | None = None,
) -> ChartData:
    """Answer `query` with one MongoDB query (plus two one-key reads if it has a range).

    `position` is that of the output, from `output_position.find`. Raise `BadRequestError` for an invalid range and
    `TooLargeError` for more than `MAX_DOCUMENTS`.
    """
    now = now or datetime.now(UTC)
    key_time = output_position.key_time(position, query.name)
    span = read_key_span(query.start, query.end, query.zone, key_time, now)
    collection = collection_name(query.name)
    if collection is None:
        return ChartData([])
    condition = _condition(database, collection, query.prefix, span.outer())
    documents = _read(database, collection, condition, {"value": 1})
    chart = points.by_dimension(
        documents,
        prefix=query.prefix,
        fields=query.fields,
        span=span,
        shown_zone=query.zone,
        now=now,
    )
    fill_in(chart, query.fill, now, limit=query.limit)
    return chart


def stream(database: Database[dict[str, Any]], collection: str, prefix: str, span: KeySpan) -> Iterator[Any]:
    """Yield all documents of a range in order of `_id`, from one cursor; for exports of any size.

    A switch of generations does not break it: the open cursor continues to read the old one.
    """
    condition = _condition(database, collection, prefix, span.outer())
    with database[collection].find(condition, {"state": 0}).sort("_id", 1) as cursor:
        for document in cursor:
            if span.contains(document["_id"]):
                yield document


def _read(
    database: Database[dict[str, Any]], collection: str, condition: Mapping[str, Any], fields: Mapping[str, Any]
) -> list[dict[str, Any]]:
    cursor = database[collection].find(condition, fields, batch_size=20_000).sort("_id", 1)
    documents = list(cursor.limit(MAX_DOCUMENTS + 1).max_time_ms(QUERY_LIMIT_MS))
    if len(documents) > MAX_DOCUMENTS:
        raise TooLargeError(
            f"more than {MAX_DOCUMENTS} documents of {collection}: use a shorter range, or the export",
            collection=collection,
        )
    return documents


def _condition(database: Database[dict[str, Any]], collection: str, prefix: str, span: TimeSpan) -> dict[str, Any]:
    """Return the condition for keys below `prefix`, narrowed by the span if dates directly follow the prefix.

    It can cover a little more than the span, never less: the caller checks each period.
    """
    parts = complete_parts(prefix)
    below: dict[str, Any] = {"_id": starts_with(prefix)} if prefix else {}
    if span.start is None and span.end is None:
        return below
    for direction in (1, -1):
        edge = database[collection].find_one(below, {"_id": 1}, sort=[("_id", direction)], max_time_ms=QUERY_LIMIT_MS)
        key = edge["_id"] if edge else None
        if not isinstance(key, str) or parse_period(key[len(parts) :], "UTC") is None or "W" in key[len(parts) :]:
            return below
    low = prefix if span.start is None else max(f"{parts}{_key_day(span.start, -_MARGIN)[:7]}", prefix)
    if span.end is None:
        return {"_id": {"$gte": low, "$lt": prefix + _AFTER}}
    last = _key_day(span.end, _MARGIN)
    ranges = [("", last), *_weeks_after(last)]
    bounds = [(max(parts + first, low), min(f"{parts}{end}{_AFTER}", prefix + _AFTER)) for first, end in ranges]
    return {"$or": [{"_id": {"$gte": first, "$lt": end}} for first, end in bounds]}


def _weeks_after(day: str) -> list[tuple[str, str]]:
    """Return the ranges of week keys that start until a day but sort after it, as all weeks do after the year's dates.

    The first week of a year can start in the year before.
    """
    year, week, _ = date.fromisoformat(day).isocalendar()
    if year < int(day[:4]):
        return []
    first = [(f"{day[:4]}-W", f"{day[:4]}-W")] if year > int(day[:4]) else []
    return [*first, (f"{year:04}-W", f"{year:04}-W{week:02}")]


def _key_day(instant: datetime, margin: timedelta) -> str:
    """Return the day at this distance from `instant`, as in keys; the first or the last one of all if there is none."""
    try:
        return (instant + margin).date().isoformat()  # unlike strftime, with four digits for every year
    except OverflowError:
        return (date.min if margin < timedelta(0) else date.max).isoformat()
