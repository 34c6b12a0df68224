"""Simulate workers that are healthy, slow, cut off or lying, beside a real scheduler and in virtual time."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

from mapreduce.exceptions import MapReduceError, StoreUnavailableError
from mapreduce.job.spec import JobSpec
from mapreduce.scheduler.job_state import JobState
from mapreduce.scheduler.order import AbortStep, AssignStep
from mapreduce.scheduler.scheduler import AttemptReply
from mapreduce.scheduler.step import CALL, MAP_STEP, PLAN, PROBE, REDUCE_STEP, SMALL
from mapreduce.scheduler.worker_state import WorkerState
from mapreduce.step.reader import KeyRange
from tests.support.mapreduce.scheduler_harness import SPEC, SchedulerHarness, output

TICK_S = 0.05
SMALL_JOB = {"id_min": 0, "id_max": 10, "map_job_size": 10}  # as changes of a job: one step is enough
SMALL_RESULT = {"docs_in": 1, "pairs_out": 1, "skipped_count": 0, "skipped_ids": [], "outputs": [["", 1, 1, 0, 0]]}


@dataclasses.dataclass
class Behaviour:
    """Describe a simulated worker; by default, it does each step in 0.1 s."""

    seconds: float = 0.1  # per step
    error: Callable[[], MapReduceError] | None = None  # with which each step ends of which `fails` is true
    fails: Callable[[AssignStep], bool] = lambda give: True
    answers: bool = True  # False = it only sends heartbeats, and claims to be idle
    probed: bool = False  # True = it answers probes nevertheless
    progress: bool = False  # True = it reports progress for ever instead of ending
    dies: Callable[[AssignStep], bool] = lambda give: False  # True = the step kills its executor
    confirms: bool = True  # False = it does not confirm the start of calls


HEALTHY = Behaviour()
CUT_OFF = Behaviour(5.0, lambda: StoreUnavailableError("no servers found"))  # the driver gives up after 5 s
SILENT = Behaviour(answers=False, confirms=False)
SLOW = Behaviour(10.0)


class Simulation:
    """A scheduler with workers `host:pid`, each of which behaves as it is told, or as told later."""

    def __init__(self, **workers: Behaviour) -> None:
        self.harness = SchedulerHarness()
        self.behaviours: dict[str, Behaviour] = {}
        self.given: collections.Counter[str] = collections.Counter()  # steps by worker
        self.times: collections.defaultdict[str, list[float]] = collections.defaultdict(list)  # when each got a step
        self.splits = 8
        self._running: list[tuple[AssignStep, float]] = []
        self._beat_s = 0.0
        for name, behaviour in workers.items():
            self.join(name.replace("_", ":"), behaviour)

    @property
    def now(self) -> float:
        return self.harness.now

    @property
    def health(self) -> Any:
        return self.harness.scheduler.health

    def join(self, name: str, behaviour: Behaviour, worker_id: str = "", slots: int = 1) -> None:
        self.behaviours[worker_id or name] = behaviour
        worker = WorkerState(worker_id or name, name, slots, f"tcp://{name}", self.now, slots)
        self.harness.scheduler.register(worker, {})

    def leave(self, worker_id: str, why: str = "silent") -> None:
        self.harness.scheduler.worker_gone(worker_id, why, self.now)
        self._running = [item for item in self._running if item[0].worker_id != worker_id]

    @property
    def callers(self) -> list[str]:
        """Return the workers that got calls, in order."""
        orders = [order for order in self.harness.log if isinstance(order, AssignStep) and order.step.kind == CALL]
        return [order.worker_id for order in orders]

    @property
    def spec(self) -> JobSpec:
        return SPEC

    def place(self, worker_id: str) -> Any:
        return self.health.find(worker_id)

    def run(self, job_id: str, within_s: float = 3_600.0, **changes: Any) -> tuple[JobState, float]:
        """Run a job to its end, and return it with the seconds it took."""
        return self.finish(self.harness.add(dataclasses.replace(SPEC, job_id=job_id, **changes)), within_s)

    def finish(self, job: JobState, within_s: float = 3_600.0) -> tuple[JobState, float]:
        began = self.now
        while not job.ended:
            assert self.now - began < within_s, (job.state, job.last_failure, self.given, self.behaviours)
            self.tick()
        return job, self.now - began

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.tick()

    def tick(self) -> None:
        self.harness.now += TICK_S
        for give, due_s in list(self._running):
            if due_s <= self.now:
                self._running.remove((give, due_s))
                self._end(give)
            elif self.behaviours[give.worker_id].progress:
                self._progress(give)
        if self.now - self._beat_s >= 0.5:
            self._beat_s = self.now
            self._beat()
        for order in self.harness.step():
            if isinstance(order, AssignStep):
                self._begin(order)
            elif isinstance(order, AbortStep):
                self._abort(order)

    def _beat(self) -> None:
        scheduler = self.harness.scheduler
        for worker_id, worker in scheduler.workers.items():
            running = {give.attempt_id for give, _ in self._running if give.worker_id == worker_id}
            silent = not self.behaviours[worker_id].answers
            idle = worker.slots if silent else worker.slots - len(running)
            scheduler.heartbeat(worker_id, idle, running, self.now)

    def _begin(self, give: AssignStep) -> None:
        behaviour = self.behaviours[give.worker_id]
        self.given[give.worker_id] += 1
        self.times[give.worker_id].append(self.now)
        if give.step.kind == CALL and behaviour.confirms:
            self._progress(give)
        ends = (behaviour.answers or (behaviour.probed and give.step.kind == PROBE)) and not behaviour.progress
        self._running.append((give, self.now + behaviour.seconds if ends else float("inf")))

    def _progress(self, give: AssignStep) -> None:
        docs = 0 if give.step.kind == CALL else int(self.now * 1_000)
        self.harness.scheduler.progressed(give.job.job_id, give.attempt_id, docs, None, self.now)

    def _abort(self, order: AbortStep) -> None:
        aborted = [item for item in self._running if item[0].attempt_id == order.attempt_id]
        for item in aborted:
            self._running.remove(item)
            if self.behaviours[order.worker_id].answers:
                self.harness.scheduler.ready(order.worker_id, self.now)

    def _end(self, give: AssignStep) -> None:
        behaviour, harness = self.behaviours[give.worker_id], self.harness
        answer = AttemptReply(give.worker_id, give.job.job_id, give.attempt_id)
        if behaviour.dies(give):
            harness.scheduler.broken(answer, "its process was ended by SIGKILL", self.now)
            harness.scheduler.ready(give.worker_id, self.now)
        elif behaviour.error is not None and behaviour.fails(give):
            harness.fail(give, behaviour.error())
        elif give.step.kind == PLAN:
            spans = [KeyRange(0, "event.1", n, n + 1).to_document() for n in range(self.splits)]
            harness.answer(give, {"splits": spans})
        elif give.step.kind == MAP_STEP:
            harness.answer(give, {}, output(give.step.index, give.attempt_id, give.worker_id))
        elif give.step.kind == REDUCE_STEP:
            harness.answer(give, {"outputs": [["", 1, 1, 0, 0]]})
        elif give.step.kind == SMALL:
            harness.answer(give, SMALL_RESULT)
        else:
            harness.answer(give, {"result": 5})
