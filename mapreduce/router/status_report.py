"""The router's status document in `zmr.router`: its workers, and totals of jobs that ended since it started. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from mapreduce.job.spec import END_STATES, JobStatus
from mapreduce.scheduler.worker_health import HealthReport, HealthTracker
from mapreduce.scheduler.worker_state import WorkerState

EVERY_S = 1.0  # shortest time between two writes
AT_LEAST_S = 5.0  # longest time between two writes, also without a change: they show that the router is alive
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
COUNTED = ("docs_in", "keys_out", "attempts_lost")


class StatusReport:
    """Workers and totals of one router. Totals start at 0. Belongs to the router's thread."""

    def __init__(self, name: str, began: datetime.datetime = EPOCH) -> None:
        """`began` is the time at which the router's clock shows 0."""
        self._name = name
        self._began = began
        self._totals: dict[str, int] = dict.fromkeys((*END_STATES, *COUNTED), 0)
        self._written: dict[str, Any] | None = None
        self._written_s = 0.0

    def ended(self, status: JobStatus) -> None:
        """Count a job that has ended."""
        self._totals[status.state] += 1
        for name in COUNTED:
            self._totals[name] += int(status.progress.get(name, 0))

    def due(self, workers: Iterable[WorkerState], health: HealthTracker, now: float) -> dict[str, Any] | None:
        """Return the document to write now; None if it is too early, or nothing has changed."""
        passed = now - self._written_s
        if self._written is not None and passed < EVERY_S:
            return None
        shown = [
            {
                "name": worker.name,
                "slots": worker.slots,
                "busy": max(0, worker.slots - worker.idle),
                **self._health(health.report(worker.worker_id)),
            }
            for worker in workers
        ]
        document = {"name": self._name, "workers": shown, "totals": dict(self._totals)}
        if document == self._written and passed < AT_LEAST_S:
            return None
        self._written, self._written_s = document, now
        return document

    def _health(self, report: HealthReport) -> dict[str, Any]:
        if report.since_s is None or report.retry_s is None:
            return {}
        since, retry = (self._began + datetime.timedelta(seconds=at) for at in (report.since_s, report.retry_s))
        return {
            "state": report.state,
            "failures": report.failures,
            "reason": report.reason,
            "since": since,
            "retry": retry,
        }
