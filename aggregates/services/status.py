"""Read what the models do not hold: the lag of an aggregate, its jobs, and a preview of a definition."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from aggregates.definition.definition import Definition
from aggregates.models import AggDef, Run
from aggregates.process_connections import process_connections
from aggregates.run.generation import is_pattern
from aggregates.run.inputs import readable_input
from aggregates.run.jobs import specs
from aggregates.run.recount import Recounter
from mapreduce.engine.engine_status import JobListing, list_jobs

PREVIEW_EVENTS = 1_000
PREVIEW_KEYS = 50


@dataclass(frozen=True)
class Status:
    """The state of an aggregate, read from MongoDB."""

    through: Any
    complete_through: datetime | None
    behind: int | None  # readable events not yet included; None for inputs without integer ids
    behind_s: float  # maximum age of the oldest event not yet included; 0 if there is none
    running: bool
    due: str  # why a full run is due; "" if none is


def status(aggdef: AggDef) -> Status | None:
    """Return the state of the aggregate now; None before its first run."""
    run_context = process_connections().run_context
    position = run_context.position_store.find_by_aggdef(aggdef.name)
    if position is None or not position.generation:
        return None
    readable = readable_input(run_context, aggdef.definition())
    integral = isinstance(readable.through, int) and isinstance(position.position, int)
    behind = max(readable.through - position.position, 0) if integral else None
    lag = (timezone.now() - position.complete_through).total_seconds() if position.complete_through and behind else 0.0
    return Status(
        through=position.position,
        complete_through=readable.complete_through if behind == 0 else position.complete_through,
        behind=behind,
        behind_s=max(lag, 0.0),
        running=bool(position.step or position.open_build),
        due=position.due,
    )


def jobs_under_way(run: Run) -> list[JobListing]:
    """Return the jobs of a run in progress, with progress about a second old; empty between two steps."""
    position = process_connections().run_context.position_store.find_by_aggdef(run.aggdef.name)
    if position is None or run.state != Run.State.RUNNING or run.mode == Run.Mode.VERIFY:
        return []
    step = position.open_build.step if position.open_build else None
    if run.mode == Run.Mode.INCREMENTAL:
        step = position.step or step  # the first run is a full one
    ids = [spec.job_id for spec in specs(step)] if step else []
    return [job for job_id in ids for job in list_jobs(process_connections().database, 1, job_id=job_id)]


@dataclass(frozen=True)
class Preview:
    """The result of a definition on a sample of the newest events."""

    docs_in: int
    skipped_count: int
    results: dict[str, list[tuple[Any, Any]]]  # by output: the first keys with their values
    key_count: int


def preview(definition: Definition, events: int = PREVIEW_EVENTS, keys: int = PREVIEW_KEYS) -> Preview:
    """Run the task in this process over the newest `events` matching events; write nothing.

    Raise what the task raises, and `TaskError` if it cannot be used.
    """
    run_context = process_connections().run_context
    readable = readable_input(run_context, definition)
    span = readable.range(readable.first, readable.through)
    plan = run_context.plan(definition, span, full=True)
    newest = (
        readable.range(max(readable.first or 0, readable.through - 20 * events), readable.through)
        if readable.integral
        else span
    )
    results: dict[str, list[tuple[Any, Any]]] = {output: [] for output in plan.outputs if not is_pattern(output)}
    with closing(Recounter(plan, run_context.database)) as recounter:
        recounter.add_range(newest, limit=events)
        for result in recounter.results():
            results.setdefault(result.output, []).append((result.key, result.value))
        found = recounter.found
    return Preview(
        docs_in=found.docs_in,
        skipped_count=len(found.skipped),
        results={name: sorted(pairs, key=lambda pair: str(pair[0]))[:keys] for name, pairs in results.items()},
        key_count=sum(len(pairs) for pairs in results.values()),
    )
