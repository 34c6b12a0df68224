"""Read output documents of aggregates from MongoDB, a bounded number at a time, only from collections below `zagg.`.

What grows with their number is computed where it holds up no other request, see `aggregates.web.compute_thread`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from pymongo.database import Database

from aggregates.web.compute_thread import AnswerPlace, compute
from aggregates.web.exceptions import ForbiddenError, TooLargeError
from aggregates.web.mongo import QUERY_LIMIT_MS
from aggregates.web.series import key_range, output_position, points
from aggregates.web.series.document_reader import (
    Batch,
    ByteLimit,
    Document,
    Piece,
    StoredDocuments,
    pieces_of,
    read_batches,
)
from aggregates.web.series.fill import Fill, fill_in
from aggregates.web.series.key_span import KeySpan, read_key_span
from aggregates.web.series.points import ChartData

NAMESPACE = "zagg."
MAX_DOCUMENTS = 250_000
MAX_SERIES_BYTES = 32 * 2**20  # of documents that are in memory as a whole
_NAME = re.compile(r"[^\0$.\ud800-\udfff][^\0$\ud800-\udfff]*\Z")
_NAMESPACE_BYTES = 255  # of a database and a collection with the dot between them (MongoDB manual, Limits)


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
    bulk: bool = False  # leave out outliers without a fill, too, and what comes after now if there is no `end`
    limit: int = 100  # maximum number of series; the largest are kept

    def limited_to(self, prefix: str) -> SeriesQuery:
        """Return the query limited to keys below `prefix`; its own prefix can only narrow that further."""
        return self if self.prefix.startswith(prefix) else replace(self, prefix=prefix)


def collection_name(name: str, prefix: str = NAMESPACE) -> str | None:
    """Return the collection named `prefix + name`, or None if MongoDB or its driver does not allow that name.

    The driver refuses dots at the end and two in a row. Raise `ForbiddenError` outside `zagg.`.
    """
    full = prefix + name
    if not full.startswith(NAMESPACE):
        raise ForbiddenError(f"{full[:120]!r} is outside {NAMESPACE}", collection=full[:120])
    rest = full[len(NAMESPACE) :]
    if not _NAME.match(rest) or ".." in rest or rest.endswith(".") or rest.startswith("system."):
        return None
    fits = len(f"{settings.ZARKOV.mongo_database}.{full}".encode()) <= _NAMESPACE_BYTES
    return full if fits else None


def list_aggregates(database: Database[dict[str, Any]]) -> list[str]:
    """List all aggregates that can be read, without `zagg.`, in alphabetical order."""
    found = database.list_collection_names(filter={"name": {"$regex": r"^zagg\."}})
    return sorted(name[len(NAMESPACE) :] for name in found)


def read_range(
    database: Database[Document], collection: str | None, begin: str | None, end: str | None
) -> Iterator[Batch]:
    """Yield batches of documents with `begin <= _id <= end` in order of `_id` (for `/q`); an empty bound is open.

    At most one document more than `MAX_DOCUMENTS`: let `check_count` refuse that.
    """
    if collection is None:
        return iter(())
    bounds = {operator: bound for operator, bound in (("$gte", begin), ("$lte", end)) if bound}
    return _read(database, collection, {"_id": bounds} if bounds else {})


def check_count(count: int, name: str) -> None:
    """Raise `TooLargeError` if an answer has more than `MAX_DOCUMENTS` of an aggregate."""
    if count > MAX_DOCUMENTS:
        raise TooLargeError(
            f"more than {MAX_DOCUMENTS} documents of {name}: use a shorter range, or the export", collection=name
        )


def read_series(
    database: Database[dict[str, Any]],
    query: SeriesQuery,
    position: Mapping[str, Any],
    held: ExitStack,
    now: datetime | None = None,
) -> ChartData:
    """Answer `query` with one MongoDB query (plus three for one key each if it has a range).

    `position` is that of the output, from `output_position.find`. `held` holds the place of a large answer until the
    caller needs its points no more. Raise `BadRequestError` for an invalid range and
    `TooLargeError` for more than `MAX_DOCUMENTS`.
    """
    now = now or datetime.now(UTC)
    key_time = output_position.key_time(position, query.name)
    span = read_key_span(query.start, query.end, query.zone, key_time, now)
    collection = collection_name(query.name)
    if collection is None:
        return ChartData([])
    condition = key_range.condition(database, collection, query.prefix, span.outer())
    limit = ByteLimit(MAX_SERIES_BYTES, held.enter_context(AnswerPlace()))
    documents = StoredDocuments(database.codec_options)
    work_bytes = 0
    for batch in _read(database, collection, condition):
        limit.take(len(batch.documents))
        documents.add(batch.documents)
        work_bytes = batch.work_bytes
    check_count(documents.count, collection)
    return compute(max(work_bytes, limit.size_bytes), _chart, documents, query, span, now)


def _chart(documents: StoredDocuments, query: SeriesQuery, span: KeySpan, now: datetime) -> ChartData:
    chart = points.by_dimension(
        documents,
        prefix=query.prefix,
        fields=query.fields,
        bulk=query.bulk,
        span=span,
        shown_zone=query.zone,
        now=now,
    )
    fill_in(chart, query.fill, now, limit=query.limit)
    return chart


def stream(database: Database[Document], collection: str, prefix: str, span: KeySpan) -> Iterator[Piece]:
    """Yield all documents of a range in order of `_id`, from one cursor; for exports of any size.

    A switch of generations does not break it: the open cursor continues to read the old one.
    """
    condition = key_range.condition(database, collection, prefix, span.outer())
    for batch in read_batches(database[collection], condition, {"state": 0}):
        yield from pieces_of(batch, database.codec_options, span.contains)


def _read(database: Database[Document], collection: str, condition: Mapping[str, Any]) -> Iterator[Batch]:
    return read_batches(database[collection], condition, {"value": 1}, limit=MAX_DOCUMENTS + 1, limit_ms=QUERY_LIMIT_MS)
