"""Show what a definition would compute, on a sample of the newest events."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from aggregates.definition.definition import Definition
from aggregates.process_connections import process_connections
from aggregates.run.generation import is_pattern
from aggregates.run.inputs import readable_input
from aggregates.run.recount import Recounter

PREVIEW_EVENTS = 1_000
PREVIEW_KEYS = 50


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
