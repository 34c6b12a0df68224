"""Definitions are created, changed, copied and removed; invalid ones are refused with the reason."""

from __future__ import annotations

import re
from importlib import import_module

import pytest
from django.core.exceptions import ValidationError
from django_celery_beat.models import PeriodicTask

from aggregates import services
from aggregates.exceptions import (
    DefinitionError,
    LeaseHeldError,
    RunCancelledError,
    TaskRefusedError,
    UnknownAggregateError,
)
from aggregates.models import AggDef, Run
from aggregates.process_connections import process_connections, reset
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
        ({"description": "x" * 10_001}, "has 10001 characters: at most 10000 are allowed"),
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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("  d: {task_name: T, filter: {type: a, type: b}}", "the key type is given twice, first in line 2"),
        ("  d: {task_name: T, filter: {context: {type: a, 'type': b}}}", "the key type is given twice"),
        ("  d: {task_name: T}\n  e: {task_name: T}\n  d: {task_name: U}", "the key d is given twice, first in line 2"),
        ("  1: {task_name: T}\n  '1': {task_name: U}", "the key 1 is given twice"),
        ("  0x1: {task_name: T}\n  1: {task_name: U}", "the key 1 is given twice"),
        ("  d: {task_name: T, params: {a: 1, <<: {b: 2}, a: 3}}", "the key a is given twice"),
        ("  ? [d]\n  : {task_name: T}", "found unhashable key"),
        ("  d: {task_name: T, description: 2011-13-45}", "a value cannot be read: month must be in 1..12"),
        (f"  d: {'[' * 9000}", "it is nested too deep"),
    ],
)
def test_a_file_with_a_key_that_stands_twice_is_refused_with_the_key(site, text: str, why: str):
    with pytest.raises(DefinitionError, match=f"the file is not YAML: .*{re.escape(why)}"):
        services.import_definitions(f"aggregates:\n{text}\n")
    assert not AggDef.objects.exists()


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


def test_an_unknown_name_lists_the_known_ones(site):
    services.define(name="days", task_name=TASK)
    with pytest.raises(UnknownAggregateError, match="there are: days"):
        services.get_aggdef("day")


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
