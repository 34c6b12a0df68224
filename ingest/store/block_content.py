"""The content of a block, what is found out about it while it is committed, and its verdict."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from bson.raw_bson import RawBSONDocument

from ingest.journal.block import Block
from ingest.journal.record import RecordKind, read_events
from ingest.store.connection import Document
from ingest.wire.bson_element import split_documents
from ingest.wire.refusal import Refusal

_ID = struct.Struct("<i5sq").pack  # length, element, value
_ID_ELEMENT = b"\x12_id\x00"
_ID_BYTES = 13


@dataclass(frozen=True, slots=True)
class Verdict:
    """The final outcome of a block: events stored, duplicates skipped, and input quarantined; or revoked."""

    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0
    revoked: bool = False  # the block was released without being committed

    @classmethod
    def from_document(cls, document: Document) -> Verdict:
        if document.get("revoked"):
            return cls(revoked=True)
        return cls(document["stored"], document["duplicates"], document["quarantined"])

    @property
    def received(self) -> int:
        """Return the number of events and refused documents in the block."""
        return self.stored + self.duplicates + self.quarantined


@dataclass(slots=True)
class BlockContent:
    """A block's events and refusals, and the faults of single events found while committing it."""

    events: list[bytes] = field(default_factory=list)  # raw BSON without `_id`
    ids: dict[int, str] = field(default_factory=dict)  # index in `events` -> the producer's id
    refusals: list[bytes] = field(default_factory=list)  # quarantine documents, encoded
    refused_count: int = 0  # documents that these stand for
    repeated: set[int] = field(default_factory=set)  # indexes of refusals whose request was sent and kept before
    duplicates: set[int] = field(default_factory=set)  # indexes of events that are already stored
    refused: dict[int, Refusal] = field(default_factory=dict)  # index -> refusal of an event that MongoDB rejected

    @classmethod
    def of(cls, block: Block) -> BlockContent:
        content = cls()
        for record in block.records:
            if record.kind is RecordKind.REFUSALS:
                content.refusals += split_documents(record.payload)
                content.refused_count += record.count
                continue
            events, ids = read_events(record)
            base = len(content.events)
            content.ids.update((base + index, id_) for index, id_ in enumerate(ids) if id_ is not None)
            content.events += events
        content.drop_repeated_ids()
        return content

    def drop_repeated_ids(self) -> None:
        """Mark all but the first event with the same id as duplicates."""
        first: dict[str, int] = {}
        for index, id_ in self.ids.items():
            if first.setdefault(id_, index) != index:
                self.duplicates.add(index)

    def deliveries(self) -> dict[str, int]:
        """Return the index of each refusal that can be known as repeated, and mark repetitions within the block."""
        first: dict[str, int] = {}
        for index, raw in enumerate(self.refusals):
            delivery = RawBSONDocument(raw).get("delivery")
            if delivery is not None and first.setdefault(delivery, index) != index:
                self.repeated.add(index)
        return first

    def repeated_count(self) -> int:
        """Return how many documents the repeated refusals stand for."""
        return sum(int(RawBSONDocument(self.refusals[index]).get("count", 1)) for index in self.repeated)

    def kept(self) -> list[int]:
        """Return the indexes of the events to insert."""
        return [i for i in range(len(self.events)) if i not in self.duplicates and i not in self.refused]

    def documents(self, first: int) -> tuple[list[int] | range, list[RawBSONDocument]]:
        """Return index and document of each event to insert; the event at index i gets `first + i` as `_id`."""
        events, pack = self.events, _ID
        if not self.duplicates and not self.refused:
            return range(len(events)), [
                RawBSONDocument(pack(len(raw) + _ID_BYTES, _ID_ELEMENT, id_) + raw[4:])
                for id_, raw in enumerate(events, first)
            ]
        kept = self.kept()
        return kept, [
            RawBSONDocument(pack(len(events[i]) + _ID_BYTES, _ID_ELEMENT, first + i) + events[i][4:]) for i in kept
        ]
