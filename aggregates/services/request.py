"""Request runs, cancel them, and requeue lost ones."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.db import transaction
from django.utils import timezone

from aggregates.exceptions import NotRebuildableError, RunStateError, UnknownAggregateError, known
from aggregates.models import AggDef, Run
from aggregates.process_connections import process_connections
from aggregates.run.lease_holder import is_dead
from aggregates.run.position import Position
from aggregates.services import celery_queue
from aggregates.services.celery_queue import PERFORM
from aggregates.services.task_switch import require_enabled

log = logging.getLogger(__name__)
LOST_S = 30.0
CANCEL_WAIT_S = 3.0


def get_aggdef(name: str) -> AggDef:
    """Return the AggDef with this name. Raise `UnknownAggregateError`, which lists some names."""
    aggdef = AggDef.objects.filter(name=name).first()
    if aggdef is None:
        names = list(AggDef.objects.values_list("name", flat=True)[:13])
        raise UnknownAggregateError(f"no aggregate is named {name!r}; there are: {known(names)}")
    return aggdef


def new_run(
    aggdef: AggDef,
    mode: str,
    origin: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    force: bool = False,
) -> Run:
    """Record a requested run, in state `planned`.

    Raise `TaskError` if its task is switched off, `RunStateError` for an unknown mode, `NotRebuildableError` for a
    rebuild without both ends of its range or any range in the wrong order. These leave the aggregate unchanged.
    """
    if mode not in Run.Mode.values:
        raise RunStateError(f"mode {mode!r} is not allowed: use {', '.join(Run.Mode.values)}")
    if mode == Run.Mode.REBUILD and (since is None or until is None):
        raise NotRebuildableError("a rebuild needs both ends of its range: since and until")
    if since is not None and until is not None and not since < until:
        raise NotRebuildableError(f"since {since} is not before until {until}: give the earlier one first")
    require_enabled(aggdef.task_name)
    return Run.objects.create(aggdef=aggdef, mode=mode, origin=origin, since=since, until=until, force=force)


def start_run(aggdef: AggDef, mode: str = "incremental", origin: str = Run.Origin.API, **options: Any) -> Run:
    """Record a run, queue it in Celery after the transaction, and return it at once, in state `planned`.

    `requeue_lost_runs` queues a lost request again. Options and errors are those of `new_run`.
    """
    run = new_run(aggdef, mode, origin, **options)
    transaction.on_commit(lambda: enqueue(run))
    return run


def enqueue(run: Run) -> None:
    """Queue the run in Celery. If that fails, it stays planned and `requeue_lost_runs` tries again."""
    try:
        current_app.send_task(PERFORM, (run.pk,), retry=False)
    except Exception as error:  # noqa: BLE001 - every broker has its own errors; none of them loses the run
        log.warning("run not queued, will try again run=%s error=%s", run.uid, error)


def cancel_run(run: Run) -> Run:
    """Cancel a run: at once if it has not started, else by asking it to stop, after which it ends as cancelled.

    Block for `CANCEL_WAIT_S` at most. Raise `RunStateError` if it has already ended, or cannot be cancelled just now.
    """
    now = timezone.now()
    planned = Run.objects.filter(pk=run.pk, state=Run.State.PLANNED)
    if planned.update(state=Run.State.CANCELLED, finished=now, error="cancelled before it began"):
        run.refresh_from_db()
        return run
    deadline = time.monotonic() + CANCEL_WAIT_S
    while time.monotonic() < deadline:
        run.refresh_from_db()
        if not run.is_open:
            raise RunStateError(f"run {run.uid} has already ended in state {run.state}: nothing to cancel")
        if _ask_cancel(run):
            return run
        time.sleep(0.05)  # it is between two ranges of ids
    raise RunStateError(f"run {run.uid} is between two ranges of ids and cannot be cancelled right now: try again")


def _ask_cancel(run: Run) -> bool:
    position_store = process_connections().run_context.position_store
    position = position_store.find_by_aggdef(run.aggdef.name)
    if position is None:
        return False
    if position.open_build is not None and run.mode in (Run.Mode.FULL, Run.Mode.REBUILD, Run.Mode.INCREMENTAL):
        return position_store.request_cancel(position.name, "build", position.open_build.uid)
    if position.open_range is not None:
        return position_store.request_cancel(position.name, "live", position.open_range.uid)
    return False


def requeue_lost_runs() -> int:
    """Requeue runs that no process works on: planned ones whose message was lost, running ones whose process died.

    Return how many. Planned runs whose message still waits are left alone, if the broker can list its messages.
    Requeuing one too many is harmless, since runs are performed under a lease.
    """
    limit = timezone.now() - timedelta(seconds=LOST_S)
    waits = celery_queue.queued_runs(process_connections().database.client)
    found = 0
    for run in Run.objects.open().filter(created__lte=limit).select_related("aggdef")[:500]:
        if run.state == Run.State.PLANNED:
            if run.pk not in waits:
                enqueue(run)
                found += 1
        elif _is_orphan(run, limit):
            lost = Run.objects.filter(pk=run.pk, state=Run.State.RUNNING, holder=run.holder)
            if lost.update(state=Run.State.PLANNED, holder=""):
                log.warning("holder of run lost, queueing run again run=%s aggregate=%s", run.uid, run.aggdef.name)
                enqueue(run)
                found += 1
    return found


def _is_orphan(run: Run, limit: datetime) -> bool:
    if is_dead(run.holder):
        return True
    if run.seen is not None and run.seen > limit:
        return False
    position = process_connections().run_context.position_store.find_by_aggdef(run.aggdef.name)
    return position is None or not _held(position, run.mode)


def _held(position: Position, mode: str) -> bool:
    leases = [position.live] if mode in (Run.Mode.VERIFY, Run.Mode.INCREMENTAL) else []
    leases += [position.build] if mode != Run.Mode.VERIFY else []
    now = timezone.now()
    return any(lease.holder and lease.until is not None and lease.until > now for lease in leases)
