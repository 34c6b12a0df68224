"""Incremental runs: which events they include, and how they react to changes around them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aggregates.exceptions import (
    DefinitionError,
    LeaseHeldError,
    OutputTakenError,
    RunFailedError,
    TaskError,
    UnknownAggregateError,
)
from aggregates.run.context import RunContext
from aggregates.run.full import full_run
from aggregates.run.inputs import readable_input, settled_through
from aggregates.run.verify import verify
from aggregates.services.perform import make_current
from tests.support.aggregates import tasks
from tests.support.aggregates.definitions import define, values
from tests.support.aggregates.event_source import NOON, Producer, event, rotate


def test_the_first_run_is_full_and_the_next_reads_only_new_events(
    run, run_context: RunContext, producer: Producer, right
):
    definition = define("CountByDay")
    last = producer.send(event(), event(project="q"), event(at=NOON + timedelta(days=1)))
    first = run(definition)
    assert (first.mode, first.state, first.through, first.counts.docs_in) == ("full", "complete", last, 3)
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 1, "q/2011-07-01": 1, "p/2011-07-02": 1}
    last = producer.send(event(), event(project="new"))
    second = run(definition)
    assert (second.mode, second.start, second.through, second.counts.docs_in) == ("incremental", 3, last, 2)
    assert values(run_context.database, "countbyday")["p/2011-07-01"] == 2
    right(definition)


def test_a_run_without_new_events_changes_nothing(run, run_context: RunContext, producer: Producer):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    before = run_context.position_store.get("countbyday")
    assert run(definition).state == "nothing"
    assert run_context.position_store.get("countbyday") == before


@pytest.mark.parametrize("lost", ["dropped", "elsewhere", "narrowed"])
def test_verify_reports_a_wrong_view_and_the_next_run_restores_it(lost, run, run_context, producer, right):
    definition = define("TwoOutputs")
    producer.send(event("a"))
    run(definition)
    if lost == "dropped":
        run_context.database["zagg.other"].drop()
    else:
        pipeline = [{"$match": {"_id": "nothing"}}] if lost == "narrowed" else []
        target = "zgen.one.1" if lost == "elsewhere" else "zgen.other.1"
        run_context.database.command({"collMod": "zagg.other", "viewOn": target, "pipeline": pipeline})
    comparison = verify(run_context, definition)
    assert [d.sentence() for d in comparison.differences] == [
        "zagg.other: readers do not see zgen.other.1, the view is missing or wrong: run the aggregate to repair it"
    ]
    assert not comparison.ok
    run_context.check_views(definition.name, now=False)
    assert values(run_context.database, "other") == {"p": 1}
    right(definition)
    run_context.database["zagg.other"].drop()
    make_current(run_context, definition)  # it checked the view a moment ago
    assert not verify(run_context, definition).ok
    make_current(run_context, definition, check_views=True)
    right(definition)


def test_a_view_is_not_restored_to_a_generation_that_was_replaced_meanwhile(
    run, run_context, producer, right, monkeypatch
):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    position = run_context.position_store.get("countbyday")
    wrong_views = run_context.generations.wrong_views
    run_context.database["zagg.countbyday"].drop()

    def replaced(position):
        found = wrong_views(position)
        monkeypatch.setattr(run_context.generations, "wrong_views", wrong_views)
        full_run(run_context, definition)
        return found

    monkeypatch.setattr(run_context.generations, "wrong_views", replaced)
    assert run_context.generations.repair_views(position).generation == 2
    right(definition)


def test_another_key_field_of_a_collection_requires_a_full_run_and_resets_its_id_samples(
    run, run_context, producer, right
):
    orders = run_context.database["orders"]
    orders.create_index("number")
    for number in range(5):
        orders.insert_one({"number": number, "timestamp": NOON, "context": {"project": "p"}})
    inputs = (f"{run_context.database.name}.orders",)
    definition = define("CountByDay", inputs=inputs, settle_s=0.1)

    def settle(definition):
        outcome = run(definition)
        while outcome.through is None:
            outcome = run(definition)
        return outcome

    settle(definition)
    other = define("CountByDay", inputs=inputs, settle_s=0.1, id_key="number")
    outcome = run(other)
    assert outcome.state == "blocked"
    assert f"{inputs[0]}#number" in outcome.reason
    while readable_input(run_context, other).through is None:
        pass
    full_run(run_context, other)
    assert run_context.position_store.get("countbyday").position == 4
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 5}
    right(other)
    orders.insert_one({"number": "five", "timestamp": NOON, "context": {"project": "p"}})
    with pytest.raises(DefinitionError, match="id_key: its values"):
        run(other)


def test_an_id_sample_of_another_collection_settles_nothing(run_context, producer):
    now = run_context.position_store.now()
    days = define("CountByDay", inputs=("shop.old",), settle_s=1)
    settled_through(run_context.database, days, 7, now - timedelta(seconds=5))
    assert settled_through(run_context.database, days, 9, now) == 7
    assert settled_through(run_context.database, define("CountByDay", inputs=("shop.new",), settle_s=1), 9, now) is None


def test_mongodb_users_are_not_read_whatever_the_definition(run, run_context, producer):
    with pytest.raises(DefinitionError, match="is internal to"):
        run(define("CountByDay", inputs=("admin.system.users",)))


def test_an_empty_store_gives_an_empty_output(run, run_context: RunContext, producer: Producer, right):
    definition = define("CountByDay")
    assert run(definition).state == "complete"
    assert values(run_context.database, "countbyday") == {}
    producer.send(event())
    run(definition)
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 1}
    right(definition)


def test_late_events_count_in_their_own_period(run, run_context: RunContext, producer: Producer, right):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    producer.send(event(at=NOON - timedelta(days=4000)), event(at=NOON))
    run(definition)
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 2, "p/2000-07-18": 1}
    right(definition)


def test_a_run_waits_for_events_of_an_open_block_and_never_skips_them(
    run, run_context: RunContext, store, producer: Producer, right
):
    definition = define("CountByDay")
    others = Producer(store), Producer(store)
    slow = producer.reserve([event(project="slow")])
    quick = others[0].reserve([event(project="quick")])
    others[0].settle(quick)
    assert run(definition).through == 0
    third = others[1].reserve([event(project="third")])
    producer.settle(slow)
    assert run(definition).through == 2
    others[1].settle(third)
    assert run(definition).through == 3
    assert set(values(run_context.database, "countbyday").values()) == {1}
    right(definition)


def test_a_filter_selects_events_and_a_range_without_matches_is_skipped(
    run, run_context: RunContext, producer: Producer, right
):
    definition = define("CountByDay", filter={"type": "wanted"})
    producer.send(event("wanted"), event("other"))
    run(definition)
    last = producer.send(event("other"), event("other"))
    outcome = run(definition)
    assert (outcome.through, outcome.counts.docs_in) == (last, 0)
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 1}
    right(definition)


def test_partitions_are_read_one_after_another(run, run_context: RunContext, store, producer: Producer, right):
    definition = define("CountByDay")
    producer.send(event(), event())
    run(definition)
    producer.send(event())
    rotate(store)
    producer.send(event())
    rotate(store)
    producer.send(event())
    assert run(definition).counts.docs_in == 3
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 5}
    right(definition)


def test_the_finalized_value_is_shown_and_the_state_is_what_increments_continue_from(
    run, run_context: RunContext, producer: Producer, right
):
    definition = define("Mean")
    for numbers in ((1, 2), (6, 7)):
        producer.send(*(event("m", n=n) for n in numbers))
        run(definition)
    assert values(run_context.database, "mean") == {"m": 4.0}
    right(definition)


def test_a_task_that_is_not_associative_runs_in_full_each_time(run, run_context: RunContext, producer: Producer, right):
    definition = define("Median")
    for numbers, median in (((1, 5, 9), 5), ((2, 3), 3)):
        producer.send(*(event("m", n=n) for n in numbers))
        assert run(definition).mode == "full"
        assert values(run_context.database, "median") == {"m": median}
    assert run(definition).state == "nothing"
    right(definition)


def test_a_task_in_the_style_of_2011_writes_to_the_output_that_it_names(
    run, run_context: RunContext, producer: Producer, right
):
    definition = define("Style2011", name="agg")
    producer.send(event("a"), event("b"), event("a"))
    assert run(definition).outputs == ("of_2011",)
    assert values(run_context.database, "of_2011") == {"a": 2, "b": 1}
    right(definition)


def test_two_calls_for_one_output_are_one_job(run, run_context: RunContext, producer: Producer, right):
    definition = define("TwoSources")
    producer.send(event("a", project="a"), event("b", project="x"))
    assert len(run(definition).counts.job_ids) == 1
    assert values(run_context.database, "both") == {"a": 2, "b": 1}
    producer.send(event("a", project="y"))
    run(definition)
    assert values(run_context.database, "both") == {"a": 3, "b": 1, "y": 1}
    right(definition)


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        ("TwoOutputs", ("one", "other")),
        ("Labelled", ("labelled.types", "labelled.projects")),
        ("PerType", ("pertype.a", "pertype.b")),
        ("WithSubtasks", ("of_2011", "one", "other")),
    ],
)
def test_every_output_of_a_task_is_kept_correct(task, outputs, run, run_context: RunContext, producer: Producer, right):
    definition = define(task)
    producer.send(event("a"))
    run(definition)
    producer.send(event("b", project="q"), event("a"))
    run(definition)
    right(definition)
    views = set(run_context.database.list_collection_names(filter={"type": "view"}))
    assert {f"zagg.{name}" for name in outputs} <= views
    assert sum(values(run_context.database, outputs[0]).values()) in (2, 3)


def test_a_basic_job_is_called_once_the_results_are_written(run, producer: Producer):
    tasks.CALLS.clear()
    producer.send(event("a"))
    run(define("WithCall"))
    assert tasks.CALLS == [("hello", True)]


def test_parameters_reach_the_workers(run, run_context: RunContext, producer: Producer, right):
    definition = define("Scaled", params={"factor": 5})
    producer.send(event("a"))
    run(definition)
    assert values(run_context.database, "scaled") == {"a": 5}
    right(definition)


@pytest.mark.parametrize(
    ("task", "words"), [("Lambda", "cannot be found by name"), ("Idle", "starts no job"), ("Nothing", "no such task")]
)
def test_a_task_that_cannot_run_is_refused_with_the_reason(task, words, run):
    with pytest.raises(TaskError, match=words):
        run(define(task))


def test_an_output_belongs_to_one_aggdef(run, run_context: RunContext, producer: Producer):
    run(define("Style2011", name="first"))
    with pytest.raises(OutputTakenError, match="'first'"):
        run(define("Style2011", name="second"))
    run_context.database["zagg.mine"].insert_one({})
    with pytest.raises(OutputTakenError, match=r"zagg\.mine"):
        run(define("CountByDay", name="mine"))


def test_a_failing_map_leaves_the_position_and_the_run_succeeds_once_the_event_is_gone(
    run, run_context: RunContext, producer: Producer, right
):
    definition = define("Fragile")
    producer.send(event("a"))
    run(definition)
    bad = producer.send(event("a", bad=True))
    for _ in range(2):
        with pytest.raises(RunFailedError, match="bad event") as caught:
            run(definition)
        assert "bad event" in caught.value.traceback
        assert not caught.value.wrote
    assert run_context.position_store.get("fragile").position == 1
    producer.send(event("a"))
    run_context.database["event.1"].update_one({"_id": bad}, {"$unset": {"extra": 1}})
    run(definition)
    assert values(run_context.database, "fragile") == {"a": 3}
    right(definition)


def test_a_task_that_skips_events_records_their_ids_and_verify_excludes_them(
    run, run_context: RunContext, producer: Producer, right
):
    definition = define("Tolerant")
    producer.send(event("a"))
    run(definition)
    bad = producer.send(event("a"), event("a", bad=True))
    outcome = run(definition)
    assert outcome.counts.skipped == (bad,)
    position = run_context.position_store.get("tolerant")
    assert (position.skipped, position.skipped_count) == ((bad,), 1)
    assert values(run_context.database, "tolerant") == {"a": 2}
    right(definition)


def test_two_processes_never_run_one_aggregate_at_the_same_time(run, run_context: RunContext, producer: Producer):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    producer.send(event())
    with run_context.hold_lease("countbyday", "live"), pytest.raises(LeaseHeldError):
        run(definition)
    assert run(definition).through == 2


def test_the_query_given_to_a_task_selects_the_events_of_the_run(
    run, run_context: RunContext, producer: Producer, monkeypatch
):
    seen: list[Any] = []

    def start(self: Any, socket: Any, full: bool) -> None:
        seen.append((full, self.db.event.count_documents(self.query)))
        self.start_mr(socket, "asked", full, map=tasks.by_type, reduce=tasks.add)

    monkeypatch.setattr(tasks.Style2011, "_start_jobs", start)
    definition = define("Style2011", filter={"type": "a"})
    producer.send(event("a"), event("b"))
    run(definition)
    producer.send(event("a"), event("a"))
    run(definition)
    assert seen[-1] == (False, 2)
    assert (True, 1) in seen


def test_an_aggregate_over_an_aggregate_reads_it_as_a_whole(run, run_context: RunContext, producer: Producer, right):
    days = define("CountByDay")
    total = define("Sum", inputs=("zagg.countbyday",))
    with pytest.raises(UnknownAggregateError, match=r"zagg\.countbyday of sum has not run yet"):
        run(total)
    producer.send(event(), event(at=NOON + timedelta(days=1)), event(project="q"))
    run(days)
    assert run(total).through == 3
    assert values(run_context.database, "sum") == {"p": 2, "q": 1}
    assert run(total).state == "nothing"
    producer.send(event())
    run(days)
    right(days)
    assert run(total).mode == "full"
    assert values(run_context.database, "sum") == {"p": 3, "q": 1}
    right(total)


def test_another_collection_is_read_by_its_increasing_key(run, run_context: RunContext, producer: Producer, right):
    orders = run_context.database["orders"]
    orders.create_index("number")
    definition = define("CountByDay", inputs=(f"{run_context.database.name}.orders",), id_key="number")
    orders.insert_many({"number": n, **event()} for n in (10, 20))
    assert run(definition).through == 20
    orders.insert_many({"number": n, **event()} for n in (21, 22))
    outcome = run(definition)
    assert (outcome.mode, outcome.counts.docs_in) == ("incremental", 2)
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 4}
    right(definition)


def test_documents_of_another_collection_are_read_once_they_have_settled(
    run, run_context: RunContext, producer: Producer, right
):
    orders = run_context.database["orders"]
    definition = define("CountByDay", inputs=(f"{run_context.database.name}.orders",), settle_s=600)
    first = orders.insert_one(event()).inserted_id
    assert run(definition).through is None
    long_ago = {"$set": {"notes.$[].at": run_context.position_store.now() - timedelta(seconds=700)}}
    run_context.database["agg.seen"].update_one({"_id": definition.name}, long_ago)
    assert run(definition).through == first
    orders.insert_one(event())
    assert run(definition).through == first
    right(definition)
