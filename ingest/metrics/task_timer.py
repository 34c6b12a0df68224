"""Time the tasks of a Celery worker. Add two lines where the Celery app is created:

    from zibrato import Zibrato, measure_tasks      # ingest.metrics in a checkout of Zarkov
    measure_tasks(Zibrato(source="shop"))

This module imports Celery only when `measure_tasks` is called.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .zibrato import Zibrato

MOST_STARTED = 10_000


def measure_tasks(zibrato: Zibrato, level: str = "info") -> None:
    """Time every Celery task of this process from now on as `task.<name>`, in seconds, tagged with its final state.

    A worker process of the prefork pool sends what it measured before it exits.
    """
    from celery import signals

    started: dict[str, float] = {}

    def before(task_id: str = "", **_: Any) -> None:
        if len(started) < MOST_STARTED:  # a task that never ends leaves its start behind
            started[task_id] = time.perf_counter()

    def after(task_id: str = "", task: Any = None, state: str | None = None, **_: Any) -> None:
        start = started.pop(task_id, None)
        if start is not None:
            spent, name = time.perf_counter() - start, getattr(task, "name", "unknown")
            tags = {"state": state or "UNKNOWN"}
            zibrato.send(level=level, mtype="Timer", name=f"task.{name}", value=spent, tags=tags)

    signals.task_prerun.connect(before, weak=False)
    signals.task_postrun.connect(after, weak=False)
    signals.worker_process_shutdown.connect(lambda **_: zibrato.close(), weak=False)
