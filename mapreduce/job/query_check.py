"""Validation of a job's MongoDB filters: operators that compare are allowed, those that run code are not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mapreduce.exceptions import SpecError
from mapreduce.job.value_check import mapping, shown

# MongoDB manual, "Query and Projection Operators", without $where, which runs JavaScript.
COMPARING = frozenset((
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$and", "$or", "$nor", "$not", "$exists",
    "$type", "$mod", "$regex", "$options", "$all", "$elemMatch", "$size", "$bitsAllClear", "$bitsAllSet",
    "$bitsAnyClear", "$bitsAnySet", "$comment", "$jsonSchema", "$expr", "$text", "$search", "$language",
    "$caseSensitive", "$diacriticSensitive", "$geoIntersects", "$geoWithin", "$near", "$nearSphere",
    "$geometry", "$maxDistance", "$minDistance", "$center", "$centerSphere", "$box", "$polygon", "$ref",
    "$id", "$db",
))  # fmt: skip
CODE = frozenset(("$where", "$function", "$accumulator"))
_EXPRESSION = "$expr"


def check_query(query: Any, *, allow_source: bool) -> None:
    """Raise `SpecError` naming the first operator of `query` that is not allowed."""
    _look(mapping("query", query), allow_source=allow_source, expression=False)


def _look(value: Any, *, allow_source: bool, expression: bool) -> None:
    if isinstance(value, list | tuple):
        for item in value:
            _look(item, allow_source=allow_source, expression=expression)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name in CODE and not allow_source:
                raise SpecError(f"query {name}: code is not allowed (zmr.allow_source is off); compare fields instead")
            if str(name).startswith("$") and name not in CODE and not expression and name not in COMPARING:
                raise SpecError(f"query {shown(name)}: must be one of {', '.join(sorted(COMPARING))}")
            # Expressions have hundreds of operators; only those that run code are refused, at any depth.
            _look(item, allow_source=allow_source, expression=expression or name == _EXPRESSION)
