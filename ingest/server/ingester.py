"""The ingester: receivers, journal writer and committer as one object with `start`, `run` and `stop`.

Sockets live in the gevent loop of the thread that calls `start` and `run`. Journal and MongoDB are served by other
threads, which answer through the loop's async watcher. Nothing is monkey-patched.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import gevent
import pymongo
from gevent.backdoor import BackdoorServer
from gevent.event import Event
from gevent.hub import get_hub

from ingest.exceptions import IngesterFailedError, JournalError, JournalLockedError
from ingest.journal.journal import Journal, journal_folders
from ingest.server.backdoor import open_backdoor
from ingest.server.committer import Committer
from ingest.server.counters import Counters
from ingest.server.journal_writer import JournalWriter
from ingest.server.receivers import Receivers
from ingest.settings import IngestSettings
from ingest.store.store import Store, Watermark, connect
from ingest.transport import notice
from ingest.wire import reader_failure

log = logging.getLogger(__name__)

ADOPT_EVERY_S = 5.0
HEARTBEAT_S = 0.5
WRITE_WITHIN_S = 20.0  # at stop: a disk that writes nothing for this long hangs
DRAIN_WITHIN_S = 3.0  # at stop: what is journalled but not in MongoDB by then waits for the next start
RELEASE_WITHIN_S = 2.0  # at stop: a journal whose end MongoDB does not take by then is left to the next start
LEAST_RELEASE_S = 0.5  # even if draining took all the time


class Ingester:
    """One ingester process. `start` binds and reads, `run` returns after `stop`; `stop` can be called twice.

    `start` raises `BindError` if an address is taken and `JournalError` if no journal can be created. It does not need
    MongoDB, which the committer waits for. All methods belong to one thread, except `request_stop`.
    """

    def __init__(
        self,
        settings: IngestSettings,
        *,
        store: Store | None = None,
        rebind: bool = False,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.settings = settings
        self.counters = Counters()
        self._store = store or connect(settings.mongo_address, settings.mongo_database)
        self._rebind = rebind
        self._receivers = Receivers(settings, clock_ms)  # the clock is only for events without a timestamp
        self.addresses = self._receivers.addresses  # bound, by key of the settings
        self._journal: Journal | None = None
        self._calls: deque[Callable[[], None]] = deque()
        self._stop_requested = Event()
        self._backdoor: BackdoorServer | None = None
        self._started = self._stopped = False
        self._failure: IngesterFailedError | None = None
        self._loop_alive_s = time.monotonic()

    def start(self) -> None:
        """Bind, create a journal, adopt those that no process holds, and start reading."""
        hub = get_hub()
        self._async = hub.loop.async_()
        self._async.start(self._run_calls)
        try:
            self._backdoor = open_backdoor(self.settings.backdoor, {"ingester": self})
            self._receivers.bind()
            self._journal = Journal.create(self.settings.journal)
        except BaseException:
            self._close_backdoor()
            self._receivers.close()
            self._async.close()
            raise
        self.committer = Committer(
            self._store,
            self.settings,
            self.counters,
            self._on_settled,
            rebind=self._rebind,
            is_full=lambda: self.writer.full,
            silent_s=lambda: time.monotonic() - self._loop_alive_s,
            on_failure=self._part_failed,
        )
        self.writer = JournalWriter(
            self._journal,
            self.counters,
            sync=self.settings.journal.sync,
            record_events=self.settings.block_events,  # blocks consist of whole records
            on_written=self._written,
            on_space=lambda: self._call(self._receivers.back_pressure.lift),
            on_failure=self._part_failed,
        )
        self.adopt()
        self.committer.add(self._journal, adopted=False)
        self.writer.start()
        self.committer.start()
        self._receivers.start(self.writer, self._calls.append, self._spawn, partial(self._part_failed, "a receiver"))
        self._adopter = self._spawn(0.0, self._adopt_forever)
        self._heartbeat = self._spawn(0.0, self._heartbeat_forever)
        self._started = True

    def run(self) -> None:
        """Serve until `stop` or `request_stop` is called and the load balancer, if any, has passed on everything.

        Raise `IngesterFailedError` if a part failed, after everything else was stopped in order.
        """
        self._stop_requested.wait()
        if self.settings.end_mark and self._journal is not None:
            self._journal.lift_size_limit()
            self._receivers.wait_for_load_balancer(lambda: self._failure is not None)
        self.stop()
        if self._failure is not None:
            raise self._failure

    def request_stop(self) -> None:
        """Make `run` return. Can be called from any thread."""
        self._call(self._stop_requested.set)

    def stop(self) -> None:
        """Stop reading, write and commit what was received, and release everything.

        Takes about a second, and longer while senders fill the queues or MongoDB does not answer.
        """
        if not self._started or self._stopped:
            return
        self._stopped = True
        self._stop_requested.set()
        self._adopter.kill()
        self._heartbeat.kill()
        self._close_backdoor()
        assert self._journal is not None
        self._journal.lift_size_limit()  # the rest is journalled even if it is full
        self._receivers.drain_sockets()
        if self.settings.end_mark:
            self.adopt()  # the journals of the load balancer, and of siblings that ended
        pool = get_hub().threadpool
        deadline = time.monotonic() + DRAIN_WITHIN_S
        written = pool.apply(self.writer.stop, (WRITE_WITHIN_S,))
        if not written:
            log.error("journal cannot be written, the latest unacknowledged events are lost")
        drained = pool.apply(self.committer.stop, (max(0.2, deadline - time.monotonic()),))
        gevent.sleep(0)
        self._run_calls()  # the last answers and notices
        self._receivers.close()
        self._async.close()
        release_s = max(LEAST_RELEASE_S, min(RELEASE_WITHIN_S, deadline - time.monotonic()))
        self._close_journal(written and drained, release_s)
        self._store.connection.close()

    def _close_backdoor(self) -> None:
        if self._backdoor is not None:
            self._backdoor.stop(timeout=0)

    def _close_journal(self, all_done: bool, within_s: float) -> None:
        assert self._journal is not None
        if all_done:
            with contextlib.suppress(JournalError):
                self._journal.finish()
        with pymongo.timeout(within_s):
            self.committer.dispatcher.release_journals()

    def _call(self, function: Callable[[], None]) -> None:
        """Run `function` in the loop's thread. Can be called from any thread."""
        self._calls.append(function)
        self._async.send_ignoring_arg(None)

    def _written(self) -> None:
        """Send the answers of a group that is on disk, all at once. Called from the writer's thread."""
        if self._calls:
            self._async.send_ignoring_arg(None)
        self.committer.wake()

    def _run_calls(self) -> None:
        while self._calls:
            try:
                self._calls.popleft()()
            except Exception as error:  # noqa: BLE001 - the loop's edge: logged, and the others are called
                reader_failure.log_failure("an answer or a notice", error)

    def _spawn(self, after_s: float, function: Callable[[], None]) -> gevent.Greenlet:
        greenlet = gevent.spawn_later(after_s, function)
        greenlet.link_exception(lambda ended: self._part_failed(function.__name__.strip("_"), ended.exception))
        return greenlet

    def _part_failed(self, part: str, error: BaseException) -> None:
        """End the process, since half an ingester only looks alive. Can be called from any thread."""
        log.critical("ingester failed, the process ends and must be restarted part=%s", part, exc_info=error)
        if self._failure is None:
            self._failure = IngesterFailedError(f"{part} failed: {type(error).__name__}: {error!s:.300}")
        self._call(self._stop_requested.set)

    def _heartbeat_forever(self) -> None:
        """Record that the loop, and so the receivers, still run; the committer reports for how long they have not."""
        while True:
            self._loop_alive_s = time.monotonic()
            gevent.sleep(HEARTBEAT_S)

    def _on_settled(self, watermark: Watermark, count: int) -> None:
        """Publish a notice. Called from an inserter thread."""
        self._call(lambda: self._receivers.publish(notice.committed(watermark.through, count)))

    def adopt(self) -> None:
        """Adopt every journal in the journal folder that no process holds."""
        for folder in journal_folders(self.settings.journal.folder):
            if self._journal is not None and folder == self._journal.folder:
                continue
            try:
                journal = Journal.adopt(folder, self.settings.journal)
            except JournalLockedError:
                continue
            except JournalError as error:
                if folder.exists():  # else its owner has removed it meanwhile
                    log.warning("journal not adopted error=%s", error)
                continue
            except Exception as error:  # noqa: BLE001 - an unreadable journal does not hold up the others
                reader_failure.log_failure(f"journal {folder}, which is left alone", error)
                continue
            log.info("journal adopted journal=%s bytes=%d", journal.uuid, journal.size_bytes)
            self.committer.add(journal, adopted=True)

    def _adopt_forever(self) -> None:
        while True:
            gevent.sleep(ADOPT_EVERY_S)
            self.adopt()
