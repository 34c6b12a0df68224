"""Create, change, copy and delete definitions."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from django.db import transaction

from aggregates.definition.fields import FIELDS
from aggregates.exceptions import DefinitionError, LeaseHeldError, known
from aggregates.models import AggDef
from aggregates.process_connections import process_connections
from aggregates.run.context import RunContext
from aggregates.run.inputs import delete_id_samples
from aggregates.run.position import LeaseKind, Position
from aggregates.services.beat_schedule import drop_schedule

CLEAR_WAIT_S = 10.0
LEASE_KINDS: tuple[LeaseKind, ...] = ("build", "live")


def define(*, name: str, **fields: Any) -> AggDef:
    """Create or change the AggDef with this name, and return it. Idempotent; fields not given keep their value.

    Raise `DefinitionError` for an unknown field or a value that is not allowed. The task need not exist yet.
    """
    unknown = set(fields) - set(FIELDS)
    if unknown:
        field = min(unknown)
        raise DefinitionError(f"{field}: an aggregate has no such field; it has {known(FIELDS, 20)}", field)
    with transaction.atomic():
        aggdef = AggDef.objects.select_for_update().filter(name=name).first() or AggDef(name=name)
        changed = [field for field, value in fields.items() if getattr(aggdef, field) != value]
        if aggdef.pk is not None and not changed:
            return aggdef
        for field in changed:
            setattr(aggdef, field, fields[field])
        aggdef.save()
    return aggdef


def clone(aggdef: AggDef, name: str) -> AggDef:
    """Return a new, paused copy with another name and output. Raise `DefinitionError` if the name is taken."""
    if AggDef.objects.filter(name=name).exists():
        raise DefinitionError(f"name {name!r} is taken by another aggregate: choose another one", "name")
    fields = {field: getattr(aggdef, field) for field in FIELDS}
    return define(name=name, **fields | {"output": "", "enabled": False})


def set_enabled(aggdef: AggDef, enabled: bool) -> None:
    """Pause or resume the aggregate."""
    aggdef.enabled = enabled
    aggdef.save(update_fields=["enabled", "changed"])


def remove(*aggdefs: AggDef) -> None:
    """Delete the definitions, their runs, schedules, positions and outputs: all or none. Raise what `clear` raises."""
    AggDef.objects.filter(pk__in=[aggdef.pk for aggdef in aggdefs]).delete()


def clear(*aggdefs: AggDef) -> None:
    """Delete the schedules, positions and outputs of definitions that are about to be deleted.

    Before deleting anything, raise `DefinitionError` if other aggregates read one of them, and `LeaseHeldError` if
    their runs do not end within `CLEAR_WAIT_S`.
    """
    if readers := list(AggDef.objects.readers_of(*aggdefs)):
        read = next(aggdef for aggdef in aggdefs if any(reader.reads(aggdef) for reader in readers))
        names = [reader.name for reader in readers if reader.reads(read)]
        raise DefinitionError(f"the aggregate {read.name} is read by {known(names)}: delete or change them first")
    run_context = process_connections().run_context
    deadline = time.monotonic() + CLEAR_WAIT_S
    with contextlib.ExitStack() as held:
        positions = [
            _hold(run_context, held, aggdef, deadline) for aggdef in sorted(aggdefs, key=lambda aggdef: aggdef.name)
        ]
        for position in filter(None, positions):
            run_context.generations.drop_all(position)
            run_context.position_store.delete(position)
    for aggdef in aggdefs:
        run_context.clear_cache(aggdef.name)
        delete_id_samples(run_context.database, aggdef.name)
        drop_schedule(aggdef)


def _hold(run_context: RunContext, held: contextlib.ExitStack, aggdef: AggDef, deadline: float) -> Position | None:
    """Block runs of one definition until `held` exits; return its position, or None if it has none."""
    position = run_context.position_store.find_by_aggdef(aggdef.name)
    if position is not None:
        try:
            for kind in LEASE_KINDS:
                held.enter_context(run_context.hold_lease(position.name, kind, max(deadline - time.monotonic(), 0)))
        except LeaseHeldError as error:
            raise LeaseHeldError(
                f"the aggregate {aggdef.name} is in the middle of a run: cancel it, or wait until it ends ({error})"
            ) from None
    return position


def clear_leftovers(aggdef: AggDef) -> None:
    """Delete what a run created that started while its definition was being deleted.

    A run that is still in progress cleans up itself at its end (see `perform`).
    """
    with contextlib.suppress(LeaseHeldError):
        if not AggDef.objects.filter(name=aggdef.name).exists():
            clear(aggdef)
