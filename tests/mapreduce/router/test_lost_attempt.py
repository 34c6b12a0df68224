"""The router's decisions when a worker, an attempt or its output is lost, or a worker refuses a step."""

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
from mapreduce.scheduler.order import AbortStep, AssignStep, JobEnded, WorkerGone
from mapreduce.scheduler.scheduler import AttemptReply
from mapreduce.scheduler.step import MAP_STEP
from mapreduce.step.reader import KeyRange
from tests.support.mapreduce.scheduler_harness import SchedulerHarness, output


def test_a_silent_worker_is_given_up_and_its_steps_go_to_others() -> None:
    harness = SchedulerHarness("w1", "w2")
    harness.add()
    harness.plan(2)
    first, second = harness.gives()
    harness.live(second.worker_id, seconds=3.5)
    orders = harness.step()
    assert [order.worker_id for order in orders if isinstance(order, WorkerGone)] == [first.worker_id]
    harness.map(second)
    (again,) = harness.gives()
    assert again.step is first.step


def test_the_late_answer_of_a_lost_attempt_changes_nothing() -> None:
    harness = SchedulerHarness("w1", "w2")
    job = harness.add()
    harness.plan(2)
    first, second = harness.gives()
    harness.live(second.worker_id, seconds=3.5)
    harness.step()
    harness.map(first)
    assert job.status(harness.now).progress["splits_done"] == 0
    harness.map(second)
    assert job.status(harness.now).progress["splits_done"] == 1


def test_late_messages_of_a_lost_reduce_attempt_change_nothing() -> None:
    harness = SchedulerHarness("w1", "w2")
    job = harness.add()
    harness.plan(1)
    harness.map(harness.gives()[0])
    (lost,) = harness.gives()
    (other,) = {"w1", "w2"} - {lost.worker_id}
    harness.live(other, seconds=3.5)
    (again,) = harness.gives()
    assert again.step is lost.step
    harness.join(lost.worker_id)
    harness.fail(lost, MapFailedError("late"))
    harness.scheduler.broken(AttemptReply(lost.worker_id, "j", lost.attempt_id), "late", harness.now)
    harness.scheduler.progressed("j", lost.attempt_id, 1_000, "commit", harness.now)
    harness.reduce(lost)
    harness.step()
    found = job.status(harness.now)
    assert (found.state, found.progress["reduces_done"], found.progress["keys_out"]) == ("reduce", 0, 0)
    assert (job.attempts_lost, list(again.step.attempts)) == (1, [again.attempt_id])
    harness.reduce(again)
    harness.reduce(lost)
    harness.step()
    assert job.status(harness.now).progress["keys_out"] == 1
    assert job.state == "complete"


def test_of_two_attempts_the_first_answer_counts_and_the_other_is_aborted() -> None:
    harness = SchedulerHarness("w1", "w2")
    job = harness.add()
    job.steps.timings[MAP_STEP].add(1.0)
    harness.plan(1)
    (slow,) = harness.gives()
    harness.live("w1", "w2", seconds=2.0)
    (backup,) = harness.gives()
    assert backup.step is slow.step
    harness.map(backup)
    assert AbortStep(slow.worker_id, slow.attempt_id) in harness.step()
    harness.map(slow)
    assert job.status(harness.now).progress["docs_in"] == 1


def test_attempts_without_progress_are_aborted_and_too_many_end_the_job_in_error() -> None:
    harness = SchedulerHarness("w1")
    job = harness.add()
    harness.plan(1)
    for _ in range(MAX_LOST):
        (give,) = harness.gives()
        harness.live("w1", seconds=601.0)
        assert AbortStep("w1", give.attempt_id) in harness.step() or job.ended
        harness.scheduler.ready("w1", harness.now)
        if job.ended:
            break
        harness.scheduler.workers["w1"].idle = 1
    assert job.state == "error"
    assert job.error is not None
    assert "split 0 (ids above 0 to 1 of event.1) was lost 5 times" in job.error.message


def test_a_step_that_its_worker_does_not_know_is_assigned_again() -> None:
    harness = SchedulerHarness("w1")
    harness.add()
    harness.plan(1)
    (give,) = harness.gives()
    harness.now += 0.3
    harness.scheduler.heartbeat("w1", 1, set(), harness.now)  # sent before the step arrived
    assert harness.gives() == []
    harness.now += 1.0
    harness.scheduler.heartbeat("w1", 1, set(), harness.now)
    (again,) = harness.gives()
    assert again.step is give.step


def test_output_lost_with_a_worker_is_recomputed_and_reduces_wait() -> None:
    harness = SchedulerHarness("w1", "w2")
    job = harness.add()
    harness.plan(2)
    one, two = harness.gives()
    harness.map(one, inline=False)
    harness.map(two, inline=True)
    (reduce,) = harness.gives()
    assert job.state == "reduce"
    keep = two.worker_id
    harness.live(keep, seconds=3.5)
    orders = harness.step()
    assert job.state == "map"
    (again,) = [order for order in orders if isinstance(order, AssignStep)]
    assert again.step is one.step
    assert reduce.step not in job.steps.under_way
    harness.map(again)
    (final,) = harness.gives()
    harness.reduce(final)
    harness.step()
    assert job.state == "complete"
    assert job.status(harness.now).progress["docs_in"] == 2


def test_output_that_cannot_be_fetched_is_recomputed() -> None:
    harness = SchedulerHarness("w1")
    job = harness.add()
    harness.plan(1)
    (give,) = harness.gives()
    harness.map(give, inline=False)
    (reduce,) = harness.gives()
    harness.fail(reduce, OutputGoneError("silent", {"splits": [0]}))
    (again,) = harness.gives()
    assert (again.step.kind, job.state) == (MAP_STEP, "map")


def test_a_restarted_router_counts_the_output_that_workers_hold() -> None:
    harness = SchedulerHarness()
    job = harness.add()
    job.planned(KeyRange(0, "event.1", n, n + 1) for n in range(3))
    harness.join("w1", held={"j": [output(0, "old.1", "w1", inline=False), output(2, "old.2", "w1", inline=False)]})
    (give,) = harness.gives()
    assert give.step.index == 1
    assert job.status(harness.now).progress["splits_done"] == 2


def test_a_failing_map_ends_the_job_at_once() -> None:
    harness = SchedulerHarness("w1", "w2")
    job = harness.add()
    harness.plan(2)
    one, two = harness.gives()
    harness.fail(one, MapFailedError("no", {"document_id": 7, "traceback": "tb"}))
    orders = harness.step()
    assert AbortStep(two.worker_id, two.attempt_id) in orders
    assert JobEnded(job) in orders
    status = job.status(harness.now)
    assert (status.state, status.traceback) == ("error", "tb")


def test_temporary_failures_are_retried_but_not_forever() -> None:
    harness = SchedulerHarness("w1")
    job = harness.add()
    tries = 0
    while not job.ended:
        harness.live("w1", seconds=11.0)
        for give in harness.gives():
            tries += 1
            harness.fail(give, StoreUnavailableError("away"))
    assert tries == MAX_TRANSIENT + 1
    assert job.state == "error"


@pytest.mark.parametrize("refusal", [CodeChangedError, FunctionRefusedError])
def test_a_job_whose_code_no_worker_has_ends_in_error_and_others_go_to_a_worker_that_has_it(refusal: Any) -> None:
    harness = SchedulerHarness("w1", "w2")
    job = harness.add()
    (give,) = harness.gives()
    harness.fail(give, refusal("differs"))
    (other,) = harness.gives()
    assert other.worker_id != give.worker_id
    assert job.last_failure == f"plan 0: {refusal.code}: worker {give.worker_id}: differs"
    harness.fail(other, refusal("differs", {"module": "m"}))
    harness.step()
    assert job.state == "error"
    assert isinstance(job.error, refusal)
    assert job.error.details == {"module": "m", "worker": other.worker_id}


def test_any_number_of_workers_may_have_other_code_as_long_as_one_has_the_right_code() -> None:
    names = [f"w{number}" for number in range(MAX_LOST + 2)]
    harness = SchedulerHarness(*names)
    job = harness.add()
    for _ in names[1:]:
        (give,) = harness.gives()
        harness.fail(give, CodeChangedError("differs"))
    harness.plan(1)
    assert job.state == "map"
    assert job.attempts_lost == 0


def test_a_job_ends_when_the_last_worker_that_has_not_refused_it_leaves() -> None:
    harness = SchedulerHarness("w1", "w2")
    job = harness.add()
    (give,) = harness.gives()
    harness.fail(give, CodeChangedError("differs"))
    (other,) = harness.gives()
    harness.scheduler.worker_gone(other.worker_id, "killed", harness.now)
    harness.step()
    assert job.state == "error"
    assert isinstance(job.error, CodeChangedError)


def test_late_output_of_a_second_attempt_changes_nothing() -> None:
    harness = SchedulerHarness("w1", "w2")
    job = harness.add()
    harness.plan(splits=2)
    first, other = harness.gives()
    harness.map(first)
    assert len(harness.gives()) == 0
    again = replace(first, attempt_id="late")
    harness.map(again, inline=False)
    assert (job.outputs[first.step.index].attempt_id, job.status(harness.now).progress["docs_in"]) == (
        first.attempt_id,
        1,
    )
    held = output(first.step.index, "held", "w3")
    harness.join("w3", held={job.job_id: [held]})
    assert (job.outputs[first.step.index].attempt_id, job.status(harness.now).progress["docs_in"]) == (
        first.attempt_id,
        1,
    )
    harness.map(other)
    assert job.status(harness.now).progress["docs_in"] == 2


def test_output_of_another_plan_is_ignored() -> None:
    """A killed router may have planned without recording it, and the input may have changed before the next plan."""
    harness = SchedulerHarness("w1")
    job = harness.add()
    harness.plan(splits=2)
    for high, known in ((9, 0), (1, 1)):
        held = replace(output(0, f"held{high}", "w2"), span=KeyRange(0, "event.1", 0, high).to_document())
        harness.join("w2", held={job.job_id: [held]})
        assert job.status(harness.now).progress["splits_done"] == known
