"""Who may change an aggregate's position: leases, fencing tokens, turns of those who wait."""

from __future__ import annotations

import threading

import pytest

from aggregates.exceptions import BusyError, LeaseLostError
from aggregates.run import failpoint
from aggregates.run.incremental import make_step, refresh
from aggregates.run.inputs import input_mark
from aggregates.run.position_store import PositionStore, Reached
from tests.aggregates.conftest import define, values
from tests.aggregates.event_source import event
from tests.aggregates.stack import until


def test_who_lost_the_lease_changes_nothing_any_more(run, room, producer, right, monkeypatch):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    producer.send(event())
    overtaken = []

    def overtake(point: str) -> None:
        """Another process finishes the run while this one sleeps after its jobs."""
        if point == "jobs_done" and not overtaken:
            overtaken.append(point)
            room.database["agg.position"].update_one({}, [{"$set": {"live.until": "$$NOW"}}])
            refresh(room, definition)
            producer.send(event())
            refresh(room, definition)

    monkeypatch.setattr(failpoint, "hook", overtake)
    with pytest.raises(LeaseLostError):
        refresh(room, definition)
    assert values(room.database, "countbyday") == {"p/2011-07-01": 3}
    right(definition)


def test_an_earlier_holder_is_refused_although_nothing_else_has_changed(run, room, producer):
    """The fencing token alone: position and open step are as the earlier holder left them."""
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    last = producer.send(event())
    mark = input_mark(room, definition)
    plan = room.plan(definition, mark.range(1, last), full=False)
    step = make_step(room, plan, mark.range(1, last), 1, mark)
    early, _ = room.ledger.acquire("countbyday", "live", lease_s=0.0)
    room.ledger.begin(early, step)
    room.ledger.acquire("countbyday", "live")
    with pytest.raises(LeaseLostError):
        room.ledger.advance(early, step, Reached(last, None))
    with pytest.raises(LeaseLostError):
        room.ledger.abandon(early, step)
    builder, _ = room.ledger.acquire("countbyday", "build", lease_s=0.0)
    room.ledger.acquire("countbyday", "build")
    with pytest.raises(LeaseLostError):
        room.ledger.number(builder)


def test_the_input_of_an_aggregate_is_held_still_while_it_is_read(run, room, producer, right, monkeypatch):
    days = define("CountByDay")
    total = define("Sum", inputs=("zagg.countbyday",))
    producer.send(event(), event(project="q"))
    run(days)
    refused = []

    def meanwhile(point: str) -> None:
        if point == "recorded" and not refused:
            refused.append(point)
            producer.send(event())
            with pytest.raises(BusyError):
                refresh(room, days)

    with monkeypatch.context() as patch:
        patch.setattr(failpoint, "hook", meanwhile)
        run(total)
    assert refused
    right(total)
    run(days)
    run(total)
    right(total)


def test_a_lease_runs_out_on_the_databases_clock(room, producer, run):
    run(define("CountByDay"))
    ledger: PositionStore = room.ledger
    lease, _ = ledger.acquire("countbyday", "live", lease_s=0.2)
    with pytest.raises(BusyError):
        ledger.acquire("countbyday", "live")
    assert ledger.renew(lease, lease_s=0.0)
    second, _ = ledger.acquire("countbyday", "live")
    assert second.token == lease.token + 1
    assert not ledger.renew(lease)
    ledger.release(lease)
    with pytest.raises(BusyError):
        ledger.acquire("countbyday", "live")


def test_a_lease_that_was_given_back_is_not_renewed_and_is_free_at_once(room, producer, run):
    run(define("CountByDay"))
    ledger: PositionStore = room.ledger
    lease, _ = ledger.acquire("countbyday", "live")
    ledger.release(lease)
    assert not ledger.renew(lease)
    room.database["agg.position"].update_one({}, [{"$set": {"live.until": {"$add": ["$$NOW", 60_000]}}}])
    assert ledger.acquire("countbyday", "live")[0].token == lease.token + 1


def test_who_waits_for_a_lease_comes_before_who_only_asks(room, producer, run):
    run(define("CountByDay"))
    ledger: PositionStore = room.ledger
    lease, _ = ledger.acquire("countbyday", "live")
    for waiter in ("first", "second"):
        ledger.line_up("countbyday", "live", waiter, turn_s=60)
    ledger.release(lease)
    for other in ("", "second"):
        with pytest.raises(BusyError):
            ledger.acquire("countbyday", "live", waiter=other)
    lease, position = ledger.acquire("countbyday", "live", waiter="first")
    assert not position.live.turn
    ledger.release(lease)
    ledger.release(ledger.acquire("countbyday", "live")[0])


def test_an_increment_leaves_the_lease_to_who_waits_for_it(run, room, producer, right):
    definition = define("CountByDay")
    producer.send(event())
    run(definition)
    producer.send(event())
    room.ledger.line_up("countbyday", "live", "somebody", turn_s=60)
    with pytest.raises(BusyError):
        refresh(room, definition)
    lease, _ = room.ledger.acquire("countbyday", "live", waiter="somebody")
    room.ledger.release(lease)
    run(definition)
    right(definition)


def test_a_turn_runs_out_and_the_dead_have_none(room, producer, run, monkeypatch):
    run(define("CountByDay"))
    ledger: PositionStore = room.ledger
    ledger.line_up("countbyday", "live", "slow", turn_s=0.0)
    ledger.release(ledger.acquire("countbyday", "live")[0])
    ledger.line_up("countbyday", "live", "dead", turn_s=60)
    with pytest.raises(BusyError):
        ledger.acquire("countbyday", "live")
    monkeypatch.setattr("aggregates.run.position_store.is_dead", lambda name: name == "dead")
    held, position = ledger.acquire("countbyday", "live")
    assert not position.live.turn
    ledger.line_up("countbyday", "live", "dead", turn_s=60)
    with pytest.raises(BusyError):
        ledger.acquire("countbyday", "live")
    assert ledger.renew(held)


def test_a_build_lines_up_for_the_lease_of_increments(room, producer, run):
    run(define("CountByDay"))
    ledger: PositionStore = room.ledger
    lease, _ = ledger.acquire("countbyday", "live")
    got = threading.Event()

    def wait() -> None:
        with room.holding("countbyday", "live", 60.0):
            got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: ledger.get("countbyday").live.turn, "it has lined up")
    with pytest.raises(BusyError):
        ledger.acquire("countbyday", "live")
    ledger.release(lease)
    assert got.wait(60)
    waiting.join(60)
    ledger.release(ledger.acquire("countbyday", "live")[0])
