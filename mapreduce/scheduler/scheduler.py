"""Decides which worker does what: credits, heartbeats, fairness between jobs. Pure: events in, orders out."""

from __future__ import annotations

import itertools
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mapreduce.exceptions import REFUSALS, MapReduceError
from mapreduce.job.spec import COMPLETE, ERROR
from mapreduce.scheduler.duration_history import DurationHistory
from mapreduce.scheduler.job_state import JobState
from mapreduce.scheduler.map_output_index import SplitOutput
from mapreduce.scheduler.step import Attempt, Step
from mapreduce.task_error import described

log = logging.getLogger(__name__)

HEARTBEAT_S = 0.5
LOST_AFTER_S = 3.0  # a worker that has not been heard of for this long is gone
KEEP_BYTES = 32 * 2**20  # map output that the router itself keeps, over all jobs


@dataclass
class WorkerState:
    """A worker host as the router sees it."""

    worker_id: str
    name: str  # host and process id, for people
    slots: int  # steps it can do at once
    data_uri: str  # where it serves map output
    seen_s: float
    idle: int = 0  # steps it could begin now
    spare: int = 0  # second tries of its own steps that it could begin beyond its slots
    running: dict[str, tuple[str, float]] = field(default_factory=dict)  # attempt id -> job id, when it was given


@dataclass(frozen=True)
class AttemptReply:
    """Which attempt of which job a worker speaks of."""

    worker_id: str
    job_id: str
    attempt_id: str


@dataclass(frozen=True)
class AssignStep:
    """A step for a worker."""

    worker_id: str
    job: JobState
    step: Step
    attempt_id: str


@dataclass(frozen=True)
class AbortStep:
    """An attempt of a worker whose answer is not wanted any more."""

    worker_id: str
    attempt_id: str


@dataclass(frozen=True)
class WorkerGone:
    """A worker that is not counted on any more, and why."""

    worker_id: str
    name: str
    why: str


@dataclass(frozen=True)
class JobEnded:
    """A job that has ended."""

    job: JobState


Order = AssignStep | AbortStep | WorkerGone | JobEnded


class Scheduler:
    """All workers and running jobs. Belongs to the router's thread. `epoch` tells attempts of two routers apart."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.workers: dict[str, WorkerState] = {}
        self.jobs: dict[str, JobState] = {}
        self._numbers = itertools.count(1)
        self._orders: list[Order] = []
        self._kept: dict[str, int] = {}  # bytes of map output kept here, by job
        self._durations = DurationHistory()
        self._now_s = 0.0  # when `step` was called last

    def add(self, job: JobState) -> None:
        """Take in a job."""
        self._durations.tell(job.spec, job.steps.timeouts)
        self.jobs[job.job_id] = job

    def hello(self, worker: WorkerState, held: dict[str, list[SplitOutput]]) -> None:
        """A worker is here, with the map output that it still holds by job."""
        old = self.workers.get(worker.worker_id)
        if old is not None:
            worker.running = old.running
        self.workers[worker.worker_id] = worker
        for job_id, outputs in held.items():
            job = self.jobs.get(job_id)
            for output in outputs if job is not None else ():
                if job is not None:
                    self._in_job(job, partial(job.held, output))

    def beat(self, worker_id: str, idle: int, running: set[str], now: float, spare: int = 0) -> bool:
        """A worker lives. Returns whether it is known here; when not, it has to say hello."""
        worker = self.workers.get(worker_id)
        if worker is None:
            return False
        worker.seen_s = now
        fresh = 0
        for attempt_id, (job_id, given_s) in list(worker.running.items()):
            if attempt_id in running:
                continue
            if now - given_s < 2 * HEARTBEAT_S:
                fresh += 1
                continue
            # It was given, and the worker does not know it: the message was lost.
            self._lose(worker, attempt_id, job_id, "the worker does not know of it", now)
        worker.idle, worker.spare = max(0, idle - fresh), spare
        return True

    def heard(self, worker_id: str, now: float) -> None:
        """A worker has said something, whatever it was: it lives."""
        if worker_id in self.workers:
            self.workers[worker_id].seen_s = now

    def ready(self, worker_id: str, now: float) -> None:
        """A worker can begin one more step."""
        if worker_id in self.workers:
            self.workers[worker_id].idle += 1
            self.workers[worker_id].seen_s = now

    def progressed(self, job_id: str, attempt_id: str, docs: int, phase: str | None, now: float) -> None:
        """An attempt has got further."""
        if job_id in self.jobs:
            job = self.jobs[job_id]
            self._in_job(job, lambda: job.progressed(attempt_id, docs, phase, now))

    def done(self, answer: AttemptReply, result: dict[str, Any], output: SplitOutput | None, now: float) -> None:
        """An attempt has succeeded; a map step comes with its output."""
        job = self._answered(answer, now)
        if job is None:
            return
        if output is not None and output.data is not None:
            if sum(self._kept.values()) + output.length > KEEP_BYTES:
                output.data = None
            else:
                self._kept[job.job_id] = self._kept.get(job.job_id, 0) + output.length
        self._in_job(job, lambda: job.done(answer.attempt_id, result, output, now))

    def failed(self, answer: AttemptReply, error: MapReduceError, now: float) -> None:
        """An attempt has failed."""
        job = self._answered(answer, now)
        if job is None:
            return
        worker = self.workers.get(answer.worker_id)
        if isinstance(error, REFUSALS) and worker is not None:
            error = type(error)(f"worker {worker.name}: {error.message}", {**error.details, "worker": worker.name})
        self._in_job(job, lambda: job.failed(answer.attempt_id, error, now))
        self._in_job(job, lambda: job.refused(set(self.workers), now))

    def broken(self, answer: AttemptReply, why: str, now: float) -> None:
        """An attempt went with the process that ran it; its worker lives."""
        job = self._answered(answer, now)
        if job is not None:
            self._in_job(job, lambda: job.broken(answer.attempt_id, why, now))

    def fail(self, job: JobState, error: Exception) -> None:
        """Something went wrong with this job that nobody has foreseen: it ends in error, and the others go on."""
        if self.jobs.get(job.job_id) is not job or job.ended:
            return
        log.error("job %s cannot go on", job.job_id, exc_info=error)
        details = {"traceback": "".join(traceback.format_exception(error))}
        known = MapReduceError(f"the job cannot go on: {described(error)}", details)
        try:
            self._abort(job.fail(known, self._now_s))
        except Exception:
            log.exception("job %s cannot be ended as others are", job.job_id)
            job.state, job.error = ERROR, known

    def gone(self, worker_id: str, why: str, now: float) -> None:
        """A worker has left, or is given up."""
        worker = self.workers.pop(worker_id, None)
        if worker is None:
            return
        self._orders.append(WorkerGone(worker_id, worker.name, why))
        for job in self.jobs.values():
            self._in_job(job, partial(job.worker_gone, worker_id, why, now))
            self._in_job(job, partial(job.refused, set(self.workers), now))

    def cancel(self, job_id: str, now: float) -> None:
        """Stop a job."""
        if job_id in self.jobs:
            self._in_job(self.jobs[job_id], lambda: self.jobs[job_id].cancel(now))

    def step(self, now: float) -> list[Order]:
        """Let time pass and give out work; returns everything that is to be done since the last call, in order."""
        self._now_s = now
        for worker in [w for w in self.workers.values() if now - w.seen_s > LOST_AFTER_S]:
            self.gone(worker.worker_id, f"not heard of for {now - worker.seen_s:.1f} s", now)
        for job in list(self.jobs.values()):
            self._in_job(job, partial(self._give_up_overdue, job, now))
        self._settle(now)
        self._give_out(now)
        orders, self._orders = self._orders, []
        return orders

    def next_check_s(self, now: float) -> float:
        """Seconds until `step` may have something to do without any event."""
        waits = []
        for job in self.jobs.values():
            try:
                waits.append(job.steps.next_check_s(now))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one job
                self.fail(job, error)
                waits.append(0.0)
        waits += [worker.seen_s + LOST_AFTER_S - now + 0.001 for worker in self.workers.values()]
        return max(0.001, min(waits, default=60.0))

    def _settle(self, now: float) -> None:
        slots = sum(worker.slots for worker in self.workers.values())
        for job in list(self.jobs.values()):
            self._in_job(job, partial(job.settle, max(slots, 1), now))
            if job.ended:
                self._kept.pop(job.job_id, None)
                del self.jobs[job.job_id]
                if job.state == COMPLETE:
                    self._durations.learn(job.spec, job.steps.timeouts)
                self._orders.append(JobEnded(job))

    def _give_out(self, now: float) -> None:
        """One step at a time to the worker with the most room, from the job with the fewest under way."""
        open_jobs = [job for job in self.jobs.values() if not job.ended]
        while open_jobs:
            idle = sorted((w for w in self.workers.values() if w.idle > 0), key=lambda w: -w.idle)
            given = self._first(idle, open_jobs, now) or self._second(open_jobs, now)
            if given is None:
                return
            worker, job, step = given
            attempt_id = f"{self.epoch}.{next(self._numbers)}"
            try:
                job.begin(step, attempt_id, worker.worker_id, now)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one job
                self.fail(job, error)
                continue
            if worker.idle:
                worker.idle -= 1
            else:
                worker.spare -= 1
            worker.running[attempt_id] = (job.job_id, now)
            self._orders.append(AssignStep(worker.worker_id, job, step, attempt_id))

    def _give_up_overdue(self, job: JobState, now: float) -> None:
        for attempt in job.steps.overdue(now):
            self._abort([attempt])
            self._abort(job.lost(attempt.attempt_id, f"no progress for {attempt.quiet_s(now):.1f} s", now))

    def _in_job(self, job: JobState, act: Callable[[], list[Attempt] | None]) -> None:
        """Do something that concerns one job alone, and abort what it says is not wanted any more."""
        try:
            self._abort(act() or [])
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one job
            self.fail(job, error)

    def _first(
        self, idle: list[WorkerState], jobs: list[JobState], now: float
    ) -> tuple[WorkerState, JobState, Step] | None:
        fewest_first = sorted(jobs, key=lambda job: (len(job.steps.under_way), job.turn_s))
        for worker in idle:
            for job in fewest_first:
                try:
                    step = job.offer(worker.worker_id, now)
                except Exception as error:  # noqa: BLE001 - whatever is wrong with one job
                    self.fail(job, error)
                    continue
                if step is not None:
                    return worker, job, step
        return None

    def _second(self, jobs: list[JobState], now: float) -> tuple[WorkerState, JobState, Step] | None:
        """A step that hangs on a worker of which all slots are taken, for a spare executor of the same worker."""
        for job in jobs:
            for step in job.steps.silent(now):
                worker = self.workers.get(next(iter(step.attempts.values())).worker_id)
                if worker is not None and worker.spare > 0 and not worker.idle:
                    return worker, job, step
        return None

    def _answered(self, answer: AttemptReply, now: float) -> JobState | None:
        worker = self.workers.get(answer.worker_id)
        if worker is not None:
            worker.running.pop(answer.attempt_id, None)
            worker.seen_s = now
        return self.jobs.get(answer.job_id)

    def _lose(self, worker: WorkerState, attempt_id: str, job_id: str, why: str, now: float) -> None:
        worker.running.pop(attempt_id, None)
        if job_id in self.jobs:
            self._in_job(self.jobs[job_id], lambda: self.jobs[job_id].lost(attempt_id, why, now))

    def _abort(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            if attempt.worker_id in self.workers:
                self._orders.append(AbortStep(attempt.worker_id, attempt.attempt_id))
