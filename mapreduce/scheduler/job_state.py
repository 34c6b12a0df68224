"""The life of one job as pure decisions: what happened goes in, what is to be done comes out. No I/O, no clock.

States: ready -> query -> map -> reduce, finalize, commit -> complete; from each of them error or cancelled. A job goes
back from reduce to map when the output of a map is gone with its worker. A small job is one step from map to commit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mapreduce.exceptions import REFUSALS, MapReduceError, OutputGoneError, WorkerFailedError
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
from mapreduce.scheduler.map_output_index import SplitOutput, group_partitions
from mapreduce.scheduler.step import CALL, MAP_STEP, PLAN, PUBLISH, REDUCE_STEP, SMALL, Attempt, Step, Steps
from mapreduce.step.map import shown_ids
from mapreduce.step.reader import KeyRange

FAILURE_CHARACTERS = 500  # of the failure that progress shows
MAX_LOST = 5  # attempts of one step that may be lost with their worker or run out of time
MAX_TRANSIENT = 12  # attempts of one step that may fail for a reason that passes, such as MongoDB being away
log = logging.getLogger(__name__)

_REDUCE_PHASES = (REDUCE, FINALIZE, COMMIT)


@dataclass(frozen=True)
class JobLimits:
    """What the router's settings say about every job."""

    reduce_count: int
    outstanding_maps: int
    outstanding_reduces: int
    split_limit_s: float
    map_job_size: int = 0  # ranges of up to so many ids are a small job; 0 = none is


@dataclass
class ReduceTotals:
    """What the done reduce steps of a job add up to."""

    keys: dict[str, int] = field(default_factory=dict)  # by output label
    written: int = 0
    present: int = 0
    late: int = 0


class JobState:
    """One job. Belongs to the router's thread. Methods that take in an event return the attempts to be aborted."""

    def __init__(self, spec: JobSpec | CallSpec, limits: JobLimits, now: float, *, durable: bool = True) -> None:
        self.spec = spec
        self.durable = durable  # False: whoever submitted it has recorded it, and submits it again when it is lost
        self.job_id = spec.job_id
        self.state = READY
        self.error: MapReduceError | None = None
        self.result: Any = None
        self.created_s = now
        self.turn_s = now  # jobs get their turn by this: who has cost a process goes to the end of the queue
        self.last_failure: str | None = None  # why the attempt failed or was lost that was so last, for people
        self.ended_s: float | None = None
        self._reduce_begun_s: float | None = None
        self.splits: list[KeyRange] | None = None
        self.outputs: dict[int, SplitOutput] = {}
        self.partitions = 1
        self.attempts_lost = 0
        self._limits = limits
        self._refusal: MapReduceError | None = None  # what a worker said last that has not the code
        self._groups: list[list[tuple[str, int]]] = []
        self._reduced = ReduceTotals()
        self._mapped = _Mapped()
        ceiling = (spec.split_limit_s if isinstance(spec, JobSpec) else None) or limits.split_limit_s
        self.steps = Steps(ceiling)
        self._small = isinstance(spec, JobSpec) and is_small(spec, limits.map_job_size)
        self.steps.add(CALL if isinstance(spec, CallSpec) else SMALL if self._small else PLAN, 0)

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in END_STATES

    def offer(self, worker_id: str, now: float) -> Step | None:
        """The step that an idle worker is to do for this job, if any."""
        if self.ended:
            return None
        if self.state in _REDUCE_PHASES:
            return self.steps.offer((REDUCE_STEP, PUBLISH, SMALL), worker_id, now, self._limits.outstanding_reduces)
        return self.steps.offer((CALL, SMALL, PLAN, MAP_STEP), worker_id, now, self._limits.outstanding_maps)

    def begin(self, step: Step, attempt_id: str, worker_id: str, now: float) -> Attempt:
        """Note that `step` was given to a worker."""
        if self.state == READY:
            self.state = QUERY if step.kind == PLAN else MAP
        return self.steps.begin(step, attempt_id, worker_id, now)

    def group(self, index: int) -> list[tuple[str, int]]:
        """Label and partition of everything that one reduce step reduces."""
        return self._groups[index]

    def progressed(self, attempt_id: str, docs: int, phase: str | None, now: float) -> None:
        """An attempt has got further."""
        found = self.steps.find(attempt_id)
        if found is None or self.ended:
            return
        step, attempt = found
        attempt.docs, attempt.progressed_s, attempt.phase = docs, now, phase or attempt.phase
        if step.kind == SMALL:
            self.state = phase or self.state
        elif step.kind == REDUCE_STEP and self.state in _REDUCE_PHASES:
            steps = [other for other in self.steps.under_way if other.kind == REDUCE_STEP]
            phases = [a.phase or REDUCE for other in steps for a in other.attempts.values()]
            self.state = min(phases, key=_REDUCE_PHASES.index)

    def planned(self, splits: Iterable[KeyRange]) -> None:
        """The splits are known, from a plan step or from the job's record."""
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
        """A worker still holds the output of a split. It counts when it was read from the range that the split is now:
        a killed router may have made another plan, and not recorded it.
        """
        splits = self.splits or ()
        known = output.split < len(splits) and output.span == splits[output.split].to_document()
        return self.mapped(output) if known else []

    def mapped(self, output: SplitOutput) -> list[Attempt]:
        """The output of a split is there, from a map step or from a worker that still holds it."""
        step = self.steps.get(MAP_STEP, output.split)
        if step is None or step.done or self.ended:
            return []
        self.outputs[output.split] = output
        self._mapped.add(output)
        return self.steps.finish(step)

    def settle(self, slots: int, now: float) -> None:
        """Go on to the next state where everything of this one is done. `slots` = steps that can run at once."""
        if self.state == MAP and self.splits is not None and not self.steps.left(MAP_STEP):
            self._reduce_begun_s = now
            self._begin_reduce(slots)
        if self.state in _REDUCE_PHASES and not self._small and not self.steps.left(REDUCE_STEP):
            if not self._replaces():
                self._end(COMPLETE, now)
            elif self.steps.get(PUBLISH, 0) is None:
                self.state = COMMIT
                self.steps.add(PUBLISH, 0)

    def done(self, attempt_id: str, result: dict[str, Any], output: SplitOutput | None, now: float) -> list[Attempt]:
        """An attempt has succeeded. An answer of one that was given up before changes nothing."""
        found = self.steps.find(attempt_id)
        if found is None or self.ended:
            return []
        step, attempt = found
        self.steps.timeouts[step.kind].add(now - attempt.started_s)
        others = [other for other in step.attempts.values() if other is not attempt]
        if step.kind == PLAN:
            self.steps.drop(step)
            self.planned(KeyRange.from_document(item) for item in result["splits"])
        elif output is not None:
            self.mapped(output)
        else:
            self.steps.finish(step)
            if step.kind == REDUCE_STEP:
                self._add_reduced(result)
            elif step.kind == SMALL:
                self._add_small(result)
                self._end(COMPLETE, now)
            else:
                self.result = result.get("result")
                self._end(COMPLETE, now)
        return others

    def failed(self, attempt_id: str, error: MapReduceError, now: float) -> list[Attempt]:
        """An attempt has failed: the step is tried again, elsewhere or later, or the job ends in error."""
        found = self.steps.find(attempt_id)
        if found is None or self.ended:
            return []
        step, attempt = found
        self._note(step, f"{error.code}: {error.message}")
        if isinstance(error, OutputGoneError):
            step.transient += 1
            self.steps.give_up(attempt_id, now)
            aborts = self._lose_outputs(error.details.get("splits", []))
        elif isinstance(error, REFUSALS):
            step.refused_by.add(attempt.worker_id)
            self._refusal = error
            self.steps.give_up(attempt_id, now)
            aborts = []
        elif error.retryable:
            step.transient += 1
            self.steps.give_up(attempt_id, now, pause=True)
            aborts = []
        else:
            return self._stop(ERROR, now, error)
        if step.transient > MAX_TRANSIENT or step.lost >= MAX_LOST:
            return aborts + self._stop(ERROR, now, error)
        return aborts

    def refused(self, workers: set[str], now: float) -> list[Attempt]:
        """End in error when every one of `workers` has refused a step that waits. Without any it waits for one."""
        if self.ended or self._refusal is None or not self.steps.refused(workers):
            return []
        return self._stop(ERROR, now, self._refusal)

    def broken(self, attempt_id: str, why: str, now: float) -> list[Attempt]:
        """An attempt went with its process, which it may have ended: the next one waits, and other jobs come first."""
        self.turn_s = now
        return self.lost(attempt_id, why, now, pause=True)

    def lost(self, attempt_id: str, why: str, now: float, *, pause: bool = False) -> list[Attempt]:
        """An attempt went with its worker, or ran out of time."""
        found = self.steps.find(attempt_id)
        if found is None or self.ended:
            return []
        step, attempt = found
        self._note(step, f"lost on worker {attempt.worker_id}: {why}")
        step.lost += 1
        self.attempts_lost += 1
        self.steps.give_up(attempt_id, now, pause=pause)
        if step.lost < MAX_LOST:
            return []
        what = f"{step.kind} {step.index}"
        if step.kind == MAP_STEP and self.splits:
            span = self.splits[step.index]
            what = f"split {step.index} (ids above {span.low!r} to {span.high!r} of {span.collection})"
        message = f"{what} was lost {step.lost} times, the last time on worker {attempt.worker_id}: {why}"
        return self._stop(ERROR, now, WorkerFailedError(message, {"step": step.kind, "index": step.index}))

    def worker_gone(self, worker_id: str, why: str, now: float) -> list[Attempt]:
        """A worker is gone, with its attempts and the map output that only it held."""
        aborts: list[Attempt] = []
        for attempt in self.steps.attempts(lambda attempt: attempt.worker_id == worker_id):
            aborts += self.lost(attempt.attempt_id, why, now)
        needed = self.state == MAP or self.steps.left(REDUCE_STEP) > 0
        if not self.ended and needed:
            gone = [i for i, o in self.outputs.items() if o.worker_id == worker_id and o.data is None]
            aborts += self._lose_outputs(gone)
        return [attempt for attempt in aborts if attempt.worker_id != worker_id]

    def cancel(self, now: float) -> list[Attempt]:
        """A person wants it to stop."""
        return [] if self.ended else self._stop(CANCELLED, now)

    def fail(self, error: MapReduceError, now: float) -> list[Attempt]:
        """It cannot go on."""
        return [] if self.ended else self._stop(ERROR, now, error)

    def status(self, now: float) -> JobStatus:
        """State, error and progress."""
        error = self.error.to_document() if self.error else None
        trace = error["details"].get("traceback") if error else None
        return JobStatus(self.job_id, self.state, error, trace, self._progress(now), self.result)

    def _note(self, step: Step, why: str) -> None:
        self.last_failure = f"{step.kind} {step.index}: {why}"[:FAILURE_CHARACTERS]
        log.warning("job %s: %s", self.job_id, self.last_failure)

    def _progress(self, now: float) -> dict[str, Any]:
        if isinstance(self.spec, CallSpec):
            return {}
        small = int(self._small)
        splits = self.steps.count(MAP_STEP) + small
        splits_done = splits - self.steps.left(MAP_STEP) - (small and self.steps.left(SMALL))
        elapsed = (now if self.ended_s is None else self.ended_s) - self.created_s
        docs_in = self._mapped.docs_in + self._under_way(MAP_STEP, SMALL)
        reduces = self.steps.count(REDUCE_STEP) + small
        reduces_done = reduces - self.steps.left(REDUCE_STEP) - (small and self.steps.left(SMALL))
        keys_done = sum(self._reduced.keys.values())
        return {
            "splits": splits,
            "splits_done": splits_done,
            "docs_in": docs_in,
            "docs_per_s": round(docs_in / elapsed, 1) if elapsed > 0 else 0.0,
            "pairs_out": self._mapped.pairs_out,
            "bytes_shuffled": self._mapped.length,
            "reduces": reduces,
            "reduces_done": reduces_done,
            "keys_out": keys_done + self._under_way(REDUCE_STEP),
            "outputs": dict(self._reduced.keys),
            "written": self._reduced.written,
            "present": self._reduced.present,
            "late": self._reduced.late,
            "skipped_count": self._mapped.skipped_count,
            "skipped_ids": list(self._mapped.skipped_ids),
            "attempts_lost": self.attempts_lost,
            "last_failure": self.last_failure,
            "elapsed_s": round(elapsed, 3),
            "remaining_s": self._remaining_s(now, splits, reduces_done),
        }

    def _under_way(self, *kinds: str) -> int:
        """Documents or keys that steps under way have reported; two attempts of one step count once."""
        steps = [step for step in self.steps.under_way if step.kind in kinds]
        return sum(max(a.docs for a in step.attempts.values()) for step in steps)

    def _remaining_s(self, now: float, splits: int, reduces_done: int) -> float | None:
        """How long the phase takes that is under way, by what of it is done; None while nothing is, or at the end."""
        if self.state == MAP and self.splits is not None:
            begun_s, left = self.created_s, self.steps.left(MAP_STEP)
            done = splits - left
        elif self.state in _REDUCE_PHASES and self._reduce_begun_s is not None:
            begun_s, left, done = self._reduce_begun_s, self.steps.left(REDUCE_STEP), reduces_done
        else:
            return None
        return round((now - begun_s) / done * left, 1) if done else None

    def _begin_reduce(self, slots: int) -> None:
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
        totals = self._reduced
        for label, keys, written, present, late in result["outputs"]:
            totals.keys[label] = totals.keys.get(label, 0) + keys
            totals.written += written
            totals.present += present
            totals.late += late

    def _add_small(self, result: dict[str, Any]) -> None:
        self._mapped.docs_in = result["docs_in"]
        self._mapped.pairs_out = result["pairs_out"]
        self._mapped.skipped_count = result["skipped_count"]
        self._mapped.skipped_ids = result["skipped_ids"]
        self._add_reduced(result)

    def _lose_outputs(self, indexes: Sequence[int]) -> list[Attempt]:
        """Map output is gone: its splits are mapped again, and reduces wait for them."""
        for index in indexes:
            step = self.steps.get(MAP_STEP, index)
            if self.outputs.pop(index, None) is not None and step is not None:
                self.steps.again(step)
                self.state = MAP
        if self.state != MAP:
            return []
        self._mapped = _Mapped()
        for output in self.outputs.values():
            self._mapped.add(output)
        return self.steps.hold(REDUCE_STEP)

    def _stop(self, state: str, now: float, error: MapReduceError | None = None) -> list[Attempt]:
        self.error = error
        ended = [attempt for step in self.steps.under_way for attempt in self.steps.drop(step)]
        self._end(state, now)
        return ended

    def _end(self, state: str, now: float) -> None:
        self.state = state
        self.ended_s = now
        self.outputs.clear()


def is_small(spec: JobSpec, map_job_size: int) -> bool:
    """Whether the range of ids holds no more documents than one split may: `_id` is unique, and these are whole."""
    low, high = spec.id_min, spec.id_max
    if not _is_whole(low) or not _is_whole(high) or any(source.id_key != "_id" for source in spec.sources):
        return False
    if any(output.output_type == "replace" for output in spec.outputs.values()):
        return False
    inputs = sum(len(source.input_names) for source in spec.sources)
    return bool((high - low) * inputs <= (spec.map_job_size or map_job_size))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass
class _Mapped:
    """What the outputs that are there add up to."""

    docs_in: int = 0
    pairs_out: int = 0
    length: int = 0
    skipped_count: int = 0
    skipped_ids: list[Any] = field(default_factory=list)

    def add(self, output: SplitOutput) -> None:
        self.docs_in += output.docs_in
        self.pairs_out += output.pairs_out
        self.length += output.length
        self.skipped_count += output.skipped_count
        self.skipped_ids = shown_ids([*self.skipped_ids, *output.skipped_ids])
