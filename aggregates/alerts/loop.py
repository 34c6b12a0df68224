"""Looks after alerts from a thread beside Celery's worker, so that a long run in that worker delays no message."""

from __future__ import annotations

import logging
import threading

from django.db import close_old_connections, connections

from aggregates.alerts.service import deliver, watch

log = logging.getLogger(__name__)

EVERY_S = 15.0


class AlertLoop:
    """Notes what is wrong and sends what is to be told, every `EVERY_S`; several may be at it in several processes."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchman", daemon=True)

    def start(self) -> None:
        """Begin; what was interrupted or came up since the last start is told at once."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End after the message under way, or leave it to the next start when it takes longer. May be called twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def look(self) -> int:
        """One round; returns how many messages went out. Never raises."""
        try:
            watch()
            return deliver()
        except Exception:
            log.exception("alerts could not be looked after, will try again")
            return 0

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                close_old_connections()
                self.look()
                self._stopping.wait(EVERY_S)
        finally:
            connections.close_all()
