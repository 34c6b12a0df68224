"""Select, page through, count and delete quarantine entries. Replaying is left to `ingest.load.quarantine_replay`."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING, DESCENDING
from pymongo.database import Database

from ingest.exceptions import IngestError
from ingest.store.connection import Document
from ingest.store.store import QUARANTINE

LIMIT_MS = 5_000  # time limit of a query in MongoDB
PREVIEW_BYTES = 2_000  # longer input is left out of lists
_ORDER = [("time", DESCENDING), ("_id", DESCENDING)]


class KeyFormatError(IngestError, code="bad_key"):
    """A key or a cursor is malformed."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter for entries; a field that is empty or None does not restrict it."""

    code: str = ""
    source: str = ""
    since: dt.datetime | None = None  # inclusive; timezone-aware like `until`
    until: dt.datetime | None = None  # inclusive
    replayed: bool | None = None

    def condition(self) -> Document:
        found: Document = {name: value for name in ("code", "source") if (value := getattr(self, name))}
        bounds = {"$gte": self.since, "$lte": self.until}
        if given := {operator: moment for operator, moment in bounds.items() if moment is not None}:
            found["time"] = given
        if self.replayed is not None:
            found["replayed"] = {"$ne": None} if self.replayed else None
        return found


@dataclass(frozen=True, slots=True)
class Count:
    """The number of entries with the same code, source and replay state, and of documents that they stand for."""

    code: str
    source: str
    replayed: bool
    count: int
    documents: int


def key_text(key: Mapping[str, Any]) -> str:
    """Return a quarantine `_id` as text, for a URL or a form."""
    return f"{key['j']}.{key['s']}.{key['i']}"


def parse_key(text: str) -> dict[str, Any]:
    """Return the `_id` from the text that `key_text` made. Raise `KeyFormatError` if it is malformed."""
    journal, _, rest = text.partition(".")
    number, _, index = rest.partition(".")
    if not all(part.isascii() and part.isdigit() and int(part) < 2**63 for part in (number, index)):
        raise KeyFormatError(f"{text[:120]!r} is not a quarantine key: use JOURNAL.BLOCK.INDEX")
    return {"j": journal, "s": int(number), "i": int(index)}


def page(
    database: Database[Document], selection: Selection, *, cursor: str = "", limit: int = 50
) -> tuple[list[Document], str | None]:
    """Return a page of entries, newest first, and the cursor of the next page or None; new entries do not shift pages.

    Entries have `raw` only for input up to `PREVIEW_BYTES`, no `sizes`, and `mended` only as True. Raise
    `KeyFormatError` if the cursor is malformed.
    """
    condition = selection.condition()
    if cursor:
        time, key = _read_cursor(cursor)
        condition = {"$and": [condition, {"$or": [{"time": {"$lt": time}}, {"time": time, "_id": {"$lt": key}}]}]}
    raw = {"$cond": [{"$lte": ["$bytes", PREVIEW_BYTES]}, "$raw", "$$REMOVE"]}
    mended = {"$cond": [{"$eq": [{"$type": "$mended"}, "missing"]}, "$$REMOVE", True]}
    steps: list[Document] = [
        {"$match": condition},
        {"$sort": dict(_ORDER)},
        {"$limit": limit + 1},
        {"$set": {"raw": raw, "mended": mended, "sizes": "$$REMOVE"}},
    ]
    found = list(database[QUARANTINE].aggregate(steps, maxTimeMS=LIMIT_MS))
    more, found = len(found) > limit, found[:limit]
    return found, _cursor(found[-1]) if more else None


def _cursor(entry: Mapping[str, Any]) -> str:
    milliseconds = round(entry["time"].timestamp() * 1000)
    return base64.urlsafe_b64encode(f"{milliseconds}@{key_text(entry['_id'])}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[dt.datetime, Document]:
    try:
        plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        milliseconds, _, key = plain.partition("@")
        return dt.datetime.fromtimestamp(int(milliseconds) / 1000, dt.UTC), parse_key(key)
    except (ValueError, OverflowError, OSError, KeyFormatError):
        raise KeyFormatError(f"cursor = {text[:60]!r} is not valid: use the one from the previous page") from None


def counts(database: Database[Document], selection: Selection | None = None) -> list[Count]:
    """Count the selected entries, by default all, and their documents, by code, source and replay state; most first."""
    condition = selection.condition() if selection is not None else {}
    kind = {"code": "$code", "source": "$source", "replayed": {"$gt": ["$replayed", None]}}
    steps: list[Document] = [
        *([{"$match": condition}] if condition else []),
        # So that only the index is read.
        {"$sort": {"code": ASCENDING, "source": ASCENDING, "replayed": ASCENDING, "count": ASCENDING}},
        {"$group": {"_id": kind, "count": {"$sum": 1}, "documents": {"$sum": {"$ifNull": ["$count", 1]}}}},
        {"$sort": {"count": DESCENDING, "_id": ASCENDING}},
    ]
    found = database[QUARANTINE].aggregate(steps, maxTimeMS=LIMIT_MS)
    return [
        Count(
            each["_id"].get("code", ""),
            each["_id"].get("source", ""),
            each["_id"]["replayed"],
            int(each["count"]),
            int(each["documents"]),
        )
        for each in found
    ]


def count_selected(database: Database[Document], selection: Selection) -> int:
    return database[QUARANTINE].count_documents(selection.condition(), maxTimeMS=LIMIT_MS)


def find(database: Database[Document], key: Mapping[str, Any]) -> Document | None:
    """Return one whole entry, or None if there is none with this key."""
    return database[QUARANTINE].find_one({"_id": dict(key)}, max_time_ms=LIMIT_MS)


def selected(
    database: Database[Document], selection: Selection | Sequence[Mapping[str, Any]], most: int
) -> Iterator[Document]:
    """Yield up to `most` whole entries of a selection or a list of keys, oldest first."""
    yield from database[QUARANTINE].find(_condition(selection)).sort("time", ASCENDING).limit(most).batch_size(500)


def delete(database: Database[Document], selection: Selection | Sequence[Mapping[str, Any]]) -> int:
    """Delete the entries of a selection or a list of keys; return how many were deleted."""
    return database[QUARANTINE].delete_many(_condition(selection)).deleted_count


def _condition(selection: Selection | Sequence[Mapping[str, Any]]) -> Document:
    return selection.condition() if isinstance(selection, Selection) else {"_id": {"$in": list(map(dict, selection))}}
