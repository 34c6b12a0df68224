"""Celery tasks: requested runs, scheduled runs and verifications, and the requeueing of lost runs."""

from __future__ import annotations

import logging

from celery import shared_task

log = logging.getLogger(__name__)


@shared_task(name="aggregates.schedule.perform", acks_late=True)  # type: ignore[untyped-decorator]
def perform(run_id: int) -> str:
    """Perform one recorded run and return a sentence. Errors go into its history and do not fail the Celery task."""
    from aggregates.models import Run
    from aggregates.services import perform_run

    run = Run.objects.filter(pk=run_id).first()
    if run is None:
        return "gone"
    try:
        return perform_run(run).sentence()
    except Exception as error:  # noqa: BLE001 - a loop's edge: the run's row has the full error
        log.warning("run failed run=%s error=%s", run.uid, error)
        return f"error: {error}"


@shared_task(name="aggregates.schedule.run_scheduled")  # type: ignore[untyped-decorator]
def run_scheduled(name: str) -> str:
    """Run one scheduled aggregate, unless its previous run is still open."""
    from aggregates.models import AggDef, Run
    from aggregates.services.request import new_run

    aggdef = AggDef.objects.filter(name=name, enabled=True).first()
    if aggdef is None:
        return "gone or paused"
    if aggdef.runs.open().exists():
        return "the previous run is still open"
    run = new_run(aggdef, Run.Mode.INCREMENTAL, Run.Origin.SCHEDULE)
    return str(perform(run.pk))


@shared_task(name="aggregates.schedule.verify")  # type: ignore[untyped-decorator]
def verify(*names: str) -> str:
    """Verify these aggregates, or every enabled one that has run; each result is shown on its aggregate's page."""
    from aggregates.models import AggDef, Run
    from aggregates.services.request import new_run

    chosen = AggDef.objects.filter(enabled=True, generation__gt=0)
    if names:
        chosen = AggDef.objects.filter(name__in=names)
    done = [str(perform(new_run(aggdef, Run.Mode.VERIFY, Run.Origin.SCHEDULE).pk)) for aggdef in chosen]
    return "; ".join(done)


@shared_task(name="aggregates.schedule.sweep")  # type: ignore[untyped-decorator]
def requeue_lost_runs() -> int:
    """Requeue lost runs; return how many."""
    from aggregates import services

    return services.requeue_lost_runs()
