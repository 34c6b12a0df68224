"""Reading and deleting what is in quarantine: selections, pages and counts. What mends and replays is `quarantine`."""

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

LIMIT_MS = 5_000  # a question may keep MongoDB busy for so long
PREVIEW_BYTES = 2_000  # longer input is not read for a list
_ORDER = [("time", DESCENDING), ("_id", DESCENDING)]


class KeyFormatError(IngestError):
    """A key or a cursor is none."""

    code = "bad_key"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries are meant; what is empty or None does not matter."""

    code: str = ""
    source: str = ""
    since: dt.datetime | None = None  # this moment included; timezone-aware, as `until`
    until: dt.datetime | None = None  # included
    replayed: bool | None = None

    def condition(self) -> Document:
        """As a filter of MongoDB."""
        found: Document = {name: value for name in ("code", "source") if (value := getattr(self, name))}
        bounds = {"$gte": self.since, "$lte": self.until}
        if given := {operator: moment for operator, moment in bounds.items() if moment is not None}:
            found["time"] = given
        if self.replayed is not None:
            found["replayed"] = {"$ne": None} if self.replayed else None
        return found


@dataclass(frozen=True, slots=True)
class Count:
    """How many entries there are of a kind."""

    code: str
    source: str
    replayed: bool
    count: int


def key_text(key: Mapping[str, Any]) -> str:
    """A quarantine `_id` as text, for an address or a form."""
    return f"{key['j']}.{key['s']}.{key['i']}"


def parse_key(text: str) -> dict[str, Any]:
    """The `_id` that `key_text` wrote. Raises `KeyFormatError`."""
    journal, _, rest = text.partition(".")
    number, _, index = rest.partition(".")
    if not all(part.isascii() and part.isdigit() and int(part) < 2**63 for part in (number, index)):
        raise KeyFormatError(f"{text[:120]!r} is no quarantine key: allowed is JOURNAL.BLOCK.INDEX")
    return {"j": journal, "s": int(number), "i": int(index)}


def page(
    database: Database[Document], selection: Selection, *, cursor: str = "", limit: int = 50
) -> tuple[list[Document], str | None]:
    """Newest entries first, and the cursor of the next page, which new entries do not shift; None at the end.

    `raw` is there only for input up to `PREVIEW_BYTES`. Raises `KeyFormatError` for a cursor that is none.
    """
    condition = selection.condition()
    if cursor:
        time, key = _read_cursor(cursor)
        condition = {"$and": [condition, {"$or": [{"time": {"$lt": time}}, {"time": time, "_id": {"$lt": key}}]}]}
    raw = {"$cond": [{"$lte": ["$bytes", PREVIEW_BYTES]}, "$raw", "$$REMOVE"]}
    steps: list[Document] = [
        {"$match": condition},
        {"$sort": dict(_ORDER)},
        {"$limit": limit + 1},
        {"$set": {"raw": raw}},
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
        raise KeyFormatError(f"cursor = {text[:60]!r} is none: use the one of the page before") from None


def counts(database: Database[Document]) -> list[Count]:
    """How many entries there are by code, source, and whether they were replayed; most first."""
    kind = {"code": "$code", "source": "$source", "replayed": {"$gt": ["$replayed", None]}}
    steps: list[Document] = [
        {"$sort": {"code": ASCENDING, "source": ASCENDING, "replayed": ASCENDING}},  # so that the index is all it reads
        {"$group": {"_id": kind, "count": {"$sum": 1}}},
        {"$sort": {"count": DESCENDING, "_id": ASCENDING}},
    ]
    found = database[QUARANTINE].aggregate(steps, maxTimeMS=LIMIT_MS)
    return [
        Count(each["_id"].get("code", ""), each["_id"].get("source", ""), each["_id"]["replayed"], each["count"])
        for each in found
    ]


def number_of(database: Database[Document], selection: Selection) -> int:
    """How many entries a selection has."""
    return database[QUARANTINE].count_documents(selection.condition(), maxTimeMS=LIMIT_MS)


def find(database: Database[Document], key: Mapping[str, Any]) -> Document | None:
    """One whole entry."""
    return database[QUARANTINE].find_one({"_id": dict(key)}, max_time_ms=LIMIT_MS)


def selected(
    database: Database[Document], selection: Selection | Sequence[Mapping[str, Any]], most: int
) -> Iterator[Document]:
    """Up to `most` whole entries, of a selection (oldest first) or of a list of keys."""
    condition = (
        selection.condition()
        if isinstance(selection, Selection)
        else {"_id": {"$in": [dict(key) for key in selection]}}
    )
    yield from database[QUARANTINE].find(condition).sort("time", ASCENDING).limit(most).batch_size(500)


def delete(database: Database[Document], selection: Selection | Sequence[Mapping[str, Any]]) -> int:
    """Delete the entries of a selection, or those with the keys; return how many were there."""
    if isinstance(selection, Selection):
        return database[QUARANTINE].delete_many(selection.condition()).deleted_count
    return database[QUARANTINE].delete_many({"_id": {"$in": [dict(key) for key in selection]}}).deleted_count
