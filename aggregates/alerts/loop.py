"""Run alerts in a thread beside the Celery worker, so that a long run there delays no message."""

from __future__ import annotations

import logging

from django.db import close_old_connections, connections

from aggregates.alerts.service import deliver, record_changes
from aggregates.services.loop_thread import LoopThread

log = logging.getLogger(__name__)

EVERY_S = 15.0


class AlertLoop:
    """Record and send alerts every `EVERY_S` seconds. Several processes can each run one."""

    def __init__(self) -> None:
        self._loop = LoopThread("alerts", self._step)

    def start(self) -> None:
        """Start the thread; pending alerts are sent at once."""
        self._loop.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Stop after the current round; wait for it at most `timeout_s`. May be called twice."""
        self._loop.stop(timeout_s)

    def run_once(self) -> int:
        """Run one round and return the number of messages sent. Never raises."""
        try:
            record_changes()
            return deliver()
        except Exception:
            log.exception("round of alerts failed, will try again")
            return 0

    def _step(self) -> None:
        try:
            close_old_connections()
            self.run_once()
            self._loop.stopping.wait(EVERY_S)
        finally:
            if self._loop.stopping.is_set():
                connections.close_all()
