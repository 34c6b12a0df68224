"""Takes what is in journals to MongoDB, and tries again until it is there.

Runs in threads of its own. As long as MongoDB is not there, or refuses everything, blocks wait in their journals.
Which blocks there are is `ingest.server.dispatcher`'s, how one of them is committed `ingest.store.block_commit`'s.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from pymongo.errors import ConfigurationError, InvalidOperation, PyMongoError

from ingest.exceptions import IngestError
from ingest.journal.journal import Journal
from ingest.metrics import own
from ingest.server.counters import Counters, RateMeter
from ingest.server.dispatcher import Dispatcher, ReservedBlock
from ingest.settings import IngestSettings
from ingest.store.block_commit import BlockCommit, Content
from ingest.store.ingester_report import REPORT_EVERY_S, report
from ingest.store.store import Reservation, Store, Watermark
from ingest.store.verdict_compaction import compact

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
SAY_AGAIN_S = 30.0


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
        silent_s: Callable[[], float] = lambda: 0.0,
        on_failure: Callable[[str, BaseException], None] = lambda part, error: None,
    ) -> None:
        self._is_full = is_full
        self._silent_s = silent_s
        self._on_failure = on_failure
        self._waits_for: dict[int, str] = {}  # by thread: what it tries again
        self._house_due = 0.0
        self._pace = RateMeter()
        self._store = store
        self._settings = settings
        self._counters = counters
        self.dispatcher = Dispatcher(
            store, settings, rebind=rebind, wake=self.wake, say=self._say, on_settled=on_settled
        )
        self._house = threading.Lock()
        self._wakeup = threading.Condition()
        self._signals = 0
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._said: dict[str, float] = {}
        self._threads: list[threading.Thread] = []
        self._own = threading.local()  # `commits`: each thread's BlockCommit

    def add(self, journal: Journal, *, adopted: bool) -> None:
        """Commit what is in `journal`, adopted ones before the one that is being written."""
        self.dispatcher.add(journal, adopted=adopted)
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

    # What follows runs in the inserter threads.

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - the edge of the thread: without it events only pile up
            self._on_failure("an inserter", error)
        finally:
            self._end_commits()

    def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._over():
            signals = self._signals
            try:
                work = self.dispatcher.next_work(lambda: self._commits().session_id)
            except Exception as error:  # noqa: BLE001 - the edge of the thread: said, and tried again
                self._say(error)
                self._recover_connection(error)
                self._pause(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            self._waits_for.pop(threading.get_ident(), None)
            self._keep_house()
            if work:
                self._commit(work)
            elif self._stopping.is_set():
                return
            else:
                self._wait(signals)

    def _keep_house(self) -> None:
        """Every few seconds: say how it goes, and fold verdicts that no replay can ask for."""
        now, journal = time.monotonic(), self.dispatcher.own()
        with self._house:
            if now < self._house_due or journal is None:
                return
            self._house_due = now + REPORT_EVERY_S
            counts = self._counters.counts()
            rates = self._pace.look(counts, now)
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
            "holds": self.dispatcher.journals(),
            **rates,
        }
        try:
            report(self._store, str(journal.uuid), values)
            compact(self._store, str(journal.uuid), journal.cut_through)
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

    @own.timed("zarkov.ingester.commit")
    def _commit(self, work: ReservedBlock) -> None:
        """Commit one block, again and again until it is done or the time to stop is over."""
        content: Content | None = None
        pause_s, first_try = FIRST_PAUSE_S, work.first_try
        while not self._over():
            try:
                content = content or Content.of(work.block)
                self._wait_for_older_partition(work.reservation)
                verdict = self._commits().run(work.reservation, content, first_try=first_try)
            except Exception as error:  # noqa: BLE001 - the edge of the thread: said, and tried again
                first_try = False
                if not isinstance(error, PyMongoError) or isinstance(error, InvalidOperation):
                    self._end_commits()  # ours is in a state that it should not be in
                self._say(error)
                self._recover_connection(error)
                self._keep_house()
                self._pause(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            self.dispatcher.committed(work, verdict)
            if not verdict.revoked:
                self._counters.committed(verdict, adopted=work.source.adopted)
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

    def _wait_for_older_partition(self, reservation: Reservation) -> None:
        """A partition takes its first events when everything below it is settled, so that ids are looked up whole."""
        lowest: int | None = reservation.lowest_open
        while lowest is not None and lowest < reservation.partition.first_id and not self._over():
            self._pause(FIRST_PAUSE_S)
            lowest = self._store.lowest_open()

    def _recover_connection(self, error: Exception) -> None:
        """Go to where the server is now.

        A connection that was made while the server was neither primary nor secondary, as it is just after its start,
        has no sessions for as long as it lives, and the driver keeps it.
        """
        if isinstance(error, PyMongoError):
            try:
                self._store.connection.renew(anew=isinstance(error, ConfigurationError))
            except Exception as unknown:  # noqa: BLE001 - no address yet: said, and asked again next time
                self._say(unknown)

    def _say(self, error: Exception) -> None:
        """Log an error that waits for somebody, but not more often than useful."""
        text, now = f"{type(error).__name__}: {str(error).split(', Topology Description')[0]:.500}", time.monotonic()
        self._waits_for[threading.get_ident()] = text
        key = text[:60]
        if now - self._said.get(key, -SAY_AGAIN_S) >= SAY_AGAIN_S:
            self._said = {k: at for k, at in self._said.items() if now - at < SAY_AGAIN_S} | {key: now}
            known = isinstance(error, PyMongoError | IngestError) or hasattr(error, "retryable")
            log.warning("events wait in the journal: %s", text, exc_info=None if known else error)
