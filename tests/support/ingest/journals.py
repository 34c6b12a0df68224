"""Write numbered events into a journal and read them back."""

from __future__ import annotations

from typing import Any

import bson

from ingest.journal.block import Block, BlockReader
from ingest.journal.journal import Journal
from ingest.journal.record import RecordKind, read_events
from ingest.settings import JournalSettings


def event(n: int, **more: Any) -> bytes:
    """Return an event that holds a number."""
    return bson.encode({"type": "x", "extra": n, **more})


def record(n: int) -> tuple[RecordKind, int, bytes]:
    return RecordKind.EVENTS, 1, event(n)


def numbers(block: Block | None) -> list[int]:
    """Return the numbers of the events in a block."""
    return [bson.decode(raw)["extra"] for r in (block.records if block else []) for raw in read_events(r)[0]]


def everything(journal: Journal, **options: Any) -> list[int]:
    """Settle all blocks of a journal; return the numbers of their events."""
    reader, found = BlockReader(journal, **options), []
    while block := reader.next_block(1_000, 2**20):
        found += numbers(block)
        journal.settle(block.by_segment)
    return found


def reopened(journal: Journal, settings: JournalSettings) -> Journal:
    """Release a journal and return it adopted again, as after the death of its process."""
    journal.release()
    return Journal.adopt(journal.folder, settings)
