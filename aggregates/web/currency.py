"""How current an aggregate is: the last event id it contains, and the time up to which it contains everything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.database import Database

from aggregates.web.encoding import moment_text

POSITIONS = "agg.position"  # one document per output, see docs/architecture.md
_FIELDS = {"position": 1, "complete_through": 1, "aggdef": 1, "lead": 1}


@dataclass(frozen=True)
class Currency:
    """All are None for a collection that no aggregate definition fills."""

    through: int | None = None
    complete_through: datetime | None = None
    aggdef: str | None = None  # the definition that fills it

    def document(self) -> dict[str, Any]:
        """The two fields that answers carry."""
        return {
            "through": self.through,
            "complete_through": moment_text(self.complete_through) if self.complete_through else None,
        }

    def headers(self) -> dict[str, str]:
        """The two headers that answers of `/q` and its kin carry; absent where nothing is known."""
        names = {"through": "X-Zarkov-Through", "complete_through": "X-Zarkov-Complete-Through"}
        return {names[key]: str(value) for key, value in self.document().items() if value is not None}


def read(database: Database[dict[str, Any]], name: str) -> Currency:
    """Currency of the aggregate whose output is `zagg.<name>`.

    Of several outputs of one definition only the first has the position; the others point to it.
    """
    positions = database[POSITIONS]
    document = positions.find_one({"_id": name}, _FIELDS) or {}
    if lead := document.get("lead"):
        document = positions.find_one({"_id": lead}, _FIELDS) or {}
    through = document.get("position")
    return Currency(
        through if isinstance(through, int) else None, document.get("complete_through"), document.get("aggdef")
    )


def least(database: Database[dict[str, Any]], names: Iterable[str]) -> Currency:
    """Currency of an answer made of several aggregates: that of the one which is furthest behind."""
    found = [read(database, name) for name in dict.fromkeys(names)]
    through = [item.through for item in found if item.through is not None]
    complete = [item.complete_through for item in found if item.complete_through is not None]
    return Currency(min(through, default=None), min(complete, default=None))
