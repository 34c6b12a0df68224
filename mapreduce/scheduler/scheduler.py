"""Assign steps to workers: credits, heartbeats, fairness between jobs. Pure: events in, orders out."""

from __future__ import annotations

import itertools
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from mapreduce.exceptions import REFUSALS, MapReduceError, OutputGoneError, counts_against_worker, lacks_right
from mapreduce.job.spec import CANCELLED, COMPLETE, ERROR
from mapreduce.scheduler.attempt import Attempt
from mapreduce.scheduler.duration_history import DurationHistory
from mapreduce.scheduler.job_state import JobState
from mapreduce.scheduler.map_output_index import SplitOutput
from mapreduce.scheduler.order import AbortStep, AssignStep, JobEnded, Order, WorkerGone
from mapreduce.scheduler.placement import Placement
from mapreduce.scheduler.reply_check import result_fault
from mapreduce.scheduler.step import PROBE, WRITING, Step
from mapreduce.scheduler.worker_health import HealthTracker
from mapreduce.scheduler.worker_state import HEARTBEAT_S, LOST_AFTER_S, WorkerState
from mapreduce.task_error import described

log = logging.getLogger(__name__)

STOPPED = "it stopped"  # why a worker is gone that has said so
ABORTED_KEPT_S = 60.0  # an attempt can still report why it failed for this long after it was told to abort
KEEP_BYTES = 32 * 2**20  # limit of the map output that the router itself keeps, over all jobs


@dataclass(frozen=True)
class AttemptReply:
    """Worker, job and attempt that a worker's reply concerns."""

    worker_id: str
    job_id: str
    attempt_id: str


class Scheduler:
    """All workers and running jobs. Belongs to the router's thread. `epoch` makes attempt ids unique across routers."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.workers: dict[str, WorkerState] = {}
        self.jobs: dict[str, JobState] = {}
        self.health = HealthTracker()
        self._placement = Placement(self.health, self.workers)
        self._numbers = itertools.count(1)
        self._orders: list[Order] = []
        self._kept: dict[str, int] = {}  # bytes of map output kept here, by job
        self._durations = DurationHistory()
        self._now_s = 0.0  # when `step` was called last

    def add(self, job: JobState) -> None:
        self._durations.apply_to(job.spec, job.steps.timings)
        job.able_places, job.place_name = self._placement.able_places, self.health.place_name
        job.may_only_claim, job.needs_probe = self.health.may_only_claim, self.health.needs_probe
        self.jobs[job.job_id] = job

    def register(self, worker: WorkerState, held: dict[str, list[SplitOutput]]) -> None:
        """Register a worker, with the map output by job that it still holds."""
        old = self.workers.get(worker.worker_id)
        if old is not None:
            worker.running, worker.aborted = old.running, old.aborted
        self.workers[worker.worker_id] = worker
        self.health.join(worker.worker_id, worker.name)
        for job_id, outputs in held.items():
            if (job := self.jobs.get(job_id)) is not None:
                for output in outputs:
                    self._apply(job, partial(job.held, output))

    def heartbeat(self, worker_id: str, idle: int, running: set[str], now: float, spare: int = 0) -> bool:
        """Handle a heartbeat: update the worker and find lost assignments. Return False if it must register first."""
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
            # The worker does not list an attempt that was assigned to it: the message was lost.
            del worker.running[attempt_id]
            if (job := self.jobs.get(job_id)) is not None:
                self._lost(job, attempt_id, "unknown to the worker", now, unknown=True)
        for attempt_id, (_, given_s) in list(worker.aborted.items()):
            if now - given_s >= ABORTED_KEPT_S or (attempt_id not in running and now - given_s >= 2 * HEARTBEAT_S):
                del worker.aborted[attempt_id]
            elif attempt_id not in running:
                fresh += 1
        worker.idle, worker.spare = max(0, idle - fresh), spare
        return True

    def seen(self, worker_id: str, now: float) -> None:
        """Record that a worker sent any message, so that it counts as alive."""
        if worker_id in self.workers:
            self.workers[worker_id].seen_s = now

    def ready(self, worker_id: str, now: float) -> None:
        """Record that a worker can start one more step."""
        if worker_id in self.workers:
            self.workers[worker_id].idle += 1
            self.workers[worker_id].seen_s = now

    def progressed(self, job_id: str, attempt_id: str, docs: int, phase: str | None, now: float) -> None:
        """Record the progress of an attempt."""
        if (job := self.jobs.get(job_id)) is not None:
            self._apply(job, partial(job.progressed, attempt_id, docs, phase, now))

    def done(self, answer: AttemptReply, result: dict[str, Any], output: SplitOutput | None, now: float) -> None:
        """Record the success of an attempt, with the output if it is a map step; its loss if the result is bad."""
        job, _ = self._record_reply(answer, now)
        if job is None:
            return
        found = job.steps.find(answer.attempt_id)
        if found is not None and (fault := result_fault(found[0].kind, result, output, job.partitions)):
            self._lost(job, answer.attempt_id, fault, now)
            return
        rivals = [] if found is None else [attempt for attempt in found[0].attempts.values() if attempt is not found[1]]
        if output is not None and output.data is not None:
            if sum(self._kept.values()) + output.length > KEEP_BYTES:
                output.data = None
            else:
                self._kept[job.job_id] = self._kept.get(job.job_id, 0) + output.length
        self._apply(job, lambda: job.done(answer.attempt_id, result, output, now))
        if found is not None and (found[0].done or found[0].kind == PROBE):
            self._succeeded(found, rivals, now, fetched=output is None or output.data is not None)

    def failed(self, answer: AttemptReply, error: MapReduceError, now: float) -> None:
        """Record the failure of an attempt."""
        job, begun_s = self._record_reply(answer, now)
        if counts_against_worker(error) and begun_s is not None:
            self.health.failed(answer.worker_id, f"{error.code}: {error.message}", begun_s, now)
        if lacks_right(error) and begun_s is not None:
            self.health.lacked_right(answer.worker_id)
        if job is None:
            return
        if isinstance(error, OutputGoneError) and begun_s is not None:
            for holder in job.holders(error) - {answer.worker_id}:
                self.health.failed(holder, f"its map output cannot be fetched: {error.message}", begun_s, now)
        worker = self.workers.get(answer.worker_id)
        if isinstance(error, REFUSALS) and worker is not None:
            error = type(error)(f"worker {worker.name}: {error.message}", {**error.details, "worker": worker.name})
        self._apply(job, lambda: job.failed(answer.attempt_id, error, now))
        self._apply(job, lambda: job.refused(set(self.workers), now))

    def broken(self, answer: AttemptReply, why: str, now: float) -> None:
        """Record the loss of an attempt with its executor; the worker is alive."""
        job, begun_s = self._record_reply(answer, now)
        if begun_s is not None:
            self.health.failed(answer.worker_id, why, begun_s, now)
        if job is not None:
            self._apply(job, lambda: job.broken(answer.attempt_id, why, now))

    def fail(self, job: JobState, error: Exception) -> None:
        """End a job in error after an unexpected exception; other jobs go on."""
        if self.jobs.get(job.job_id) is not job or job.ended:
            return
        log.error("unexpected error in a job job=%s", job.job_id, exc_info=error)
        details = {"traceback": "".join(traceback.format_exception(error))}
        known = MapReduceError(f"the job cannot go on: {described(error)}", details)
        try:
            self._abort(job.fail(known, self._now_s))
        except Exception:
            log.exception("job cannot be stopped cleanly job=%s", job.job_id)
            job.state, job.error = ERROR, known

    def worker_gone(self, worker_id: str, why: str, now: float) -> None:
        """Remove a worker that left or is lost."""
        worker = self.workers.pop(worker_id, None)
        if worker is None:
            return
        self._orders.append(WorkerGone(worker_id, worker.name, why))
        if worker.running and why != STOPPED:
            self.health.failed(worker_id, why, max(given_s for _, given_s in worker.running.values()), now)
        for job in self.jobs.values():
            self._apply(job, partial(job.worker_gone, worker_id, why, now))
            self._apply(job, partial(job.refused, set(self.workers), now))
        self.health.leave(worker_id, now)

    def cancel(self, job_id: str, now: float) -> None:
        if (job := self.jobs.get(job_id)) is not None:
            self._apply(job, partial(job.cancel, now))

    def step(self, now: float) -> list[Order]:
        """Check timeouts and assign steps; return all orders since the last call, in order."""
        self._now_s = now
        for worker in [w for w in self.workers.values() if now - w.seen_s > LOST_AFTER_S]:
            self.worker_gone(worker.worker_id, f"silent for {now - worker.seen_s:.1f} s", now)
        for job in list(self.jobs.values()):
            self._apply(job, partial(self._abort_overdue, job, now))
        self._settle(now)
        self._assign_steps(now)
        orders, self._orders = self._orders, []
        return orders

    def next_check_s(self, now: float) -> float:
        """Return the seconds after which `step` must be called even without an event."""
        waits = []
        for job in self.jobs.values():
            try:
                waits.append(job.steps.next_check_s(now))
            except Exception as error:  # noqa: BLE001 - one broken job must not stop the others
                self.fail(job, error)
                waits.append(0.0)
        waits += [worker.seen_s + LOST_AFTER_S - now + 0.001 for worker in self.workers.values()]
        return max(0.001, min(waits, default=60.0))

    def _settle(self, now: float) -> None:
        slots = sum(worker.slots for worker in self.workers.values())
        for job in list(self.jobs.values()):
            self._apply(job, partial(job.settle, max(slots, 1), now))
            if job.ended:
                self._kept.pop(job.job_id, None)
                del self.jobs[job.job_id]
                if job.state == COMPLETE:
                    self._durations.record(job.spec, job.steps.timings)
                self._orders.append(JobEnded(job))

    def _assign_steps(self, now: float) -> None:
        """Assign steps one by one: to the worker with most idle slots, from the job with fewest running steps.

        Those of which nothing is known come last: a worker may only claim to work.
        """
        open_jobs = [job for job in self.jobs.values() if not job.ended]
        while open_jobs:
            accepting = [worker for worker in self.workers.values() if worker.accepts]
            idle = sorted(accepting, key=lambda worker: (self.health.is_unknown(worker.worker_id), -worker.idle))
            given = self._for_idle_worker(idle, open_jobs, now) or self._for_spare_executor(open_jobs, now)
            if given is None:
                return
            worker, job, step = given
            attempt_id = f"{self.epoch}.{next(self._numbers)}"
            elsewhere = self._placement.has_another_host(worker.worker_id, step)
            try:
                job.begin(step, attempt_id, worker.worker_id, now)
            except Exception as error:  # noqa: BLE001 - one broken job must not stop the others
                self.fail(job, error)
                continue
            if worker.idle:
                worker.idle -= 1
            else:
                worker.spare -= 1
            worker.running[attempt_id] = (job.job_id, now)
            if step.kind != PROBE:
                self.health.assigned(worker.worker_id, now)
            self._orders.append(AssignStep(worker.worker_id, job, step, attempt_id, elsewhere))

    def _abort_overdue(self, job: JobState, now: float) -> None:
        for attempt in job.steps.overdue(now):
            self._abort([attempt])
            self._lost(job, attempt.attempt_id, f"no progress for {attempt.quiet_s(now):.1f} s", now)

    def _lost(self, job: JobState, attempt_id: str, why: str, now: float, *, unknown: bool = False) -> None:
        """Record the loss of an attempt on a worker that is alive, and count it against this worker."""
        if (found := job.steps.find(attempt_id)) is not None:
            self.health.failed(found[1].worker_id, why, found[1].started_s, now)
            self._apply(job, partial(job.lost, attempt_id, why, now, unknown=unknown))

    def _succeeded(self, done: tuple[Step, Attempt], rivals: list[Attempt], now: float, *, fetched: bool) -> None:
        """Record what an attempt that did its step says about its worker, and about those that it overtook.

        Map output that stays with its worker, not `fetched` yet, proves nothing: nobody else may be able to read it.
        """
        step, attempt = done
        if step.kind == PROBE:
            self.health.answered(attempt.worker_id)
        elif fetched:
            self.health.succeeded(attempt.worker_id, wrote=step.kind in WRITING)
        for rival in rivals:
            if rival.place != attempt.place and rival.started_s < attempt.started_s:
                self.health.overtaken(rival.worker_id, now - attempt.started_s, rival.started_s, now)

    def _apply(self, job: JobState, act: Callable[[], list[Attempt] | None]) -> None:
        """Call `act`, which concerns only `job`, and abort the attempts it returns; its failure ends only this job."""
        try:
            attempts = act() or []
            self._abort(attempts, keep_unbegun=job.state not in (ERROR, CANCELLED))
        except Exception as error:  # noqa: BLE001 - one broken job must not stop the others
            self.fail(job, error)

    def _for_idle_worker(
        self, idle: list[WorkerState], jobs: list[JobState], now: float
    ) -> tuple[WorkerState, JobState, Step] | None:
        fewest_first = sorted(jobs, key=lambda job: (len(job.steps.under_way), job.turn_s))
        for worker in idle:
            for job in fewest_first:
                try:
                    may_take = partial(self._placement.may_take, worker.worker_id, now=now)
                    step = job.offer(worker.worker_id, now, may_take)
                except Exception as error:  # noqa: BLE001 - one broken job must not stop the others
                    self.fail(job, error)
                    continue
                if step is not None:
                    return worker, job, step
        return None

    def _for_spare_executor(self, jobs: list[JobState], now: float) -> tuple[WorkerState, JobState, Step] | None:
        """Return a hung step whose worker has no idle slot, for a spare executor of the same worker."""
        for job in jobs:
            for step in job.steps.silent(now):
                worker = self.workers.get(next(iter(step.attempts.values())).worker_id)
                if worker is not None and worker.spare > 0 and not worker.idle:
                    return worker, job, step
        return None

    def _record_reply(self, answer: AttemptReply, now: float) -> tuple[JobState | None, float | None]:
        """Return the job, and when the attempt was assigned to this worker; None for what is not known."""
        worker = self.workers.get(answer.worker_id)
        given = None
        if worker is not None:
            given = worker.running.pop(answer.attempt_id, None) or worker.aborted.pop(answer.attempt_id, None)
            worker.seen_s = now
        return self.jobs.get(answer.job_id), None if given is None else given[1]

    def _abort(self, attempts: list[Attempt], *, keep_unbegun: bool = False) -> None:
        """End attempts. With `keep_unbegun`, one that never began goes on, and says why it fails, if it does.

        Nothing else is known of its worker.
        """
        for attempt in attempts:
            worker = self.workers.get(attempt.worker_id)
            if worker is None:
                continue
            if not (keep_unbegun and attempt.never_began):
                self._orders.append(AbortStep(attempt.worker_id, attempt.attempt_id))
            if attempt.attempt_id in worker.running:
                worker.aborted[attempt.attempt_id] = worker.running.pop(attempt.attempt_id)
