"""Definitions are created, changed, copied and removed; invalid ones are refused with the reason."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module

import pytest
from django.core.exceptions import ValidationError
from django_celery_beat.models import PeriodicTask

from aggregates import services
from aggregates.exceptions import (
    DefinitionError,
    EventsGoneError,
    LeaseHeldError,
    NotRebuildableError,
    RunCancelledError,
    RunStateError,
    TaskError,
    TaskRefusedError,
    UnknownAggregateError,
)
from aggregates.models import AggDef, Run, TaskSwitch
from aggregates.process_connections import process_connections, reset
from aggregates.run.watermark import IdRange
from aggregates.services import perform
from tests.support.aggregates.definitions import values
from tests.support.aggregates.event_source import Producer, event

TASK = "tests.support.aggregates.tasks.CountByDay"


def test_the_same_definition_twice_changes_nothing(site):
    first = services.define(name="days", task_name=TASK, filter={"type": "a"})
    changed = AggDef.objects.get().changed
    assert services.define(name="days", task_name=TASK, filter={"type": "a"}) == first
    assert AggDef.objects.get().changed == changed
    services.define(name="days", realtime=True)
    assert AggDef.objects.get().realtime


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "a b"}, "name 'a b' is not allowed: use"),
        ({"task_name": ""}, "task_name is empty"),
        ({"zql": "SELECT 1"}, "no ZQL yet"),
        ({"inputs": "event"}, "must be a list"),
        ({"inputs": ["event", "shop.orders"]}, "do not mix"),
        ({"filter": {"$where": "1"}}, r"\$where is not allowed"),
        ({"filter": {"_id": 3}}, "_id is not allowed"),
        ({"filter": []}, "must be a document"),
        ({"params": {"a b": 1}}, "must be an object"),
        ({"output": "zagg..x"}, "output '.x'"),
        ({"on_error": "ignore"}, "on_error must be fail or skip"),
        ({"interval_s": 5, "crontab": "* * * * *"}, "exclude each other"),
        ({"settle_s": -1}, "from 0 to"),
        ({"settle_s": float("nan")}, "from 0 to"),
        ({"filter": {"type": {"$nonsense": 1}}}, r"\$nonsense is not allowed at a field: use"),
        ({"filter": {"n": float("nan")}}, "filter is not JSON"),
        ({"inputs": ["zagg.nonexist"]}, "no aggregate fills it"),
        ({"inputs": ["zagg.x"]}, "x would read itself"),
        ({"inputs": ["admin.system.users"]}, "internal to MongoDB"),
        ({"inputs": ["shop.system.views"]}, "internal to MongoDB"),
        ({"interval_s": 99999999999}, "from 1 to"),
        ({"interval_s": 10**30}, "from 1 to"),
        ({"interval_s": "60"}, "not '60'"),
        ({"interval_s": True}, "not True"),
        ({"crontab": "99 * * * *"}, "crontab '99"),
        ({"crontab": "1 * * * *", "crontab_zone": "Mars/X"}, "'Mars/X' is not a time zone"),
        ({"crontab_zone": "../../etc/passwd"}, "is not a time zone"),
        ({"task_name": 5}, "task_name must be a string, not 5"),
        ({"realtime": "nope"}, "realtime must be true or false"),
        ({"output": "x" * 111}, "has 111 characters"),
        ({"id_key": ""}, "name of a field"),
    ],
)
def test_a_wrong_value_is_refused_with_the_allowed_ones(fields, words, site):
    with pytest.raises(DefinitionError, match=words):
        AggDef.objects.create(**{"name": "x", "task_name": TASK, **fields})


@pytest.mark.parametrize("name", ["agg.position", "zgen.days.1", "event", "event.1", "ingest.store", "quarantine"])
def test_internal_collections_are_refused_as_inputs(name, site):
    own = f"{site.ZARKOV.mongo_database}.{name}"
    with pytest.raises(DefinitionError, match="internal to Zarkov"):
        AggDef.objects.create(name="x", task_name=TASK, inputs=[own])
    AggDef.objects.create(name="x", task_name=TASK, inputs=[f"elsewhere.{name}"])


def test_a_definition_made_in_python_behaves_like_one_from_the_form(site, database):
    Producer(process_connections().run_context.store).send(event())
    days = AggDef.objects.create(name="days", task_name=TASK, interval_s=2)
    task = PeriodicTask.objects.get(name="aggregate: days")
    assert task.interval.every == 2
    days.interval_s = 3
    days.save()
    assert PeriodicTask.objects.get(name="aggregate: days").interval.every == 3
    days.enabled = False
    days.save(update_fields=["enabled"])
    assert not PeriodicTask.objects.filter(name="aggregate: days").exists()
    services.run_now(days)
    total = AggDef.objects.create(name="total", task_name="tests.support.aggregates.tasks.Sum", inputs=["zagg.days"])
    services.run_now(total)
    with pytest.raises(DefinitionError, match="days is read by total"):
        days.delete()
    assert values(database, "days")
    AggDef.objects.all().delete()
    assert not [name for name in database.list_collection_names() if name.startswith(("zagg.", "zgen."))]
    assert database["agg.position"].count_documents({}) == 0
    assert not AggDef.objects.exists()


def test_a_name_is_unique_and_does_not_change(site):
    days = AggDef.objects.create(name="days", task_name=TASK)
    with pytest.raises(DefinitionError, match="'days' is taken"):
        AggDef.objects.create(name="days", task_name=TASK)
    days.name = "weeks"
    with pytest.raises(DefinitionError, match="is named 'days', which cannot be changed"):
        days.save()


def test_an_output_belongs_to_one_definition_before_either_has_run(site):
    AggDef.objects.create(name="days", task_name=TASK)
    with pytest.raises(DefinitionError, match=r"output zagg\.days belongs to the aggregate 'days'"):
        AggDef.objects.create(name="other", task_name=TASK, output="zagg.days")
    services.run_now(AggDef.objects.create(name="two", task_name="tests.support.aggregates.tasks.TwoOutputs"))
    with pytest.raises(DefinitionError, match="belongs to the aggregate 'two'"):
        AggDef.objects.create(name="x", task_name=TASK, output="one")
    AggDef.objects.create(name="days.hourly", task_name=TASK)
    AggDef.objects.create(name="over", task_name="tests.support.aggregates.tasks.Sum", inputs=["zagg.one"])


def test_definitions_do_not_read_each_other_in_a_cycle(site):
    first = AggDef.objects.create(name="first", task_name=TASK)
    AggDef.objects.create(name="second", task_name=TASK, inputs=["zagg.first"])
    AggDef.objects.create(name="third", task_name=TASK, inputs=["zagg.second"])
    first.inputs = ["zagg.third"]
    with pytest.raises(DefinitionError, match="first would read itself by way of third, second"):
        first.save()
    with pytest.raises(ValidationError, match="would read itself"):
        first.clean()


def test_a_file_may_list_readers_first_and_each_error_names_its_aggregate(site):
    task = "tests.support.aggregates.tasks.Sum"
    text = f"aggregates:\n  a: {{task_name: {task}, inputs: [zagg.b]}}\n  b: {{task_name: {TASK}}}\n"
    assert services.import_definitions(text) == ["b", "a"]
    assert services.import_definitions(text) == []
    for wrong in (
        'interval_s: "60"', "task_name: 5", "task_name: my.tasks.MyTask", "realtime: nope", "name: b",
        "interval_s: 99999999999999999999", 'crontab: "99 * * * *"', "filter: {at: 2011-07-01T00:00:00Z}", "1: 2",
    ):  # fmt: skip
        with pytest.raises(DefinitionError, match="aggregate c: "):
            services.import_definitions(
                f"aggregates:\n  c: {{task_name: {TASK}, {wrong}}}\n".replace(
                    f"task_name: {TASK}, task_name", "task_name"
                )
            )


def test_a_task_outside_the_allowed_modules_is_refused_on_save_with_the_remedy(site):
    with pytest.raises(TaskRefusedError, match=r"task_modules: \[my.tasks\]"):
        AggDef.objects.create(name="outside", task_name="my.tasks.MyTask")
    with pytest.raises(TaskRefusedError):
        services.define(name="outside", task_name="my.tasks.MyTask")
    assert not AggDef.objects.exists()
    with pytest.raises(ValidationError, match="task_modules"):
        AggDef(name="outside", task_name="my.tasks.MyTask").clean()


def test_a_definition_whose_module_is_no_longer_allowed_is_refused_when_used(site):
    aggdef = services.define(name="days", task_name=TASK)
    site.ZARKOV = site.ZARKOV.model_copy(update={"task_modules": []})
    reset()
    with pytest.raises(TaskRefusedError, match=r"task_modules: \[tests.support.aggregates.tasks\]"):
        services.run_now(aggdef)
    services.set_enabled(aggdef, False)  # it can still be paused


def test_a_task_that_is_not_written_yet_may_be_named(site):
    assert services.define(name="days", task_name="tests.support.aggregates.tasks.NotYet").pk


def test_a_schedule_keeps_its_periodic_task_in_step(site):
    aggdef = services.define(name="days", task_name=TASK, crontab="15 3 * * *", crontab_zone="Europe/Berlin")
    task = PeriodicTask.objects.get(name="aggregate: days")
    assert (task.crontab.hour, str(task.crontab.timezone)) == ("3", "Europe/Berlin")
    services.define(name="days", crontab="", interval_s=60)
    task.refresh_from_db()
    assert (task.crontab, task.interval.every) == (None, 60)
    services.set_enabled(aggdef, False)
    assert not PeriodicTask.objects.filter(name="aggregate: days").exists()


def test_removing_an_aggregate_removes_its_outputs_position_and_schedule(site, database):
    producer = Producer(process_connections().run_context.store)
    producer.send(event())
    aggdef = services.define(name="days", task_name=TASK, interval_s=60)
    services.run_now(aggdef)
    assert values(database, "days")
    services.remove(aggdef)
    left = database.list_collection_names()
    assert not [name for name in left if name.startswith(("zagg.", "zgen."))]
    assert database["agg.position"].count_documents({}) == 0
    assert not PeriodicTask.objects.filter(name="aggregate: days").exists()
    services.run_now(services.define(name="days", task_name=TASK))
    assert values(database, "days") == {"p/2011-07-01": 1}


def test_a_copy_is_paused_and_has_its_own_output(site):
    aggdef = services.define(name="days", task_name=TASK, filter={"type": "a"}, output="zagg.elsewhere")
    copy = services.clone(aggdef, "copy")
    assert (copy.filter, copy.output, copy.enabled) == ({"type": "a"}, "", False)
    with pytest.raises(DefinitionError, match="taken"):
        services.clone(aggdef, "copy")


def test_a_run_is_recorded_with_its_results_and_the_definition_shows_them(site):
    producer = Producer(process_connections().run_context.store)
    last = producer.send(event(), event(project="q"))
    aggdef = services.define(name="days", task_name=TASK)
    run, outcome = services.run_now(aggdef)
    assert (run.state, run.through, run.docs_in, run.keys) == ("complete", last, 2, 2)
    aggdef.refresh_from_db()
    assert (aggdef.state, aggdef.last_id, aggdef.through, aggdef.outputs) == ("ok", last, last, ["days"])
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


def test_an_unknown_name_lists_the_known_ones(site):
    services.define(name="days", task_name=TASK)
    with pytest.raises(UnknownAggregateError, match="there are: days"):
        services.get_aggdef("day")


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


def test_a_preview_writes_nothing(site, database):
    producer = Producer(process_connections().run_context.store)
    producer.send(event(), event("b"))
    before = sorted(database.list_collection_names())
    preview = services.preview(services.define(name="days", task_name=TASK).definition())
    assert preview.results == {"days": [("p/2011-07-01", 2)]}
    assert sorted(database.list_collection_names()) == before


def left(name: str) -> list[str]:
    """Return what still exists of an aggregate."""
    run_context = process_connections().run_context
    found = [
        n for n in run_context.database.list_collection_names() if n == f"zagg.{name}" or n.startswith(f"zgen.{name}.")
    ]
    position = run_context.position_store.find_by_aggdef(name)
    return found if position is None else [*found, position.name]


@pytest.mark.parametrize("seen", [True, False], ids=["before it claims its output", "after it has written"])
def test_a_run_of_a_definition_deleted_meanwhile_leaves_nothing(site, monkeypatch, seen):
    Producer(process_connections().run_context.store).send(event(), event())
    aggdef = services.define(name="days", task_name=TASK)
    original = perform._perform

    def delete_first(*given):
        AggDef.objects.get().delete()
        return original(*given)

    monkeypatch.setattr(perform, "_perform", delete_first)
    if not seen:
        monkeypatch.setattr(process_connections().run_context, "is_defined", lambda name: True)
    with pytest.raises(RunCancelledError, match="days was deleted"):
        services.run_now(aggdef)
    assert left("days") == []
    assert services.define(name="days", task_name=TASK).state == AggDef.State.NEW


def test_what_a_run_starts_while_its_definition_is_deleted_is_deleted_too(
    site, monkeypatch, django_capture_on_commit_callbacks
):
    Producer(process_connections().run_context.store).send(event(), event())
    aggdef = services.define(name="days", task_name=TASK)
    with django_capture_on_commit_callbacks() as late:
        definition = aggdef.definition()
        aggdef.delete()
        monkeypatch.setattr(process_connections().run_context, "is_defined", lambda name: True)
        perform.make_current(process_connections().run_context, definition)
    assert left("days")
    for callback in late:
        callback()
    assert left("days") == []


def test_an_aggregate_that_others_read_prevents_the_deletion_of_the_whole_selection(site, database):
    Producer(process_connections().run_context.store).send(event())
    for name in ("alone", "days"):
        services.run_now(services.define(name=name, task_name=TASK, interval_s=60))
    AggDef.objects.create(name="total", task_name="tests.support.aggregates.tasks.Sum", inputs=["zagg.days"])
    with pytest.raises(DefinitionError, match="days is read by total: delete or change them first"):
        AggDef.objects.exclude(name="total").delete()
    assert AggDef.objects.count() == 3
    for name in ("alone", "days"):
        assert values(database, name) == {"p/2011-07-01": 1}
        assert sorted(left(name)) == [name, f"zagg.{name}", f"zgen.{name}.1"]
        assert PeriodicTask.objects.filter(name=f"aggregate: {name}").exists()


def test_none_of_the_selected_aggregates_is_deleted_while_one_of_them_runs(site, database, monkeypatch):
    monkeypatch.setattr(import_module("aggregates.services.define"), "CLEAR_WAIT_S", 0.1)
    Producer(process_connections().run_context.store).send(event())
    for name in ("alone", "days"):
        services.run_now(services.define(name=name, task_name=TASK))
    with (
        process_connections().run_context.hold_lease("days", "build"),
        pytest.raises(LeaseHeldError, match="days is in the middle of a run: cancel it, or wait"),
    ):
        AggDef.objects.all().delete()
    assert (AggDef.objects.count(), Run.objects.count()) == (2, 2)
    assert values(database, "alone") == {"p/2011-07-01": 1}
    AggDef.objects.all().delete()
    assert left("alone") + left("days") == []
