"""Definitions as a YAML file, to be kept under version control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from django.db import transaction

from aggregates.exceptions import DefinitionError
from aggregates.models import AggDef
from aggregates.services.define import FIELDS, define


def export_definitions() -> str:
    """All definitions, sorted by name; fields that have their default are left out."""
    fresh = AggDef()
    found = {
        aggdef.name: {field: value for field in FIELDS if (value := getattr(aggdef, field)) != getattr(fresh, field)}
        for aggdef in AggDef.objects.order_by("name")
    }
    return yaml.safe_dump({"aggregates": found}, sort_keys=False, allow_unicode=True)


def import_definitions(text: str) -> list[str]:
    """Make the definitions so; all or none. Returns the names that were made or changed.

    A field that is left out gets its default; aggregates that the file does not name stay as they are. Raises
    `DefinitionError` that names aggregate and field.
    """
    wanted = _read(text)
    fresh = AggDef()
    changed = []
    with transaction.atomic():
        for name, fields in wanted.items():
            before = AggDef.objects.filter(name=name).values("changed").first()
            defaults = {field: getattr(fresh, field) for field in FIELDS}
            try:
                after = define(name=name, **{**defaults, **fields})
            except DefinitionError as error:
                raise DefinitionError(f"aggregate {name}: {error}", error.field) from None
            if before is None or before["changed"] != after.changed:
                changed.append(name)
    return changed


def _read(text: str) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DefinitionError(f"the file is not YAML: {' '.join(str(error).split())}") from None
    found = content.get("aggregates") if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(fields, Mapping) for fields in found.values()):
        raise DefinitionError("the file has no definitions: allowed is `aggregates:` with a mapping of fields per name")
    return {str(name): dict(fields) for name, fields in found.items()}
