"""Which values the plain fields of a definition may have: types, lengths, bounds, schedule. Imports no Django.

What a definition means (inputs, filter, parameters) is checked by `definition`; how definitions fit together, by
`lineage`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from aggregates.exceptions import DefinitionError, known

LONGEST_S = 366 * 86_400
TEXTS: Mapping[str, int | None] = {
    "name": 100,
    "description": None,
    "task_name": 255,
    "zql": None,
    "id_key": 100,
    "output": 110,
    "crontab": 100,
    "crontab_zone": 64,
    "on_error": 10,
}  # longest allowed
SWITCHES = ("realtime", "enabled")


def check_plain(fields: Mapping[str, Any]) -> None:
    """Raise `DefinitionError` for the first of these fields whose value is not allowed."""
    for name, longest in TEXTS.items():
        _check_text(name, fields[name], longest)
    for name in SWITCHES:
        if not isinstance(fields[name], bool):
            raise DefinitionError(f"{name} {fields[name]!r}: allowed are true and false", name)
    interval = fields["interval_s"]
    whole = isinstance(interval, int) and not isinstance(interval, bool)
    if interval is not None and not (whole and 1 <= interval <= LONGEST_S):
        raise DefinitionError(
            f"interval_s {interval!r}: allowed is a whole number of seconds from 1 to {LONGEST_S} (a year)",
            "interval_s",
        )
    settle = fields["settle_s"]
    number = isinstance(settle, int | float) and not isinstance(settle, bool) and math.isfinite(settle)
    if not (number and 0 <= settle <= LONGEST_S):
        raise DefinitionError(f"settle_s {settle!r}: allowed is 0 or more seconds, up to {LONGEST_S}", "settle_s")
    if not fields["id_key"] or fields["id_key"].startswith("$") or "\0" in fields["id_key"]:
        raise DefinitionError(f"id_key {fields['id_key']!r}: allowed is the name of a field, such as _id", "id_key")


def _check_text(name: str, value: Any, longest: int | None) -> None:
    if not isinstance(value, str):
        raise DefinitionError(f"{name} {value!r}: allowed is a text", name)
    if longest is not None and len(value) > longest:
        raise DefinitionError(f"{name} {value[:40]!r}... has {len(value)} characters: allowed are {longest}", name)


@lru_cache(maxsize=1024)
def is_zone(name: str) -> bool:
    """Return whether `name` is in the IANA time zone database."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError; folders of the database an OSError
        return False
    return True


def check_zone(name: str) -> None:
    """Raise `DefinitionError` unless this is a time zone; empty stands for that of the configuration."""
    if name and not is_zone(name):
        raise DefinitionError(
            f"crontab_zone {name!r}: there is no such time zone; allowed is such as Europe/Berlin", "crontab_zone"
        )


FOREIGN = ("admin", "config", "local")  # MongoDB's own: users, shards, the log of replication
_OWN = ("agg.", "zgen.", "zagg.", "zmr.", "ingest.", "event.", "system.")  # what Zarkov keeps there for itself
_OWN_WHOLE = ("event", "quarantine")


def check_collection(input_name: str, own_database: str) -> None:
    """Raise `DefinitionError` when a collection, as `database.collection`, is none of the user's own.

    What MongoDB keeps for itself, such as its logins, is not for reading; nor is what Zarkov does, which has other ways
    in: events without their watermark would be passed over.
    """
    database, _, name = input_name.partition(".")
    if database in FOREIGN or name.startswith("system."):
        raise DefinitionError(
            f"inputs {input_name!r}: MongoDB keeps that for itself (databases {known(FOREIGN)}, and system.*); "
            "allowed are collections of yours",
            "inputs",
        )
    own = name.startswith(_OWN) or name in _OWN_WHOLE
    if database == f"{own_database}_celery" or (database == own_database and own):
        raise DefinitionError(
            f'inputs {input_name!r}: Zarkov keeps that for itself; read events as "event", aggregates as "zagg.name"',
            "inputs",
        )
