"""Find the position document of an output, and what it records about the keys: the one lookup of all readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from pymongo.database import Database

from aggregates.keys.key_time import KeyTime

POSITIONS = "agg.position"  # one document per output, see docs/architecture.md
_FIELDS = dict.fromkeys(
    ("position", "complete_through", "aggdef", "store", "epoch", "definition", "key_times", "lead"), 1
)


def find(database: Database[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return what readers need of the position of the output `zagg.<name>`; empty if no AggDef fills it.

    If a definition has several outputs, only the first has the position; the others point to it. Outputs that events
    name (`start_xmr` without `outputs`) belong to the position of their pattern.
    """
    names = [name, *_patterns(name)]
    found = {each["_id"]: each for each in database[POSITIONS].find({"_id": {"$in": names}}, _FIELDS)}
    document = next((found[each] for each in names if each in found), {})
    if lead := document.get("lead"):
        document = found.get(lead) or database[POSITIONS].find_one({"_id": lead}, _FIELDS) or document
    return document


def key_time(position: Mapping[str, Any], name: str) -> KeyTime:
    """Return how the keys of the output `zagg.<name>` are read, by the position that `find` has found.

    A record that keys have told precedes, then the narrowest. Without one, keys are in UTC. Those of a collection that
    no run of an AggDef has filled, which leaves the fingerprint of its definition, are in `time_zone`, as in 2011.
    """
    if not position.get("definition"):
        return KeyTime(settings.ZARKOV.time_zone)
    recorded = {entry["output"]: entry for entry in position.get("key_times") or ()}
    entries = [recorded[each] for each in (name, *_patterns(name)) if each in recorded]
    entry = next((each for each in entries if each.get("asked")), entries[0] if entries else None)
    return KeyTime.from_document(entry) if entry else KeyTime()


def _patterns(name: str) -> list[str]:
    """Return the patterns that match an output, the narrowest first: `a.b.*`, `a.*` for `a.b.c`."""
    parts = name.split(".")
    return [f"{'.'.join(parts[:count])}.*" for count in range(len(parts) - 1, 0, -1)]
