"""Check the filter of an aggregate against an allow-list of MongoDB's query operators and their operands.

A filter that MongoDB would refuse, or that would run code, is rejected when it is saved and not in each run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.regex import Regex

from aggregates.exceptions import DefinitionError, known
from mapreduce.job.value_check import is_whole

COMBINE = ("$and", "$or", "$nor")
ANY = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
LISTS = ("$in", "$nin", "$all")
BITS = ("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear")
OTHERS = ("$exists", "$type", "$regex", "$options", "$size", "$mod", "$elemMatch", "$not", *BITS)
ALLOWED = (*COMBINE, *ANY, *LISTS, *OTHERS)
TYPES = frozenset({
    *range(1, 20), -1, 127, "number", "double", "string", "object", "array", "binData", "undefined", "objectId", "bool",
    "date", "null", "regex", "dbPointer", "javascript", "symbol", "javascriptWithScope", "int", "timestamp", "long",
    "decimal", "minKey", "maxKey",
})  # fmt: skip
DEEPEST = 20
_REFERENCE = frozenset({"$ref", "$id"})


def check_conditions(document: Any, depth: int = 0) -> None:
    """Raise `DefinitionError` naming the first part of the filter that is not allowed. `_id` is not allowed."""
    if not isinstance(document, Mapping):
        raise _refused(f"{document!r} is not a document of conditions")
    if depth > DEEPEST:
        raise _refused(f"nested deeper than {DEEPEST}")
    for name, condition in document.items():
        if name in COMBINE:
            if not isinstance(condition, list | tuple) or not condition:
                raise _refused(f"{name} needs a list of conditions, not {condition!r}")
            for part in condition:
                check_conditions(part, depth + 1)
        elif name.startswith("$"):
            raise _unknown(name, at_field=False)
        elif name == "_id" or name.startswith("_id."):
            raise _refused("_id is not allowed: runs select their events by it")
        else:
            _check_field(name, condition, depth)


def _check_field(field: str, condition: Any, depth: int) -> None:
    if not _operators(condition):
        return
    for name, operand in condition.items():
        if not name.startswith("$"):
            raise _refused(f"{field} mixes operators with the field {name!r}")
        if name not in ALLOWED or name in COMBINE:
            raise _unknown(name, at_field=True)
        if name in OTHERS:
            _check_operand(field, name, operand, condition, depth)
        elif name in LISTS and not isinstance(operand, list | tuple):
            raise _refused(f"{field}: {name} needs a list, not {operand!r}")
        elif name in LISTS and any(_operators(each) for each in operand):
            raise _refused(f"{field}: {name} needs values, not conditions")


def _check_operand(field: str, name: str, operand: Any, condition: Mapping[str, Any], depth: int) -> None:
    wanted = ""
    if name == "$exists" and not isinstance(operand, bool | int):
        wanted = "true or false"
    elif name == "$type" and not _types(operand):
        wanted = "names or numbers of BSON types, such as string"
    elif name in BITS and not (isinstance(operand, bytes) or _bits(operand)):
        wanted = "a whole number of 0 or more, or a list of such positions"
    elif name == "$regex" and not isinstance(operand, str | Regex):
        wanted = "a string"
    elif name == "$options" and ("$regex" not in condition or not letters_of_regex(operand)):
        wanted = "some of the letters imsx, together with $regex"
    elif name == "$size" and not (is_whole(operand) and operand >= 0):
        wanted = "a whole number of 0 or more"
    elif name == "$mod" and not (_pair(operand) and operand[0] != 0):
        wanted = "a list of divisor and remainder"
    elif name == "$not" and not (isinstance(operand, Regex) or _operators(operand)):
        wanted = "a condition with operators"
    elif name == "$elemMatch" and not isinstance(operand, Mapping):
        wanted = "a document of conditions"
    if wanted:
        raise _refused(f"{field}: {name} needs {wanted}, not {operand!r}")
    if name == "$not" and not isinstance(operand, Regex):
        _check_field(field, operand, depth + 1)
    elif name == "$elemMatch" and operand:
        if _operators(operand) and not set(operand) & set(COMBINE):
            _check_field(field, operand, depth + 1)
        else:
            check_conditions(operand, depth + 1)


def _operators(value: Any) -> bool:
    """Return True for a document of operators; any other document, also a reference, is a literal value."""
    if not isinstance(value, Mapping) or (value.keys() >= _REFERENCE and next(iter(value)) in _REFERENCE):
        return False
    return any(str(name).startswith("$") for name in value)


def letters_of_regex(value: Any) -> bool:
    """Return True for options that MongoDB knows."""
    return isinstance(value, str) and set(value) <= set("imsx")


def _types(operand: Any) -> bool:
    each = operand if isinstance(operand, list | tuple) else [operand]
    return bool(each) and all((isinstance(one, str) or is_whole(one)) and one in TYPES for one in each)


def _bits(operand: Any) -> bool:
    return all(is_whole(one) and one >= 0 for one in (operand if isinstance(operand, list | tuple) else [operand]))


def _pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(is_whole(each) for each in value)


def _unknown(name: str, *, at_field: bool) -> DefinitionError:
    allowed = [each for each in ALLOWED if (each in COMBINE) != at_field]
    where = "at a field" if at_field else "at the top level"
    return _refused(f"{name} is not allowed {where}: use {known(allowed, len(allowed))}")


def _refused(text: str) -> DefinitionError:
    return DefinitionError(f"filter: {text}", "filter")
