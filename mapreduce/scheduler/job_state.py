"""State machine of one job: events in, attempts to abort out. No I/O, no clock.

States: ready -> query -> map -> reduce, finalize, commit -> complete; from each of them error or cancelled. A job goes
back from reduce to map if map output is lost with its worker. A small job is a single step from map to commit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mapreduce.exceptions import (
    REFUSALS,
    MapReduceError,
    OutputGoneError,
    TaskUnableError,
    WorkerFailedError,
    lacks_right,
)
from mapreduce.job.basic_job import CallSpec
from mapreduce.job.spec import (
    CANCELLED,
    COMMIT,
    COMPLETE,
    END_STATES,
    ERROR,
    FINALIZE,
    MAP,
    QUERY,
    READY,
    REDUCE,
    JobSpec,
    JobStatus,
)
from mapreduce.job.value_check import is_whole
from mapreduce.scheduler.map_output_index import SplitOutput, group_partitions
from mapreduce.scheduler.step import CALL, MAP_STEP, PLAN, PUBLISH, REDUCE_STEP, SMALL, Attempt, MayTake, Step, Steps
from mapreduce.step.map import MapCounts
from mapreduce.step.reader import KeyRange

FAILURE_CHARACTERS = 500  # limit of `last_failure`
# Limits for one step, of which no worker counts for more than its share (`Step.exhausted`).
MAX_LOST = 5  # the job fails at this many attempts that were lost with their worker or timed out
MAX_TRANSIENT = 12  # the job fails above this many temporary failures, such as MongoDB being unavailable
log = logging.getLogger(__name__)

_REDUCE_PHASES = (REDUCE, FINALIZE, COMMIT)


@dataclass(frozen=True)
class JobLimits:
    """The router's settings that apply to every job."""

    reduce_count: int
    outstanding_maps: int
    outstanding_reduces: int
    split_limit_s: float
    map_job_size: int = 0  # a range of at most this many ids is a small job; 0 = there are no small jobs


@dataclass
class ReduceTotals:
    """Sums over the finished reduce steps of a job; see `CommitCounts`."""

    keys: dict[str, int] = field(default_factory=dict)  # by output label
    written: int = 0
    present: int = 0
    late: int = 0


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
        self._reduce_started_s: float | None = None
        self.splits: list[KeyRange] | None = None
        self.outputs: dict[int, SplitOutput] = {}
        self.partitions = 1
        self.attempts_lost = 0
        self.able_places: Callable[[Step], Mapping[str, bool]] = lambda step: {}  # see `Step.exhausted`
        self.place_name: Callable[[str], str] = lambda worker_id: worker_id
        self._limits = limits
        self._refusal: MapReduceError | None = None  # last error of a worker that lacks the job's code, or a right
        self._groups: list[list[tuple[str, int]]] = []
        self._reduce_totals = ReduceTotals()
        self._map_totals = MapCounts()  # over the available map outputs
        self._bytes_shuffled = 0  # by the same outputs
        ceiling = (spec.split_limit_s if isinstance(spec, JobSpec) else None) or limits.split_limit_s
        self.steps = Steps(ceiling)
        self._small = isinstance(spec, JobSpec) and is_small(spec, limits.map_job_size)
        self.steps.add(CALL if isinstance(spec, CallSpec) else SMALL if self._small else PLAN, 0)

    @property
    def ended(self) -> bool:
        """Return True if the state is final."""
        return self.state in END_STATES

    def offer(self, worker_id: str, now: float, may_take: MayTake = lambda step: True) -> Step | None:
        """Return the step of this job that an idle worker should run, of those it may take; None if there is none."""
        if self.ended:
            return None
        kinds: tuple[str, ...] = (CALL, SMALL, PLAN, MAP_STEP)
        most = self._limits.outstanding_maps
        if self.state in _REDUCE_PHASES:
            kinds, most = (REDUCE_STEP, PUBLISH, SMALL), self._limits.outstanding_reduces
        return self.steps.offer(kinds, worker_id, now, most, may_take)

    def begin(self, step: Step, attempt_id: str, worker_id: str, now: float) -> Attempt:
        """Record that `step` was assigned to a worker."""
        if self.state == READY:
            self.state = QUERY if step.kind == PLAN else MAP
        return self.steps.begin(step, attempt_id, worker_id, now, self.place_name(worker_id))

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
        elif step.kind == REDUCE_STEP and self.state in _REDUCE_PHASES:
            steps = [other for other in self.steps.under_way if other.kind == REDUCE_STEP]
            phases = [a.phase or REDUCE for other in steps for a in other.attempts.values()]
            self.state = min(phases, key=_REDUCE_PHASES.index)

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
        self._add_mapped(output)
        return self.steps.finish(step)

    def settle(self, slots: int, now: float) -> None:
        """Move to the next state if all steps of this one are done. `slots` = number of steps that can run at once."""
        if self.state == MAP and self.splits is not None and not self.steps.left(MAP_STEP):
            self._reduce_started_s = now
            self._start_reduce(slots)
        if self.state in _REDUCE_PHASES and not self._small and not self.steps.left(REDUCE_STEP):
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
        if step.kind == PLAN:
            self.steps.remove_attempts(step)
            self.planned(KeyRange.from_document(item) for item in result["splits"])
        elif output is not None:
            self.mapped(output)
        else:
            self.steps.finish(step)
            if step.kind == REDUCE_STEP:
                self._add_reduced(result)
            elif step.kind == SMALL:
                self._map_totals = MapCounts.from_document(result)
                self._add_reduced(result)
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
            self.steps.abandon(attempt_id, now, pause=True)
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

    def lost(self, attempt_id: str, why: str, now: float, *, pause: bool = False) -> list[Attempt]:
        """Record the loss of an attempt with its worker, or its timeout: retry the step or end the job in error."""
        found = self.steps.find(attempt_id)
        if found is None or self.ended:
            return []
        step, attempt = found
        self._record_failure(step, f"lost on worker {attempt.worker_id}: {why}")
        step.lose(attempt.place, now)
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

    def _record_failure(self, step: Step, why: str) -> None:
        self.last_failure = f"{step.kind} {step.index}: {why}"[:FAILURE_CHARACTERS]
        log.warning("attempt failed job=%s failure=%r", self.job_id, self.last_failure)

    def _progress(self, now: float) -> dict[str, Any]:
        if isinstance(self.spec, CallSpec):
            return {}
        small = int(self._small)
        splits = self.steps.count(MAP_STEP) + small
        splits_done = splits - self.steps.left(MAP_STEP) - (small and self.steps.left(SMALL))
        elapsed = (now if self.ended_s is None else self.ended_s) - self.created_s
        docs_in = self._map_totals.docs_in + self._in_progress(MAP_STEP, SMALL)
        reduces = self.steps.count(REDUCE_STEP) + small
        reduces_done = reduces - self.steps.left(REDUCE_STEP) - (small and self.steps.left(SMALL))
        keys_done = sum(self._reduce_totals.keys.values())
        return {
            "splits": splits,
            "splits_done": splits_done,
            "docs_in": docs_in,
            "docs_per_s": round(docs_in / elapsed, 1) if elapsed > 0 else 0.0,
            "pairs_out": self._map_totals.pairs_out,
            "bytes_shuffled": self._bytes_shuffled,
            "reduces": reduces,
            "reduces_done": reduces_done,
            "keys_out": keys_done + self._in_progress(REDUCE_STEP),
            "outputs": dict(self._reduce_totals.keys),
            "written": self._reduce_totals.written,
            "present": self._reduce_totals.present,
            "late": self._reduce_totals.late,
            "skipped_count": self._map_totals.skipped_count,
            "skipped_ids": list(self._map_totals.skipped_ids),
            "attempts_lost": self.attempts_lost,
            "last_failure": self.last_failure,
            "elapsed_s": round(elapsed, 3),
            "remaining_s": self._remaining_s(now, splits, reduces_done),
        }

    def _in_progress(self, *kinds: str) -> int:
        """Return documents or keys reported by steps that are running; two attempts at one step count once."""
        steps = [step for step in self.steps.under_way if step.kind in kinds]
        return sum(max(a.docs for a in step.attempts.values()) for step in steps)

    def _remaining_s(self, now: float, splits: int, reduces_done: int) -> float | None:
        """Estimate the rest of the current phase from its finished steps; None if there are none, or no phase runs."""
        if self.state == MAP and self.splits is not None:
            started_s, left = self.created_s, self.steps.left(MAP_STEP)
            done = splits - left
        elif self.state in _REDUCE_PHASES and self._reduce_started_s is not None:
            started_s, left, done = self._reduce_started_s, self.steps.left(REDUCE_STEP), reduces_done
        else:
            return None
        return round((now - started_s) / done * left, 1) if done else None

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

    def _add_reduced(self, result: dict[str, Any]) -> None:
        totals = self._reduce_totals
        for label, keys, written, present, late in result["outputs"]:
            totals.keys[label] = totals.keys.get(label, 0) + keys
            totals.written += written
            totals.present += present
            totals.late += late

    def _add_mapped(self, output: SplitOutput) -> None:
        self._map_totals.add(output.counts)
        self._bytes_shuffled += output.length

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
        self._map_totals, self._bytes_shuffled = MapCounts(), 0
        for output in self.outputs.values():
            self._add_mapped(output)
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


def is_small(spec: JobSpec, map_job_size: int) -> bool:
    """Return True if the range of ids fits into one split: with whole and unique ids it bounds the documents."""
    low, high = spec.id_min, spec.id_max
    if not is_whole(low) or not is_whole(high) or any(source.id_key != "_id" for source in spec.sources):
        return False
    if any(output.output_type == "replace" for output in spec.outputs.values()):
        return False
    inputs = sum(len(source.input_names) for source in spec.sources)
    return bool((high - low) * inputs <= (spec.map_job_size or map_job_size))
