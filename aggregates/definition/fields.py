"""List the fields of a definition, and check the plain ones: types, lengths, bounds, schedule. Imports no Django.

`definition` checks inputs, filter and parameters; `lineage` checks how definitions fit together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aggregates.exceptions import DefinitionError, known
from ingest.time_zone import is_zone, zone_advice
from ingest.wire.text_check import fault_of_texts
from mapreduce.codec import NOT_BSON, encode, why_not_bson
from mapreduce.exceptions import SpecError
from mapreduce.job.value_check import DEPTH, path
from mapreduce.task_error import too_deep

FIELDS = (  # what people set, besides the name
    "description", "task_name", "params", "inputs", "id_key", "settle_s", "filter", "output", "realtime", "interval_s",
    "crontab", "crontab_zone", "on_error", "enabled",
)  # fmt: skip
LONGEST_S = 366 * 86_400
TEXTS: Mapping[str, int | None] = {
    "name": 100,
    "description": 2_000,
    "task_name": 255,
    "zql": None,
    "id_key": 100,
    "output": 110,
    "crontab": 100,
    "crontab_zone": 64,
    "on_error": 10,
}  # maximum length in characters; None = unlimited
SWITCHES = ("realtime", "enabled")


def check_plain(fields: Mapping[str, Any]) -> None:
    """Raise `DefinitionError` for the first field whose value is not allowed."""
    for name, longest in TEXTS.items():
        _check_text(name, fields[name], longest)
    for name in SWITCHES:
        if not isinstance(fields[name], bool):
            raise DefinitionError(f"{name} must be true or false, not {fields[name]!r}", name)
    interval = fields["interval_s"]
    whole = isinstance(interval, int) and not isinstance(interval, bool)
    if interval is not None and not (whole and 1 <= interval <= LONGEST_S):
        raise DefinitionError(
            f"interval_s must be a whole number of seconds from 1 to {LONGEST_S} (a year), not {interval!r}",
            "interval_s",
        )
    settle = fields["settle_s"]
    number = isinstance(settle, int | float) and not isinstance(settle, bool) and math.isfinite(settle)
    if not (number and 0 <= settle <= LONGEST_S):
        raise DefinitionError(f"settle_s must be a number of seconds from 0 to {LONGEST_S}, not {settle!r}", "settle_s")
    try:
        path("id_key", fields["id_key"])
    except SpecError:
        raise DefinitionError(
            f"id_key must be the name of a field, such as _id, not {fields['id_key']!r}", "id_key"
        ) from None


def _check_text(name: str, value: Any, longest: int | None) -> None:
    if not isinstance(value, str):
        raise DefinitionError(f"{name} must be a string, not {value!r}", name)
    if longest is not None and len(value) > longest:
        raise DefinitionError(
            f"{name} {value[:40]!r}... has {len(value)} characters: at most {longest} are allowed", name
        )
    check_storable(name, value)


def check_storable(name: str, value: Any) -> None:
    """Raise `DefinitionError` if a text, name or number of JSON cannot be kept in MongoDB or Django's database."""
    if fault := fault_of_texts(value, nul_in_values=False):
        raise DefinitionError(f"{name}: {fault}, which cannot be stored", name)
    if too_deep(value, DEPTH):
        raise DefinitionError(f"{name} is nested deeper than {DEPTH} levels", name)
    try:
        encode({name: value})
    except NOT_BSON as error:
        raise DefinitionError(f"{name} has {why_not_bson(error)}", name) from None


def check_zone(name: str) -> None:
    """Raise `DefinitionError` unless this is a time zone, or empty for the configured one."""
    if name and not is_zone(name):
        raise DefinitionError(f"crontab_zone {name!r} is not a time zone: use {zone_advice(name)}", "crontab_zone")


FOREIGN = ("admin", "config", "local")  # MongoDB's own databases: users, shards, oplog
_OWN = ("agg.", "zgen.", "zagg.", "zmr.", "ingest.", "event.", "system.")  # prefixes of Zarkov's internal collections
_OWN_WHOLE = ("event", "quarantine")


def check_collection(input_name: str, own_database: str) -> None:
    """Raise `DefinitionError` if an input `database.collection` is internal to MongoDB or Zarkov.

    MongoDB's own data, such as its users, must not be exposed. Zarkov's events and aggregates are read by other names:
    without the watermark, events would be missed.
    """
    database, _, name = input_name.partition(".")
    if database in FOREIGN or name.startswith("system."):
        raise DefinitionError(
            f"inputs {input_name!r} is internal to MongoDB (databases {known(FOREIGN)}, and system.*): use your own "
            "collections",
            "inputs",
        )
    own = name.startswith(_OWN) or name in _OWN_WHOLE
    if database == f"{own_database}_celery" or (database == own_database and own):
        raise DefinitionError(
            f'inputs {input_name!r} is internal to Zarkov: read events as "event", aggregates as "zagg.name"', "inputs"
        )
