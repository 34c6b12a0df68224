"""Decide what a run has to do, from position, watermark and definition alone. Does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aggregates.definition.definition import Definition
from aggregates.run.position import Position
from aggregates.run.watermark import Mark, above

Action = Literal["nothing", "forward", "increment", "build", "blocked"]


@dataclass(frozen=True)
class Decision:
    """The next action of a run, and the reason for it."""

    action: Action
    reason: str = ""
    start: Any = None  # of the increment; None for other actions
    through: Any = None


def next_run(
    position: Position, mark: Mark, definition: Definition, *, associative: bool, change: str = ""
) -> Decision:
    """Return the next action that makes the aggregate current.

    `forward` finishes an open increment, `build` is an automatic full run (the first run, and every run of an aggregate
    without increments), `blocked` waits for a person to request a full run. `change` is the result of `change_of`:
    one generation never mixes results of two code versions.
    """
    if position.generation == 0:
        return Decision("build", "first run")
    if definition.kind == "aggregate":
        if mark.version == position.version:
            return Decision("nothing", "its inputs have not changed")
        return Decision("build", "every run of it is a full one")
    if reason := foreign(position, mark):
        return Decision("blocked", reason)
    if position.blocked:
        return Decision("blocked", position.due)
    if position.step is not None:
        return Decision("forward", "a run was interrupted", position.step.start, position.step.through)
    if change and associative:
        return Decision("blocked", change)
    if mark.through is None or not above(mark.through, position.position):
        return Decision("nothing", "no new events")
    if not associative:
        return Decision("build", "every run of it is a full one")
    return Decision("increment", "new events", position.position, mark.through)


def foreign(position: Position, mark: Mark) -> str:
    """Return why the position's ids do not belong to this store; "" if they do."""
    if position.store and position.store != mark.store and "#" in mark.store:
        return f"its results were read from {position.store}, and the input is now {mark.store} (collection#id_key)"
    if position.store and (position.store, position.epoch) != (mark.store, mark.epoch):
        return (
            f"the position belongs to store {position.store[:8]} epoch {position.epoch}, and the events are now of "
            f"store {mark.store[:8]} epoch {mark.epoch}: the database was restored or emptied"
        )
    known = position.position is not None and mark.through is not None and mark.integral
    if known and position.position > mark.through:
        return (
            f"the aggregate is at event {position.position}, and the store ends at {mark.through}: "
            "the database was restored or emptied"
        )
    return ""


def change_of(position: Position, code: str, fingerprint: str) -> str:
    """Return what has changed since the last full run, so that increments would mix old and new; "" if nothing."""
    if position.generation == 0:
        return ""
    if position.definition and position.definition != fingerprint:
        return "the definition (task, parameters, inputs or filter) has changed since the last full run"
    if position.code and position.code != code:
        return "the code of the task has changed since the last full run"
    return ""


def gone(position: Position, mark: Mark) -> str:
    """Return why a full run would lose events; "" if every event in the aggregate is still stored."""
    if position.generation == 0 or not mark.integral or foreign(position, mark):
        return ""
    base = position.base or 0
    if mark.first > base:
        return (
            f"the aggregate holds events from {base + 1} on, and those up to {mark.first} are no longer stored: "
            "a full run would lose them"
        )
    return ""
