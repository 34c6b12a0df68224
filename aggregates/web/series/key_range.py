"""Narrow a query to the keys that can be in a span of time, as far as the order of keys follows that of time.

Keys are ordered as text. Dates of one kind are then in order of time; weeks come after the other dates of their year,
and dimensions that begin like dates (`2025-sale/2026-11-03`) anywhere between them.
"""

from __future__ import annotations

import re
import time
from datetime import date, datetime, timedelta
from typing import Any, Final

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import ExecutionTimeout

from aggregates.web.mongo import QUERY_LIMIT_MS
from aggregates.web.series.output_key import complete_parts, parse_period
from aggregates.web.series.time_span import TimeSpan

_MARGIN: Final = timedelta(days=2)  # for zone offsets, and for year and month keys that start on that day
_AFTER: Final = "\U0010ffff"  # sorts after every key that starts with the text before it
# All keys are searched for dimensions, two million and more in a second. A search that takes longer than this is
# repeated only after a multiple of its time, so that an output of very many keys is not busy with it.
_QUICK_S: Final = 0.1
_REST: Final = 20
_MOST_NOTED: Final = 1_000

_no_dimensions_until: dict[tuple[str, str, str], float] = {}  # by database, collection and prefix: a monotonic time


def starts_with(prefix: str) -> dict[str, str]:
    """Return the condition that a key starts with `prefix`, in a form that uses the index."""
    return {"$gte": prefix, "$lt": prefix + _AFTER}


def condition(database: Database[dict[str, Any]], collection: str, prefix: str, span: TimeSpan) -> dict[str, Any]:
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
    if _has_dimensions(database[collection], below, parts):
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


def _has_dimensions(collection: Collection[dict[str, Any]], below: dict[str, Any], parts: str) -> bool:
    """Return True if keys below `parts` have further parts before their date. Only the index is read."""
    noted = (collection.database.name, collection.name, parts)
    begun = time.monotonic()
    if _no_dimensions_until.get(noted, 0.0) > begun:
        return False
    nested = {"_id": {**below.get("_id", {}), "$regex": f"^{re.escape(parts)}[^/]*/"}}
    try:
        if collection.find_one(nested, {"_id": 1}, max_time_ms=QUERY_LIMIT_MS) is not None:
            return True
    except ExecutionTimeout:
        pass  # so many keys between two dates are dates
    took_s = time.monotonic() - begun
    if took_s > _QUICK_S:
        if len(_no_dimensions_until) >= _MOST_NOTED:
            _no_dimensions_until.clear()
        _no_dimensions_until[noted] = begun + _REST * took_s
    return False
