"""The router's decisions without sockets or clocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mapreduce.call import checked_call
from mapreduce.exceptions import (
    CodeChangedError,
    FunctionRefusedError,
    MapFailedError,
    OutputGoneError,
    StoreUnavailableError,
)
from mapreduce.held import SplitOutput, group_partitions, pack_segments
from mapreduce.job import MAX_LOST, MAX_TRANSIENT, Job, JobLimits
from mapreduce.schedule import Abort, Answer, Ended, Give, Gone, Scheduler, Worker
from mapreduce.source import Range
from mapreduce.spec import JobSpec, Output, Source
from mapreduce.step import CALL, MAP_STEP, PLAN, PUBLISH, REDUCE_STEP, SMALL, Steps
from mapreduce.usual import Usual

LIMITS = JobLimits(reduce_count=4, outstanding_maps=16, outstanding_reduces=16, split_limit_s=600.0)
SPEC = JobSpec(
    database="db",
    sources=(Source(("event.1",), "m:f"),),
    outputs={"": Output("zagg.x", "reduce")},
    reduce_name="m:r",
    job_id="j",
    stamp=(0, 10),
)


class World:
    """A scheduler with named workers and a clock that the test moves."""

    def __init__(self, *workers: str, slots: int = 1) -> None:
        self.scheduler = Scheduler("e")
        self.now = 0.0
        self.log: list[Any] = []
        for name in workers:
            self.join(name, slots)

    def join(self, name: str, slots: int = 1, held: Any = None) -> None:
        self.scheduler.hello(Worker(name, name, slots, f"tcp://{name}", self.now, slots), held or {})

    def add(self, spec: Any = SPEC) -> Job:
        job = Job(spec, LIMITS, self.now)
        self.scheduler.add(job)
        return job

    def step(self) -> list[Any]:
        orders = self.scheduler.step(self.now)
        self.log += orders
        return orders

    def gives(self) -> list[Give]:
        return [order for order in self.step() if isinstance(order, Give)]

    def live(self, *names: str, seconds: float) -> None:
        """Let time pass while these workers send heartbeats."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            for name in names:
                worker = self.scheduler.workers[name]
                self.scheduler.beat(name, worker.idle, set(worker.running), self.now)

    def answer(self, give: Give, result: dict[str, Any], output: SplitOutput | None = None) -> None:
        answer = Answer(give.worker_id, give.job.job_id, give.attempt_id)
        self.scheduler.done(answer, result, output, self.now)
        self.scheduler.ready(give.worker_id, self.now)

    def fail(self, give: Give, error: Any) -> None:
        self.scheduler.failed(Answer(give.worker_id, give.job.job_id, give.attempt_id), error, self.now)
        self.scheduler.ready(give.worker_id, self.now)

    def plan(self, splits: int) -> None:
        (give,) = self.gives()
        assert give.step.kind == PLAN
        self.answer(give, {"splits": [Range(0, "event.1", n, n + 1).to_document() for n in range(splits)]})

    def map(self, give: Give, *, inline: bool = True) -> None:
        assert give.step.kind == MAP_STEP
        self.answer(give, {}, output(give.step.index, give.attempt_id, give.worker_id, inline=inline))

    def reduce(self, give: Give) -> None:
        assert give.step.kind == REDUCE_STEP
        self.answer(give, {"outputs": [["", 1, 1, 0, 0]]})


def output(split: int, attempt: str, worker: str, *, inline: bool = True) -> SplitOutput:
    return SplitOutput(
        split, attempt, worker, f"tcp://{worker}", None, pack_segments([["", 0, 0, 4, 1]]), 4,
        b"data" if inline else None, docs_in=1, span=Range(0, "event.1", split, split + 1).to_document(),
    )  # fmt: skip


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
    assert Ended(job) in world.step()
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
    assert Ended(job) in world.step()


def test_work_is_shared_and_never_given_twice() -> None:
    world = World("w1", "w2", slots=2)
    world.add()
    world.plan(10)
    gives = world.gives()
    assert sorted(give.step.index for give in gives) == [0, 1, 2, 3]
    assert sorted(give.worker_id for give in gives) == ["w1", "w1", "w2", "w2"]
    assert world.gives() == []


def test_a_worker_that_falls_silent_is_given_up_and_its_steps_go_to_others() -> None:
    world = World("w1", "w2")
    world.add()
    world.plan(2)
    first, second = world.gives()
    world.live(second.worker_id, seconds=3.5)
    orders = world.step()
    assert [order.worker_id for order in orders if isinstance(order, Gone)] == [first.worker_id]
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
    world.scheduler.broken(Answer(lost.worker_id, "j", lost.attempt_id), "late", world.now)
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
    job.steps.paces[MAP_STEP].add(1.0)
    world.plan(1)
    (slow,) = world.gives()
    world.live("w1", "w2", seconds=2.0)
    (backup,) = world.gives()
    assert backup.step is slow.step
    world.map(backup)
    assert Abort(slow.worker_id, slow.attempt_id) in world.step()
    world.map(slow)
    assert job.status(world.now).progress["docs_in"] == 1


def test_an_attempt_without_progress_is_aborted_and_after_so_many_the_job_ends_in_error() -> None:
    world = World("w1")
    job = world.add()
    world.plan(1)
    for _ in range(MAX_LOST):
        (give,) = world.gives()
        world.live("w1", seconds=601.0)
        assert Abort("w1", give.attempt_id) in world.step() or job.ended
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
    world.scheduler.beat("w1", 1, set(), world.now)  # sent before the step arrived
    assert world.gives() == []
    world.now += 1.0
    world.scheduler.beat("w1", 1, set(), world.now)
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
    (again,) = [order for order in orders if isinstance(order, Give)]
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
    job.planned(Range(0, "event.1", n, n + 1) for n in range(3))
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
    assert Abort(two.worker_id, two.attempt_id) in orders
    assert Ended(job) in orders
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
    world.scheduler.gone(other.worker_id, "killed", world.now)
    world.step()
    assert job.state == "error"
    assert isinstance(job.error, CodeChangedError)


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
    assert Abort("w1", give.attempt_id) in orders
    assert Ended(job) in orders
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
        held = replace(output(0, f"held{high}", "w2"), span=Range(0, "event.1", 0, high).to_document())
        world.join("w2", held={job.job_id: [held]})
        assert job.status(world.now).progress["splits_done"] == known


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
    world.scheduler.beat("w1", 0, {hung.attempt_id}, world.now, spare=1)
    assert world.gives() == []  # not silent for long enough
    world.now += 0.02
    (second,) = world.gives()
    assert second.step is hung.step
    assert world.gives() == []  # the spare is taken
    world.now += 0.05
    world.map(second)
    aborts = [order for order in world.step() if isinstance(order, Abort)]
    assert [abort.attempt_id for abort in aborts] == [hung.attempt_id]


def test_a_job_of_one_step_goes_by_what_such_jobs_took_before() -> None:
    world = World("w1")
    small = replace(SPEC, id_min=0, id_max=10, map_job_size=10)
    done = {"docs_in": 10, "pairs_out": 10, "skipped_count": 0, "skipped_ids": [], "outputs": [["", 1, 1, 0, 0]]}
    for waits in (5.0, 0.3, 0.3):
        world.add(small)
        (hung,) = world.gives()
        assert hung.step.kind == SMALL
        world.scheduler.beat("w1", 0, {hung.attempt_id}, world.now, spare=1)
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
    usual = Usual()
    spec, call = replace(SPEC, id_min=0, id_max=10), checked_call("m:f", [], {}, "c")
    for known in (spec, call):
        paces = Steps(600.0).paces
        for kind in (MAP_STEP, CALL, PUBLISH):
            paces[kind].add(1.0)
        usual.learn(known, paces)
    heard = {}
    for name, asked in (("same", spec), ("other", replace(spec, reduce_name="m:other")), ("call", call)):
        paces = Steps(600.0).paces
        usual.tell(asked, paces)
        assert (paces[MAP_STEP].limit_s(1), paces[CALL].limit_s(1)) == (60.0, 600.0)  # what gives attempts up
        assert (paces[CALL].backup_after_s(), paces[PUBLISH].backup_after_s()) == (None, None)  # never begun twice
        heard[name] = paces[MAP_STEP].backup_after_s()
    assert heard == {"same": 1.5, "other": None, "call": None}


def test_what_took_how_long_is_remembered_of_the_functions_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapreduce.usual.KEPT", 2)
    usual = Usual()
    for name in ("m:a", "m:b", "m:a", "m:c"):
        paces = Steps(600.0).paces
        paces[MAP_STEP].add(1.0)
        usual.learn(replace(SPEC, reduce_name=name), paces)
    known = []
    for name in ("m:a", "m:b", "m:c"):
        paces = Steps(600.0).paces
        usual.tell(replace(SPEC, reduce_name=name), paces)
        known.append(paces[MAP_STEP].before_s)
    assert known == [1.0, None, 1.0]


def test_a_spare_executor_is_not_given_a_step_of_its_own() -> None:
    world = World("w1")
    world.add()
    world.plan(splits=4)
    (give,) = world.gives()
    world.scheduler.beat("w1", 0, {give.attempt_id}, world.now, spare=1)
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
