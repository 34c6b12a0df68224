"""Runs are recorded with what they did, why they failed, and what they were asked."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aggregates import services
from aggregates.exceptions import (
    EventsGoneError,
    NotRebuildableError,
    RunStateError,
    TaskError,
)
from aggregates.models import AggDef, Run, TaskSwitch
from aggregates.process_connections import process_connections
from aggregates.run.watermark import IdRange
from aggregates.services import perform
from tests.support.aggregates.event_source import Producer, event

TASK = "tests.support.aggregates.tasks.CountByDay"


def test_a_run_is_recorded_with_its_results_and_the_definition_shows_them(site):
    producer = Producer(process_connections().run_context.store)
    last = producer.send(event(), event(project="q"))
    aggdef = services.define(name="days", task_name=TASK)
    run, outcome = services.run_now(aggdef)
    assert (run.state, run.through, run.docs_in, run.keys) == ("complete", last, 2, 2)
    aggdef.refresh_from_db()
    assert (aggdef.state, aggdef.last_id, aggdef.outputs) == ("ok", last, ["days"])
    assert outcome.sentence().startswith("days: full run")


def test_every_run_records_the_version_of_its_code(site):
    producer = Producer(process_connections().run_context.store)
    producer.send(event())
    aggdef = services.define(name="days", task_name=TASK)
    run_context = process_connections().run_context
    version = run_context.plan(aggdef.definition(), IdRange(None, None, ()), full=True).version
    for mode in ("incremental", "incremental", "full", "verify"):
        services.run_now(aggdef, mode)
    producer.send(event())
    services.record_refreshes(
        aggdef, [perform.make_current(run_context, aggdef.definition())], run_context.position_store.get("days")
    )
    producer.send(event(bad=True))
    fragile = services.define(name="fragile", task_name="tests.support.aggregates.tasks.Fragile")
    with pytest.raises(Exception, match="bad event"):
        services.run_now(fragile)
    assert list(Run.objects.filter(aggdef=aggdef).values_list("code", flat=True)) == [version] * 5
    assert len(Run.objects.get(aggdef=fragile).code) == len(version) == 16


def test_a_failing_run_records_its_traceback(site):
    producer = Producer(process_connections().run_context.store)
    producer.send(event(bad=True))
    aggdef = services.define(name="fragile", task_name="tests.support.aggregates.tasks.Fragile")
    with pytest.raises(Exception, match="bad event"):
        services.run_now(aggdef)
    run = Run.objects.get()
    assert run.state == "error"
    assert "raise ValueError" in run.traceback
    assert run.cpu_s > 0
    assert run.duration_s > 0
    aggdef.refresh_from_db()
    assert (aggdef.state, aggdef.failures) == ("failing", 1)
    services.define(name="fragile", on_error="skip")
    services.run_now(AggDef.objects.get())
    aggdef.refresh_from_db()
    assert (aggdef.state, aggdef.failures, aggdef.skipped_count, aggdef.last_error) == ("ok", 0, 1, "")


def test_a_refused_request_leaves_a_healthy_aggregate_healthy(site, database):
    producer = Producer(process_connections().run_context.store)
    producer.send(event())
    days = services.define(name="days", task_name=TASK)
    services.run_now(days)
    late, early = datetime(2012, 1, 1, tzinfo=UTC), datetime(2011, 1, 1, tzinfo=UTC)
    with pytest.raises(NotRebuildableError, match="is not before until"):
        services.run_now(days, "rebuild", since=late, until=early)
    assert Run.objects.count() == 1
    types = services.define(name="one", task_name="tests.support.aggregates.tasks.TwoOutputs")
    services.run_now(types)
    with pytest.raises(NotRebuildableError, match=r"has no period"):
        services.run_now(types, "rebuild", since=early, until=late)
    database["agg.position"].update_one({"_id": "days"}, {"$set": {"base": -7}})
    with pytest.raises(EventsGoneError):
        services.run_now(days, "full")
    for aggdef in (days, types):
        aggdef.refresh_from_db()
        assert (aggdef.state, aggdef.failures, aggdef.last_error) == ("ok", 0, "")
    assert Run.objects.filter(state="error").count() == 2


def test_an_aggregate_that_excludes_new_events_shows_that_it_waits_for_a_full_run(site):
    producer = Producer(process_connections().run_context.store)
    producer.send(event("a"))
    aggdef = services.define(name="days", task_name=TASK)
    services.run_now(aggdef)
    services.define(name="days", filter={"type": "a"})
    producer.send(event("a"))
    aggdef.refresh_from_db()
    _, outcome = services.run_now(aggdef)
    assert outcome.state == "blocked"
    aggdef.refresh_from_db()
    assert (aggdef.state, aggdef.last_id) == ("full_due", 1)
    services.record_refreshes(aggdef, [outcome], process_connections().run_context.position_store.get("days"))
    aggdef.refresh_from_db()
    assert aggdef.state == "full_due"
    services.run_now(aggdef, "full")
    aggdef.refresh_from_db()
    assert (aggdef.state, aggdef.full_due) == ("ok", "")


def test_a_planned_run_can_be_cancelled_and_a_finished_one_cannot(site):
    aggdef = services.define(name="days", task_name=TASK)
    run = services.start_run(aggdef, "full")
    assert services.cancel_run(run).state == "cancelled"
    with pytest.raises(RunStateError, match="already ended"):
        services.cancel_run(run)
    with pytest.raises(RunStateError, match="another process performs it, or it has ended"):
        services.perform_run(run)


def test_a_task_that_is_switched_off_does_not_run(site):
    aggdef = services.define(name="days", task_name=TASK)
    services.set_task_enabled(TASK, False, "counts twice")
    with pytest.raises(TaskError, match=r"switched off \(counts twice\)"):
        services.run_now(aggdef)
    services.set_task_enabled(TASK, True)
    assert TaskSwitch.objects.get().reason == ""
    services.run_now(aggdef)


def test_a_verification_result_is_stored_with_its_differences(site, database):
    producer = Producer(process_connections().run_context.store)
    producer.send(event())
    aggdef = services.define(name="days", task_name=TASK)
    services.run_now(aggdef)
    assert services.verify_now(aggdef).ok
    database["zgen.days.1"].update_one({}, {"$set": {"value": 7}})
    comparison = services.verify_now(aggdef)
    assert comparison.difference_count == 1
    aggdef.refresh_from_db()
    assert aggdef.verified_ok is False
    assert "has 7, the recount has 1" in aggdef.verification
