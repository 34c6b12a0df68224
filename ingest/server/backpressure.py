"""Pause the sockets of an ingester while the journal writer has more than it can write."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ingest.server.journal_writer import JournalWriter
from ingest.server.socket_reader import SocketReader

CHECK_EVERY_S = 0.05


class BackPressure:
    """Pause `readers`, so that senders wait; while the journal is full, the acknowledged one answers "busy" instead.

    `later(seconds, function)` calls a function in the loop. Belongs to the loop's thread.
    """

    def __init__(
        self,
        readers: Sequence[SocketReader],
        acknowledged: SocketReader,
        writer: JournalWriter,
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._readers = readers
        self._acknowledged = acknowledged
        self._writer = writer
        self._later = later
        self._checking = self._stopped = False

    def apply(self) -> None:
        """Pause reading if the writer is congested, until it is no longer."""
        if self._stopped or not self._writer.congested:
            return
        for reader in self._readers:
            if reader is not self._acknowledged or not self._writer.full:
                reader.pause()
        if not self._checking and any(reader.paused for reader in self._readers):
            self._check_later()

    def _check_later(self) -> None:
        self._checking = True
        self._later(CHECK_EVERY_S, self._check_back_pressure)

    def _check_back_pressure(self) -> None:
        self._checking = False
        if self._stopped:
            return
        if self._writer.congested:
            if self._writer.full:
                self._acknowledged.resume()
            self._check_later()
        else:
            self.lift()

    def lift(self) -> None:
        """Resume reading if the writer is not congested."""
        if not self._writer.congested:
            for reader in self._readers:
                if reader.paused:
                    reader.resume()

    def stop(self) -> None:
        self._stopped = True
