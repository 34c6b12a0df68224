"""Journal the pushed messages that no child has read when a load balancer stops, by receiving them like another child.

A child that is stopping adopts and commits the journal, or the next start does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import zmq

from ingest.exceptions import IngestError
from ingest.journal.journal import Journal
from ingest.server.counters import Counters
from ingest.server.journal_writer import JournalWriter, PendingWrite
from ingest.server.push_reader import PUSH_READERS, Reader, without_mark
from ingest.server.socket_reader import bind, drain
from ingest.settings import JournalSettings
from ingest.transport.awake_clock import has_ended, wait_while_moving

log = logging.getLogger(__name__)

WRITE_WITHIN_S = 20.0  # for each group of messages
_TURN_MS = 50
_PAUSE_S = 0.01


class LeftoverJournal:
    """Listen for pushed messages until `mark` has arrived through each receiver, in `addresses` by key of the settings.

    Call `start` and `finish` once, in one thread. Notices among the messages are not published.
    """

    def __init__(self, addresses: Mapping[str, str], mark: bytes, settings: JournalSettings) -> None:
        self._addresses = addresses
        self._mark = mark
        self._settings = settings
        self._abandoned = threading.Event()
        self._read_count = 0
        self._journal: Journal | None = None
        self._thread = threading.Thread(target=self._run, name="leftover", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, within_s: float) -> None:
        """Return once everything is on disk and the journal can be adopted, or nothing has moved for `within_s`."""
        wait_while_moving(partial(has_ended, self._thread), self._moved, within_s)
        self._abandoned.set()
        self._thread.join()

    def _moved(self) -> tuple[int, int]:
        """Return how many messages were read and how many bytes were written."""
        return self._read_count, 0 if self._journal is None else self._journal.size_bytes

    def _run(self) -> None:
        try:
            journal = Journal.create(self._settings)
        except IngestError as error:  # the messages stay where they are
            log.error("no journal can be created for the last messages error=%s", error)  # noqa: TRY400 - no traceback needed
            return
        journal.lift_size_limit()
        self._journal = journal
        writer = JournalWriter(journal, Counters(), on_failure=_log_failure)
        writer.start()
        context: zmq.Context[Any] = zmq.Context()
        readers: dict[zmq.Socket[bytes], Reader] = {}
        try:
            for key, read in PUSH_READERS.items():
                readers[bind(context, zmq.PULL, "leftover", self._addresses[key])] = read
            self._read(readers, writer)
        except IngestError as error:  # the messages stay where they are
            log.error("the last messages cannot be received error=%s", error)  # noqa: TRY400 - no traceback needed
        finally:
            if not writer.stop(WRITE_WITHIN_S):
                log.error("journal cannot be written, the last messages are lost journal=%s", journal.folder)
            for socket in readers:
                socket.close(0)
            context.term()
            self._release(journal)

    def _read(self, readers: dict[zmq.Socket[bytes], Reader], writer: JournalWriter) -> None:
        poller = zmq.Poller()
        for socket in readers:
            poller.register(socket, zmq.POLLIN)
        while poller.sockets and not self._abandoned.is_set():
            for socket, _ in poller.poll(_TURN_MS):
                messages = drain(socket)
                self._read_count += len(messages)
                rest = without_mark(messages, self._mark)
                batch = readers[socket](rest, time.time_ns() // 1_000_000)
                if not batch.empty:
                    writer.put(PendingWrite(batch))
                if rest is not messages:
                    poller.unregister(socket)
            while writer.congested and not self._abandoned.is_set():
                time.sleep(_PAUSE_S)
        if poller.sockets:
            log.error("nothing moves any more, the last messages that are not journalled are lost")

    def _release(self, journal: Journal) -> None:
        """Release the journal to be adopted; remove it if it is empty."""
        if journal.segments:
            log.info(
                "last messages journalled, since no ingester read them journal=%s bytes=%d",
                journal.uuid,
                journal.size_bytes,
            )
        else:
            journal.finish()
            journal.remove()
        journal.release()


def _log_failure(part: str, error: BaseException) -> None:
    log.error("leftover journal failed part=%s", part, exc_info=error)
