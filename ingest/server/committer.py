"""Commit journals to MongoDB, and retry until everything is there.

Runs in its own threads. While MongoDB is unreachable or refuses everything, blocks wait in their journals.
`ingest.server.dispatcher` chooses the blocks, `ingest.store.block_commit` commits one of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from bson.binary import Binary
from pymongo.errors import ConfigurationError, InvalidOperation, OperationFailure, PyMongoError

from ingest.exceptions import IngestError
from ingest.journal.journal import Journal
from ingest.log_limit import LogLimit
from ingest.metrics import own_metrics
from ingest.server.counters import Counters, RateMeter
from ingest.server.dispatcher import Dispatcher, ReservedBlock
from ingest.settings import IngestSettings
from ingest.store.block_commit import BlockCommit
from ingest.store.block_content import BlockContent
from ingest.store.connection import is_unconfirmed
from ingest.store.ingester_report import REPORT_EVERY_S, report
from ingest.store.store import Reservation, Store, Watermark
from ingest.store.verdict_compaction import compact
from ingest.transport.awake_clock import has_ended, wait_while_moving

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
LOG_EVERY_S = 30.0
STUCK_S = 2.0  # at stop: a MongoDB that commits nothing for this long does not answer


class Committer:
    """Commit blocks in `inserters` threads. Call `start` and `stop` once each; `add` and `wake` from any thread.

    `on_settled(watermark, count)` is called from an inserter thread after the watermark has passed `count` more events.
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
        silent_s: Callable[[], float] = lambda: 0.0,
        on_failure: Callable[[str, BaseException], None] = lambda part, error: None,
    ) -> None:
        self._is_full = is_full
        self._silent_s = silent_s
        self._on_failure = on_failure
        self._waits_for: dict[int, str] = {}  # by thread id: the error after which it retries
        self._report_due = 0.0
        self._rates = RateMeter()
        self._store = store
        self._settings = settings
        self._counters = counters
        self.dispatcher = Dispatcher(
            store, settings, rebind=rebind, wake=self.wake, on_blocked=self._log_waiting, on_settled=on_settled
        )
        self._report_lock = threading.Lock()
        self._wakeup = threading.Condition()
        self._signals = 0
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._log_limit = LogLimit(LOG_EVERY_S)
        self._threads: list[threading.Thread] = []
        self._local = threading.local()  # `commits`: each thread's BlockCommit; `left_session`: the one it had before

    def add(self, journal: Journal, *, adopted: bool) -> None:
        """Commit what is in `journal`. Adopted journals come before the one that is being written."""
        self.dispatcher.add(journal, adopted=adopted)
        self.wake()

    def wake(self) -> None:
        """Wake one thread, since there may be something to commit."""
        with self._wakeup:
            self._signals += 1
            self._wakeup.notify()

    def start(self) -> None:
        for number in range(self._settings.inserters):
            thread = threading.Thread(target=self._run, name=f"inserter-{number + 1}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, within_s: float) -> bool:
        """Commit what is left, for at most `within_s`; the rest stays journalled. Return True if all threads ended.

        A thread that waits for a MongoDB from which nothing has come for `STUCK_S` is left behind.
        """
        self._deadline = time.monotonic() + within_s
        self._stopping.set()
        with self._wakeup:
            self._wakeup.notify_all()
        return wait_while_moving(self._have_ended, lambda: self._counters.counts().blocks, STUCK_S)

    def _have_ended(self, timeout_s: float) -> bool:
        return all(has_ended(thread, timeout_s / len(self._threads)) for thread in self._threads)

    # The rest runs in the inserter threads.

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - the thread's edge: without the thread events only pile up
            self._on_failure("an inserter", error)
        finally:
            self._end_commits()

    def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._time_is_up():
            signals = self._signals
            try:
                work = self.dispatcher.next_work(lambda: self._commits().session_id)
            except Exception as error:  # noqa: BLE001 - the loop's edge: logged and retried
                self._log_waiting(error)
                self._recover_connection(error)
                self._pause(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            self._waits_for.pop(threading.get_ident(), None)
            self._report()
            if work:
                self._commit(work)
            elif self._stopping.is_set():
                if self._signals == signals:
                    return
            else:
                self._wait(signals)

    def _report(self) -> None:
        """Report this ingester's state and compact verdicts that no replay can ask for, if that is due again."""
        now, journal = time.monotonic(), self.dispatcher.own_journal()
        with self._report_lock:
            if now < self._report_due or journal is None:
                return
            self._report_due = now + REPORT_EVERY_S
            counts = self._counters.counts()
            rates = self._rates.rates(counts, now)
        values = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "received": counts.received,
            "pending": counts.pending,
            "bytes": journal.size_bytes,
            "oldest_pending_s": self._counters.oldest_pending_s(),
            "full": self._is_full(),
            "silent_s": self._silent_s(),
            "waits_for": next(iter([*self._waits_for.values(), *self.dispatcher.blocked().values()]), ""),
            "holds": self.dispatcher.journal_ids(),
            **rates,
        }
        try:
            report(self._store, str(journal.uuid), values)
            compact(self._store, str(journal.uuid), journal.removed_through)
        except (PyMongoError, IngestError) as error:
            self._log_waiting(error)

    def _time_is_up(self) -> bool:
        return self._stopping.is_set() and time.monotonic() >= self._deadline

    def _wait(self, signals: int) -> None:
        with self._wakeup:
            if self._signals == signals and not self._stopping.is_set():
                self._wakeup.wait(REPORT_EVERY_S)

    def _pause(self, seconds: float) -> None:
        if self._stopping.is_set():
            seconds = min(seconds, 0.05)
            time.sleep(seconds)  # only the server is waited for; the deadline bounds it
        else:
            self._stopping.wait(seconds)

    @own_metrics.timed("zarkov.ingester.commit")
    def _commit(self, work: ReservedBlock) -> None:
        """Commit one block, and retry until it is committed or `stop` runs out of time."""
        content: BlockContent | None = None
        pause_s, first_try = FIRST_PAUSE_S, work.first_try
        while not self._time_is_up():
            try:
                content = content or BlockContent.of(work.block)
                self._wait_for_older_partition(work.reservation)
                verdict = self._commits().run(work.reservation, content, first_try=first_try)
            except Exception as error:  # noqa: BLE001 - the loop's edge: logged and retried
                first_try = False
                if not isinstance(error, PyMongoError) or isinstance(error, InvalidOperation):
                    self._end_commits()  # the session is in an unknown state
                self._log_waiting(error)
                self._recover_connection(error)
                self._report()
                self._pause(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            self.dispatcher.committed(work, verdict)
            if not verdict.revoked:
                self._counters.committed(verdict, adopted=work.source.adopted)
            return

    def _commits(self) -> BlockCommit:
        """Return this thread's session with MongoDB; it is replaced after the server moved.

        It is kept after errors of MongoDB: an unfinished transaction ends when the next one starts in the same session,
        while another session would run into its locks for a minute. A session that has to be replaced is ended first:
        another thread can have closed its client in the middle of a transaction.
        """
        database = self._store.database()
        commits: BlockCommit | None = getattr(self._local, "commits", None)
        if commits is None or not commits.serves(database):
            self._end_commits()
            self._end_left_session()
            commits = self._local.commits = BlockCommit(database)
        return commits

    def _end_commits(self) -> None:
        commits: BlockCommit | None = getattr(self._local, "commits", None)
        self._local.commits = None
        if commits is not None:
            self._local.left_session = commits.session_id
            with contextlib.suppress(PyMongoError):
                commits.close()

    def _end_left_session(self) -> None:
        left: Binary | None = getattr(self._local, "left_session", None)
        if left is not None:
            with contextlib.suppress(OperationFailure):  # not allowed: its locks end by themselves
                self._store.end_sessions([left])
            self._local.left_session = None

    def _wait_for_older_partition(self, reservation: Reservation) -> None:
        """Wait until every id below the block's partition is settled, so that the search for duplicates sees all."""
        lowest: int | None = reservation.lowest_open
        while lowest is not None and lowest < reservation.partition.first_id and not self._time_is_up():
            self._pause(FIRST_PAUSE_S)
            lowest = self._store.lowest_open()

    def _recover_connection(self, error: Exception) -> None:
        """Reconnect to where the server is now.

        A connection that was made while the server was neither primary nor secondary, as just after its start, never
        has sessions, and the driver keeps it.
        """
        if isinstance(error, PyMongoError):
            try:
                self._store.connection.renew(force=isinstance(error, ConfigurationError))
            except Exception as unknown:  # noqa: BLE001 - no address yet: logged, and retried next time
                self._log_waiting(unknown)

    def _log_waiting(self, error: Exception) -> None:
        """Log an error that keeps events waiting, the same one at most once in `LOG_EVERY_S`."""
        if self._time_is_up():
            return  # the client may be closed by now, and its error says nothing
        text = f"{type(error).__name__}: {str(error).split(', Topology Description')[0]:.500}"
        self._waits_for[threading.get_ident()] = text
        if self._log_limit.allows(text[:60]):
            known = (
                isinstance(error, PyMongoError | IngestError) or hasattr(error, "retryable") or is_unconfirmed(error)
            )
            log.warning("events wait in the journal error=%s", text, exc_info=None if known else error)
