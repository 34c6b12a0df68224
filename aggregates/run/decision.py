"""What a run has to do, decided from the position, the watermark and the definition alone: no input or output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aggregates.definition.definition import Definition
from aggregates.run.position import Position
from aggregates.run.watermark import Mark, above

Action = Literal["nothing", "forward", "increment", "build", "blocked"]


@dataclass(frozen=True)
class Decision:
    """The next thing to do, and why."""

    action: Action
    reason: str = ""
    start: Any = None  # of an increment
    through: Any = None


def next_run(
    position: Position, mark: Mark, definition: Definition, *, associative: bool, change: str = ""
) -> Decision:
    """The next thing that makes the aggregate current.

    `forward` finishes an open increment, `build` is a full run that nobody has to ask for (the first one, and each one
    of an aggregate that knows no increments), `blocked` waits for a person to ask for one. `change` is what `change_of`
    says: results of two codes never meet in one generation.
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
    """Why the position's ids mean nothing in this store; "" when they do."""
    if position.store and position.store != mark.store and "#" in mark.store:
        return f"what is in was read from {position.store}, and the input is now {mark.store} (collection#id_key)"
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
    """What has changed since the last full run, so that increments would mix old and new; "" when nothing has."""
    if position.generation == 0:
        return ""
    if position.definition and position.definition != fingerprint:
        return "the definition (task, parameters, inputs or filter) has changed since the last full run"
    if position.code and position.code != code:
        return "the code of the task has changed since the last full run"
    return ""


def gone(position: Position, mark: Mark) -> str:
    """Why a full run would lose something; "" when every event that is in the aggregate is still stored."""
    if position.generation == 0 or not mark.integral or foreign(position, mark):
        return ""
    base = position.base or 0
    if mark.first > base:
        return (
            f"the aggregate holds events from {base + 1} on, and those up to {mark.first} are no longer stored: "
            "a full run would lose them"
        )
    return ""
