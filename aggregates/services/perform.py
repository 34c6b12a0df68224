"""Perform runs in the calling process, and record them in the history."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.utils import timezone

from aggregates.exceptions import (
    EventsGoneError,
    LeaseHeldError,
    NotRebuildableError,
    RunCancelledError,
    RunStateError,
)
from aggregates.models import AggDef, Run
from aggregates.process_connections import process_connections
from aggregates.run import incremental as refreshing
from aggregates.run.context import RunContext
from aggregates.run.decision import Decision
from aggregates.run.full import full_run, rebuild
from aggregates.run.incremental import refresh
from aggregates.run.lease_holder import new_holder
from aggregates.run.outcome import Outcome
from aggregates.run.verify import Comparison, verify
from aggregates.services import announcer
from aggregates.services.define import clear
from aggregates.services.history import (
    ERROR_CHARACTERS,
    TRACEBACK_CHARACTERS,
    code_version,
    copy_position,
    record_failure,
    storable,
    trace_of,
)
from aggregates.services.request import new_run
from aggregates.task_code.registry import resolve

BUSY_RETRY_S = 0.05
BUSY_WAIT_S = 3600.0

Report = Callable[[str], None]


def run_now(
    aggdef: AggDef,
    mode: str = "incremental",
    origin: str = Run.Origin.COMMAND,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    force: bool = False,
    report: Report = lambda line: None,
) -> tuple[Run, Outcome | Comparison]:
    """Record a run and perform it in this process. Block until it ends; `report` gets a line if it has to wait.

    Raise the error of a failed run, which is recorded in the history too.
    """
    run = new_run(aggdef, mode, origin, since=since, until=until, force=force)
    return run, perform_run(run, report=report)


def accept_change(aggdef: AggDef) -> None:
    """Let increments continue after a change of task or definition; existing results stay as they are."""
    refreshing.accept_change(process_connections().run_context, aggdef.definition())


def perform_run(run: Run, *, report: Report = lambda line: None) -> Outcome | Comparison:
    """Perform a planned run in this process. Block until it ends.

    Raise `RunStateError` if another process has taken the run or it has ended, and the error of a failed run once it is
    recorded in the history and the definition.
    """
    holder = new_holder()
    now = timezone.now()
    planned = Run.objects.filter(pk=run.pk, state=Run.State.PLANNED)
    if not planned.update(state=Run.State.RUNNING, holder=holder, started=now, seen=now):
        run.refresh_from_db()
        raise RunStateError(f"run {run.uid} is {run.state}: another process performs it, or it has ended")
    run.refresh_from_db()
    aggdef = run.aggdef
    before = time.thread_time()
    try:
        outcome = _perform(run, aggdef, report)
    except Exception as error:
        _require_defined(run, aggdef)
        _finish_failed(run, holder, error, time.thread_time() - before)
        raise
    _require_defined(run, aggdef)
    _finish(run, holder, outcome, time.thread_time() - before)
    if isinstance(outcome, Outcome) and outcome.state == "complete":
        announcer.announce_once(outcome)
    return outcome


def _require_defined(run: Run, aggdef: AggDef) -> None:
    """Raise `RunCancelledError`, after deleting what the run created, if the definition was deleted meanwhile."""
    if not AggDef.objects.filter(name=aggdef.name).exists():
        clear(aggdef)
        raise RunCancelledError(
            f"run {run.uid} has ended: the aggregate {aggdef.name} was deleted while it was running"
        )


def _perform(run: Run, aggdef: AggDef, report: Report) -> Outcome | Comparison:
    held = process_connections()
    definition = aggdef.definition()
    if run.mode == Run.Mode.VERIFY:
        return verify(held.run_context, definition)
    run_context = held.run_context
    resolve(definition.task_name, run_context.modules)
    held.require_engine()
    if run.mode == Run.Mode.FULL:
        return _retry_while_busy(lambda: full_run(run_context, definition, force=run.force), report)
    if run.mode == Run.Mode.REBUILD:
        assert run.since is not None
        assert run.until is not None
        since, until = run.since, run.until
        return _retry_while_busy(lambda: rebuild(run_context, definition, since, until), report)
    return _retry_while_busy(lambda: make_current(run_context, definition, check_views=True), report)


def make_current(run_context: RunContext, definition: Any, *, check_views: bool = False) -> Outcome:
    """Perform an increment, or a full run if it is the first run or the task has no increments. Block.

    Repairs missing or wrong views first; without `check_views`, only if they were not checked in the last few seconds.
    """
    run_context.check_views(definition.name, now=check_views)
    done = refresh(run_context, definition)
    return full_run(run_context, definition) if isinstance(done, Decision) else done


def _retry_while_busy(work: Callable[[], Outcome], report: Report) -> Outcome:
    deadline = time.monotonic() + BUSY_WAIT_S
    reported = False
    while True:
        try:
            return work()
        except LeaseHeldError as error:
            if time.monotonic() > deadline:
                raise
            if not reported:
                report(f"waiting: {error}")
                reported = True
        time.sleep(BUSY_RETRY_S)  # a release is not announced


def verify_now(aggdef: AggDef, origin: str = Run.Origin.COMMAND) -> Comparison:
    """Verify in this process and store the comparison in the definition. Raise what `verify` raises."""
    _, comparison = run_now(aggdef, Run.Mode.VERIFY, origin)
    assert isinstance(comparison, Comparison)
    return comparison


def _finish(run: Run, holder: str, outcome: Outcome | Comparison, cpu_s: float) -> None:
    fields: dict[str, Any] = {"state": Run.State.COMPLETE, "note": outcome.sentence(), "cpu_s": cpu_s}
    fields["through"] = outcome.through if isinstance(outcome.through, int) else None
    fields["generation"] = outcome.generation
    fields["code"] = getattr(outcome, "code", "") or code_version(run.aggdef)
    counts = outcome if isinstance(outcome, Comparison) else outcome.counts
    fields |= {"docs_in": counts.docs_in, "keys": counts.keys, "skipped_count": counts.skipped_count}
    if isinstance(outcome, Comparison):
        fields["error"] = "\n".join(difference.sentence() for difference in outcome.differences)
        _keep_comparison(run.aggdef, outcome)
    else:
        fields["start_id"] = outcome.start if isinstance(outcome.start, int) else None
        fields["job_ids"] = list(outcome.counts.job_ids)
        position = process_connections().run_context.position_store.find_by_aggdef(run.aggdef.name)
        if position is not None:
            copy_position(run.aggdef, position, blocked=outcome.state == "blocked")
    _store(run, holder, fields)


def _keep_comparison(aggdef: AggDef, comparison: Comparison) -> None:
    text = "\n".join([comparison.sentence(), *(difference.sentence() for difference in comparison.differences[:20])])
    ok = None if comparison.refused else comparison.ok
    AggDef.objects.filter(pk=aggdef.pk).update(verified=timezone.now(), verification=text, verified_ok=ok)


def _finish_failed(run: Run, holder: str, error: Exception, cpu_s: float) -> None:
    cancelled = isinstance(error, RunCancelledError)
    trace = trace_of(error)
    fields = {
        "state": Run.State.CANCELLED if cancelled else Run.State.ERROR,
        "cpu_s": cpu_s,
        "error": storable(str(error), ERROR_CHARACTERS),
        "traceback": storable(trace, TRACEBACK_CHARACTERS),
        "code": code_version(run.aggdef),
    }
    _store(run, holder, fields)
    if run.mode == Run.Mode.VERIFY:
        return
    position = _position_if_there(run.aggdef)
    if not cancelled and not _refused(run, error):
        record_failure(run.aggdef, error, trace, position)
    elif position is not None:
        copy_position(run.aggdef, position, ran=False)


def _refused(run: Run, error: Exception) -> bool:
    """Return True if the request was refused, which is no failure of the aggregate."""
    asked_for = run.mode == Run.Mode.FULL and isinstance(error, EventsGoneError)
    return asked_for or isinstance(error, NotRebuildableError)


def _position_if_there(aggdef: AggDef) -> Any:
    try:
        return process_connections().run_context.position_store.find_by_aggdef(aggdef.name)
    except Exception:  # noqa: BLE001 - must not hide the first error, which is being recorded
        return None


def _store(run: Run, holder: str, fields: dict[str, Any]) -> None:
    """Record the end of a run, unless another process has taken it."""
    assert run.started is not None
    now = timezone.now()
    duration_s = (now - run.started).total_seconds()
    Run.objects.filter(pk=run.pk, holder=holder).update(finished=now, duration_s=duration_s, **fields)
    run.refresh_from_db()
