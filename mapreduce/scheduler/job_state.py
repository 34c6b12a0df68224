"""State machine of one job: events in, attempts to abort out. No I/O, no clock.

States: ready -> query -> map -> reduce, finalize, commit -> complete; from each of them error or cancelled. A job goes
back from reduce to map if map output is lost with its worker. A small job is a single step from map to commit, and
so is a call; but a worker of which nothing is known must do a probe before it gets one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mapreduce.exceptions import (
    REFUSALS,
    MapReduceError,
    OutputGoneError,
    TaskUnableError,
    WorkerFailedError,
    WorkerUnableError,
    lacks_right,
)
from mapreduce.job.basic_job import CallSpec
from mapreduce.job.spec import (
    CANCELLED,
    COMMIT,
    COMPLETE,
    END_STATES,
    ERROR,
    MAP,
    QUERY,
    READY,
    REDUCE,
    JobSpec,
    JobStatus,
)
from mapreduce.scheduler.attempt import Attempt
from mapreduce.scheduler.job_limits import JobLimits, is_small
from mapreduce.scheduler.job_progress import REDUCE_PHASES, JobMoment, JobTotals, job_progress
from mapreduce.scheduler.map_output_index import SplitOutput, group_partitions
from mapreduce.scheduler.step import CALL, MAP_STEP, PLAN, PROBE, PUBLISH, REDUCE_STEP, SMALL, MayTake, Step, Steps
from mapreduce.step.map import MapCounts
from mapreduce.step.reader import KeyRange

FAILURE_CHARACTERS = 500  # limit of `last_failure`
# Limits for one step, of which no worker counts for more than its share (`Step.exhausted`).
MAX_LOST = 5  # the job fails at this many attempts that were lost with their worker or timed out
MAX_TRANSIENT = 12  # the job fails above this many temporary failures, such as MongoDB being unavailable
log = logging.getLogger(__name__)


class JobState:
    """One job. Belongs to the router's thread. Methods that handle an event return the attempts to abort."""

    def __init__(self, spec: JobSpec | CallSpec, limits: JobLimits, now: float, *, durable: bool = True) -> None:
        self.spec = spec
        self.durable = durable  # False = the client keeps the spec and resubmits it if the record is lost
        self.job_id = spec.job_id
        self.state = READY
        self.error: MapReduceError | None = None
        self.result: Any = None
        self.created_s = now
        self.turn_s = now  # jobs are served in this order; one that has lost a process goes to the end of the queue
        self.last_failure: str | None = None  # why an attempt failed or was lost most recently, for people
        self.ended_s: float | None = None
        self._reduce_started_s: float | None = None  # on the router's clock; None = it has not started
        self.splits: list[KeyRange] | None = None
        self.outputs: dict[int, SplitOutput] = {}
        self.partitions = 1
        self.attempts_lost = 0
        self.able_places: Callable[[Step], Mapping[str, bool]] = lambda step: {}  # see `Step.exhausted`
        self.place_name: Callable[[str], str] = lambda worker_id: worker_id
        self.may_only_claim: Callable[[str], bool] = lambda worker_id: False
        self.needs_probe: Callable[[str], bool] = lambda worker_id: False
        self._limits = limits
        self._refusal: MapReduceError | None = None  # last error of a worker that lacks the job's code, or a right
        self._groups: list[list[tuple[str, int]]] = []
        self._totals = JobTotals()
        ceiling = (spec.split_limit_s if isinstance(spec, JobSpec) else None) or limits.split_limit_s
        self.steps = Steps(ceiling)
        self._small = isinstance(spec, JobSpec) and is_small(spec, limits.map_job_size)
        for kind in (PROBE, CALL) if isinstance(spec, CallSpec) else (SMALL,) if self._small else (PLAN,):
            self.steps.add(kind, 0)

    @property
    def ended(self) -> bool:
        """Return True if the state is final."""
        return self.state in END_STATES

    def offer(self, worker_id: str, now: float, may_take: MayTake = lambda step: True) -> Step | None:
        """Return the step of this job that an idle worker should run, of those it may take; None if there is none."""
        if self.ended:
            return None
        kinds: tuple[str, ...] = (SMALL, PLAN, MAP_STEP)
        most = self._limits.outstanding_maps
        if isinstance(self.spec, CallSpec):
            kinds, most = self._kinds_of_call(worker_id), len((PROBE, CALL))
        elif self.state in REDUCE_PHASES:
            kinds, most = (REDUCE_STEP, PUBLISH, SMALL), self._limits.outstanding_reduces
        return self.steps.offer(kinds, worker_id, now, most, may_take)

    def begin(self, step: Step, attempt_id: str, worker_id: str, now: float) -> Attempt:
        """Record that `step` was assigned to a worker."""
        if self.state == READY:
            self.state = QUERY if step.kind == PLAN else MAP
        proven = step.kind != PROBE and not self.may_only_claim(worker_id)
        return self.steps.begin(step, attempt_id, worker_id, now, self.place_name(worker_id), proven=proven)

    def group(self, index: int) -> list[tuple[str, int]]:
        """Return `(label, partition)` of everything that one reduce step reduces."""
        return self._groups[index]

    def progressed(self, attempt_id: str, docs: int, phase: str | None, now: float) -> None:
        """Record the progress of an attempt."""
        found = self.steps.find(attempt_id)
        if found is None or self.ended:
            return
        step, attempt = found
        if (docs, phase or attempt.phase) != (attempt.docs, attempt.phase) or not attempt.confirmed:
            attempt.progressed_s = now  # a worker that repeats itself makes no progress
        attempt.docs, attempt.confirmed, attempt.phase = docs, True, phase or attempt.phase
        if step.kind == SMALL:
            self.state = phase or self.state
        elif step.kind == REDUCE_STEP and self.state in REDUCE_PHASES:
            steps = [other for other in self.steps.under_way if other.kind == REDUCE_STEP]
            phases = [a.phase or REDUCE for other in steps for a in other.attempts.values()]
            self.state = min(phases, key=REDUCE_PHASES.index)

    def planned(self, splits: Iterable[KeyRange]) -> None:
        """Add a map step for each split, as known from a plan step or from the job's record."""
        assert isinstance(self.spec, JobSpec)
        for kind in (PLAN, SMALL):
            plan = self.steps.get(kind, 0)
            if plan is not None:
                self.steps.finish(plan)
        self._small = False
        self.splits = list(splits)
        self.partitions = max(1, min(self.spec.reduce_count or self._limits.reduce_count, len(self.splits)))
        for index in range(len(self.splits)):
            self.steps.add(MAP_STEP, index)
        self.state = MAP

    def held(self, output: SplitOutput) -> list[Attempt]:
        """Accept the output of a split that a worker still holds, if it was read from the same range: a killed router
        may have made a different plan without recording it.
        """
        splits = self.splits or ()
        known = output.split < len(splits) and output.span == splits[output.split].to_document()
        return self.mapped(output) if known else []

    def mapped(self, output: SplitOutput) -> list[Attempt]:
        """Accept the output of a split, from a map step or from a worker that still holds it."""
        step = self.steps.get(MAP_STEP, output.split)
        if step is None or step.done or self.ended:
            return []
        self.outputs[output.split] = output
        self._totals.add_mapped(output)
        return self.steps.finish(step)

    def settle(self, slots: int, now: float) -> None:
        """Move to the next state if all steps of this one are done. `slots` = number of steps that can run at once."""
        if self.state == MAP and self.splits is not None and not self.steps.left(MAP_STEP):
            self._reduce_started_s = now
            self._start_reduce(slots)
        if self.state in REDUCE_PHASES and not self._small and not self.steps.left(REDUCE_STEP):
            if not self._replaces():
                self._end(COMPLETE, now)
            elif self.steps.get(PUBLISH, 0) is None:
                self.state = COMMIT
                self.steps.add(PUBLISH, 0)

    def done(self, attempt_id: str, result: dict[str, Any], output: SplitOutput | None, now: float) -> list[Attempt]:
        """Record the success of an attempt. Late replies of abandoned attempts are ignored."""
        found = self.steps.find(attempt_id)
        if found is None or self.ended:
            return []
        step, attempt = found
        self.steps.timings[step.kind].add(now - attempt.started_s)
        others = [other for other in step.attempts.values() if other is not attempt]
        if step.kind == PROBE:
            self.steps.take_back(PROBE)  # others can follow
        elif step.kind == PLAN:
            self.steps.remove_attempts(step)
            self.planned(KeyRange.from_document(item) for item in result["splits"])
        elif output is not None:
            self.mapped(output)
        else:
            self.steps.finish(step)
            if step.kind == REDUCE_STEP:
                self._totals.add_reduced(result)
            elif step.kind == SMALL:
                self._totals.mapped = MapCounts.from_document(result)
                self._totals.add_reduced(result)
                self._end(COMPLETE, now)
            else:
                self.result = result.get("result")
                self._end(COMPLETE, now)
        return others

    def failed(self, attempt_id: str, error: MapReduceError, now: float) -> list[Attempt]:
        """Record the failure of an attempt: retry the step, elsewhere or later, or end the job in error."""
        found = self.steps.find(attempt_id)
        if found is None or self.ended:
            return []
        step, attempt = found
        self._record_failure(step, f"{error.code}: {error.message}")
        if isinstance(error, OutputGoneError):
            step.fail(attempt.place, now)
            self.steps.abandon(attempt_id, now)
            aborts = self._lose_outputs(self._unfetched(error, now))
        elif isinstance(error, REFUSALS) or lacks_right(error):
            step.refused_by.add(attempt.worker_id)
            self._refusal = error
            self.steps.abandon(attempt_id, now)
            aborts = []
        elif error.retryable:
            step.fail(attempt.place, now, unable=isinstance(error, TaskUnableError))
            # What a machine lacks does not come with time, and another one may have it.
            lacks = isinstance(error, TaskUnableError | WorkerUnableError)
            self.steps.abandon(attempt_id, now, pause=not lacks or step.troubles[attempt.place].count > 1)
            aborts = []
        else:
            return self._stop(ERROR, now, error)
        if step.exhausted(MAX_LOST, MAX_TRANSIENT + 1, self.able_places(step)):
            return aborts + self._stop(ERROR, now, error)
        return aborts

    def refused(self, workers: set[str], now: float) -> list[Attempt]:
        """End in error if each of `workers` has refused the same waiting step. Without workers the job waits."""
        if self.ended or self._refusal is None or not self.steps.refused(workers):
            return []
        return self._stop(ERROR, now, self._refusal)

    def broken(self, attempt_id: str, why: str, now: float) -> list[Attempt]:
        """Record the loss of an attempt with its executor, which it may have killed: retry later, after other jobs."""
        self.turn_s = now
        return self.lost(attempt_id, why, now, pause=True)

    def lost(
        self, attempt_id: str, why: str, now: float, *, pause: bool = False, unknown: bool = False
    ) -> list[Attempt]:
        """Record the loss of an attempt with its worker, or its timeout: retry the step or end the job in error.

        With `unknown`, the worker is alive and says that it has no such attempt.
        """
        found = self.steps.find(attempt_id)
        if found is None or self.ended:
            return []
        step, attempt = found
        self._record_failure(step, f"lost on worker {attempt.worker_id}: {why}")
        step.lose(attempt, now, unbegun=attempt.never_began and (unknown or step.kind in (PROBE, CALL)))
        self.attempts_lost += 1
        self.steps.abandon(attempt_id, now, pause=pause)
        if not step.exhausted(MAX_LOST, MAX_TRANSIENT + 1, self.able_places(step)):
            return []
        what = f"{step.kind} {step.index}"
        if step.kind == MAP_STEP and self.splits:
            span = self.splits[step.index]
            what = f"split {step.index} (ids above {span.low!r} to {span.high!r} of {span.collection})"
        message = f"{what} was lost {step.lost} times, the last time on worker {attempt.worker_id}: {why}"
        return self._stop(ERROR, now, WorkerFailedError(message, {"step": step.kind, "index": step.index}))

    def worker_gone(self, worker_id: str, why: str, now: float) -> list[Attempt]:
        """Record the loss of a worker, of its attempts and of the map output that only it held."""
        aborts: list[Attempt] = []
        for attempt in self.steps.attempts(lambda attempt: attempt.worker_id == worker_id):
            aborts += self.lost(attempt.attempt_id, why, now)
        needed = self.state == MAP or self.steps.left(REDUCE_STEP) > 0
        if not self.ended and needed:
            gone = [i for i, o in self.outputs.items() if o.worker_id == worker_id and o.data is None]
            aborts += self._lose_outputs(gone)
        return [attempt for attempt in aborts if attempt.worker_id != worker_id]

    def cancel(self, now: float) -> list[Attempt]:
        """End the job as cancelled, unless it has ended."""
        return [] if self.ended else self._stop(CANCELLED, now)

    def fail(self, error: MapReduceError, now: float) -> list[Attempt]:
        """End the job in `error`, unless it has ended."""
        return [] if self.ended else self._stop(ERROR, now, error)

    def status(self, now: float) -> JobStatus:
        """Return state, error, progress and result."""
        error = self.error.to_document() if self.error else None
        trace = error["details"].get("traceback") if error else None
        return JobStatus(self.job_id, self.state, error, trace, self._progress(now), self.result)

    def _progress(self, now: float) -> dict[str, Any]:
        if isinstance(self.spec, CallSpec):
            return {}
        moment = JobMoment(
            now if self.ended_s is None else self.ended_s,
            self.state,
            self._small,
            self.splits is not None,
            self.created_s,
            self._reduce_started_s,
            self.attempts_lost,
            self.last_failure,
        )
        return job_progress(moment, self.steps, self._totals)

    def _kinds_of_call(self, worker_id: str) -> tuple[str, ...]:
        """Return the kinds of steps that a worker may be offered. A call is begun once, so only where a probe was done.

        Probes go to as many as it takes, as other steps do.
        """
        call = self.steps.get(CALL, 0)
        if not self.needs_probe(worker_id):
            return (CALL,)
        return (PROBE,) if call is not None and not call.attempts else ()

    def _record_failure(self, step: Step, why: str) -> None:
        self.last_failure = f"{step.kind} {step.index}: {why}"[:FAILURE_CHARACTERS]
        log.warning("attempt failed job=%s failure=%r", self.job_id, self.last_failure)

    def _start_reduce(self, slots: int) -> None:
        if not self._groups:
            sizes: dict[tuple[str, int], int] = {}
            for output in self.outputs.values():
                output.add_sizes(sizes)
            self._groups = group_partitions(sizes, slots)
            for index in range(len(self._groups)):
                self.steps.add(REDUCE_STEP, index)
        self.state = REDUCE

    def _replaces(self) -> bool:
        outputs = self.spec.outputs.values() if isinstance(self.spec, JobSpec) else ()
        return any(output.output_type == "replace" for output in outputs)

    def holders(self, error: OutputGoneError) -> set[str]:
        """Return the ids of the workers that held the map output which could not be fetched."""
        splits = error.details.get("splits", [])
        return {output.worker_id for index in splits if (output := self.outputs.get(index)) is not None}

    def _unfetched(self, error: OutputGoneError, now: float) -> list[int]:
        """Return the splits whose output could not be fetched, and note where it was: they are mapped elsewhere."""
        splits = [index for index in error.details.get("splits", []) if index in self.outputs]
        for index in splits:
            step = self.steps.get(MAP_STEP, index)
            if step is not None:
                step.fail(self.place_name(self.outputs[index].worker_id), now)
        return splits

    def _lose_outputs(self, indexes: Sequence[int]) -> list[Attempt]:
        """Map the splits again whose output is lost, and hold back reduce steps until then."""
        for index in indexes:
            step = self.steps.get(MAP_STEP, index)
            if self.outputs.pop(index, None) is not None and step is not None:
                self.steps.reopen(step)
                self.state = MAP
        if self.state != MAP:
            return []
        self._totals.count_again(self.outputs.values())
        return self.steps.take_back(REDUCE_STEP)

    def _stop(self, state: str, now: float, error: MapReduceError | None = None) -> list[Attempt]:
        self.error = error
        ended = [attempt for step in self.steps.under_way for attempt in self.steps.remove_attempts(step)]
        self._end(state, now)
        return ended

    def _end(self, state: str, now: float) -> None:
        self.state = state
        self.ended_s = now
        self.outputs.clear()
