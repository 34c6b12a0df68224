"""The router's decisions without sockets or clocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mapreduce.job.basic_job import checked_call
from mapreduce.job.spec import Output
from mapreduce.scheduler.duration_history import DurationHistory
from mapreduce.scheduler.map_output_index import group_partitions
from mapreduce.scheduler.order import AbortStep, JobEnded
from mapreduce.scheduler.step import CALL, FIRST_BACKUP_S, MAP_STEP, PROBE, PUBLISH, REDUCE_STEP, SMALL, Steps
from tests.support.mapreduce.scheduler_harness import SPEC, SchedulerHarness


def test_a_job_goes_through_its_states_to_complete() -> None:
    harness = SchedulerHarness("w1")
    job = harness.add()
    states = [job.state]
    harness.plan(1)
    states.append(job.state)
    (give,) = harness.gives()
    harness.map(give)
    (give,) = harness.gives()
    states.append(job.state)
    harness.reduce(give)
    assert JobEnded(job) in harness.step()
    assert [*states, job.state] == ["ready", "map", "reduce", "complete"]
    assert job.status(harness.now).progress["keys_out"] == 1
    assert harness.scheduler.jobs == {}


def test_an_output_that_is_replaced_is_published_last() -> None:
    harness = SchedulerHarness("w1")
    job = harness.add(replace(SPEC, outputs={"": Output("zagg.x", "replace")}, stamp=None))
    harness.plan(0)
    (give,) = harness.gives()
    assert (job.state, give.step.kind) == ("commit", PUBLISH)
    harness.answer(give, {})
    assert JobEnded(job) in harness.step()


def test_steps_are_shared_out_and_never_assigned_twice() -> None:
    harness = SchedulerHarness("w1", "w2", slots=2)
    harness.add()
    harness.plan(10)
    gives = harness.gives()
    assert sorted(give.step.index for give in gives) == [0, 1, 2, 3]
    assert sorted(give.worker_id for give in gives) == ["w1", "w1", "w2", "w2"]
    assert harness.gives() == []


def test_a_worker_that_claims_idle_slots_for_ever_gets_no_more_steps_than_it_has_slots() -> None:
    harness = SchedulerHarness("w1", slots=2)
    harness.add()
    harness.plan(50)
    given: set[str] = set()
    for _ in range(20):
        given |= {give.attempt_id for give in harness.gives()}
        harness.now += 0.2
        harness.scheduler.heartbeat("w1", 2, given, harness.now)
    assert len(given) <= 4  # a worker may have been told to abort as many


def test_each_job_gets_its_turn() -> None:
    harness = SchedulerHarness("w1", "w2", slots=2)
    big = harness.add()
    harness.plan(100)
    small = harness.add(replace(SPEC, job_id="k", outputs={"": Output("zagg.y", "reduce")}))
    given = [give.job.job_id for give in harness.gives()]
    assert sorted(given) == ["j", "j", "j", "k"]
    assert not big.ended
    assert not small.ended


def test_cancel_aborts_running_steps() -> None:
    harness = SchedulerHarness("w1")
    job = harness.add()
    harness.plan(1)
    (give,) = harness.gives()
    harness.scheduler.cancel("j", harness.now)
    orders = harness.step()
    assert AbortStep("w1", give.attempt_id) in orders
    assert JobEnded(job) in orders
    assert job.state == "cancelled"


def test_a_call_is_one_step_with_a_result() -> None:
    harness = SchedulerHarness("w1")
    for number, kinds in enumerate(([PROBE, CALL], [CALL])):  # only the first shows that the worker works
        job = harness.add(checked_call("m:f", [1], {}, f"c{number}"))
        for kind in kinds:
            (give,) = harness.gives()
            assert give.step.kind == kind
            harness.answer(give, {"result": 5} if kind == CALL else {})
        harness.step()
        assert (job.state, job.result) == ("complete", 5)


@pytest.mark.parametrize(("total", "expected"), [(1_000, 1), (1_000_000, 2), (40 * 2**20, 10)])
def test_partitions_are_shared_out_by_size(total: int, expected: int) -> None:
    sizes = {("", n): total // 32 for n in range(32)}
    groups = group_partitions(sizes, slots=2)
    assert len(groups) == expected
    assert sorted(name for group in groups for name in group) == sorted(sizes)
    loads = [sum(sizes[name] for name in group) for group in groups]
    assert max(loads) - min(loads) <= total // 32


def test_a_step_that_hangs_on_the_only_worker_is_repeated_by_its_spare_executor() -> None:
    harness = SchedulerHarness("w1")
    harness.add()
    harness.plan(splits=4)
    for _ in range(2):
        (give,) = harness.gives()
        harness.now += 0.05
        harness.map(give)
    (hung,) = harness.gives()
    harness.now += 0.06
    harness.scheduler.heartbeat("w1", 0, {hung.attempt_id}, harness.now, spare=1)
    assert harness.gives() == []  # not silent for long enough
    harness.now += 0.02
    (second,) = harness.gives()
    assert second.step is hung.step
    assert harness.gives() == []  # the spare is taken
    harness.now += 0.05
    harness.map(second)
    aborts = [order for order in harness.step() if isinstance(order, AbortStep)]
    assert [abort.attempt_id for abort in aborts] == [hung.attempt_id]


def test_a_one_step_job_uses_the_durations_of_earlier_jobs() -> None:
    harness = SchedulerHarness("w1")
    small = replace(SPEC, id_min=0, id_max=10, map_job_size=10)
    done = {"docs_in": 10, "pairs_out": 10, "skipped_count": 0, "skipped_ids": [], "outputs": [["", 1, 1, 0, 0]]}
    for waits in (5.0, 0.3, 0.3):
        harness.add(small)
        (hung,) = harness.gives()
        assert hung.step.kind == SMALL
        harness.scheduler.heartbeat("w1", 0, {hung.attempt_id}, harness.now, spare=1)
        harness.live("w1", seconds=waits - 0.01)
        harness.scheduler.workers["w1"].spare = 1
        assert harness.gives() == []  # not silent for long enough
        harness.now += 0.02
        (second,) = harness.gives()
        assert second.step is hung.step
        harness.now += 0.2
        harness.answer(second, done)
        harness.step()


def test_durations_apply_neither_to_other_functions_nor_to_calls() -> None:
    durations = DurationHistory()
    spec, call = replace(SPEC, id_min=0, id_max=10), checked_call("m:f", [], {}, "c")
    for known in (spec, call):
        timings = Steps(600.0).timings
        for kind in (MAP_STEP, CALL, PUBLISH):
            timings[kind].add(1.0)
        durations.record(known, timings)
    heard = {}
    for name, asked in (("same", spec), ("other", replace(spec, reduce_name="m:other")), ("call", call)):
        timings = Steps(600.0).timings
        durations.apply_to(asked, timings)
        assert (timings[MAP_STEP].limit_s(1), timings[CALL].limit_s(1)) == (60.0, 600.0)  # what gives attempts up
        assert timings[CALL].backup_after_s() is None  # never begun twice
        assert timings[PUBLISH].backup_after_s() == FIRST_BACKUP_S
        heard[name] = timings[MAP_STEP].backup_after_s()
    assert heard == {"same": 1.5, "other": FIRST_BACKUP_S, "call": FIRST_BACKUP_S}


def test_durations_are_kept_for_the_most_recently_used_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapreduce.scheduler.duration_history.KEPT", 2)
    durations = DurationHistory()
    for name in ("m:a", "m:b", "m:a", "m:c"):
        timings = Steps(600.0).timings
        timings[MAP_STEP].add(1.0)
        durations.record(replace(SPEC, reduce_name=name), timings)
    known = []
    for name in ("m:a", "m:b", "m:c"):
        timings = Steps(600.0).timings
        durations.apply_to(replace(SPEC, reduce_name=name), timings)
        known.append(timings[MAP_STEP].before_s)
    assert known == [1.0, None, 1.0]


def test_a_spare_executor_gets_no_step_of_its_own() -> None:
    harness = SchedulerHarness("w1")
    harness.add()
    harness.plan(splits=4)
    (give,) = harness.gives()
    harness.scheduler.heartbeat("w1", 0, {give.attempt_id}, harness.now, spare=1)
    assert harness.gives() == []


def test_progress_covers_both_phases_while_they_run() -> None:
    harness = SchedulerHarness("w1")
    job = harness.add()
    harness.plan(splits=4)

    def progress() -> dict[str, Any]:
        return dict(job.status(harness.now).progress)

    (give,) = harness.gives()
    assert (progress()["splits"], progress()["splits_done"], progress()["remaining_s"]) == (4, 0, None)
    harness.now += 2.0
    harness.scheduler.progressed(job.job_id, give.attempt_id, 70, None, harness.now)
    assert (progress()["docs_in"], progress()["docs_per_s"]) == (70, 35.0)
    harness.map(give)
    assert (progress()["splits_done"], progress()["remaining_s"]) == (1, 6.0)
    for _ in range(3):
        (give,) = harness.gives()
        harness.now += 2.0
        harness.map(give)
    (give,) = harness.gives()
    assert give.step.kind == REDUCE_STEP
    assert progress()["bytes_shuffled"] > 0
    harness.scheduler.progressed(job.job_id, give.attempt_id, 9, "commit", harness.now)
    assert (job.state, progress()["keys_out"], progress()["reduces_done"]) == ("commit", 9, 0)
    assert progress()["elapsed_s"] == 8.0


def test_reduce_steps_are_a_multiple_of_the_slots_so_that_all_are_busy_to_the_end() -> None:
    sizes = {("", partition): 2**20 for partition in range(20)}
    assert [len(group_partitions(sizes, slots)) for slots in (1, 2, 3, 4)] == [5, 6, 6, 8]
