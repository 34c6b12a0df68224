"""Add up the finished steps of a job, and show people how far it has come. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mapreduce.job.spec import COMMIT, FINALIZE, MAP, REDUCE
from mapreduce.scheduler.map_output_index import SplitOutput
from mapreduce.scheduler.step import MAP_STEP, REDUCE_STEP, SMALL, Steps
from mapreduce.step.map import MapCounts

REDUCE_PHASES = (REDUCE, FINALIZE, COMMIT)


@dataclass
class JobTotals:
    """Sums over the available map outputs and the finished reduce steps of a job; see `CommitCounts`."""

    mapped: MapCounts = field(default_factory=MapCounts)
    bytes_shuffled: int = 0
    keys: dict[str, int] = field(default_factory=dict)  # by output label
    written: int = 0
    present: int = 0
    late: int = 0

    def add_mapped(self, output: SplitOutput) -> None:
        """Add the counts of a map output."""
        self.mapped.add(output.counts)
        self.bytes_shuffled += output.length

    def count_again(self, outputs: Iterable[SplitOutput]) -> None:
        """Count the map outputs that are left after some were lost."""
        self.mapped, self.bytes_shuffled = MapCounts(), 0
        for output in outputs:
            self.add_mapped(output)

    def add_reduced(self, result: Mapping[str, Any]) -> None:
        """Add the counts by output of a reduce step."""
        for label, keys, written, present, late in result["outputs"]:
            self.keys[label] = self.keys.get(label, 0) + keys
            self.written += written
            self.present += present
            self.late += late


@dataclass(frozen=True)
class JobMoment:
    """A job at a moment, beyond its steps and totals. Times are on the router's clock."""

    at_s: float  # now, or when the job ended
    state: str
    small: bool  # True while it is a small job
    planned: bool  # True once its splits are known
    created_s: float
    reduce_started_s: float | None  # None = it has not started
    attempts_lost: int
    last_failure: str | None


def job_progress(job: JobMoment, steps: Steps, totals: JobTotals) -> dict[str, Any]:
    """Return the progress of a job, as `JobStatus` has it."""
    small = int(job.small)
    splits = steps.count(MAP_STEP) + small
    splits_done = splits - steps.left(MAP_STEP) - (small and steps.left(SMALL))
    elapsed = job.at_s - job.created_s
    docs_in = totals.mapped.docs_in + _in_progress(steps, MAP_STEP, SMALL)
    reduces = steps.count(REDUCE_STEP) + small
    reduces_done = reduces - steps.left(REDUCE_STEP) - (small and steps.left(SMALL))
    keys_done = sum(totals.keys.values())
    return {
        "splits": splits,
        "splits_done": splits_done,
        "docs_in": docs_in,
        "docs_per_s": round(docs_in / elapsed, 1) if elapsed > 0 else 0.0,
        "pairs_out": totals.mapped.pairs_out,
        "bytes_shuffled": totals.bytes_shuffled,
        "reduces": reduces,
        "reduces_done": reduces_done,
        "keys_out": keys_done + _in_progress(steps, REDUCE_STEP),
        "outputs": dict(totals.keys),
        "written": totals.written,
        "present": totals.present,
        "late": totals.late,
        "skipped_count": totals.mapped.skipped_count,
        "skipped_ids": list(totals.mapped.skipped_ids),
        "attempts_lost": job.attempts_lost,
        "last_failure": job.last_failure,
        "elapsed_s": round(elapsed, 3),
        "remaining_s": _remaining_s(job, steps, splits, reduces_done),
    }


def _in_progress(steps: Steps, *kinds: str) -> int:
    """Return documents or keys reported by steps that are running; two attempts at one step count once."""
    running = [step for step in steps.under_way if step.kind in kinds]
    return sum(max(a.docs for a in step.attempts.values()) for step in running)


def _remaining_s(job: JobMoment, steps: Steps, splits: int, reduces_done: int) -> float | None:
    """Estimate the rest of the current phase from its finished steps; None if there are none, or no phase runs."""
    if job.state == MAP and job.planned:
        started_s, left = job.created_s, steps.left(MAP_STEP)
        done = splits - left
    elif job.state in REDUCE_PHASES and job.reduce_started_s is not None:
        started_s, left, done = job.reduce_started_s, steps.left(REDUCE_STEP), reduces_done
    else:
        return None
    return round((job.at_s - started_s) / done * left, 1) if done else None
