"""Decide what a run has to do, from position, watermark and definition alone. Does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aggregates.definition.definition import Definition
from aggregates.run.position import Position
from aggregates.run.watermark import ReadableInput, is_above

Action = Literal["nothing", "resume", "increment", "build", "blocked"]


@dataclass(frozen=True)
class Decision:
    """The next action of a run, and the reason for it."""

    action: Action
    reason: str = ""
    start: Any = None  # of the increment; None for other actions
    through: Any = None


def next_action(
    position: Position, readable: ReadableInput, definition: Definition, *, associative: bool, change: str = ""
) -> Decision:
    """Return the next action that makes the aggregate current.

    `resume` finishes an open increment, `build` is an automatic full run (the first run, and every run of an aggregate
    without increments), `blocked` waits for a person to request a full run. `change` is the result of
    `change_since_full_run`: one generation never mixes results of two code versions.
    """
    if position.generation == 0:
        return Decision("build", "first run")
    if definition.kind == "aggregate":
        if readable.version == position.version:
            return Decision("nothing", "its inputs have not changed")
        return Decision("build", "every run of it is a full one")
    if reason := store_mismatch(position, readable):
        return Decision("blocked", reason)
    if position.blocked:
        return Decision("blocked", position.due)
    if position.open_range is not None:
        return Decision("resume", "a run was interrupted", position.open_range.start, position.open_range.through)
    if change and associative:
        return Decision("blocked", change)
    if readable.through is None or not is_above(readable.through, position.position):
        return Decision("nothing", "no new events")
    if not associative:
        return Decision("build", "every run of it is a full one")
    return Decision("increment", "new events", position.position, readable.through)


def store_mismatch(position: Position, readable: ReadableInput) -> str:
    """Return why the position's ids do not belong to this store; "" if they do."""
    if position.store and position.store != readable.store and "#" in readable.store:
        return f"its results were read from {position.store}, and the input is now {readable.store} (collection#id_key)"
    if position.store and (position.store, position.epoch) != (readable.store, readable.epoch):
        return (
            f"the position belongs to store {position.store[:8]} epoch {position.epoch}, and the events are now of "
            f"store {readable.store[:8]} epoch {readable.epoch}: the database was restored or emptied"
        )
    known = position.position is not None and readable.through is not None and readable.integral
    if known and position.position > readable.through:
        return (
            f"the aggregate is at event {position.position}, and the store ends at {readable.through}: "
            "the database was restored or emptied"
        )
    return ""


def change_since_full_run(position: Position, code: str, fingerprint: str) -> str:
    """Return what has changed since the last full run, so that increments would mix old and new; "" if nothing."""
    if position.generation == 0:
        return ""
    if position.definition and position.definition != fingerprint:
        return "the definition (task, parameters, inputs or filter) has changed since the last full run"
    if position.code and position.code != code:
        return "the code of the task has changed since the last full run"
    return ""


def events_missing(position: Position, readable: ReadableInput) -> str:
    """Return why a full run would lose events; "" if every event in the aggregate is still stored."""
    if position.generation == 0 or not readable.integral or store_mismatch(position, readable):
        return ""
    base = position.base or 0
    if readable.first > base:
        return (
            f"the aggregate holds events from {base + 1} on, and those up to {readable.first} are no longer stored: "
            "a full run would lose them"
        )
    return ""
