"""A job whose id range fits into one split is a single step, and its results are those of any other job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from bson.int64 import Int64

from mapreduce.exceptions import MapFailedError
from mapreduce.job.spec import COMMIT, COMPLETE, ERROR, MAP, JobSpec, Output, Source
from mapreduce.scheduler.job_limits import JobLimits, is_small
from mapreduce.scheduler.job_state import JobState
from mapreduce.scheduler.step import MAP_STEP, SMALL
from mapreduce.step.reader import KeyRange

LIMITS = JobLimits(reduce_count=4, outstanding_maps=16, outstanding_reduces=16, split_limit_s=600.0, map_job_size=1_000)
COUNTED: Mapping[str, Any] = {
    "docs_in": 900,
    "pairs_out": 1_800,
    "skipped_count": 1,
    "skipped_ids": [7],
    "outputs": [["", 20, 15, 3, 2]],
}


def spec(low: Any = 0, high: Any = 1_000, *, inputs: int = 1, kind: str = "reduce", id_key: str = "_id") -> JobSpec:
    source = Source(tuple(f"event.{n}" for n in range(inputs)), "tasks:map", id_key=id_key)
    output = Output("zagg.x", kind)  # type: ignore[arg-type]
    return JobSpec("db", (source,), {"": output}, "tasks:reduce", id_min=low, id_max=high, stamp=(low, high))


def begun(job: JobState, worker: str = "w1", attempt: str = "a1", now: float = 0.0) -> str:
    step = job.offer(worker, now)
    assert step is not None
    job.begin(step, attempt, worker, now)
    return step.kind


@pytest.mark.parametrize(
    ("found", "small"),
    [
        (spec(0, 1_000), True),
        (spec(Int64(5_000_000_000), Int64(5_000_001_000)), True),
        (spec(0, 1_001), False),
        (spec(0, 500, inputs=2), True),
        (spec(0, 501, inputs=2), False),
        (spec(None, 1_000), False),
        (spec("a", "b"), False),
        (spec(0, 10, kind="replace"), False),
        (spec(0, 10, id_key="n"), False),  # such a key may be there many times
    ],
)
def test_a_range_of_unique_integer_ids_decides_whether_a_job_is_small(found: JobSpec, small: bool) -> None:
    assert is_small(found, 1_000) is small


def test_a_small_job_is_done_after_one_step():
    job = JobState(spec(), LIMITS, 0.0)
    assert begun(job) == SMALL
    assert job.state == MAP
    job.progressed("a1", 20, COMMIT, 0.1)
    job.settle(slots=2, now=0.1)
    assert job.state == COMMIT
    job.done("a1", dict(COUNTED), None, 0.2)
    status = job.status(0.3)
    assert status.state == COMPLETE
    wanted = {"splits": 1, "splits_done": 1, "reduces": 1, "reduces_done": 1, "docs_in": 900, "keys_out": 20}
    wanted |= {"skipped_count": 1, "skipped_ids": [7], "written": 15, "present": 3, "late": 2}
    assert {name: status.progress[name] for name in wanted} == wanted


def test_a_small_job_lost_during_its_commit_is_given_to_another_worker():
    job = JobState(spec(), LIMITS, 0.0)
    begun(job)
    job.progressed("a1", 20, COMMIT, 0.1)
    job.worker_gone("w1", "killed", 0.2)
    assert begun(job, "w2", "a2", 0.3) == SMALL
    job.done("a2", dict(COUNTED), None, 0.4)
    assert job.state == COMPLETE


def test_a_small_job_that_may_have_written_never_reports_that_nothing_was_written():
    job = JobState(spec(), LIMITS, 0.0)
    begun(job)
    assert job.status(0.0).progress["reduces"] == 1


def test_a_small_job_whose_map_fails_ends_in_error():
    job = JobState(spec(), LIMITS, 0.0)
    begun(job)
    job.failed("a1", MapFailedError("map failed on document 3"), 0.1)
    assert job.state == ERROR


def test_a_job_planned_before_the_limit_was_raised_keeps_its_plan():
    job = JobState(spec(), LIMITS, 0.0)
    job.planned([KeyRange(0, "event.0", 0, 500), KeyRange(0, "event.0", 500, 1_000)])
    assert begun(job) == MAP_STEP
    assert begun(job, "w1", "a2") == MAP_STEP
    assert job.offer("w2", 0.0) is None
