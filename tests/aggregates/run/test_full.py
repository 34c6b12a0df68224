"""Full runs and rebuilds: the view that readers have meanwhile, and the correct result afterwards."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from aggregates.exceptions import EventsGoneError, NotRebuildableError, RunFailedError
from aggregates.run import failpoint
from aggregates.run.context import RunContext
from aggregates.run.full import full_run, rebuild
from aggregates.run.incremental import refresh
from tests.support.aggregates.definitions import define, values
from tests.support.aggregates.event_source import NOON, Producer, event

DAY = timedelta(days=1)


@pytest.fixture
def at_failpoint(monkeypatch):
    """Return a function that registers an action for the first time a run reaches a failpoint."""
    waiting = {}

    def reach(point: str) -> None:
        if action := waiting.pop(point, None):
            action()

    monkeypatch.setattr(failpoint, "hook", reach)
    return waiting.__setitem__


def test_a_full_run_creates_a_new_generation_and_drops_the_old_one_after_the_grace_time(
    run, run_context: RunContext, producer, right
):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    run_context.database["zgen.countbyday.1"].update_one({}, {"$set": {"value": 99}})
    assert full_run(run_context, definition).generation == 2
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 1}
    assert "zgen.countbyday.1" in run_context.database.list_collection_names()
    run_context.grace_s = 0
    full_run(run_context, definition)
    assert [n for n in run_context.database.list_collection_names() if n.startswith("zgen.")] == ["zgen.countbyday.3"]
    right(definition)


def test_incremental_runs_continue_during_a_full_run_and_are_included(
    run, run_context: RunContext, producer: Producer, right, at_failpoint
):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    seen = []

    def meanwhile() -> None:
        producer.send(event(), event(project="q"))
        seen.append(refresh(run_context, definition).through)
        seen.append(values(run_context.database, "countbyday"))
        producer.send(event(project="r"))

    at_failpoint("jobs_done", meanwhile)
    full_run(run_context, definition)
    assert seen == [3, {"p/2011-07-01": 2, "q/2011-07-01": 1}]
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 2, "q/2011-07-01": 1, "r/2011-07-01": 1}
    assert run_context.position_store.get("countbyday").position == 4
    right(definition)


def test_readers_never_see_half_a_full_run(run, run_context: RunContext, producer: Producer, at_failpoint):
    definition = define("CountByDay")
    producer.send(*(event(project=f"p{n}") for n in range(50)))
    run(definition)
    counts, stop = set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            counts.add(len(values(run_context.database, "countbyday")))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):
        full_run(run_context, definition)
    stop.set()
    reader.join()
    assert counts == {50}


def test_an_open_cursor_finishes_on_the_generation_it_started_with(run, run_context: RunContext, producer: Producer):
    definition = define("CountByDay")
    producer.send(*(event(project=f"p{n}") for n in range(300)))
    run(definition)
    cursor = run_context.database["zagg.countbyday"].find(batch_size=10)
    next(cursor)
    full_run(run_context, definition)
    assert len(list(cursor)) == 299


def test_a_full_run_is_refused_if_events_it_needs_are_gone_unless_forced(run, run_context: RunContext, producer, right):
    definition = define("CountByDay")
    producer.send(event(), event())
    run(definition)
    run_context.database["ingest.store"].update_one({"_id": "event"}, {"$set": {"partitions": [{"n": 1, "first": 3}]}})
    run_context.database["event.1"].delete_many({})
    producer.send(event(project="new"))
    run(definition)
    with pytest.raises(EventsGoneError, match="no longer stored"):
        full_run(run_context, definition)
    assert len(values(run_context.database, "countbyday")) == 2
    full_run(run_context, definition, force=True)
    assert values(run_context.database, "countbyday") == {"new/2011-07-01": 1}
    full_run(run_context, definition)
    right(definition)


def test_a_failed_full_run_keeps_the_old_generation_and_leaves_nothing_else(
    run, run_context: RunContext, producer: Producer, right
):
    definition = define("Fragile")
    producer.send(event("a"))
    run(definition)
    producer.send(event("a", bad=True))
    with pytest.raises(RunFailedError):
        full_run(run_context, definition)
    assert values(run_context.database, "fragile") == {"a": 1}
    position = run_context.position_store.get("fragile")
    assert (position.open_build, position.generation) == (None, 1)
    run_context.database["event.1"].delete_one({"_id": 2})
    run_context.grace_s = 0
    full_run(run_context, definition)
    assert [n for n in run_context.database.list_collection_names() if n.startswith("zgen.")] == ["zgen.fragile.3"]
    right(definition)


def test_a_range_is_rebuilt_and_the_rest_is_unchanged(run, run_context: RunContext, producer: Producer, right):
    definition = define("CountByDay")
    producer.send(*(event(at=NOON + n * DAY) for n in range(5)))
    run(definition)
    run_context.database["zgen.countbyday.1"].update_many({}, {"$set": {"value": 50}})
    since = datetime(2011, 7, 2, 10, tzinfo=UTC)
    rebuild(run_context, definition, since, since + DAY)
    assert [v for _, v in sorted(values(run_context.database, "countbyday").items())] == [50, 1, 1, 50, 50]
    producer.send(event(at=NOON + DAY))
    run(definition)
    assert values(run_context.database, "countbyday")["p/2011-07-02"] == 2
    rebuild(run_context, definition, NOON - DAY, NOON + 10 * DAY)
    right(definition)


def test_a_rebuild_removes_keys_without_events_and_keeps_keys_without_a_period(run, run_context, producer, right):
    definition = define("TotalByType")
    producer.send(event(), event(at=NOON + DAY))
    run(definition)
    run_context.database["zgen.totalbytype.1"].insert_one({"_id": "day/2011-07-03", "value": 3, "through": 1})
    rebuild(run_context, definition, NOON, NOON + 3 * DAY)
    assert values(run_context.database, "totalbytype") == {"total": 2, "day/2011-07-01": 1, "day/2011-07-02": 1}
    producer.send(event())
    run(definition)
    right(definition)


def test_incremental_runs_during_a_rebuild_are_included(
    run, run_context: RunContext, producer: Producer, right, at_failpoint
):
    definition = define("CountByDay")
    producer.send(event(), event(at=NOON + DAY))
    run(definition)

    def meanwhile() -> None:
        producer.send(event(), event(at=NOON + DAY))
        refresh(run_context, definition)

    at_failpoint("copied", meanwhile)
    rebuild(run_context, definition, NOON, NOON + timedelta(hours=1))
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 2, "p/2011-07-02": 2}
    right(definition)


@pytest.mark.parametrize("task", ["Style2011", "Median"])
def test_a_task_without_period_is_not_rebuilt(task, run, run_context: RunContext, producer: Producer):
    definition = define(task)
    producer.send(event("a", n=1))
    run(definition)
    with pytest.raises(NotRebuildableError):
        rebuild(run_context, definition, NOON, NOON + DAY)


def test_a_task_reads_references_in_events_as_documents(run, run_context: RunContext, producer: Producer, right):
    definition = define("FieldsByName")
    producer.send(event(owner={"$ref": "users", "$id": 1}, seen=[{"$ref": "pages", "$id": {"a": 1}, "$db": "x"}]))
    run(definition)
    producer.send({**event(), "context": {"$ref": "users", "$id": 1}})
    run(definition)
    assert values(run_context.database, "fieldsbyname") == {
        "project": 1, "owner": 1, "seen": 1, "$ref": 3, "$id": 3, "$db": 1, "a": 1,
    }  # fmt: skip
    right(definition)
