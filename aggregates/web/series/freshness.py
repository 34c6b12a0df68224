"""Read how current an aggregate is: the last event id it contains, and the time up to which it contains everything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pymongo.database import Database

from aggregates.web.json_encoding import moment_text
from aggregates.web.series import output_position
from ingest.exceptions import StoreUnpreparedError
from ingest.store.store import Watermark, read_watermark

HEADERS: Final = {"through": "X-Zarkov-Through", "complete_through": "X-Zarkov-Complete-Through"}


@dataclass(frozen=True)
class Freshness:
    """The point up to which an aggregate is current. All fields are None for a collection that no AggDef fills."""

    through: int | None = None  # last event id contained
    complete_through: datetime | None = None  # time up to which every committed event is contained
    aggdef: str | None = None  # the definition that fills it

    def document(self) -> dict[str, Any]:
        """Return `through` and `complete_through` as fields of an answer."""
        return {
            "through": self.through,
            "complete_through": moment_text(self.complete_through) if self.complete_through else None,
        }

    def headers(self) -> dict[str, str]:
        """Return the same values as headers, for the 2011 queries and exports; None values are left out."""
        return {HEADERS[key]: str(value) for key, value in self.document().items() if value is not None}


def read(database: Database[dict[str, Any]], name: str) -> Freshness:
    """Return the freshness of the aggregate whose output is `zagg.<name>`."""
    return of_position(database, output_position.find(database, name))


def of_position(database: Database[dict[str, Any]], position: Mapping[str, Any]) -> Freshness:
    """Return the freshness of an output, given its position as `output_position.find` returns it."""
    return from_position(position, watermark(database) if position else None)


def watermark(database: Database[dict[str, Any]]) -> Watermark | None:
    """Return the current watermark, or None if there is no event store yet."""
    try:
        return read_watermark(database)
    except StoreUnpreparedError:
        return None


def from_position(document: Mapping[str, Any], now: Watermark | None) -> Freshness:
    """Return the freshness that a position document records, given the watermark `now`.

    An aggregate whose position has reached the watermark is as complete as the watermark, however long ago its last
    run was: no event has arrived since.
    """
    through, complete = document.get("position"), document.get("complete_through")
    if not isinstance(through, int):
        return Freshness(None, complete, document.get("aggdef"))
    same_store = now is not None and (document.get("store"), document.get("epoch")) == (now.store, now.epoch)
    if now is not None and same_store and through >= now.through:
        complete = now.complete_through if complete is None else max(complete, now.complete_through)
    return Freshness(through, complete, document.get("aggdef"))


def least_current(database: Database[dict[str, Any]], positions: Iterable[Mapping[str, Any]]) -> Freshness:
    """Return the freshness of an answer made of several aggregates, given their positions: that of the oldest one."""
    found = [of_position(database, position) for position in positions]
    through = [item.through for item in found if item.through is not None]
    complete = [item.complete_through for item in found if item.complete_through is not None]
    return Freshness(min(through, default=None), min(complete, default=None))
