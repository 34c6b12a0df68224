"""Copy positions and results of runs into definitions and the run history; list the jobs of a run."""

from __future__ import annotations

import contextlib
import traceback as tracebacks
from typing import Any

from django.db.models import F
from django.utils import timezone
from pymongo.errors import PyMongoError

from aggregates.exceptions import AggregateError
from aggregates.models import AggDef, Run
from aggregates.process_connections import process_connections
from aggregates.run.jobs import specs
from aggregates.run.outcome import Outcome
from aggregates.run.position import Position
from aggregates.run.watermark import IdRange
from mapreduce.engine.engine_status import JobListing, list_jobs
from mapreduce.exceptions import MapReduceError
from mapreduce.task_error import sendable_text

ERROR_CHARACTERS = 2_000
TRACEBACK_CHARACTERS = 20_000


def position_fields(position: Position) -> dict[str, Any]:
    """Return the copied fields of an AggDef for this position."""
    integral = isinstance(position.position, int) and not isinstance(position.position, bool)
    return {
        "last_id": position.position if integral else None,
        "last_key": "" if integral or position.position is None else str(position.position)[:100],
        "complete_through": position.complete_through,
        "generation": position.generation,
        "outputs": list(position.outputs),
        "full_due": position.due[:300],
        "skipped_count": position.skipped_count,
    }


def copy_position(aggdef: AggDef, position: Position, *, ran: bool = True, blocked: bool = False) -> None:
    """Copy the position into the AggDef, and with `ran` also record that a run succeeded.

    `blocked` means that the run left new events unprocessed because a full run is due.
    """
    fields = position_fields(position)
    if ran:
        state = AggDef.State.FULL_DUE if position.blocked or blocked else AggDef.State.OK
        fields |= {"state": state, "failures": 0, "last_error": "", "last_traceback": "", "last_run": timezone.now()}
    elif position.blocked:
        fields |= {"state": AggDef.State.FULL_DUE}
    AggDef.objects.filter(pk=aggdef.pk).update(**fields)
    for name, value in fields.items():
        setattr(aggdef, name, value)


def code_version(aggdef: AggDef) -> str:
    """Return the current version of the task's code; "" if the task cannot be used."""
    run_context = process_connections().run_context
    try:
        return run_context.plan(aggdef.definition(), IdRange(None, None, ()), full=True).version
    except Exception:  # noqa: BLE001 - planning runs code of the task, which can raise anything
        return ""


def storable(text: str, most: int) -> str:
    """Return at most `most` characters of the text of an error, with what no database takes escaped."""
    return sendable_text(text[:most], most).replace("\0", "\\x00")


def record_failure(aggdef: AggDef, error: BaseException, traceback: str = "", position: Position | None = None) -> None:
    """Record in the AggDef that a run failed, and why."""
    fields: dict[str, Any] = {} if position is None else position_fields(position)
    blocked = position is not None and position.blocked
    fields |= {
        "state": AggDef.State.FULL_DUE if blocked else AggDef.State.FAILING,
        "last_error": storable(str(error), ERROR_CHARACTERS),
        "last_traceback": storable(traceback, TRACEBACK_CHARACTERS),
        "last_run": timezone.now(),
    }
    AggDef.objects.filter(pk=aggdef.pk).update(failures=F("failures") + 1, **fields)
    aggdef.refresh_from_db()


def trace_of(error: BaseException) -> str:
    """Return the worker's traceback of a failed job, "" for any other known error, else the error's own traceback."""
    if isinstance(error, AggregateError | MapReduceError):
        return str(getattr(error, "traceback", "") or "")
    return "".join(tracebacks.format_exception(error))


def record_realtime_failure(aggdef: AggDef, error: BaseException) -> None:
    """Record a failed refresh; a repeated failure is counted in the same row of the history."""
    position, trace = None, trace_of(error)
    with contextlib.suppress(PyMongoError):
        position = process_connections().run_context.position_store.find_by_aggdef(aggdef.name)
    record_failure(aggdef, error, trace, position)
    now = timezone.now()
    text = storable(str(error), ERROR_CHARACTERS)
    last = Run.objects.filter(aggdef=aggdef, origin=Run.Origin.REALTIME).order_by("-pk").first()
    if last is not None and last.state == Run.State.ERROR and last.error == text:
        Run.objects.filter(pk=last.pk).update(finished=now, refreshes=F("refreshes") + 1)
        return
    Run.objects.create(
        aggdef=aggdef,
        mode=Run.Mode.INCREMENTAL,
        origin=Run.Origin.REALTIME,
        state=Run.State.ERROR,
        started=now,
        finished=now,
        refreshes=1,
        error=text,
        traceback=storable(trace, TRACEBACK_CHARACTERS),
        code=code_version(aggdef),
    )


def record_refreshes(aggdef: AggDef, outcomes: list[Outcome], position: Position) -> None:
    """Add realtime refreshes to the current hour's row of the history, and copy the position."""
    copy_position(aggdef, position, blocked=bool(outcomes) and outcomes[-1].state == "blocked")
    done = [outcome for outcome in outcomes if outcome.state == "complete"]
    if not done:
        return
    now = timezone.now()
    hour = now.replace(minute=0, second=0, microsecond=0)
    row, _ = Run.objects.get_or_create(
        aggdef=aggdef,
        origin=Run.Origin.REALTIME,
        state=Run.State.COMPLETE,
        started__gte=hour,
        defaults={
            "mode": Run.Mode.INCREMENTAL,
            "started": now,
            "start_id": done[0].start if isinstance(done[0].start, int) else None,
        },
    )
    last = done[-1]
    Run.objects.filter(pk=row.pk).update(
        through=last.through if isinstance(last.through, int) else None,
        generation=last.generation,
        refreshes=F("refreshes") + len(done),
        docs_in=F("docs_in") + sum(outcome.counts.docs_in for outcome in done),
        keys=F("keys") + sum(outcome.counts.keys for outcome in done),
        skipped_count=F("skipped_count") + sum(outcome.counts.skipped_count for outcome in done),
        duration_s=F("duration_s") + sum(outcome.duration_s for outcome in done),
        finished=now,
        job_ids=list(last.counts.job_ids),
        code=last.code,
    )


def jobs_under_way(run: Run) -> list[JobListing]:
    """Return the jobs of a run in progress, with progress about a second old; empty between two ranges."""
    position = process_connections().run_context.position_store.find_by_aggdef(run.aggdef.name)
    if position is None or run.state != Run.State.RUNNING or run.mode == Run.Mode.VERIFY:
        return []
    open_range = position.open_build.open_range if position.open_build else None
    if run.mode == Run.Mode.INCREMENTAL:
        open_range = position.open_range or open_range  # the first run is a full one
    ids = [spec.job_id for spec in specs(open_range)] if open_range else []
    return [job for job_id in ids for job in list_jobs(process_connections().database, 1, job_id=job_id)]
