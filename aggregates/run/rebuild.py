"""Do what a rebuild adds to a full run: widen its range to whole periods, and copy the documents outside the range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pymongo import ReplaceOne, WriteConcern

from aggregates.clock import MAX_INSTANT
from aggregates.definition.definition import EVENT, Definition
from aggregates.exceptions import NotRebuildableError
from aggregates.keys.key_period import KeyPeriods
from aggregates.period import Pair, overlaps, union
from aggregates.run.context import RunContext
from aggregates.run.generation import collection_name
from aggregates.run.incremental import require_unblocked
from aggregates.run.planner import Plan
from aggregates.run.position import Build, Position
from aggregates.task import has_period

BATCH = 1_000
DURABLE = WriteConcern(w="majority", j=True)


class Rebuild:
    """Perform the parts of one rebuild. Raise `NotRebuildableError` if the task does not define `period(key)`.

    A key on which `period(key)` fails is kept as it is; `periods` counts and names them.
    """

    def __init__(self, run_context: RunContext, definition: Definition, plan: Plan) -> None:
        if not has_period(type(plan.task)):
            raise NotRebuildableError(
                f"{definition.task_name} has no period(key), so it is unknown which keys belong to a range of time: "
                "add one, or make a full run"
            )
        if definition.kind != EVENT or not plan.associative:
            raise NotRebuildableError(
                f"{definition.name} does not aggregate events in increments; every run of it is a full one"
            )
        self._run_context = run_context
        self.periods = KeyPeriods(plan.task)

    def widen(self, position: Position, since: datetime, until: datetime) -> Pair:
        """Return the smallest range around [since, until) that splits no period of an existing key."""
        require_unblocked(position)
        if position.generation == 0 or position.open_range is not None:
            raise NotRebuildableError(f"zagg.{position.name} has an unfinished run: run it first")
        if not since < until:
            raise NotRebuildableError(f"since {since} is not before until {until}")
        span = (since, until)
        while True:
            wider = span
            for key, _ in self._documents(position, position.generation, {"_id": 1}):
                period = self.periods.of(key)
                if period is not None and overlaps(period, span):
                    wider = union(wider, period)
            if wider == span:
                return span
            span = wider

    def narrowing(self, build: Build) -> Mapping[str, Any]:
        """Return the condition on the events; the last instant of all is included, as nothing comes after it."""
        end = {} if build.until == MAX_INSTANT else {"$lt": build.until}
        return {"timestamp": {"$gte": build.since, **end}}

    def _inside(self, key: Any, build: Build) -> bool:
        period = self.periods.of(key)
        assert build.since is not None
        assert build.until is not None
        return period is not None and overlaps(period, (build.since, build.until))

    def copy(self, position: Position, source: int, build: Build, *, inside: bool) -> None:
        """Copy the documents inside or outside the range from the generation `source` into the new one."""
        batches: dict[str, list[ReplaceOne[dict[str, Any]]]] = {}
        for document, output in self._documents(position, source, None):
            if not inside:
                self.periods.note_odd(document["_id"])
            if self._inside(document["_id"], build) == inside:
                batch = batches.setdefault(output, [])
                batch.append(ReplaceOne({"_id": document["_id"]}, document, upsert=True))
                if len(batch) >= BATCH:
                    self._write(output, build.generation, batch)
        for output, batch in batches.items():
            self._write(output, build.generation, batch)

    def _write(self, output: str, generation: int, batch: list[ReplaceOne[dict[str, Any]]]) -> None:
        if batch:
            name = collection_name(output, generation)
            self._run_context.database.get_collection(name, write_concern=DURABLE).bulk_write(batch, ordered=False)
            batch.clear()

    def _documents(
        self, position: Position, generation: int, fields: Mapping[str, int] | None
    ) -> Iterator[tuple[Any, str]]:
        """Yield each document of all outputs with its output; only the document's key if `fields` is given."""
        for output in self._run_context.generations.expand_patterns(position.outputs, generation):
            found = self._run_context.database[collection_name(output, generation)].find({}, fields)
            for document in found:
                yield (document["_id"] if fields else document), output
