"""Export and import definitions as a YAML file that can be kept under version control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from django.db import transaction

from aggregates.definition.definition import OUTPUT_PREFIX
from aggregates.definition.fields import FIELDS
from aggregates.definition.lineage import read_aggregates
from aggregates.exceptions import AggregateError, DefinitionError
from aggregates.models import AggDef
from aggregates.services.define import define
from ingest import yaml_text


def export_definitions() -> str:
    """Return all definitions as YAML, sorted by name, without fields that have their default."""
    fresh = AggDef()
    found = {
        aggdef.name: {field: value for field in FIELDS if (value := getattr(aggdef, field)) != getattr(fresh, field)}
        for aggdef in AggDef.objects.order_by("name")
    }
    return yaml.safe_dump({"aggregates": found}, sort_keys=False, allow_unicode=True)


def import_definitions(text: str) -> list[str]:
    """Create or change the definitions in the file, all or none. Return the names created or changed.

    An omitted field gets its default; aggregates not in the file stay as they are. Raise `DefinitionError` naming
    aggregate and field. The order in the file does not matter.
    """
    wanted = _read(text)
    fresh = AggDef()
    changed = []
    with transaction.atomic():
        for name in _in_order(wanted):
            fields = wanted[name]
            before = AggDef.objects.filter(name=name).values("changed").first()
            defaults = {field: getattr(fresh, field) for field in FIELDS}
            try:
                after = define(name=name, **{**defaults, **fields})
            except AggregateError as error:
                raise DefinitionError(f"aggregate {name}: {error}", getattr(error, "field", "task_name")) from None
            if before is None or before["changed"] != after.changed:
                changed.append(name)
    return changed


def _in_order(wanted: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names, inputs before readers; a cycle keeps the order of the file, and `define` rejects it."""
    read = {name: _outputs_read(fields) for name, fields in wanted.items()}
    fills = {name: str(fields.get("output") or name).removeprefix(OUTPUT_PREFIX) for name, fields in wanted.items()}
    left, ordered = list(wanted), []
    while left:
        free = [name for name in left if not any(_below(o, fills[other]) for o in read[name] for other in left)]
        ordered += free or left
        left = [name for name in left if name not in ordered]
    return ordered


def _outputs_read(fields: Mapping[str, Any]) -> list[str]:
    inputs = fields.get("inputs")
    return read_aggregates(name for name in inputs if isinstance(name, str)) if isinstance(inputs, list) else []


def _below(output: str, other: str) -> bool:
    return output == other or output.startswith(f"{other}.")


def _read(text: str) -> dict[str, dict[str, Any]]:
    try:
        content = yaml_text.loads(text)
    except yaml.YAMLError as error:
        raise DefinitionError(f"the file is not YAML: {' '.join(str(error).split())}") from None
    found = content.get("aggregates") if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(fields, Mapping) for fields in found.values()):
        raise DefinitionError(
            "the file has no definitions: it must have `aggregates:` with a mapping of fields per name"
        )
    if named := next((name for name, fields in found.items() if "name" in fields), None):
        raise DefinitionError(
            f"aggregate {named}: name: it is the key of the fields, and must not be among them", "name"
        )
    return {str(name): {str(field): value for field, value in fields.items()} for name, fields in found.items()}
