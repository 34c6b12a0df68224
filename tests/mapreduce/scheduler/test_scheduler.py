"""The router's decisions without sockets or clocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mapreduce.job.basic_job import checked_call
from mapreduce.job.spec import Output
from mapreduce.scheduler.duration_history import DurationHistory
from mapreduce.scheduler.map_output_index import group_partitions
from mapreduce.scheduler.scheduler import AbortStep, JobEnded
from mapreduce.scheduler.step import CALL, MAP_STEP, PUBLISH, REDUCE_STEP, SMALL, Steps
from tests.support.mapreduce.world import SPEC, World


def test_a_job_goes_through_its_states_to_complete() -> None:
    world = World("w1")
    job = world.add()
    states = [job.state]
    world.plan(1)
    states.append(job.state)
    (give,) = world.gives()
    world.map(give)
    (give,) = world.gives()
    states.append(job.state)
    world.reduce(give)
    assert JobEnded(job) in world.step()
    assert [*states, job.state] == ["ready", "map", "reduce", "complete"]
    assert job.status(world.now).progress["keys_out"] == 1
    assert world.scheduler.jobs == {}


def test_an_output_that_is_replaced_is_published_last() -> None:
    world = World("w1")
    job = world.add(replace(SPEC, outputs={"": Output("zagg.x", "replace")}, stamp=None))
    world.plan(0)
    (give,) = world.gives()
    assert (job.state, give.step.kind) == ("commit", PUBLISH)
    world.answer(give, {})
    assert JobEnded(job) in world.step()


def test_work_is_shared_and_never_given_twice() -> None:
    world = World("w1", "w2", slots=2)
    world.add()
    world.plan(10)
    gives = world.gives()
    assert sorted(give.step.index for give in gives) == [0, 1, 2, 3]
    assert sorted(give.worker_id for give in gives) == ["w1", "w1", "w2", "w2"]
    assert world.gives() == []


def test_each_job_gets_its_turn() -> None:
    world = World("w1", "w2", slots=2)
    big = world.add()
    world.plan(100)
    small = world.add(replace(SPEC, job_id="k", outputs={"": Output("zagg.y", "reduce")}))
    given = [give.job.job_id for give in world.gives()]
    assert sorted(given) == ["j", "j", "j", "k"]
    assert not big.ended
    assert not small.ended


def test_cancel_aborts_what_is_under_way() -> None:
    world = World("w1")
    job = world.add()
    world.plan(1)
    (give,) = world.gives()
    world.scheduler.cancel("j", world.now)
    orders = world.step()
    assert AbortStep("w1", give.attempt_id) in orders
    assert JobEnded(job) in orders
    assert job.state == "cancelled"


def test_a_call_is_one_step_with_a_result() -> None:
    world = World("w1")
    job = world.add(checked_call("m:f", [1], {}, "c"))
    (give,) = world.gives()
    world.answer(give, {"result": 5})
    world.step()
    assert (job.state, job.result) == ("complete", 5)


@pytest.mark.parametrize(("total", "expected"), [(1_000, 1), (1_000_000, 2), (40 * 2**20, 10)])
def test_partitions_are_shared_out_by_size(total: int, expected: int) -> None:
    sizes = {("", n): total // 32 for n in range(32)}
    groups = group_partitions(sizes, slots=2)
    assert len(groups) == expected
    assert sorted(name for group in groups for name in group) == sorted(sizes)
    loads = [sum(sizes[name] for name in group) for group in groups]
    assert max(loads) - min(loads) <= total // 32


def test_a_step_that_hangs_on_the_only_worker_is_begun_again_by_its_spare_executor() -> None:
    world = World("w1")
    world.add()
    world.plan(splits=4)
    for _ in range(2):
        (give,) = world.gives()
        world.now += 0.05
        world.map(give)
    (hung,) = world.gives()
    world.now += 0.06
    world.scheduler.heartbeat("w1", 0, {hung.attempt_id}, world.now, spare=1)
    assert world.gives() == []  # not silent for long enough
    world.now += 0.02
    (second,) = world.gives()
    assert second.step is hung.step
    assert world.gives() == []  # the spare is taken
    world.now += 0.05
    world.map(second)
    aborts = [order for order in world.step() if isinstance(order, AbortStep)]
    assert [abort.attempt_id for abort in aborts] == [hung.attempt_id]


def test_a_job_of_one_step_goes_by_what_such_jobs_took_before() -> None:
    world = World("w1")
    small = replace(SPEC, id_min=0, id_max=10, map_job_size=10)
    done = {"docs_in": 10, "pairs_out": 10, "skipped_count": 0, "skipped_ids": [], "outputs": [["", 1, 1, 0, 0]]}
    for waits in (5.0, 0.3, 0.3):
        world.add(small)
        (hung,) = world.gives()
        assert hung.step.kind == SMALL
        world.scheduler.heartbeat("w1", 0, {hung.attempt_id}, world.now, spare=1)
        world.live("w1", seconds=waits - 0.01)
        world.scheduler.workers["w1"].spare = 1
        assert world.gives() == []  # not silent for long enough
        world.now += 0.02
        (second,) = world.gives()
        assert second.step is hung.step
        world.now += 0.2
        world.answer(second, done)
        world.step()


def test_other_functions_and_calls_are_not_judged_by_it() -> None:
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
        assert (timings[CALL].backup_after_s(), timings[PUBLISH].backup_after_s()) == (
            None,
            None,
        )  # never begun twice
        heard[name] = timings[MAP_STEP].backup_after_s()
    assert heard == {"same": 1.5, "other": None, "call": None}


def test_what_took_how_long_is_remembered_of_the_functions_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_spare_executor_is_not_given_a_step_of_its_own() -> None:
    world = World("w1")
    world.add()
    world.plan(splits=4)
    (give,) = world.gives()
    world.scheduler.heartbeat("w1", 0, {give.attempt_id}, world.now, spare=1)
    assert world.gives() == []


def test_progress_tells_of_both_phases_while_they_run() -> None:
    world = World("w1")
    job = world.add()
    world.plan(splits=4)

    def progress() -> dict[str, Any]:
        return dict(job.status(world.now).progress)

    (give,) = world.gives()
    assert (progress()["splits"], progress()["splits_done"], progress()["remaining_s"]) == (4, 0, None)
    world.now += 2.0
    world.scheduler.progressed(job.job_id, give.attempt_id, 70, None, world.now)
    assert (progress()["docs_in"], progress()["docs_per_s"]) == (70, 35.0)
    world.map(give)
    assert (progress()["splits_done"], progress()["remaining_s"]) == (1, 6.0)
    for _ in range(3):
        (give,) = world.gives()
        world.now += 2.0
        world.map(give)
    (give,) = world.gives()
    assert give.step.kind == REDUCE_STEP
    assert progress()["bytes_shuffled"] > 0
    world.scheduler.progressed(job.job_id, give.attempt_id, 9, "commit", world.now)
    assert (job.state, progress()["keys_out"], progress()["reduces_done"]) == ("commit", 9, 0)
    assert progress()["elapsed_s"] == 8.0


def test_reduce_steps_are_a_multiple_of_the_slots_so_that_all_are_busy_to_the_end() -> None:
    sizes = {("", partition): 2**20 for partition in range(20)}
    assert [len(group_partitions(sizes, slots)) for slots in (1, 2, 3, 4)] == [5, 6, 6, 8]
