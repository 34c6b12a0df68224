"""Decide which aggregate is refreshed when."""

from __future__ import annotations

from aggregates.realtime.refresh_scheduler import LONGEST_PAUSE_S, RefreshScheduler, RefreshTarget


def refresh_scheduler(*names: str, incremental: int = 0, most: int = 8) -> RefreshScheduler:
    made = RefreshScheduler(refresh_min_s=0.1, incremental=incremental, most_at_once=most)
    made.define(RefreshTarget(name) for name in names)
    return made


def test_every_aggregate_is_checked_once_at_the_start():
    assert refresh_scheduler("a", "b").start(0.0) == ["a", "b"]


def test_a_refresh_follows_new_events_after_at_least_the_minimum_pause():
    p = refresh_scheduler("a")
    p.start(0.0)
    p.succeeded("a", 5, moved=True)
    assert p.start(10.0) == []
    p.events_readable(6)
    assert p.start(0.05) == []
    assert p.wake_at() == 0.1
    assert p.start(0.1) == ["a"]


def test_events_that_arrive_during_a_refresh_cause_one_refresh_afterwards():
    p = refresh_scheduler("a")
    p.start(0.0)
    for through in range(1, 50):
        p.events_readable(through)
        assert p.start(1.0) == []
    p.succeeded("a", 20, moved=True)
    assert p.start(1.0) == ["a"]
    p.succeeded("a", 49, moved=True)
    assert p.start(2.0) == []


def test_a_refresh_waits_for_the_number_of_events_given_by_incremental():
    p = refresh_scheduler("a", incremental=10)
    p.start(0.0)
    p.succeeded("a", 0, moved=False)
    p.events_readable(9)
    assert p.start(1.0) == []
    p.events_readable(10)
    assert p.start(1.0) == ["a"]


def test_a_failing_aggregate_pauses_longer_each_time_and_delays_no_other():
    p = refresh_scheduler("bad", "good")
    p.events_readable(1)
    now, pauses = 0.0, []
    for _ in range(9):
        assert "bad" in p.start(now)
        pauses.append(p.failed("bad", now))
        p.succeeded("good", 1, moved=False)
        p.events_readable(100)
        now += 0.2
        assert "good" in p.start(now) or "good" in p.start(now + 0.2)
        p.succeeded("good", 1, moved=True)
        now += pauses[-1]
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == LONGEST_PAUSE_S
    p.start(now)
    p.succeeded("bad", 1, moved=True)
    p.events_readable(200)
    p.start(now + 1)
    assert p.failed("bad", now + 1) == 1.0


def test_a_changed_definition_is_refreshed_at_once():
    p = refresh_scheduler("a")
    p.start(0.0)
    p.failed("a", 0.0)
    assert p.start(0.5) == []
    p.define([RefreshTarget("a", version=2)])
    assert p.start(0.5) == ["a"]


def test_at_most_the_allowed_number_is_started_and_the_longest_waiting_first():
    p = refresh_scheduler("a", "b", "c", most=2)
    assert p.start(0.0) == ["a", "b"]
    assert p.wake_at() is None
    p.succeeded("a", 0, moved=False)
    p.events_readable(5)
    assert p.start(1.0) == ["c"]


def test_readers_of_an_aggregate_follow_it():
    p = RefreshScheduler(refresh_min_s=0.1, incremental=0, most_at_once=8)
    p.define([RefreshTarget("days"), RefreshTarget("total", "aggregate", frozenset({"days"}))])
    p.start(0.0)
    p.succeeded("total", 0, moved=False)
    p.succeeded("days", 1, moved=False)
    assert p.start(1.0) == []
    p.events_readable(2)
    assert p.start(1.0) == ["days"]
    p.succeeded("days", 2, moved=True)
    assert p.start(1.5) == ["total"]


def test_readers_of_an_aggregate_that_was_refreshed_elsewhere_follow_it():
    p = RefreshScheduler(refresh_min_s=0.1, incremental=0, most_at_once=8)
    p.define([RefreshTarget("total", "aggregate", frozenset({"days"}))])
    p.start(0.0)
    p.succeeded("total", 0, moved=True)
    p.inputs_compared({"total": False, "unknown": True})
    assert p.start(1.0) == []
    p.inputs_compared({"total": True})
    assert p.start(2.0) == ["total"]


def test_a_failing_reader_keeps_its_pause_unless_its_input_was_just_created():
    p = RefreshScheduler(refresh_min_s=0.1, incremental=0, most_at_once=8)
    p.define([RefreshTarget("total", "aggregate", frozenset({"days"}))])
    p.start(0.0)
    assert p.failed("total", 0.0) == 1.0
    p.inputs_compared({"total": None})
    assert p.start(0.5) == []
    p.inputs_compared({"total": True})
    assert p.start(0.5) == ["total"]
    p.failed("total", 1.0)
    p.inputs_compared({"total": True})
    assert p.start(1.5) == []


def test_a_lower_watermark_makes_every_aggregate_check():
    p = refresh_scheduler("a")
    p.events_readable(100)
    p.start(0.0)
    p.succeeded("a", 100, moved=True)
    p.events_readable(3)
    assert p.start(1.0) == ["a"]


def test_an_aggregate_removed_while_it_runs_is_forgotten():
    p = refresh_scheduler("a")
    p.start(0.0)
    p.define([])
    p.succeeded("a", 5, moved=True)
    assert p.names == []
    assert p.failed("a", 1.0) == 0.0
