"""Read fields of events whose kind nobody has checked, as `event_noval` lets them in: None for anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_TEXT_CHARS = 256  # as of an event's type


def value_at(event: Any, *path: str) -> Any:
    """Return the value below these names; None if there is none, or if something on the way is no document."""
    for name in path:
        if not isinstance(event, Mapping):
            return None
        event = event.get(name)
    return event


def text_at(event: Any, *path: str) -> str | None:
    """Return a text of 1 to `MAX_TEXT_CHARS` characters; None for anything else."""
    value = value_at(event, *path)
    return value if type(value) is str and 0 < len(value) <= MAX_TEXT_CHARS else None


def number_at(event: Any, *path: str) -> int | float | None:
    """Return a number that is finite and no boolean; None for anything else."""
    value = value_at(event, *path)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if value - value == 0 else None  # not so of NaN and infinities
