"""Read a journal as blocks: consecutive records that are committed together.

Once a block's number is reserved in MongoDB its boundaries never change: every later read cuts it at the same records,
so that it always holds the same events.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ingest.journal.journal import Journal
from ingest.journal.record import FILE_HEADER_BYTES, BadRegion, Record, is_file_header, scan
from ingest.journal.segment import Segment

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlockBounds:
    """The record sequences that a block covers."""

    first: int
    last: int  # inclusive
    number: int | None = None  # of the block; None until one is reserved


@dataclass(slots=True)
class Block:
    """Records to be committed together."""

    records: list[Record] = field(default_factory=list)
    number: int | None = None  # None until one is reserved
    bounds: BlockBounds | None = None  # as reserved; may include records that are no longer readable
    size_bytes: int = 0  # of all payloads
    count: int = 0  # events and refused documents
    by_segment: Counter[int] = field(default_factory=Counter)  # segment number -> records from it

    @property
    def first(self) -> int:
        """Return the sequence of the first record."""
        return self.bounds.first if self.bounds else self.records[0].sequence

    @property
    def last(self) -> int:
        """Return the sequence of the last record."""
        return self.bounds.last if self.bounds else self.records[-1].sequence


@dataclass(frozen=True, slots=True)
class ReturnedRecord:
    """A record to be read again."""

    record: Record
    segment: int  # its number
    is_open: bool  # counts as open in the journal


class BlockReader:
    """Read one journal as blocks, in order. Not thread-safe.

    `settled` are the bounds of blocks that have a verdict, `reserved` those of blocks whose number is reserved, both
    read from MongoDB when the journal was adopted. Both are empty for a journal that this process writes.
    """

    def __init__(
        self, journal: Journal, settled: Sequence[BlockBounds] = (), reserved: Sequence[BlockBounds] = ()
    ) -> None:
        self.journal = journal
        self._settled = sorted(settled, key=lambda bounds: bounds.first)
        self._reserved = {bounds.first: bounds for bounds in reserved}
        self._segment: Segment | None = None
        self._records: Iterator[Record | BadRegion] = iter(())
        self._read_end = 0
        self._ahead: Record | None = None
        self._returned: list[ReturnedRecord] = []  # last first
        self._from: ReturnedRecord | None = None  # the one that is now ahead; None if that was read from the segment
        self.damaged = 0  # bad regions found so far
        self._last_sequence = 0

    def next_block(self, most_events: int, most_bytes: int, *, durable_only: bool = True) -> Block | None:
        """Return the next block within both limits (but of at least one record), or None if nothing is left.

        A reserved block keeps its reserved size. Its records count as open in the journal until they are settled.
        """
        block = Block()
        while (record := self._peek(durable_only)) is not None:
            if self._is_settled(record):
                self._skip_ahead()
            elif self._fits(block, record, most_events, most_bytes):
                self._add_ahead(block, record)
            else:
                break
        if not block.records:
            return None
        if block.bounds:
            self._reserved.pop(block.bounds.first, None)
        return block

    def put_back(self, block: Block, bounds: BlockBounds) -> None:
        """Put back the records of the latest block, because its number turned out to be reserved for `bounds`.

        They stay open in the journal: their segment may have been read to its end.
        """
        self._reserved[bounds.first] = bounds
        numbers = [number for number, count in sorted(block.by_segment.items()) for _ in range(count)]
        if self._ahead is not None:
            self._returned.append(self._from or ReturnedRecord(self._ahead, self._number_of_segment(), is_open=False))
            self._drop_ahead()
        for record, number in reversed(list(zip(block.records, numbers, strict=True))):
            self._returned.append(ReturnedRecord(record, number, is_open=True))

    @property
    def has_more(self) -> bool:
        """Return whether a record has been read that is not in a block yet."""
        return self._ahead is not None or bool(self._returned)

    def unread_reservations(self) -> list[BlockBounds]:
        """Return the bounds of reserved blocks without any record; call it once everything has been read."""
        return list(self._reserved.values())

    def _fits(self, block: Block, record: Record, most_events: int, most_bytes: int) -> bool:
        bounds = self._reserved.get(record.sequence)
        if not block.records:
            block.bounds = bounds or self._reserved_over(record.sequence)
            block.number = block.bounds.number if block.bounds else None
            return True
        if block.bounds:
            return record.sequence <= block.bounds.last
        return (
            bounds is None
            and block.count + record.count <= most_events
            and block.size_bytes + len(record.payload) <= most_bytes
        )

    def _reserved_over(self, sequence: int) -> BlockBounds | None:
        """Return the reserved bounds around `sequence`, for blocks whose first record is no longer readable."""
        return next((s for s in self._reserved.values() if s.first <= sequence <= s.last), None)

    def _add_ahead(self, block: Block, record: Record) -> None:
        number = self._number_of_segment()
        if not (self._from and self._from.is_open):
            self.journal.count_open({number: 1})
        self._drop_ahead()
        block.records.append(record)
        block.count += record.count
        block.size_bytes += len(record.payload)
        block.by_segment[number] += 1

    def _skip_ahead(self) -> None:
        if self._from and self._from.is_open:
            self.journal.settle({self._from.segment: 1})
        self._drop_ahead()

    def _number_of_segment(self) -> int:
        if self._from is not None:
            return self._from.segment
        assert self._segment is not None
        return self._segment.number

    def _drop_ahead(self) -> None:
        self._ahead, self._from = None, None

    def _is_settled(self, record: Record) -> bool:
        while self._settled and self._settled[0].last < record.sequence:
            self._settled.pop(0)
        return bool(self._settled) and self._settled[0].first <= record.sequence

    def _peek(self, durable_only: bool) -> Record | None:
        if self._ahead is None and self._returned:
            self._from = self._returned.pop()
            self._ahead = self._from.record
        while self._ahead is None:
            found = next(self._records, None)
            if found is None:
                if not self._read_on(durable_only):
                    return None
            elif isinstance(found, BadRegion):
                self._report(found)
            else:
                self._ahead = self._in_order(found)
        return self._ahead

    def _in_order(self, record: Record) -> Record | None:
        if record.sequence <= self._last_sequence:
            return None
        self._last_sequence = record.sequence
        return record

    def _read_on(self, durable_only: bool) -> bool:
        """Read what was appended since the last call, or move to the next segment; return False if there is neither."""
        segment = self._segment
        if segment is not None:
            closed = segment.closed  # read before its end: nothing is appended once it is closed
            end = segment.synced_end if durable_only else segment.end
            if end > self._read_end:
                data = segment.read_range(self._read_end, end)
                self._records = scan(data, self.journal.seed, self._skip_header(data))
                self._read_end = end
                return True
            if not closed:
                return False
            segment.last_sequence = self._last_sequence
            segment.read_through = True
        following = self.journal.next_segment(segment.number if segment else 0)
        if following is None:
            if segment is not None and segment.read_through:
                self.journal.remove_settled()
            return False
        self._segment, self._read_end = following, 0
        self.journal.remove_settled()
        return True

    def _skip_header(self, data: bytes) -> int:
        return FILE_HEADER_BYTES if self._read_end == 0 and is_file_header(data, self.journal.uuid) else 0

    def _report(self, region: BadRegion) -> None:
        assert self._segment is not None
        where = (self._segment.path, region.start, region.end)
        if region.torn and self.journal.is_newest(self._segment):
            log.info("unsynced end of journal segment skipped segment=%s start=%d end=%d", *where)
            return
        self.damaged += 1
        kept = self.journal.keep_damaged(self._segment)
        log.error("damaged journal records skipped segment=%s start=%d end=%d kept_as=%s", *where, kept)
