"""Verify an aggregate: recount it plainly up to a pinned position and compare every key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from aggregates.definition.definition import Definition
from aggregates.exceptions import UnknownAggregateError
from aggregates.run.compare import equal
from aggregates.run.context import RunContext
from aggregates.run.decision import events_missing, store_mismatch
from aggregates.run.external_sort import ExternalSort, Record
from aggregates.run.generation import collection_name
from aggregates.run.inputs import inputs_locked, readable_input
from aggregates.run.position import Position
from aggregates.run.recount import Recounter, Result, key_order
from mapreduce.codec import decode_batches

MOST_DIFFERENCES = 100
WAIT_S = 60.0


@dataclass(frozen=True)
class Difference:
    """One key for which output and recount differ."""

    output: str
    key: Any
    kind: str  # "missing", "unexpected", "different"; "view" if the view does not show the output
    stored: Any = None
    recounted: Any = None

    def sentence(self) -> str:
        """Return one line for a person."""
        if self.kind == "view":
            what = f"readers do not see {self.stored}, the view is missing or wrong: run the aggregate to repair it"
            return f"zagg.{self.output}: {what}"
        where = f"zagg.{self.output} {self.key!r}"
        if self.kind == "missing":
            return f"{where}: missing, the recount has {self.recounted!r}"
        if self.kind == "unexpected":
            return f"{where}: has {self.stored!r}, the recount has no such key"
        return f"{where}: has {self.stored!r}, the recount has {self.recounted!r}"


@dataclass(frozen=True)
class Comparison:
    """The result of a verification."""

    name: str
    through: Any  # the position up to which events were recounted
    generation: int
    docs_in: int
    keys: int
    skipped_count: int
    differences: tuple[Difference, ...]  # the first hundred
    difference_count: int
    refused: str = ""  # why nothing could be compared; "" if it was

    @property
    def ok(self) -> bool:
        return not self.difference_count and not self.refused

    def sentence(self) -> str:
        """Return one line for a person."""
        if self.refused:
            return f"{self.name}: cannot be verified: {self.refused}"
        counted = f"{self.docs_in} events through {self.through}, {self.keys} keys"
        if self.ok:
            return f"{self.name}: equal to the recount of {counted}"
        return f"{self.name}: {self.difference_count} differences from the recount of {counted}"


def verify(run_context: RunContext, definition: Definition) -> Comparison:
    """Recount the aggregate and compare. Increments continue, except during the last part and the comparison.

    Block; memory does not grow with the number of keys. Raise what the task raises, and `LeaseHeldError` if an
    increment takes longer than `WAIT_S`.
    """
    with inputs_locked(run_context, definition):
        return _verify(run_context, definition)


def _verify(run_context: RunContext, definition: Definition) -> Comparison:
    position = run_context.position(definition)  # before the input, which only grows: the aggregate goes on meanwhile
    readable = readable_input(run_context, definition)
    name = position.name
    if reason := store_mismatch(position, readable) or events_missing(position, readable):
        return _refused(definition, position, reason)
    if readable.version != position.version:
        return _refused(definition, position, "what it reads has changed since its last run: run it first")
    if position.generation == 0:
        raise UnknownAggregateError(f"{definition.name} has not run yet: run it first")
    start = position.base if position.base is not None else readable.first
    reached = position.position
    plan = run_context.plan(definition, readable.range(start, reached), full=True)
    with closing(Recounter(plan, run_context.database)) as recounter:
        if reached is not None:
            recounter.add_range(readable.range(start, reached))
        with run_context.hold_lease(name, "live", WAIT_S) as (_, latest):
            if latest.open_range is not None:
                reason = "a run was interrupted and is not finished: run it first"
                return _refused(definition, latest, reason)
            if latest.position is not None and latest.position != reached:
                recounter.add_range(
                    readable_input(run_context, definition).range(
                        reached if reached is not None else start, latest.position
                    )
                )
            return _compare(run_context, definition, latest, recounter)


def _refused(definition: Definition, position: Position, reason: str) -> Comparison:
    return Comparison(definition.name, position.position, position.generation, 0, 0, 0, (), 0, reason)


def _compare(run_context: RunContext, definition: Definition, position: Position, recounter: Recounter) -> Comparison:
    unseen = run_context.generations.wrong_views(position)
    counts = _DifferenceCount(differences=len(unseen))
    views = [Difference(name, None, "view", stored=collection_name(name, position.generation)) for name in unseen]
    with ExternalSort() as stored:
        for output in run_context.generations.expand_patterns(position.outputs, position.generation):
            collection = run_context.database[collection_name(output, position.generation)]
            for document in decode_batches(collection.find_raw_batches({}, {"value": 1})):
                key = document["_id"]
                stored.add((output, key_order(key)), {"k": key, "v": document.get("value")})
        differences = views[:MOST_DIFFERENCES]
        for difference in _differences(stored, recounter.results(), counts):
            counts.differences += 1
            if len(differences) < MOST_DIFFERENCES:
                differences.append(difference)
    return Comparison(
        name=definition.name,
        through=position.position,
        generation=position.generation,
        docs_in=recounter.found.docs_in,
        keys=counts.keys,
        skipped_count=len(recounter.found.skipped),
        differences=tuple(differences),
        difference_count=counts.differences,
    )


@dataclass
class _DifferenceCount:
    keys: int = 0  # in the recount
    differences: int = 0


def _differences(stored: ExternalSort, recounted: Iterator[Result], counts: _DifferenceCount) -> Iterator[Difference]:
    """Merge both sides in their common order, holding one document of each."""
    existing = iter(stored)
    left = next(existing, None)
    for wanted in recounted:
        counts.keys += 1
        while left is not None and left[0] < wanted.sort_key:
            yield _unexpected(left)
            left = next(existing, None)
        if left is None or left[0] != wanted.sort_key:
            yield Difference(wanted.output, wanted.key, "missing", recounted=wanted.value)
            continue
        value = left[1]["v"]
        if not equal(value, wanted.value):
            yield Difference(wanted.output, wanted.key, "different", stored=value, recounted=wanted.value)
        left = next(existing, None)
    while left is not None:
        yield _unexpected(left)
        left = next(existing, None)


def _unexpected(left: Record) -> Difference:
    (output, _), record = left
    return Difference(output, record["k"], "unexpected", stored=record["v"])
