"""Read the latest documents of an aggregate for its page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from pymongo.database import Database

from aggregates.web.compute_thread import compute
from aggregates.web.json_encoding import plain, to_json
from aggregates.web.mongo import QUERY_LIMIT_MS
from aggregates.web.series.document_reader import Document, Options, iter_decoded

COUNT: Final = 50
MAX_SORTED: Final = 100_000  # larger collections are not sorted by change
BY_CHANGE: Final = "changed last"
BY_KEY: Final = "last by key"
SHOWN_LETTERS: Final = 1_000  # of a key or a value; the export has the whole
MAX_READ_BYTES: Final = 2**14  # of a key or a value; of a longer one MongoDB sends its beginning, or only its length


def read(database: Database[Document], collection: str) -> tuple[list[dict[str, Any]], str]:
    """Return up to `COUNT` documents as lines to show, with `key`, `value` and `through`, and the name of their order.

    Documents with the newest events come first. That order has no index, so a collection of more than `MAX_SORTED`
    documents is read backwards by key instead, which costs the same at any size.
    """
    by_change = _size(database, collection) <= MAX_SORTED
    order = {"through": -1, "_id": -1} if by_change else {"_id": -1}
    shown = {
        "_id": 0,
        "key": _beginning("$_id"),
        "value": _beginning("$value"),
        "through": {"$cond": [{"$isNumber": "$through"}, "$through", None]},
    }
    pipeline: list[dict[str, Any]] = [{"$sort": order}, {"$limit": COUNT}, {"$project": shown}]
    batches = cast(Iterable[bytes], database[collection].aggregate_raw_batches(pipeline, maxTimeMS=QUERY_LIMIT_MS))
    found = b"".join(batches)  # few: each document is at most some 35 KB
    return compute(len(found), _lines, found, database.codec_options), BY_CHANGE if by_change else BY_KEY


def _beginning(path: str) -> dict[str, Any]:
    """Return the expression of what MongoDB sends of a field: a part if it is long text, its length if it is long."""
    size_bytes = {"$bsonSize": {"part": path}}
    beginning = {"$substrCP": [path, 0, SHOWN_LETTERS + 1]}
    part = {"$cond": [{"$eq": [{"$type": path}, "string"]}, {"part": beginning}, {"size_bytes": size_bytes}]}
    return {"$cond": [{"$lte": [size_bytes, MAX_READ_BYTES]}, {"part": path}, part]}


def _lines(found: bytes, options: Options) -> list[dict[str, Any]]:
    return [
        {
            "key": _text(each["key"], lambda key: str(plain(key))),
            "value": _text(each["value"], lambda value: to_json(value).decode()),
            "through": each["through"],
        }
        for each in iter_decoded(found, options)
    ]


def _text(sent: Document, write: Callable[[Any], str]) -> str:
    if "size_bytes" in sent:
        return f"… ({sent['size_bytes']:,} bytes)"
    text = write(sent.get("part"))
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…"


def _size(database: Database[dict[str, Any]], collection: str) -> int:
    """Return MongoDB's estimate of the number of documents; for a view, that of the collection below it."""
    found = next(database.list_collections(filter={"name": collection}), {})
    below = found.get("options", {}).get("viewOn", collection)
    return database[below].estimated_document_count()
