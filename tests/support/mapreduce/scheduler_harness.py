"""Drive a scheduler with named workers and a clock that the test moves."""

from __future__ import annotations

from typing import Any

from mapreduce.job.spec import JobSpec, Output, Source
from mapreduce.scheduler.job_limits import JobLimits
from mapreduce.scheduler.job_state import JobState
from mapreduce.scheduler.map_output_index import SplitOutput, pack_segments
from mapreduce.scheduler.order import AssignStep
from mapreduce.scheduler.scheduler import AttemptReply, Scheduler
from mapreduce.scheduler.step import MAP_STEP, PLAN, REDUCE_STEP
from mapreduce.scheduler.worker_state import WorkerState
from mapreduce.step.map import MapCounts
from mapreduce.step.reader import KeyRange

LIMITS = JobLimits(reduce_count=4, outstanding_maps=16, outstanding_reduces=16, split_limit_s=600.0)
SPEC = JobSpec(
    database="db",
    sources=(Source(("event.1",), "m:f"),),
    outputs={"": Output("zagg.x", "reduce")},
    reduce_name="m:r",
    job_id="j",
    stamp=(0, 10),
)


class SchedulerHarness:
    """A scheduler with named workers and a clock that the test moves."""

    def __init__(self, *workers: str, slots: int = 1) -> None:
        self.scheduler = Scheduler("e")
        self.now = 0.0
        self.log: list[Any] = []
        for name in workers:
            self.join(name, slots)

    def join(self, name: str, slots: int = 1, held: Any = None) -> None:
        self.scheduler.register(WorkerState(name, name, slots, f"tcp://{name}", self.now, slots), held or {})

    def add(self, spec: Any = SPEC) -> JobState:
        job = JobState(spec, LIMITS, self.now)
        self.scheduler.add(job)
        return job

    def step(self) -> list[Any]:
        orders = self.scheduler.step(self.now)
        self.log += orders
        return orders

    def gives(self) -> list[AssignStep]:
        return [order for order in self.step() if isinstance(order, AssignStep)]

    def live(self, *names: str, seconds: float) -> None:
        """Let `seconds` pass while these workers send heartbeats."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            for name in names:
                worker = self.scheduler.workers[name]
                self.scheduler.heartbeat(name, worker.idle, set(worker.running), self.now)

    def answer(self, give: AssignStep, result: dict[str, Any], output: SplitOutput | None = None) -> None:
        answer = AttemptReply(give.worker_id, give.job.job_id, give.attempt_id)
        self.scheduler.done(answer, result, output, self.now)
        self.scheduler.ready(give.worker_id, self.now)

    def fail(self, give: AssignStep, error: Any) -> None:
        self.scheduler.failed(AttemptReply(give.worker_id, give.job.job_id, give.attempt_id), error, self.now)
        self.scheduler.ready(give.worker_id, self.now)

    def plan(self, splits: int) -> None:
        (give,) = self.gives()
        assert give.step.kind == PLAN
        self.answer(give, {"splits": [KeyRange(0, "event.1", n, n + 1).to_document() for n in range(splits)]})

    def map(self, give: AssignStep, *, inline: bool = True) -> None:
        assert give.step.kind == MAP_STEP
        self.answer(give, {}, output(give.step.index, give.attempt_id, give.worker_id, inline=inline))

    def reduce(self, give: AssignStep) -> None:
        assert give.step.kind == REDUCE_STEP
        self.answer(give, {"outputs": [["", 1, 1, 0, 0]]})


def output(split: int, attempt: str, worker: str, *, inline: bool = True) -> SplitOutput:
    return SplitOutput(
        split, attempt, worker, f"tcp://{worker}", None, pack_segments([["", 0, 0, 4, 1]]), 4,
        b"data" if inline else None, MapCounts(1), span=KeyRange(0, "event.1", split, split + 1).to_document(),
    )  # fmt: skip
