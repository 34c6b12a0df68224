"""Decide which aggregate is refreshed when."""

from __future__ import annotations

from aggregates.realtime.refresh_scheduler import LONGEST_PAUSE_S, RefreshScheduler, RefreshTarget


def refresh_scheduler(*names: str, incremental: int = 0, most: int = 8) -> RefreshScheduler:
    scheduler = RefreshScheduler(refresh_min_s=0.1, incremental=incremental, most_at_once=most)
    scheduler.define(RefreshTarget(name) for name in names)
    return scheduler


def test_every_aggregate_is_checked_once_at_the_start():
    assert refresh_scheduler("a", "b").start(0.0) == ["a", "b"]


def test_a_refresh_follows_new_events_after_at_least_the_minimum_pause():
    scheduler = refresh_scheduler("a")
    scheduler.start(0.0)
    scheduler.succeeded("a", 5, moved=True)
    assert scheduler.start(10.0) == []
    scheduler.events_readable(6)
    assert scheduler.start(0.05) == []
    assert scheduler.wake_at() == 0.1
    assert scheduler.start(0.1) == ["a"]


def test_events_that_arrive_during_a_refresh_cause_one_refresh_afterwards():
    scheduler = refresh_scheduler("a")
    scheduler.start(0.0)
    for through in range(1, 50):
        scheduler.events_readable(through)
        assert scheduler.start(1.0) == []
    scheduler.succeeded("a", 20, moved=True)
    assert scheduler.start(1.0) == ["a"]
    scheduler.succeeded("a", 49, moved=True)
    assert scheduler.start(2.0) == []


def test_a_refresh_waits_for_the_number_of_events_given_by_incremental():
    scheduler = refresh_scheduler("a", incremental=10)
    scheduler.start(0.0)
    scheduler.succeeded("a", 0, moved=False)
    scheduler.events_readable(9)
    assert scheduler.start(1.0) == []
    scheduler.events_readable(10)
    assert scheduler.start(1.0) == ["a"]


def test_a_failing_aggregate_pauses_longer_each_time_and_delays_no_other():
    scheduler = refresh_scheduler("bad", "good")
    scheduler.events_readable(1)
    now, pauses = 0.0, []
    for _ in range(9):
        assert "bad" in scheduler.start(now)
        pauses.append(scheduler.failed("bad", now))
        scheduler.succeeded("good", 1, moved=False)
        scheduler.events_readable(100)
        now += 0.2
        assert "good" in scheduler.start(now) or "good" in scheduler.start(now + 0.2)
        scheduler.succeeded("good", 1, moved=True)
        now += pauses[-1]
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == LONGEST_PAUSE_S
    scheduler.start(now)
    scheduler.succeeded("bad", 1, moved=True)
    scheduler.events_readable(200)
    scheduler.start(now + 1)
    assert scheduler.failed("bad", now + 1) == 1.0


def test_a_changed_definition_is_refreshed_at_once():
    scheduler = refresh_scheduler("a")
    scheduler.start(0.0)
    scheduler.failed("a", 0.0)
    assert scheduler.start(0.5) == []
    scheduler.define([RefreshTarget("a", version=2)])
    assert scheduler.start(0.5) == ["a"]


def test_at_most_the_allowed_number_is_started_and_the_longest_waiting_first():
    scheduler = refresh_scheduler("a", "b", "c", most=2)
    assert scheduler.start(0.0) == ["a", "b"]
    assert scheduler.wake_at() is None
    scheduler.succeeded("a", 0, moved=False)
    scheduler.events_readable(5)
    assert scheduler.start(1.0) == ["c"]


def test_readers_of_an_aggregate_follow_it():
    scheduler = RefreshScheduler(refresh_min_s=0.1, incremental=0, most_at_once=8)
    scheduler.define([RefreshTarget("days"), RefreshTarget("total", "aggregate", frozenset({"days"}))])
    scheduler.start(0.0)
    scheduler.succeeded("total", 0, moved=False)
    scheduler.succeeded("days", 1, moved=False)
    assert scheduler.start(1.0) == []
    scheduler.events_readable(2)
    assert scheduler.start(1.0) == ["days"]
    scheduler.succeeded("days", 2, moved=True)
    assert scheduler.start(1.5) == ["total"]


def test_readers_of_an_aggregate_that_was_refreshed_elsewhere_follow_it():
    scheduler = RefreshScheduler(refresh_min_s=0.1, incremental=0, most_at_once=8)
    scheduler.define([RefreshTarget("total", "aggregate", frozenset({"days"}))])
    scheduler.start(0.0)
    scheduler.succeeded("total", 0, moved=True)
    scheduler.inputs_compared({"total": False, "unknown": True})
    assert scheduler.start(1.0) == []
    scheduler.inputs_compared({"total": True})
    assert scheduler.start(2.0) == ["total"]


def test_a_failing_reader_keeps_its_pause_unless_its_input_was_just_created():
    scheduler = RefreshScheduler(refresh_min_s=0.1, incremental=0, most_at_once=8)
    scheduler.define([RefreshTarget("total", "aggregate", frozenset({"days"}))])
    scheduler.start(0.0)
    assert scheduler.failed("total", 0.0) == 1.0
    scheduler.inputs_compared({"total": None})
    assert scheduler.start(0.5) == []
    scheduler.inputs_compared({"total": True})
    assert scheduler.start(0.5) == ["total"]
    scheduler.failed("total", 1.0)
    scheduler.inputs_compared({"total": True})
    assert scheduler.start(1.5) == []


def test_a_lower_watermark_makes_every_aggregate_check():
    scheduler = refresh_scheduler("a")
    scheduler.events_readable(100)
    scheduler.start(0.0)
    scheduler.succeeded("a", 100, moved=True)
    scheduler.events_readable(3)
    assert scheduler.start(1.0) == ["a"]


def test_an_aggregate_removed_while_it_runs_is_no_longer_scheduled():
    scheduler = refresh_scheduler("a")
    scheduler.start(0.0)
    scheduler.define([])
    scheduler.succeeded("a", 5, moved=True)
    assert scheduler.names == []
    assert scheduler.failed("a", 1.0) == 0.0
