"""Celery tasks, and the requeueing of lost runs."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from aggregates import celery_tasks, services
from aggregates.models import AggDef, Run
from aggregates.process_connections import process_connections
from aggregates.run.lease_holder import is_dead
from aggregates.services import celery_queue
from aggregates.services.celery_queue import QueuedMessage
from tests.support.aggregates.definitions import values
from tests.support.aggregates.event_source import event
from zarkov_site.celery import app
from zarkov_site.config.config import REPOSITORY

TASK = "tests.support.aggregates.tasks.CountByDay"
pytestmark = pytest.mark.usefixtures("site")


@pytest.fixture
def queued(site: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the ids of runs that were handed to the job queue."""
    found: list[int] = []
    monkeypatch.setattr(app, "send_task", lambda name, args, **options: found.append(args[0]))
    return found


def long_ago(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(created=timezone.now() - timedelta(minutes=5))


def test_a_requested_run_is_queued_and_performed(queued, producer, database, django_capture_on_commit_callbacks):
    producer.send(event())
    aggdef = services.define(name="days", task_name=TASK)
    with django_capture_on_commit_callbacks(execute=True):
        run = services.start_run(aggdef, "full")
    assert (queued, run.state) == ([run.pk], "planned")
    assert "full run" in celery_tasks.perform(run.pk)
    run.refresh_from_db()
    assert (run.state, run.origin) == ("complete", "api")
    assert values(database, "days") == {"p/2011-07-01": 1}
    assert "another process performs it, or it has ended" in celery_tasks.perform(run.pk)
    assert celery_tasks.perform(10**9) == "gone"


def test_an_unreachable_broker_loses_no_run(site, monkeypatch, django_capture_on_commit_callbacks):
    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(app, "send_task", refuse)
    aggdef = services.define(name="days", task_name=TASK)
    with django_capture_on_commit_callbacks(execute=True):
        run = services.start_run(aggdef)
    run.refresh_from_db()
    assert run.state == "planned"


def test_runs_that_wait_in_the_queue_are_not_requeued(queued, producer, monkeypatch):
    run = services.new_run(services.define(name="days", task_name=TASK), "full", Run.Origin.API)
    long_ago(run)
    monkeypatch.setattr(
        celery_queue, "messages", lambda client: [QueuedMessage(celery_queue.PERFORM, (run.pk,), run.created)]
    )
    assert services.requeue_lost_runs() == 0
    assert queued == []


def test_a_periodic_task_that_arrives_too_late_is_dropped(site):
    task = PeriodicTask.objects.get(task="aggregates.schedule.sweep")
    assert task.expire_seconds == task.interval.every
    PeriodicTask.objects.filter(pk=task.pk).update(expire_seconds=None)
    call_command("migrate", verbosity=0)
    task.refresh_from_db()
    assert task.expire_seconds == 15


def test_a_run_that_the_queue_lost_is_requeued(queued, producer):
    aggdef = services.define(name="days", task_name=TASK)
    run = services.new_run(aggdef, "full", Run.Origin.API)
    assert services.requeue_lost_runs() == 0
    long_ago(run)
    assert services.requeue_lost_runs() == 1
    assert queued == [run.pk]


def test_a_run_whose_holder_died_is_requeued(queued, producer, database):
    producer.send(event())
    code = "from aggregates.run.lease_holder import new_holder; print(new_holder())"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    holder = done.stdout.strip()
    assert is_dead(holder)
    aggdef = services.define(name="days", task_name=TASK)
    run = services.new_run(aggdef, "full", Run.Origin.API)
    Run.objects.filter(pk=run.pk).update(state="running", holder=holder, started=timezone.now())
    long_ago(run)
    assert services.requeue_lost_runs() == 1
    celery_tasks.perform(queued[0])
    run.refresh_from_db()
    assert run.state == "complete"
    assert values(database, "days") == {"p/2011-07-01": 1}


def test_a_run_in_progress_is_not_requeued(queued, producer):
    aggdef = services.define(name="days", task_name=TASK)
    services.run_now(aggdef)
    run = services.new_run(aggdef, "full", Run.Origin.API)
    Run.objects.filter(pk=run.pk).update(state="running", holder="elsewhere@1|1|1|x", started=timezone.now())
    long_ago(run)
    with process_connections().run_context.hold_lease("days", "build"):
        assert services.requeue_lost_runs() == 0
    assert services.requeue_lost_runs() == 1


def test_a_scheduled_aggregate_runs_unless_it_is_still_running_or_paused(producer, database):
    producer.send(event())
    aggdef = services.define(name="days", task_name=TASK, interval_s=60)
    assert "full run" in celery_tasks.run_scheduled("days")
    assert values(database, "days") == {"p/2011-07-01": 1}
    open_run = services.new_run(aggdef, "full", Run.Origin.API)
    assert celery_tasks.run_scheduled("days") == "the previous run is still open"
    services.cancel_run(open_run)
    services.set_enabled(aggdef, False)
    assert celery_tasks.run_scheduled("days") == "gone or paused"
    assert celery_tasks.run_scheduled("nothing") == "gone or paused"


def test_a_scheduled_verification_records_its_result(producer, database):
    producer.send(event())
    aggdef = services.define(name="days", task_name=TASK)
    services.run_now(aggdef)
    assert "equal to the recount" in celery_tasks.verify()
    database["zgen.days.1"].update_one({}, {"$set": {"value": 5}})
    assert "1 differences" in celery_tasks.verify("days")
    assert AggDef.objects.get().verified_ok is False


def test_beat_requeues_lost_runs(site):
    call_command("migrate", verbosity=0)
    assert PeriodicTask.objects.get(task="aggregates.schedule.sweep").interval.every == 15
