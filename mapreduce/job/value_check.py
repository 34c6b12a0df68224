"""Validation of single values of requests and job descriptions. Pure.

Each check returns the value it was given, or raises `SpecError` naming the key, the value and what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from bson.code import Code

from mapreduce.exceptions import KeyRefusedError, SpecError
from mapreduce.key import identity
from mapreduce.task_error import too_deep

SYSTEM_DATABASES = ("admin", "config", "local")
NAMESPACE_BYTES = 255  # MongoDB's limit for `database.collection`
DATABASE_BYTES = 63  # and for a database
JOB_ID_CHARACTERS = 64  # job ids are parts of collection and folder names
LONGEST_S = 86_400.0
DEPTH = 100  # nesting limit of documents; MongoDB refuses deeper filters
_BOUND_DEPTH = 20  # nesting limit of the bounds of a range, which job records contain
_SHOWN = 200
_JOB_ID = re.compile(rf"[A-Za-z0-9_](?:[A-Za-z0-9_:-]|\.(?=[A-Za-z0-9_:-])){{0,{JOB_ID_CHARACTERS - 1}}}\Z")
_LABEL = re.compile(r"(?=.{1,100}\Z)[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\Z")
_DATABASE_NEVER = frozenset('/\\. "$*<>:|?\0')


def shown(value: Any) -> str:
    """Return the `repr` of `value` for a person, cut if it is long."""
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} nested too deep"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def is_text(value: Any) -> bool:
    """Return True if `value` is a string that BSON can hold. `Code` does not count, although it subclasses `str`."""
    if not isinstance(value, str) or isinstance(value, Code):
        return False
    return value.isascii() or value.encode("utf-8", "replace").decode() == value


def text(key: str, value: Any) -> str:
    """Accept a non-empty string without NUL."""
    if not is_text(value) or not value or "\0" in value:
        raise SpecError(f"{key} {shown(value)}: must be a string that is not empty, in UTF-8 and without NUL")
    return str(value)


def job_id(value: Any, key: str = "job_id") -> str:
    """Accept an id that can be used unchanged in the name of a collection or folder."""
    if not is_text(value) or not _JOB_ID.match(value):
        raise SpecError(
            f"{key} {shown(value)}: must be 1 to {JOB_ID_CHARACTERS} letters, digits, _, -, : and single dots inside"
        )
    return str(value)


def is_whole(value: Any) -> TypeGuard[int]:
    """Return True for a whole number; booleans do not count."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_label(value: Any) -> bool:
    """Return True if `value` can be a part of a collection name."""
    return is_text(value) and _LABEL.match(value) is not None


def database(value: Any, key: str = "database") -> str:
    """Accept the name of a database that is not one of MongoDB's own."""
    if not is_text(value) or not value or _DATABASE_NEVER & set(value) or len(value.encode()) > DATABASE_BYTES:
        raise SpecError(f"{key} {shown(value)}: must be the name of a MongoDB database, 1 to {DATABASE_BYTES} bytes")
    if value.lower() in SYSTEM_DATABASES:
        raise SpecError(f"{key} {value!r} is MongoDB's own ({', '.join(SYSTEM_DATABASES)})")
    return str(value)


def collection(key: str, value: Any, longest: int) -> str:
    """Accept the name of a collection of at most `longest` bytes that is not one of MongoDB's own."""
    if not is_text(value) or {"$", "\0"} & set(value) or not all(value.split(".")):
        raise SpecError(
            f"{key} {shown(value)}: must be the name of a collection, without $ and NUL and with single dots inside"
        )
    if value.startswith("system."):
        raise SpecError(f"{key} {shown(value)}: collections below system. are MongoDB's own")
    if len(value.encode()) > longest:
        raise SpecError(f"{key} {shown(value)} has {len(value.encode())} bytes; at most {longest} are possible here")
    return str(value)


def path(key: str, value: Any) -> str:
    """Accept a field name, or a path of field names with dots between them."""
    if not is_text(value) or "\0" in value or not all(p and not p.startswith("$") for p in value.split(".")):
        raise SpecError(f"{key} {shown(value)}: must be the name of a field, as in type or context.project")
    return str(value)


def truth(key: str, value: Any) -> bool:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise SpecError(f"{key} {shown(value)}: must be true or false")
    return value


def whole(key: str, value: Any, most: int) -> int:
    """Accept a whole number from 1 to `most`."""
    if not is_whole(value) or not 1 <= value <= most:
        raise SpecError(f"{key} {shown(value)}: must be a whole number from 1 to {most}")
    return value


def seconds(key: str, value: Any, *, zero: bool = False) -> float:
    """Accept a number of seconds up to a day; 0 only with `zero`."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not 0 <= value <= LONGEST_S or (value == 0 and not zero):
        raise SpecError(f"{key} {shown(value)}: must be a number of seconds {'from' if zero else 'above'} 0 to 86400")
    return float(value)


def mapping(key: str, value: Any) -> Mapping[str, Any]:
    """Accept a document, nested at most `DEPTH` levels deep."""
    if not isinstance(value, Mapping) or not all(is_text(name) and "\0" not in name for name in value):
        raise SpecError(f"{key} {shown(value)}: must be a document")
    if too_deep(value, DEPTH):
        raise SpecError(f"{key} {shown(value)}: must be documents nested at most {DEPTH} levels deep")
    return value


def listed(key: str, value: Any) -> list[Any] | tuple[Any, ...]:
    """Accept a list or tuple."""
    if not isinstance(value, list | tuple):
        raise SpecError(f"{key} {shown(value)}: must be a list")
    return value


def bound(key: str, value: Any) -> Any:
    """Accept one end of a range of ids: None, or a value that can be an `_id`."""
    if value is None:
        return None
    if too_deep(value, _BOUND_DEPTH):
        raise SpecError(f"{key} {shown(value)}: must be documents nested at most {_BOUND_DEPTH} levels deep")
    try:
        identity(value)
    except KeyRefusedError as error:
        raise SpecError(f"{key} {shown(value)}: must be a valid _id; {error.message[:_SHOWN]}") from None
    return value
