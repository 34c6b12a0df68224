"""Check the fields of the commands that other processes send: documents with `$command` that are no events."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bson.int64 import Int64

from .event import MAX_DOCUMENTS, MAX_TEXT_CHARS, describe_value
from .quarantine_codes import CODES
from .refusal import JOINED, KEPT_BYTES, MAX_RAW_BYTES

MAX_COUNT = 2**63 - 1
COMMITTED = "committed"
AGG_COMPLETE = "agg_complete"
REFUSED = "refused"
WHOLE_FIELDS = ("bytes", "sha256")  # of a refusal whose `raw` is only the start of its input
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class _Field:
    """The values that a field may have: a predicate, and the same in words."""

    holds: Callable[[Any], bool]
    allowed: str
    optional: bool = False


def _is_name(value: Any) -> bool:
    return type(value) is str and 1 <= len(value) <= MAX_TEXT_CHARS


def _is_count(value: Any) -> bool:
    return type(value) in (int, Int64) and 0 <= value <= MAX_COUNT


def _is_document_count(value: Any) -> bool:
    return type(value) in (int, Int64) and 1 <= value <= MAX_DOCUMENTS


def _is_joined(value: Any) -> bool:
    return type(value) is str and value in JOINED


def _is_long(value: Any) -> bool:
    return _is_count(value) and value > MAX_RAW_BYTES


def _is_digest(value: Any) -> bool:
    return type(value) is str and _DIGEST.match(value) is not None


_NAME = _Field(_is_name, f"text of 1 to {MAX_TEXT_CHARS} characters")
_AGGREGATE = _Field(
    lambda value: _is_name(value) and "\0" not in value, f"text of 1 to {MAX_TEXT_CHARS} characters without NUL"
)
_COUNT = _Field(_is_count, "a whole number from 0")

FIELDS: Mapping[str, Mapping[str, _Field]] = {
    COMMITTED: {"through": _COUNT, "count": _COUNT},
    AGG_COMPLETE: {"name": _AGGREGATE, "through": _COUNT, "docs": _COUNT},
    REFUSED: {
        "code": _Field(lambda value: type(value) is str and value in CODES, "a quarantine code"),
        "message": _Field(lambda value: type(value) is str, "text"),
        "raw": _Field(lambda value: isinstance(value, bytes), "binary data"),
        "count": _Field(_is_document_count, f"a whole number from 1 to {MAX_DOCUMENTS}", optional=True),
        "joined": _Field(_is_joined, f"one of {', '.join(sorted(JOINED))}", optional=True),
        "sizes": _Field(lambda value: isinstance(value, bytes), "binary data", optional=True),
        "id": replace(_NAME, optional=True),
        "bytes": _Field(_is_long, f"a whole number from {MAX_RAW_BYTES + 1}", optional=True),
        "sha256": _Field(_is_digest, "64 digits from 0 to 9 and a to f", optional=True),
    },
}


def command_fault(command: Mapping[str, Any]) -> str:
    """Return what is wrong with a command: unknown, or a field is missing, unknown or has a wrong value; else empty."""
    name = command.get("$command")
    known = FIELDS.get(name) if type(name) is str else None  # bson.Code is a str too, but not hashable
    if known is None:
        return f"$command is {describe_value(name)}; use {', '.join(FIELDS)}"
    for field, allowed in known.items():
        if field not in command:
            if allowed.optional:
                continue
            return f"{name} has no {field}: give it {allowed.allowed}"
        if not allowed.holds(command[field]):
            return f"{field} of {name} is {describe_value(command[field])}: use {allowed.allowed}"
    if name == REFUSED and command.get("count", 1) > max(1, len(command["raw"])):
        return f"count of {name} is {command['count']}: its raw bytes cannot be so many documents"
    shortened = [field for field in WHOLE_FIELDS if field in command]
    if shortened and (len(shortened) < len(WHOLE_FIELDS) or len(command["raw"]) > KEPT_BYTES):
        return f"{name} of longer input has its bytes, its sha256, and at most the first {KEPT_BYTES} bytes as raw"
    if unknown := command.keys() - known.keys() - {"$command"}:
        return f"{name} has an unknown field {describe_value(min(unknown))}: use {', '.join(known)}"
    return ""
