"""Choose what is committed next: divide journals into blocks, reserve ids, settle blocks, remove drained journals.

One thread at a time does all of it. `ingest.server.committer` decides how a block is committed and when to retry.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bson.binary import Binary
from pymongo.errors import PyMongoError

from ingest.exceptions import IngestError, StaleBlockError, StoreChangedError
from ingest.journal.block import Block, BlockBounds, BlockReader
from ingest.journal.journal import Journal, StoreIdentity
from ingest.journal.record import RecordKind
from ingest.settings import IngestSettings
from ingest.store.block_content import Verdict
from ingest.store.block_release import revoke
from ingest.store.store import BlockId, Reservation, Store, Watermark, verdict_key
from ingest.store.verdict_compaction import is_retired, retire

log = logging.getLogger(__name__)


@dataclass(slots=True)
class JournalSource:
    """One journal on its way to MongoDB. Only the thread that holds the dispatcher's `_turn` lock changes it."""

    journal: Journal
    reader: BlockReader
    adopted: bool
    next_number: int = 1
    ready: bool = False  # True once MongoDB has reported what is settled
    blocked: str = ""  # why nothing of it is committed; "" if it is not blocked
    to_reserve: deque[Block] = field(default_factory=deque)  # blocks to reserve (again) before any other
    in_flight: int = 0  # blocks that are reserved and not settled

    def block_id(self, number: int) -> BlockId:
        """Return the id under which MongoDB knows block `number` of this journal."""
        return str(self.journal.uuid), number


@dataclass(frozen=True, slots=True)
class ReservedBlock:
    """A block and the ids that are reserved for it."""

    source: JournalSource
    block: Block
    reservation: Reservation
    first_try: bool  # reserved just now, so nothing of it can be committed yet


class Dispatcher:
    """Bring the journals of one process to MongoDB, block by block. Methods block; any thread can call them.

    They raise `PyMongoError` or `IngestError` while MongoDB is unreachable or holds another store: call again later.
    `wake` is called if there is more to do at once, `on_blocked` with an error that needs a person, and
    `on_settled(watermark, count)` after the watermark has passed `count` more events.
    """

    def __init__(
        self,
        store: Store,
        settings: IngestSettings,
        *,
        rebind: bool,
        wake: Callable[[], None],
        on_blocked: Callable[[Exception], None],
        on_settled: Callable[[Watermark, int], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._rebind = rebind
        self._wake = wake
        self._on_blocked = on_blocked
        self._on_settled = on_settled
        self._identity: StoreIdentity | None = None
        self._lowest_new_id = 0  # a new reservation cannot start below, unless the database was restored
        self._sources: list[JournalSource] = []
        self._settled: list[tuple[JournalSource, BlockId, Block, Verdict]] = []
        self._guard = threading.Lock()  # protects the list of sources, which is replaced, never changed in place
        self._turn = threading.Lock()  # held while cutting, reserving and settling

    def add(self, journal: Journal, *, adopted: bool) -> None:
        """Add `journal`. Adopted journals come before the one that is being written."""
        source = JournalSource(journal, BlockReader(journal), adopted)
        with self._guard:  # not `_turn`, which can be held for as long as MongoDB does not answer
            self._sources = sorted([*self._sources, source], key=lambda s: not s.adopted)

    def next_work(self, session: Callable[[], Binary]) -> ReservedBlock | None:
        """Return the next block with its ids, adopted journals first; if there is none, settle what was committed.

        `session` returns the id of the MongoDB session in which the caller will commit the block.
        """
        with self._turn:
            identity = self._known_identity()
            for source in self._sources:
                if work := self._reserve_next(source, identity, session):
                    return work
            if self._settled:
                settled = list(self._settled)
                watermark = self._store.settle(identity, [block_id for _, block_id, _, _ in settled])
                self._remove_settled(settled, watermark)
                for source in self._sources:
                    self._finish_if_drained(source)
            return None

    def committed(self, work: ReservedBlock, verdict: Verdict) -> None:
        """Record the verdict of `work`: it is settled with the next reservation, or committed again if revoked."""
        with self._turn:
            work.source.in_flight -= 1
            if verdict.revoked:
                work.block.number, work.block.bounds = None, None
                work.source.to_reserve.append(work.block)
                return
            self._settled.append((work.source, work.reservation.block, work.block, verdict))
        work.source.journal.settle(work.block.by_segment)

    def own_journal(self) -> Journal | None:
        """Return the journal that is being written, or None until MongoDB has answered."""
        found = next((source for source in self._sources if not source.adopted), None)
        return found.journal if found and self._identity is not None else None

    def journal_ids(self) -> list[str]:
        """Return the uuids of the journals that this process commits, its own and adopted ones."""
        return [str(source.journal.uuid) for source in self._sources]

    def blocked(self) -> dict[str, str]:
        """Return, by journal uuid, why nothing of a journal is committed."""
        return {str(source.journal.uuid): source.blocked for source in self._sources if source.blocked}

    def release_journals(self) -> None:
        """Remove drained journals, and release the others for adoption. To be called after `stop`."""
        for source in self._sources:
            journal = source.journal
            if not journal.writable:
                source.reader.next_block(1, 1)  # moves the reader past the end of what is settled
            try:
                if journal.drained and not source.in_flight and not source.to_reserve and not self._settled:
                    self._retire(journal)
            except (PyMongoError, IngestError) as error:
                log.info("journal left to the next ingester journal=%s error=%s", journal.uuid, error)
            journal.release()

    def _retire(self, journal: Journal) -> None:
        """Remove the files durably, then the verdicts, which a replay of the files would need, then the folder."""
        journal.sync_removals()
        retire(self._store, str(journal.uuid))
        journal.remove()

    def _known_identity(self) -> StoreIdentity:
        if self._identity is None:
            self._identity = self._store.prepare()
        return self._identity

    def _reserve_next(
        self, source: JournalSource, identity: StoreIdentity, session: Callable[[], Binary]
    ) -> ReservedBlock | None:
        if not source.ready and not self._open_source(source, identity):
            return None
        block = source.to_reserve.popleft() if source.to_reserve else self._next_block(source)
        if block is None:
            self._finish_if_drained(source)
            return None
        try:
            return self._reserve(source, block, identity, session)
        except BaseException:
            source.to_reserve.appendleft(block)
            raise

    def _next_block(self, source: JournalSource) -> Block | None:
        durable_only = source.adopted or self._settings.journal.sync == "batch"
        return source.reader.next_block(
            self._settings.block_events, self._settings.block_bytes, durable_only=durable_only
        )

    def _open_source(self, source: JournalSource, identity: StoreIdentity) -> bool:
        """Ask MongoDB what of the journal is settled and reserved. Return False if it must not be committed."""
        known = source.journal.store_identity
        if known is not None and known != identity and not self._rebind:
            source.blocked = (
                f"journal {source.journal.folder} belongs to store {known.store}, epoch {known.epoch}, but the "
                f"database holds store {identity.store}, epoch {identity.epoch}: nothing of it is committed. Bring "
                "back its database, or commit it to this one with `manage.py runingest --rebind`"
            )
            self._on_blocked(StoreChangedError(source.blocked))
            return False
        if source.adopted and not source.journal.drained and is_retired(self._store, str(source.journal.uuid)):
            source.blocked = (
                f"journal {source.journal.folder} was drained and removed before, but its files are back: nothing of "
                "it is committed, because its events would be stored twice. Remove the folder"
            )
            self._on_blocked(StoreChangedError(source.blocked))
            return False
        source.blocked = ""
        if known != identity:
            source.journal.set_store_identity(identity)
        journal = str(source.journal.uuid)
        if source.adopted:
            settled = self._store.settled_bounds(journal)
            numbers = {bounds.number for bounds in settled}
            still_open = self._store.open_blocks(journal)
            done = [source.block_id(int(b["s"])) for b in still_open if int(b["s"]) in numbers]
            if done:
                self._store.settle(identity, done)
            reserved = [
                BlockBounds(int(b["from"]), int(b["to"]), int(b["s"])) for b in still_open if int(b["s"]) not in numbers
            ]
            self._store.end_sessions([b["session"] for b in still_open if b.get("session")])
            source.reader = BlockReader(source.journal, settled, reserved)
        source.next_number = self._store.last_number(journal) + 1
        source.ready = True
        return True

    def _reserve(
        self, source: JournalSource, block: Block, identity: StoreIdentity, session: Callable[[], Binary]
    ) -> ReservedBlock | None:
        number = block.number if block.number is not None else source.next_number
        block_id, bounds = source.block_id(number), BlockBounds(block.first, block.last, number)
        settled = list(self._settled)
        try:
            reservation = self._store.reserve(
                identity, block_id, bounds, _event_count(block), [i for _, i, _, _ in settled], session=session()
            )
        except StaleBlockError:
            self._renumber(source, block, block_id)
            return None
        self._remove_settled(settled, reservation.watermark)
        first_try = block.number is None
        if first_try:
            self._check_ids_are_new(reservation, identity)
        source.next_number = max(source.next_number, number + 1)
        if (reservation.bounds.first, reservation.bounds.last) != (bounds.first, bounds.last):
            source.reader.put_back(block, reservation.bounds)
            self._wake()
            return None
        if first_try:
            self._lowest_new_id = reservation.first + reservation.count
        block.number = number
        source.in_flight += 1
        if source.reader.has_more or source.to_reserve:
            self._wake()
        return ReservedBlock(source, block, reservation, first_try)

    def _check_ids_are_new(self, reservation: Reservation, identity: StoreIdentity) -> None:
        """Raise `StoreChangedError` if ids went down: the database was restored from a copy while we ran."""
        if reservation.first < self._lowest_new_id:
            raise StoreChangedError(
                f"id {reservation.first} of store {identity.store} is reserved a second time: the database was "
                "restored from a copy. Nothing more is committed. Stop the ingesters, run `manage.py initdb "
                "--restored`, and start them with `manage.py runingest --rebind`"
            )

    def _renumber(self, source: JournalSource, block: Block, block_id: BlockId) -> None:
        """Settle a block whose number has a verdict; queue it under a new number if the verdict is `revoked`."""
        verdict = self._store.verdicts().find_one(verdict_key(block_id))
        if verdict and not verdict.get("revoked"):
            source.journal.settle(block.by_segment)
        else:
            block.number, block.bounds = None, None
            source.next_number = self._store.last_number(block_id[0]) + 1
            source.to_reserve.appendleft(block)
        self._wake()

    def _remove_settled(
        self, settled: list[tuple[JournalSource, BlockId, Block, Verdict]], watermark: Watermark
    ) -> None:
        del self._settled[: len(settled)]
        count = sum(verdict.stored for _, _, _, verdict in settled)
        if settled:
            self._on_settled(watermark, count)

    def _finish_if_drained(self, source: JournalSource) -> None:
        """Remove an adopted journal once everything in it is settled; revoke reservations without records."""
        if (
            not source.adopted
            or source.in_flight
            or source.to_reserve
            or not source.ready
            or not source.journal.drained
        ):
            return
        if any(settled_source is source for settled_source, _, _, _ in self._settled):
            return
        for bounds in source.reader.unread_reservations():
            assert bounds.number is not None
            log.warning(
                "records are missing, their reservation is revoked journal=%s first=%d last=%d",
                source.journal.uuid, bounds.first, bounds.last,
            )  # fmt: skip
            revoke(self._store, source.block_id(bounds.number))
        self._retire(source.journal)
        with self._guard:
            self._sources = [other for other in self._sources if other is not source]
        log.info("journal drained and removed journal=%s", source.journal.uuid)


def _event_count(block: Block) -> int:
    return sum(record.count for record in block.records if record.kind is not RecordKind.REFUSALS)
