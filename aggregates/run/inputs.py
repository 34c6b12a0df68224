"""Determine how far each kind of input can be read: events by their watermark, collections by a settling time.

Aggregates as inputs are read from their current generation while nothing is written to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any

from pymongo.database import Database

from aggregates.definition.definition import EVENT, OUTPUT_PREFIX, Definition
from aggregates.definition.fields import check_collection
from aggregates.exceptions import DefinitionError, UnknownAggregateError
from aggregates.run.context import RunContext
from aggregates.run.position import Position
from aggregates.run.position_store import PositionStore, server_time
from aggregates.run.watermark import ReadableInput, is_above, readable_events

SEEN = "agg.seen"
LOCK_WAIT_S = 60.0


def readable_input(run_context: RunContext, definition: Definition) -> ReadableInput:
    """Return how far the definition's inputs can be read now."""
    if definition.kind == EVENT:
        return readable_events(run_context.store)
    if definition.kind == "aggregate":
        return _readable_aggregates(run_context, definition)
    return _readable_collections(run_context.database, definition)


def _input_positions(run_context: RunContext, definition: Definition) -> dict[str, Position]:
    """Return the position of each input aggregate, by the name of the output that is read."""
    found = {}
    for name in definition.inputs:
        output = name.removeprefix(OUTPUT_PREFIX)
        position = run_context.position_store.find(output)
        if position is None or not position.generation:
            raise UnknownAggregateError(f"input {name} of {definition.name} has not run yet: run it first")
        found[output] = position
    return found


@contextmanager
def inputs_locked(run_context: RunContext, definition: Definition) -> Iterator[None]:
    """Keep input aggregates unchanged inside the block: their increments and switches wait.

    Do nothing for other inputs. Raise `LeaseHeldError` if an input is not free within `LOCK_WAIT_S`.
    """
    with ExitStack() as stack:
        if definition.kind == "aggregate":
            for name in sorted({position.name for position in _input_positions(run_context, definition).values()}):
                stack.enter_context(run_context.hold_lease(name, "live", LOCK_WAIT_S))
        yield


def _readable_aggregates(run_context: RunContext, definition: Definition) -> ReadableInput:
    positions = _input_positions(run_context, definition)
    names = [
        f"zgen.{each}.{position.generation}"
        for output, position in positions.items()
        for each in run_context.generations.expand_patterns([output], position.generation)
    ]
    first = next(iter(positions.values()))
    complete = [p.complete_through for p in positions.values() if p.complete_through is not None]
    return ReadableInput(
        through=min((p.position for p in positions.values() if isinstance(p.position, int)), default=0),
        complete_through=min(complete, default=None),
        store=first.store,
        epoch=first.epoch,
        first=None,
        collections=tuple((name, 0) for name in names),
        integral=False,
        bounded=False,
        version=_version({name: (p.generation, p.position) for name, p in positions.items()}),
    )


def _version(positions: Mapping[str, tuple[int, Any]]) -> str:
    """Return a version that changes whenever one of the outputs changes its generation or position."""
    return ";".join(f"{name}.{generation}.{position}" for name, (generation, position) in sorted(positions.items()))


def behind_inputs(position_store: PositionStore, inputs: Mapping[str, Iterable[str]]) -> dict[str, bool | None]:
    """Return for each aggregate, given with the outputs it reads, whether it is behind their current content.

    None means that one of its inputs has not run yet. Take one query; which process refreshed the inputs is
    irrelevant.
    """
    places = position_store.output_positions()
    by_aggdef = {place.aggdef: place for place in places.values()}
    found: dict[str, bool | None] = {}
    for name, outputs in inputs.items():
        read = {output: places.get(output) for output in outputs}
        there = {output: (p.generation, p.position) for output, p in read.items() if p is not None and p.generation}
        own = by_aggdef.get(name)
        found[name] = None if len(there) < len(read) else own is None or own.version != _version(there)
    return found


def _readable_collections(database: Database[dict[str, Any]], definition: Definition) -> ReadableInput:
    """Return a mark at the highest id known to have existed `settle_s` ago.

    `agg.seen` keeps samples of the highest id over time: the ids of a foreign collection need not reflect time, and a
    transaction can make a lower id visible after a higher one.
    """
    client = database.client
    for full_name in definition.inputs:
        check_collection(full_name, database.name)
    names = []
    highest: Any = None
    key = definition.id_key
    for full_name in definition.inputs:
        database_name, _, name = full_name.partition(".")
        newest = client[database_name][name].find_one({key: {"$exists": True}}, {key: 1}, sort=[(key, -1)])
        names.append((database_name, name))
        value = _path(newest, key) if newest else None
        if value is not None and (highest is None or is_above(value, highest)):
            highest = value
    databases = {database_name for database_name, _ in names}
    if len(databases) > 1:
        raise DefinitionError(f"inputs {list(definition.inputs)}: all must be in one database", "inputs")
    now = server_time(database)
    through = settled_through(database, definition, highest, now)
    return ReadableInput(
        through=through,
        complete_through=now - timedelta(seconds=definition.settle_s) if through is not None else None,
        store=f"{definition.inputs[0]}#{key}",
        epoch=0,
        first=None,
        collections=tuple((name, 0) for _, name in names),
        database=databases.pop(),
        id_key=key,
        integral=False,
    )


def settled_through(database: Database[dict[str, Any]], definition: Definition, highest: Any, now: datetime) -> Any:
    """Return the highest id seen at least `settle_s` ago, and record `highest` for later calls.

    The samples belong to one key and one set of inputs; changing either discards them.
    """
    if definition.settle_s <= 0 or highest is None:
        return highest
    seen = database[SEEN]
    of = [*definition.inputs, definition.id_key]
    found: Mapping[str, Any] = seen.find_one({"_id": definition.name, "of": of}) or {}
    notes = [note for note in found.get("notes", []) if not is_above(note["id"], highest)]
    limit = now - timedelta(seconds=definition.settle_s)
    old = [note for note in notes if note["at"] <= limit]
    if not notes or (
        notes[-1]["id"] != highest and (now - notes[-1]["at"]).total_seconds() >= definition.settle_s / 50
    ):
        notes.append({"id": highest, "at": now})
    kept = old[-1:] + [note for note in notes if note["at"] > limit]
    seen.replace_one({"_id": definition.name}, {"of": of, "notes": kept}, upsert=True)
    return old[-1]["id"] if old else None


def delete_id_samples(database: Database[dict[str, Any]], name: str) -> None:
    database[SEEN].delete_one({"_id": name})


def _path(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
