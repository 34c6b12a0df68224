"""Making, changing, copying and removing definitions."""

from __future__ import annotations

import contextlib
from typing import Any

from django.db import transaction

from aggregates.exceptions import BusyError, DefinitionError, known
from aggregates.models import AggDef
from aggregates.resource import resources
from aggregates.services.schedule import drop_schedule

FIELDS = (
    "description",
    "task_name",
    "params",
    "inputs",
    "id_key",
    "settle_s",
    "filter",
    "output",
    "realtime",
    "interval_s",
    "crontab",
    "crontab_zone",
    "on_error",
    "enabled",
)


def define(*, name: str, **fields: Any) -> AggDef:
    """The AggDef with this name and these fields, made or changed as needed; the same twice changes nothing.

    Fields that are not given keep their value. Raises `DefinitionError` for an unknown field, or a value that is not
    allowed. The task need not be there yet.
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
    """A paused copy under another name, with an output of its own. Raises `DefinitionError` when the name is taken."""
    if AggDef.objects.filter(name=name).exists():
        raise DefinitionError(f"name {name!r} is taken by another aggregate: choose another one", "name")
    fields = {field: getattr(aggdef, field) for field in FIELDS}
    return define(name=name, **fields | {"output": "", "enabled": False})


def set_enabled(aggdef: AggDef, enabled: bool) -> None:
    """Pause the aggregate, or let it go on."""
    aggdef.enabled = enabled
    aggdef.save(update_fields=["enabled", "changed"])


def remove(aggdef: AggDef) -> None:
    """Delete the definition, its runs and schedule, its position and its outputs; raises what `clear` raises."""
    aggdef.delete()


def clear(aggdef: AggDef) -> None:
    """Take away what a definition that is about to be deleted has left elsewhere: schedule, position and outputs.

    Raises `DefinitionError` while other aggregates read it.
    """
    readers = list(AggDef.objects.over(aggdef).values_list("name", flat=True))
    if readers:
        raise DefinitionError(f"{aggdef.name} is read by {known(readers)}: delete or change them first")
    room = resources().room
    position = room.ledger.of_aggdef(aggdef.name)
    if position is not None:
        with room.holding(position.name, "build", wait_s=30), room.holding(position.name, "live", wait_s=30):
            room.generations.remove(position)
            room.ledger.forget(position)
    room.forget(aggdef.name)
    drop_schedule(aggdef)


def clear_again(aggdef: AggDef) -> None:
    """Take away what a run that was beginning has made while the definition was deleted.

    A run that is still at it takes it away itself when it ends (`perform`).
    """
    with contextlib.suppress(BusyError):
        if not AggDef.objects.filter(name=aggdef.name).exists():
            clear(aggdef)
