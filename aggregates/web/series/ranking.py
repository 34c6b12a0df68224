"""Read documents of an aggregate in the order of a field: numbers first, and what is no number never before them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pymongo.database import Database

from aggregates.web.compute_thread import compute
from aggregates.web.mongo import QUERY_LIMIT_MS
from aggregates.web.series.document_reader import ByteLimit, Document, Options, iter_decoded, read_batches

_NOT_FINITE: Final = [math.nan, math.inf, -math.inf]
# Every BSON type but the numbers. An array has the types of its elements too.
_NO_NUMBER: Final = [
    "object", "array", "string", "binData", "objectId", "bool", "date", "null", "regex", "dbPointer", "javascript",
    "symbol", "javascriptWithScope", "timestamp", "minKey", "maxKey", "undefined",
]  # fmt: skip


def read_ranked(
    database: Database[dict[str, Any]],
    collection: str | None,
    condition: Mapping[str, Any],
    sort: str,
    limit: int,
    *,
    inside: Callable[[Any], bool] | None = None,
    size: ByteLimit | None = None,
) -> list[dict[str, Any]]:
    """Return the first `limit` documents that match `condition`, ordered by `sort` (`-field` = largest first).

    Finite numbers come first in either direction, then other values in MongoDB's order, then documents whose field is
    NaN, infinite, null or missing. Equal values are in the order of their keys. With `inside`, only documents count
    for whose key it returns True. Raise `TooLargeError` if they have more bytes than `size` allows.
    """
    if collection is None:
        return []
    size = size or ByteLimit()
    field = sort.removeprefix("-")
    direction = -1 if sort.startswith("-") else 1
    found: dict[str, dict[str, Any]] = {}  # a document that changes between two reads is listed once
    for kind, by_field in _kinds(field):
        order = {"_id": 1} if not by_field else {field: direction} if field == "_id" else {field: direction, "_id": 1}
        for batch in read_batches(
            database[collection],
            {"$and": [dict(condition), kind]},
            {"state": 0},
            list(order.items()),
            limit=0 if inside else limit,
            limit_ms=QUERY_LIMIT_MS,
        ):
            documents, size_bytes = compute(
                batch.work_bytes, _chosen, batch.documents, database.codec_options, inside, limit
            )
            size.take(size_bytes)
            for document in documents:
                found.setdefault(repr(document["_id"]), document)
                if len(found) == limit:
                    return list(found.values())
    return list(found.values())


def _chosen(
    batch: bytes, options: Options, inside: Callable[[Any], bool] | None, limit: int
) -> tuple[list[Document], int]:
    """Return the first documents of a batch that count, and about how many bytes they have."""
    if inside is None:
        return list(iter_decoded(batch, options)), len(batch)
    chosen: list[Document] = []
    count = 0
    for document in iter_decoded(batch, options):
        count += 1
        if inside(document["_id"]):
            chosen.append(document)
            if len(chosen) == limit:
                break
    return chosen, len(batch) * len(chosen) // max(count, 1)


def _kinds(field: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield conditions that no two documents share and every document meets one of; True if `field` orders them.

    They are separate queries, so that each can use an index on the field: a computed sort key could not.
    """
    number = {"$gt": -math.inf, "$lt": math.inf, "$nin": _NOT_FINITE, "$not": {"$type": _NO_NUMBER}}
    # None also matches a missing field.
    nothing = {field: {"$in": [None, *_NOT_FINITE], "$not": {"$type": "array"}}}
    yield {field: number}, True
    yield {"$nor": [{field: number}, nothing]}, True
    yield nothing, False
