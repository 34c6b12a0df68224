"""Find texts that BSON cannot hold: they would fail where they are sent or stored, far from where they came in.

BSON's texts are UTF-8, and its names end with a zero byte (https://bsonspec.org/spec.html). JSON can spell other texts:
half of a surrogate pair (RFC 8259 section 8.2), and NUL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NUL = "\0"
_HALVES = re.compile("[\ud800-\udfff]")


def fault_of_text(text: str) -> str:
    """Return why no text in UTF-8 is like that; empty if one is."""
    found = None if text.isascii() else _HALVES.search(text)
    return f"{text[:60]!a} holds {ascii(found[0])[1:-1]}, half of a surrogate pair" if found else ""


def with_halves_escaped(text: str) -> str:
    """Return the text with half of a surrogate pair as JSON writes it, such as `\\ud800`, so that UTF-8 can hold it."""
    return text.encode("utf-8", "backslashreplace").decode()


def fault_of_texts(value: Any, *, nul_in_values: bool = True) -> str:
    """Return what BSON cannot hold among the names and texts in decoded JSON of any depth; empty if it can hold all.

    Without `nul_in_values`, NUL is a fault in every text, as it is in PostgreSQL's, and not only in names.
    """
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            fault = fault_of_text(each) or ("" if nul_in_values else _fault_of_nul(each))
        elif isinstance(each, Mapping):
            waiting += each.values()
            fault = next(filter(None, (fault_of_text(name) or _fault_of_nul(name) for name in each)), "")
        else:
            waiting += each if isinstance(each, list | tuple) else ()
            continue
        if fault:
            return fault
    return ""


def _fault_of_nul(text: str) -> str:
    return f"{text[:60]!a} holds NUL" if NUL in text else ""
