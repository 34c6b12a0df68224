"""The router's decisions when a worker, an attempt or its output is lost, or refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mapreduce.exceptions import (
    CodeChangedError,
    FunctionRefusedError,
    MapFailedError,
    OutputGoneError,
    StoreUnavailableError,
)
from mapreduce.scheduler.job_state import MAX_LOST, MAX_TRANSIENT
from mapreduce.scheduler.scheduler import AbortStep, AssignStep, AttemptReply, JobEnded, WorkerGone
from mapreduce.scheduler.step import MAP_STEP
from mapreduce.step.reader import KeyRange
from tests.support.mapreduce.world import World, output


def test_a_worker_that_falls_silent_is_given_up_and_its_steps_go_to_others() -> None:
    world = World("w1", "w2")
    world.add()
    world.plan(2)
    first, second = world.gives()
    world.live(second.worker_id, seconds=3.5)
    orders = world.step()
    assert [order.worker_id for order in orders if isinstance(order, WorkerGone)] == [first.worker_id]
    world.map(second)
    (again,) = world.gives()
    assert again.step is first.step


def test_the_late_answer_of_a_lost_attempt_changes_nothing() -> None:
    world = World("w1", "w2")
    job = world.add()
    world.plan(2)
    first, second = world.gives()
    world.live(second.worker_id, seconds=3.5)
    world.step()
    world.map(first)
    assert job.status(world.now).progress["splits_done"] == 0
    world.map(second)
    assert job.status(world.now).progress["splits_done"] == 1


def test_whatever_a_lost_attempt_says_late_of_a_reduce_changes_nothing() -> None:
    world = World("w1", "w2")
    job = world.add()
    world.plan(1)
    world.map(world.gives()[0])
    (lost,) = world.gives()
    (other,) = {"w1", "w2"} - {lost.worker_id}
    world.live(other, seconds=3.5)
    (again,) = world.gives()
    assert again.step is lost.step
    world.join(lost.worker_id)
    world.fail(lost, MapFailedError("late"))
    world.scheduler.broken(AttemptReply(lost.worker_id, "j", lost.attempt_id), "late", world.now)
    world.scheduler.progressed("j", lost.attempt_id, 1_000, "commit", world.now)
    world.reduce(lost)
    world.step()
    found = job.status(world.now)
    assert (found.state, found.progress["reduces_done"], found.progress["keys_out"]) == ("reduce", 0, 0)
    assert (job.attempts_lost, list(again.step.attempts)) == (1, [again.attempt_id])
    world.reduce(again)
    world.reduce(lost)
    world.step()
    assert job.status(world.now).progress["keys_out"] == 1
    assert job.state == "complete"


def test_of_two_attempts_the_first_answer_counts_and_the_other_is_aborted() -> None:
    world = World("w1", "w2")
    job = world.add()
    job.steps.timings[MAP_STEP].add(1.0)
    world.plan(1)
    (slow,) = world.gives()
    world.live("w1", "w2", seconds=2.0)
    (backup,) = world.gives()
    assert backup.step is slow.step
    world.map(backup)
    assert AbortStep(slow.worker_id, slow.attempt_id) in world.step()
    world.map(slow)
    assert job.status(world.now).progress["docs_in"] == 1


def test_an_attempt_without_progress_is_aborted_and_after_so_many_the_job_ends_in_error() -> None:
    world = World("w1")
    job = world.add()
    world.plan(1)
    for _ in range(MAX_LOST):
        (give,) = world.gives()
        world.live("w1", seconds=601.0)
        assert AbortStep("w1", give.attempt_id) in world.step() or job.ended
        world.scheduler.ready("w1", world.now)
        if job.ended:
            break
        world.scheduler.workers["w1"].idle = 1
    assert job.state == "error"
    assert job.error is not None
    assert "split 0 (ids above 0 to 1 of event.1) was lost 5 times" in job.error.message


def test_a_step_that_the_worker_does_not_know_of_is_given_again() -> None:
    world = World("w1")
    world.add()
    world.plan(1)
    (give,) = world.gives()
    world.now += 0.3
    world.scheduler.heartbeat("w1", 1, set(), world.now)  # sent before the step arrived
    assert world.gives() == []
    world.now += 1.0
    world.scheduler.heartbeat("w1", 1, set(), world.now)
    (again,) = world.gives()
    assert again.step is give.step


def test_output_that_went_with_a_worker_is_made_again_and_reduces_wait() -> None:
    world = World("w1", "w2")
    job = world.add()
    world.plan(2)
    one, two = world.gives()
    world.map(one, inline=False)
    world.map(two, inline=True)
    (reduce,) = world.gives()
    assert job.state == "reduce"
    keep = two.worker_id
    world.live(keep, seconds=3.5)
    orders = world.step()
    assert job.state == "map"
    (again,) = [order for order in orders if isinstance(order, AssignStep)]
    assert again.step is one.step
    assert reduce.step not in job.steps.under_way
    world.map(again)
    (final,) = world.gives()
    world.reduce(final)
    world.step()
    assert job.state == "complete"
    assert job.status(world.now).progress["docs_in"] == 2


def test_output_that_cannot_be_fetched_is_made_again() -> None:
    world = World("w1")
    job = world.add()
    world.plan(1)
    (give,) = world.gives()
    world.map(give, inline=False)
    (reduce,) = world.gives()
    world.fail(reduce, OutputGoneError("silent", {"splits": [0]}))
    (again,) = world.gives()
    assert (again.step.kind, job.state) == (MAP_STEP, "map")


def test_what_workers_hold_is_counted_when_a_router_comes_back() -> None:
    world = World()
    job = world.add()
    job.planned(KeyRange(0, "event.1", n, n + 1) for n in range(3))
    world.join("w1", held={"j": [output(0, "old.1", "w1", inline=False), output(2, "old.2", "w1", inline=False)]})
    (give,) = world.gives()
    assert give.step.index == 1
    assert job.status(world.now).progress["splits_done"] == 2


def test_a_failing_map_ends_the_job_at_once() -> None:
    world = World("w1", "w2")
    job = world.add()
    world.plan(2)
    one, two = world.gives()
    world.fail(one, MapFailedError("no", {"document_id": 7, "traceback": "tb"}))
    orders = world.step()
    assert AbortStep(two.worker_id, two.attempt_id) in orders
    assert JobEnded(job) in orders
    status = job.status(world.now)
    assert (status.state, status.traceback) == ("error", "tb")


def test_passing_failures_are_tried_again_and_not_for_ever() -> None:
    world = World("w1")
    job = world.add()
    tries = 0
    while not job.ended:
        world.live("w1", seconds=11.0)
        for give in world.gives():
            tries += 1
            world.fail(give, StoreUnavailableError("away"))
    assert tries == MAX_TRANSIENT + 1
    assert job.state == "error"


@pytest.mark.parametrize("refusal", [CodeChangedError, FunctionRefusedError])
def test_a_job_whose_code_no_worker_has_ends_in_error_and_others_go_to_who_has_it(refusal: Any) -> None:
    world = World("w1", "w2")
    job = world.add()
    (give,) = world.gives()
    world.fail(give, refusal("differs"))
    (other,) = world.gives()
    assert other.worker_id != give.worker_id
    assert job.last_failure == f"plan 0: {refusal.code}: worker {give.worker_id}: differs"
    world.fail(other, refusal("differs", {"module": "m"}))
    world.step()
    assert job.state == "error"
    assert isinstance(job.error, refusal)
    assert job.error.details == {"module": "m", "worker": other.worker_id}


def test_any_number_of_workers_may_have_other_code_as_long_as_one_has_it() -> None:
    names = [f"w{number}" for number in range(MAX_LOST + 2)]
    world = World(*names)
    job = world.add()
    for _ in names[1:]:
        (give,) = world.gives()
        world.fail(give, CodeChangedError("differs"))
    world.plan(1)
    assert job.state == "map"
    assert job.attempts_lost == 0


def test_a_job_does_not_wait_for_ever_for_workers_that_have_refused_it_when_the_last_other_one_goes() -> None:
    world = World("w1", "w2")
    job = world.add()
    (give,) = world.gives()
    world.fail(give, CodeChangedError("differs"))
    (other,) = world.gives()
    world.scheduler.worker_gone(other.worker_id, "killed", world.now)
    world.step()
    assert job.state == "error"
    assert isinstance(job.error, CodeChangedError)


def test_the_output_of_a_second_try_that_comes_late_changes_nothing() -> None:
    world = World("w1", "w2")
    job = world.add()
    world.plan(splits=2)
    first, other = world.gives()
    world.map(first)
    assert len(world.gives()) == 0
    again = replace(first, attempt_id="late")
    world.map(again, inline=False)
    assert (job.outputs[first.step.index].attempt_id, job.status(world.now).progress["docs_in"]) == (
        first.attempt_id,
        1,
    )
    held = output(first.step.index, "held", "w3")
    world.join("w3", held={job.job_id: [held]})
    assert (job.outputs[first.step.index].attempt_id, job.status(world.now).progress["docs_in"]) == (
        first.attempt_id,
        1,
    )
    world.map(other)
    assert job.status(world.now).progress["docs_in"] == 2


def test_output_of_another_plan_is_left_aside() -> None:
    """A killed router may have planned, and not recorded it; the inputs may have changed until the next one plans."""
    world = World("w1")
    job = world.add()
    world.plan(splits=2)
    for high, known in ((9, 0), (1, 1)):
        held = replace(output(0, f"held{high}", "w2"), span=KeyRange(0, "event.1", 0, high).to_document())
        world.join("w2", held={job.job_id: [held]})
        assert job.status(world.now).progress["splits_done"] == known
