"""Incremental runs: which events they include, and when they wait."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aggregates.exceptions import LeaseHeldError, RunFailedError
from aggregates.run.context import RunContext
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
