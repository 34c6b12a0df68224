"""Read files of `loadevents` that are damaged."""

from __future__ import annotations

from pathlib import Path

from ingest.exceptions import LoadError
from ingest.load.file_format import NumberedEvent, read


def until_damage(path: Path) -> tuple[list[NumberedEvent], str]:
    """Return what a file yields, and the error that ends it."""
    found: list[NumberedEvent] = []
    try:
        for event in read(path):
            found.append(event)
    except LoadError as error:
        return found, str(error)
    return found, ""
