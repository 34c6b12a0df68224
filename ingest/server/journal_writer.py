"""Write received batches to the journal in groups: one sync makes durable what arrived during the previous one."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import bson

from ingest.exceptions import JournalError, JournalFullError
from ingest.journal.journal import Journal
from ingest.journal.record import MAX_PAYLOAD_BYTES, RecordKind, events_payload
from ingest.server.counters import Counters
from ingest.transport.awake_clock import has_ended, wait_while_moving
from ingest.wire.batch import ReceivedBatch

log = logging.getLogger(__name__)

BACKLOG_BYTES = 16 * 2**20  # received and not yet written; above this the receivers pause
GROUP_BYTES = 8 * 2**20
FULL_PAUSE_S = 0.05


@dataclass(slots=True)
class PendingWrite:
    """A batch on its way to disk."""

    batch: ReceivedBatch
    on_durable: Callable[[], None] | None = None  # called from the writer's thread after a sync; None = need not wait


class JournalWriter:
    """Write one journal in one thread. `put` can be called from any thread and does not block."""

    def __init__(
        self,
        journal: Journal,
        counters: Counters,
        *,
        sync: str = "batch",
        record_events: int = 5_000,
        on_written: Callable[[], None] = lambda: None,
        on_space: Callable[[], None] = lambda: None,
        on_failure: Callable[[str, BaseException], None] = lambda part, error: None,
    ) -> None:
        self._journal = journal
        self._counters = counters
        self._interval_s = int(sync.partition(":")[2]) / 1000 if sync.startswith("interval:") else None
        self._always = sync == "batch"
        self._record_events = record_events
        self._on_written = on_written
        self._on_space = on_space
        self._on_failure = on_failure
        self._wakeup = threading.Condition()
        self._waiting: deque[PendingWrite] = deque()
        self._waiting_bytes = 0
        self._stopping = False
        self._abandoned = threading.Event()
        self._full = False
        self._synced_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Write what was put, until nothing could be written for `within_s`. Return True if all of it is on disk."""
        with self._wakeup:
            self._stopping = True
            self._wakeup.notify()
        wait_while_moving(partial(has_ended, self._thread), lambda: self._waiting_bytes, within_s)
        self._abandoned.set()
        self._journal.space_freed.set()
        self._thread.join(1.0)
        return not self._thread.is_alive() and not self._waiting_bytes

    def put(self, delivery: PendingWrite) -> None:
        with self._wakeup:
            self._waiting.append(delivery)
            self._waiting_bytes += delivery.batch.size_bytes
            self._wakeup.notify()

    @property
    def full(self) -> bool:
        """Return True while nothing can be written: the journal or its disk is full, or writing fails."""
        return self._full

    @property
    def congested(self) -> bool:
        """Return True while the receivers should not read more."""
        return self._full or self._waiting_bytes > BACKLOG_BYTES

    def _run(self) -> None:
        try:
            while (group := self._collect()) is not None:
                if group and not self._persist(group):
                    return
        except BaseException as error:  # noqa: BLE001 - the thread's edge: without the thread nothing is journalled
            self._on_failure("the journal writer", error)

    def _collect(self) -> list[PendingWrite] | None:
        """Return the next group; an empty list if only a sync was due; None at the end."""
        with self._wakeup:
            while not self._waiting:
                if self._stopping:
                    self._retry(self._journal.sync)
                    return None
                timeout_s = self._sync_due_s()
                if timeout_s is not None and timeout_s <= 0:
                    break
                self._wakeup.wait(timeout_s)
            group: list[PendingWrite] = []
            size = 0
            while self._waiting and (not group or size + self._waiting[0].batch.size_bytes <= GROUP_BYTES):
                group.append(self._waiting.popleft())
                size += group[-1].batch.size_bytes
        if not group:
            self._sync()
        return group

    def _sync_due_s(self) -> float | None:
        if self._interval_s is None or not self._journal.unsynced_bytes:
            return None
        return self._synced_at + self._interval_s - time.monotonic()

    def _persist(self, group: Sequence[PendingWrite]) -> bool:
        records = list(_records([delivery.batch for delivery in group], self._record_events))
        # A group that does not fit as a whole is written record by record as space is freed.
        parts = [records] if self._journal.fits(records) else [[record] for record in records]
        written = all(self._retry(partial(self._journal.append, part)) for part in parts)
        due = self._sync_due_s()
        if written and (self._always or any(d.on_durable for d in group) or (due is not None and due <= 0)):
            written = self._sync()
        if not written:
            with self._wakeup:
                self._waiting.extendleft(reversed(group))
            return False
        with self._wakeup:
            self._waiting_bytes -= sum(delivery.batch.size_bytes for delivery in group)
            relieved = self._waiting_bytes <= BACKLOG_BYTES
        self._counters.received(sum(count for _, count, _ in records))
        for delivery in group:
            if delivery.on_durable:
                delivery.on_durable()
        self._on_written()
        if relieved:
            self._on_space()
        return True

    def _sync(self) -> bool:
        self._synced_at = time.monotonic()
        return self._retry(self._journal.sync)

    def _retry(self, step: Callable[[], None]) -> bool:
        """Repeat `step` until it succeeds. Return False if `stop` runs out of time first."""
        while True:
            self._journal.space_freed.clear()
            try:
                step()
            except JournalError as error:
                self._log_full(error)
                self._on_written()  # a segment may have been closed, which can be deleted once it is committed
            else:
                if self._full:
                    self._full = False
                    log.info("journal has space again, reading resumes")
                return True
            self._journal.space_freed.wait(FULL_PAUSE_S)
            if self._abandoned.is_set():
                return False

    def _log_full(self, error: JournalError) -> None:
        if not self._full:
            self._full = True
            level = logging.WARNING if isinstance(error, JournalFullError) else logging.ERROR
            log.log(level, "journal cannot be written, reading pauses error=%s", error)


def _records(batches: Sequence[ReceivedBatch], most_events: int) -> Iterator[tuple[RecordKind, int, bytes]]:
    """Yield kind, count and payload of the records that hold `batches`: events in their order, then refusals."""
    events: list[bytes] = []
    ids: list[str | None] = []
    size = 0
    for batch in batches:
        if len(batch.events) + len(events) > most_events or batch.size_bytes + size > MAX_PAYLOAD_BYTES:
            yield from _event_records(events, ids, most_events)
            events, ids, size = [], [], 0
        if batch.ids or ids:
            ids += [None] * (len(events) - len(ids))
            ids += batch.ids + [None] * (len(batch.events) - len(batch.ids))
        events += batch.events
        size += batch.size_bytes
    yield from _event_records(events, ids, most_events)
    for batch in batches:
        yield from _refusal_records(batch)


def _event_records(
    events: Sequence[bytes], ids: Sequence[str | None], most_events: int
) -> Iterator[tuple[RecordKind, int, bytes]]:
    """Yield records of at most `most_events` events and `MAX_PAYLOAD_BYTES`, unless a single event is larger."""
    start = 0
    while start < len(events):
        end, size = start, 0
        while end < len(events) and end - start < most_events:
            size += len(events[end])
            if size > MAX_PAYLOAD_BYTES and end > start:
                break
            end += 1
        some_ids = ids[start:end]
        kind, payload = events_payload(events[start:end], some_ids if any(i is not None for i in some_ids) else ())
        yield kind, end - start, payload
        start = end


def _refusal_records(batch: ReceivedBatch) -> Iterator[tuple[RecordKind, int, bytes]]:
    """Yield one record per refusal, since an input can be large and there are few; its count is that of documents."""
    now = dt.datetime.now(dt.UTC)
    for refusal in batch.refusals:
        document: dict[str, Any] = refusal.to_document(batch.source, now)
        yield RecordKind.REFUSALS, refusal.count, bson.encode(document)
