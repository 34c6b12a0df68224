"""Read the latest documents of an aggregate for its page."""

from __future__ import annotations

from typing import Any, Final

from pymongo.database import Database

COUNT: Final = 50
MAX_SORTED: Final = 100_000  # larger collections are not sorted by change
BY_CHANGE: Final = "changed last"
BY_KEY: Final = "last by key"


def read(database: Database[dict[str, Any]], collection: str) -> tuple[list[dict[str, Any]], str]:
    """Return up to `COUNT` documents without their state, and a phrase that names their order.

    Documents with the newest events come first. That order has no index, so a collection of more than `MAX_SORTED`
    documents is read backwards by key instead, which costs the same at any size.
    """
    by_change = _size(database, collection) <= MAX_SORTED
    order = [("through", -1), ("_id", -1)] if by_change else [("_id", -1)]
    found = database[collection].find({}, {"state": 0}).sort(order).limit(COUNT)
    return list(found), BY_CHANGE if by_change else BY_KEY


def _size(database: Database[dict[str, Any]], collection: str) -> int:
    """Return MongoDB's estimate of the number of documents; for a view, that of the collection below it."""
    found = next(database.list_collections(filter={"name": collection}), {})
    below = found.get("options", {}).get("viewOn", collection)
    return database[below].estimated_document_count()
