"""Leases decide which process may change an aggregate's position: fencing tokens, and turns of waiting processes."""

from __future__ import annotations

import threading

import pytest

from aggregates.exceptions import LeaseHeldError, LeaseLostError
from aggregates.run import failpoint
from aggregates.run.incremental import plan_range, refresh
from aggregates.run.inputs import readable_input
from aggregates.run.lease import Lease, LeaseRenewer
from aggregates.run.lease_holder import this_thread
from aggregates.run.position_store import PositionStore, PositionUpdate
from tests.support.aggregates.definitions import define, values
from tests.support.aggregates.event_source import event
from tests.support.waiting import eventually


def test_a_process_that_lost_the_lease_changes_nothing(run, run_context, producer, right, monkeypatch):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    producer.send(event())
    overtaken = []

    def overtake(point: str) -> None:
        """Finish the run in another process while this one sleeps after its jobs."""
        if point == "jobs_done" and not overtaken:
            overtaken.append(point)
            run_context.database["agg.position"].update_one({}, [{"$set": {"live.until": "$$NOW"}}])
            refresh(run_context, definition)
            producer.send(event())
            refresh(run_context, definition)

    monkeypatch.setattr(failpoint, "hook", overtake)
    with pytest.raises(LeaseLostError):
        refresh(run_context, definition)
    assert values(run_context.database, "countbyday") == {"p/2011-07-01": 3}
    right(definition)


def test_an_earlier_holder_is_refused_even_if_nothing_else_has_changed(run, run_context, producer):
    """Only the fencing token differs: position and open range are as the earlier holder left them."""
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    last = producer.send(event())
    readable = readable_input(run_context, definition)
    plan = run_context.plan(definition, readable.range(1, last), full=False)
    planned = plan_range(run_context, plan, readable.range(1, last), 1, readable)
    early, _ = run_context.position_store.acquire("countbyday", "live", lease_s=0.0)
    run_context.position_store.record_range(early, planned)
    run_context.position_store.acquire("countbyday", "live")
    with pytest.raises(LeaseLostError):
        run_context.position_store.advance(early, planned, PositionUpdate(last, None))
    with pytest.raises(LeaseLostError):
        run_context.position_store.abandon(early, planned)
    builder, _ = run_context.position_store.acquire("countbyday", "build", lease_s=0.0)
    run_context.position_store.acquire("countbyday", "build")
    with pytest.raises(LeaseLostError):
        run_context.position_store.reserve_generation(builder)


def test_the_input_of_an_aggregate_does_not_change_while_it_is_read(run, run_context, producer, right, monkeypatch):
    days = define("CountByDay")
    total = define("Sum", inputs=("zagg.countbyday",))
    producer.send(event(), event(project="q"))
    run(days)
    refused = []

    def meanwhile(point: str) -> None:
        if point == "recorded" and not refused:
            refused.append(point)
            producer.send(event())
            with pytest.raises(LeaseHeldError):
                refresh(run_context, days)

    with monkeypatch.context() as patch:
        patch.setattr(failpoint, "hook", meanwhile)
        run(total)
    assert refused
    right(total)
    run(days)
    run(total)
    right(total)


def test_a_lease_expires_by_the_clock_of_the_database(run_context, producer, run):
    run(define("CountByDay"))
    position_store: PositionStore = run_context.position_store
    lease, _ = position_store.acquire("countbyday", "live", lease_s=0.2)
    with pytest.raises(LeaseHeldError):
        position_store.acquire("countbyday", "live")
    assert position_store.renew(lease, lease_s=0.0)
    second, _ = position_store.acquire("countbyday", "live")
    assert second.token == lease.token + 1
    assert not position_store.renew(lease)
    position_store.release(lease)
    with pytest.raises(LeaseHeldError):
        position_store.acquire("countbyday", "live")


def test_a_released_lease_is_not_renewed_and_is_free_at_once(run_context, producer, run):
    run(define("CountByDay"))
    position_store: PositionStore = run_context.position_store
    lease, _ = position_store.acquire("countbyday", "live")
    position_store.release(lease)
    assert not position_store.renew(lease)
    run_context.database["agg.position"].update_one({}, [{"$set": {"live.until": {"$add": ["$$NOW", 60_000]}}}])
    assert position_store.acquire("countbyday", "live")[0].token == lease.token + 1


def test_a_process_that_waits_for_a_lease_precedes_one_that_does_not_wait(run_context, producer, run):
    run(define("CountByDay"))
    position_store: PositionStore = run_context.position_store
    lease, _ = position_store.acquire("countbyday", "live")
    for waiter in ("first", "second"):
        position_store.request_turn("countbyday", "live", waiter, turn_s=60)
    position_store.release(lease)
    for other in ("", "second"):
        with pytest.raises(LeaseHeldError):
            position_store.acquire("countbyday", "live", waiter=other)
    lease, position = position_store.acquire("countbyday", "live", waiter="first")
    assert not position.live.turn
    position_store.release(lease)
    position_store.release(position_store.acquire("countbyday", "live")[0])


def test_an_incremental_run_leaves_the_lease_to_a_waiting_process(run, run_context, producer, right):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    producer.send(event())
    run_context.position_store.request_turn("countbyday", "live", "somebody", turn_s=60)
    with pytest.raises(LeaseHeldError):
        refresh(run_context, definition)
    lease, _ = run_context.position_store.acquire("countbyday", "live", waiter="somebody")
    run_context.position_store.release(lease)
    run(definition)
    right(definition)


def test_a_thread_that_gave_up_waiting_is_not_refused_because_of_its_own_turn(run_context, producer, run):
    run(define("CountByDay"))
    run_context.position_store.request_turn("countbyday", "live", this_thread(), turn_s=60)
    with run_context.hold_lease("countbyday", "live") as (_, position):
        assert not position.live.turn


def test_a_turn_expires_and_dead_processes_have_none(run_context, producer, run, monkeypatch):
    run(define("CountByDay"))
    position_store: PositionStore = run_context.position_store
    position_store.request_turn("countbyday", "live", "slow", turn_s=0.0)
    position_store.release(position_store.acquire("countbyday", "live")[0])
    position_store.request_turn("countbyday", "live", "dead", turn_s=60)
    with pytest.raises(LeaseHeldError):
        position_store.acquire("countbyday", "live")
    monkeypatch.setattr("aggregates.run.position_store.is_dead", lambda name: name == "dead")
    held, position = position_store.acquire("countbyday", "live")
    assert not position.live.turn
    position_store.request_turn("countbyday", "live", "dead", turn_s=60)
    with pytest.raises(LeaseHeldError):
        position_store.acquire("countbyday", "live")
    assert position_store.renew(held)


def test_a_full_run_queues_for_the_lease_of_incremental_runs(run_context, producer, run):
    run(define("CountByDay"))
    position_store: PositionStore = run_context.position_store
    lease, _ = position_store.acquire("countbyday", "live")
    got = threading.Event()

    def wait() -> None:
        with run_context.hold_lease("countbyday", "live", 60.0):
            got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: position_store.get("countbyday").live.turn, what="it has lined up")
    with pytest.raises(LeaseHeldError):
        position_store.acquire("countbyday", "live")
    position_store.release(lease)
    assert got.wait(60)
    waiting.join(60)
    position_store.release(position_store.acquire("countbyday", "live")[0])


def test_no_error_ends_the_renewal_of_leases():
    renewed = []

    def renew(lease: Lease, lease_s: float) -> bool:
        renewed.append(lease.name)
        if len(renewed) < 3:
            raise TypeError("a fault of ours")
        return True

    held = Lease("days", "live", 1, this_thread())
    with LeaseRenewer(renew, lease_s=0.03).renewing(held) as lease:
        eventually(lambda: len(renewed) > 3)
    assert not lease.lost
