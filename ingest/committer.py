"""Takes what is in journals to MongoDB: cuts blocks, reserves their ids, commits them and settles them.

Runs in threads of its own. As long as MongoDB is not there, or refuses everything, blocks wait in their journals.
How one block is committed is `ingest.commit`'s.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pymongo.errors import PyMongoError

from ingest.accounting import Counters, Pace
from ingest.block import Block, BlockReader, Span
from ingest.commit import BlockCommit, Content, Verdict
from ingest.exceptions import IngestError, StaleBlockError, StoreChangedError
from ingest.fold import fold, is_retired, retire
from ingest.journal import Journal, StoreMark
from ingest.metrics import own
from ingest.record import Kind
from ingest.revocation import revoke
from ingest.settings import IngestSettings
from ingest.store import BlockId, Reservation, Store, Watermark
from ingest.summary import REPORT_EVERY_S, report

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
SAY_AGAIN_S = 30.0


@dataclass(slots=True)
class Source:
    """A journal on its way to MongoDB. Changed only by whoever holds the committer's turn."""

    journal: Journal
    reader: BlockReader
    adopted: bool
    next_number: int = 1
    ready: bool = False  # MongoDB was asked what is settled
    blocked: str = ""  # why nothing of it is committed
    again: deque[Block] = field(default_factory=deque)  # cut, to be reserved (again) before anything else
    in_flight: int = 0  # blocks that are reserved and not settled

    def block_id(self, number: int) -> BlockId:
        """A block of this journal as MongoDB knows it."""
        return str(self.journal.uuid), number


@dataclass(frozen=True, slots=True)
class Work:
    """One block with its ids."""

    source: Source
    block: Block
    reservation: Reservation
    first_try: bool  # reserved just now: nothing of it can be committed yet


class Committer:
    """`inserters` threads that commit blocks. `start` and `stop` once each; `add` and `wake` from any thread.

    `on_settled(watermark, count)` is called from an inserter thread after the watermark passed `count` more events.
    """

    def __init__(
        self,
        store: Store,
        settings: IngestSettings,
        counters: Counters,
        on_settled: Callable[[Watermark, int], None] = lambda watermark, count: None,
        *,
        rebind: bool = False,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_full = is_full
        self._house_due = 0.0
        self._next_least = 0  # no id below was left to be given out when we asked last
        self._pace = Pace()
        self._store = store
        self._settings = settings
        self._counters = counters
        self._on_settled = on_settled
        self._rebind = rebind
        self._mark: StoreMark | None = None
        self._sources: list[Source] = []
        self._settled: list[tuple[Source, BlockId, Block, Verdict]] = []
        self._turn = threading.Lock()  # cutting, reserving and settling
        self._wakeup = threading.Condition()
        self._signals = 0
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._said: dict[str, float] = {}
        self._threads: list[threading.Thread] = []
        self._own = threading.local()  # `commits`: each thread's BlockCommit

    def add(self, journal: Journal, *, adopted: bool) -> None:
        """Commit what is in `journal`, adopted ones before the one that is being written."""
        source = Source(journal, BlockReader(journal), adopted)
        with self._wakeup:
            self._sources = sorted([*self._sources, source], key=lambda s: not s.adopted)
        self.wake()

    def wake(self) -> None:
        """Say that there may be something to commit."""
        with self._wakeup:
            self._signals += 1
            self._wakeup.notify()

    def start(self) -> None:
        """Start the threads."""
        for number in range(self._settings.inserters):
            thread = threading.Thread(target=self._run, name=f"inserter-{number + 1}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, within_s: float) -> bool:
        """Commit what is left, for at most `within_s`; what remains stays in the journals. Return whether all went."""
        self._deadline = time.monotonic() + within_s
        self._stopping.set()
        with self._wakeup:
            self._wakeup.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, self._deadline - time.monotonic()) + 0.5)
        return not any(thread.is_alive() for thread in self._threads)

    def release_journals(self) -> None:
        """After `stop`: remove journals of which everything is settled, and let others adopt the rest."""
        for source in self._sources:
            journal = source.journal
            if not journal.writable:
                source.reader.take(1, 1)  # reads past the end of what was settled
            try:
                if journal.drained and not source.in_flight and not source.again and not self._settled:
                    self._retire(journal)
            except (PyMongoError, IngestError) as error:
                log.info("journal %s is left to the next ingester: %s", journal.uuid, error)
            journal.release()

    def _retire(self, journal: Journal) -> None:
        """Files first, for good; then verdicts, which a replay of the files would need; then the folder."""
        journal.sync_removals()
        retire(self._store, str(journal.uuid))
        journal.remove()

    def blocked(self) -> dict[str, str]:
        """Journals of which nothing is committed, with the reason."""
        return {str(source.journal.uuid): source.blocked for source in self._sources if source.blocked}

    # What follows runs in the inserter threads.

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._end_commits()

    def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._over():
            signals = self._signals
            try:
                work = self._next_work()
            except Exception as error:  # noqa: BLE001 - the edge of the thread: said, and tried again
                self._say(error)
                self._recover_connection(error)
                self._pause(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            if work:
                self._commit(work)
            elif self._stopping.is_set():
                return
            else:
                self._wait(signals)
            self._keep_house()

    def _keep_house(self) -> None:
        """Every few seconds: say how it goes, and fold verdicts that no replay can ask for."""
        now = time.monotonic()
        with self._turn:
            if now < self._house_due or self._mark is None:
                return
            self._house_due = now + REPORT_EVERY_S
            own = next((source for source in self._sources if not source.adopted), None)
            counts = self._counters.counts()
            rates = self._pace.look(counts, now)
        if own is None:
            return
        journal = str(own.journal.uuid)
        values = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "received": counts.received,
            "pending": counts.pending,
            "bytes": own.journal.size_bytes,
            "oldest_pending_s": self._counters.oldest_pending_s(),
            "full": self._is_full(),
            **rates,
        }
        try:
            report(self._store, journal, values)
            fold(self._store, journal, own.journal.cut_through)
        except (PyMongoError, IngestError) as error:
            self._say(error)

    def _over(self) -> bool:
        return self._stopping.is_set() and time.monotonic() >= self._deadline

    def _wait(self, signals: int) -> None:
        with self._wakeup:
            if self._signals == signals and not self._stopping.is_set():
                self._wakeup.wait(REPORT_EVERY_S)

    def _pause(self, seconds: float) -> None:
        if self._stopping.is_set():
            seconds = min(seconds, 0.05)
            time.sleep(seconds)  # nothing to wait for but the server; bounded by the deadline
        else:
            self._stopping.wait(seconds)

    def _next_work(self) -> Work | None:
        """The next block with its ids, oldest journals first; settles what was committed on the way."""
        with self._turn:
            mark = self._known_mark()
            for source in list(self._sources):
                if work := self._from_source(source, mark):
                    return work
            if self._settled:
                settled = list(self._settled)
                watermark = self._store.settle(mark, [block_id for _, block_id, _, _ in settled])
                self._close(settled, watermark)
                for source in list(self._sources):
                    self._finish_if_drained(source)
            return None

    def _known_mark(self) -> StoreMark:
        if self._mark is None:
            self._mark = self._store.prepare()
        return self._mark

    def _from_source(self, source: Source, mark: StoreMark) -> Work | None:
        if not source.ready and not self._open(source, mark):
            return None
        block = source.again.popleft() if source.again else self._take(source)
        if block is None:
            self._finish_if_drained(source)
            return None
        try:
            return self._reserve(source, block, mark)
        except BaseException:
            source.again.appendleft(block)
            raise

    def _take(self, source: Source) -> Block | None:
        durable_only = source.adopted or self._settings.journal.sync == "batch"
        return source.reader.take(self._settings.block_events, self._settings.block_bytes, durable_only=durable_only)

    def _open(self, source: Source, mark: StoreMark) -> bool:
        """Ask MongoDB what of the journal is settled and reserved; False when it belongs to another store."""
        known = source.journal.mark
        if known is not None and known != mark and not self._rebind:
            source.blocked = (
                f"journal {source.journal.folder} belongs to store {known.store}, epoch {known.epoch}, and the "
                f"database holds store {mark.store}, epoch {mark.epoch}: nothing of it is committed. Bring back its "
                "database, or take it into this one with `manage.py runingest --rebind`"
            )
            self._say(StoreChangedError(source.blocked))
            return False
        if source.adopted and not source.journal.drained and is_retired(self._store, str(source.journal.uuid)):
            source.blocked = (
                f"journal {source.journal.folder} was drained and removed before, and its files are back: nothing of "
                "it is committed, as it would be stored twice. Remove the folder"
            )
            self._say(StoreChangedError(source.blocked))
            return False
        source.blocked = ""
        if known != mark:
            source.journal.set_mark(mark)
        journal = str(source.journal.uuid)
        if source.adopted:
            settled = self._store.settled_spans(journal)
            numbers = {span.number for span in settled}
            still_open = self._store.open_blocks(journal)
            done = [source.block_id(int(b["s"])) for b in still_open if int(b["s"]) in numbers]
            if done:
                self._store.settle(mark, done)
            reserved = [
                Span(int(b["from"]), int(b["to"]), int(b["s"])) for b in still_open if int(b["s"]) not in numbers
            ]
            self._store.end_sessions([b["session"] for b in still_open if b.get("session")])
            source.reader = BlockReader(source.journal, settled, reserved)
        source.next_number = self._store.last_number(journal) + 1
        source.ready = True
        return True

    def _reserve(self, source: Source, block: Block, mark: StoreMark) -> Work | None:
        number = block.number if block.number is not None else source.next_number
        block_id, span = source.block_id(number), Span(block.first, block.last, number)
        settled = list(self._settled)
        try:
            reservation = self._store.reserve(
                mark, block_id, span, _events(block), [i for _, i, _, _ in settled], session=self._commits().session_id
            )
        except StaleBlockError:
            self._renumber(source, block, block_id)
            return None
        self._close(settled, reservation.watermark)
        first_try = block.number is None
        if first_try:
            self._refuse_ids_given_before(reservation, mark)
        source.next_number = max(source.next_number, number + 1)
        if (reservation.span.first, reservation.span.last) != (span.first, span.last):
            source.reader.give_back(block, reservation.span)
            return self._from_source(source, mark)
        if first_try:
            self._next_least = reservation.first + reservation.count
        block.number = number
        source.in_flight += 1
        if source.reader.has_more or source.again:
            self.wake()
        return Work(source, block, reservation, first_try)

    def _refuse_ids_given_before(self, reservation: Reservation, mark: StoreMark) -> None:
        """Ids only rise: when they do not, the database was brought back from a copy under our feet."""
        if reservation.first < self._next_least:
            raise StoreChangedError(
                f"id {reservation.first} of store {mark.store} is given out a second time: the database was restored "
                "from a copy. Nothing more is committed. Stop the ingesters, say `manage.py initdb --restored`, and "
                "start them with `manage.py runingest --rebind`"
            )

    def _renumber(self, source: Source, block: Block, block_id: BlockId) -> None:
        """The number is used up: the block is done, or was revoked and takes another number."""
        verdict = self._store.verdicts().find_one({"_id": {"j": block_id[0], "s": block_id[1]}})
        if verdict and not verdict.get("revoked"):
            source.journal.settle(block.by_segment)
        else:
            block.number, block.span = None, None
            source.next_number = self._store.last_number(block_id[0]) + 1
            source.again.appendleft(block)
        self.wake()

    @own.timed("zarkov.ingester.commit")
    def _commit(self, work: Work) -> None:
        """Commit one block, again and again until it is done or the time to stop is over."""
        content, pause_s, first_try = Content.of(work.block), FIRST_PAUSE_S, work.first_try
        while not self._over():
            try:
                self._wait_for_older_partition(work.reservation)
                verdict = self._commits().run(work.reservation, content, first_try=first_try)
            except Exception as error:  # noqa: BLE001 - the edge of the thread: said, and tried again
                first_try = False
                if not isinstance(error, PyMongoError):
                    self._end_commits()
                self._say(error)
                self._recover_connection(error)
                self._pause(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            self._committed(work, verdict)
            return

    def _commits(self) -> BlockCommit:
        """This thread's session with MongoDB, made anew after the server moved.

        It outlives errors of MongoDB: what a transaction left undone there goes when the next one begins in the same
        session, where another session would meet its locks for a minute.
        """
        database = self._store.database()
        commits: BlockCommit | None = getattr(self._own, "commits", None)
        if commits is None or not commits.serves(database):
            commits = self._own.commits = BlockCommit(database)
        return commits

    def _end_commits(self) -> None:
        commits: BlockCommit | None = getattr(self._own, "commits", None)
        self._own.commits = None
        if commits is not None:
            with contextlib.suppress(PyMongoError):
                commits.close()

    def _committed(self, work: Work, verdict: Verdict) -> None:
        with self._turn:
            work.source.in_flight -= 1
            if verdict.revoked:
                work.block.number, work.block.span = None, None
                work.source.again.append(work.block)
                return
            self._settled.append((work.source, work.reservation.block, work.block, verdict))
        work.source.journal.settle(work.block.by_segment)
        self._counters.committed(verdict, adopted=work.source.adopted)

    def _close(self, settled: list[tuple[Source, BlockId, Block, Verdict]], watermark: Watermark) -> None:
        """What was passed to MongoDB as settled needs no more care."""
        del self._settled[: len(settled)]
        count = sum(verdict.stored for _, _, _, verdict in settled)
        if settled:
            self._on_settled(watermark, count)

    def _wait_for_older_partition(self, reservation: Reservation) -> None:
        """A partition takes its first events when everything below it is settled, so that ids are looked up whole."""
        lowest: int | None = reservation.lowest_open
        while lowest is not None and lowest < reservation.partition.first_id and not self._over():
            self._pause(FIRST_PAUSE_S)
            lowest = self._store.lowest_open()

    def _finish_if_drained(self, source: Source) -> None:
        """Remove an adopted journal once everything in it is settled; revoke what its files do not know."""
        if not source.adopted or source.in_flight or source.again or not source.ready or not source.journal.drained:
            return
        if any(settled_source is source for settled_source, _, _, _ in self._settled):
            return
        for span in source.reader.unmet():
            assert span.number is not None
            log.warning(
                "journal %s does not hold records %d to %d any more: the ids reserved for them are given up",
                source.journal.uuid, span.first, span.last,
            )  # fmt: skip
            revoke(self._store, source.block_id(span.number))
        self._retire(source.journal)
        self._sources.remove(source)
        log.info("journal %s is done and removed", source.journal.uuid)

    def _recover_connection(self, error: Exception) -> None:
        if isinstance(error, PyMongoError):
            try:
                self._store.connection.renew()
            except Exception as unknown:  # noqa: BLE001 - no address yet: said, and asked again next time
                self._say(unknown)

    def _say(self, error: Exception) -> None:
        """Log an error that waits for somebody, but not more often than useful."""
        text, now = f"{type(error).__name__}: {str(error).split(', Topology Description')[0]:.500}", time.monotonic()
        key = text[:60]
        if now - self._said.get(key, -SAY_AGAIN_S) >= SAY_AGAIN_S:
            self._said = {k: at for k, at in self._said.items() if now - at < SAY_AGAIN_S} | {key: now}
            known = isinstance(error, PyMongoError | IngestError) or hasattr(error, "retryable")
            log.warning("events wait in the journal: %s", text, exc_info=None if known else error)


def _events(block: Block) -> int:
    return sum(record.count for record in block.records if record.kind is not Kind.REFUSALS)
