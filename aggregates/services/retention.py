"""Find the events that aggregates still need."""

from __future__ import annotations

from dataclasses import dataclass

from aggregates.definition.definition import EVENT
from aggregates.models import AggDef
from aggregates.process_connections import process_connections


@dataclass(frozen=True)
class AggregateProgress:
    """An aggregate and how far it has read."""

    name: str
    through: int


def lowest_position() -> AggregateProgress | None:
    """Return the enabled aggregate over events that is furthest behind; None if there is none.

    An aggregate that has not run yet or is blocked until a full run needs all events; one with a full run in progress
    needs what that run has not read yet.
    """
    position_store = process_connections().run_context.position_store
    found = []
    for aggdef in AggDef.objects.filter(enabled=True):
        if aggdef.definition().kind != EVENT:
            continue
        position = position_store.find_by_aggdef(aggdef.name)
        through = 0
        if position is not None and not position.blocked and isinstance(position.position, int):
            through = position.position
            if position.open_build is not None:
                through = min(through, int(position.open_build.reached or position.open_build.base or 0))
        found.append(AggregateProgress(aggdef.name, through))
    return min(found, key=lambda aggregate: aggregate.through, default=None)
