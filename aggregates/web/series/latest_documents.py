"""The latest documents of an aggregate, for people to look at."""

from __future__ import annotations

from typing import Any, Final

from pymongo.database import Database

COUNT: Final = 50
MOST_SORTED: Final = 100_000  # beyond so many documents they are not searched for what has changed last
BY_CHANGE: Final = "changed last"
BY_KEY: Final = "last by key"


def read(database: Database[dict[str, Any]], collection: str) -> tuple[list[dict[str, Any]], str]:
    """Up to `COUNT` documents without their state, and in which order they are, in words.

    Those that took in the newest events come first. There is no index for that, so that of a collection with more than
    `MOST_SORTED` documents the last ones by key are answered, which costs the same at any size.
    """
    by_change = _size(database, collection) <= MOST_SORTED
    order = [("through", -1), ("_id", -1)] if by_change else [("_id", -1)]
    found = database[collection].find({}, {"state": 0}).sort(order).limit(COUNT)
    return list(found), BY_CHANGE if by_change else BY_KEY


def _size(database: Database[dict[str, Any]], collection: str) -> int:
    """Roughly how many documents there are, by what MongoDB notes of a collection; a view has those below it."""
    found = next(database.list_collections(filter={"name": collection}), {})
    below = found.get("options", {}).get("viewOn", collection)
    return database[below].estimated_document_count()
