"""What workers send as results is checked before it is used."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mapreduce.codec import encode
from mapreduce.job.spec import MAP, QUERY
from mapreduce.scheduler.map_output_index import SplitOutput, group_partitions, pack_segments
from mapreduce.scheduler.order import JobEnded
from mapreduce.scheduler.reply_check import result_fault
from mapreduce.scheduler.step import CALL, MAP_STEP, PUBLISH, REDUCE_STEP, SMALL
from mapreduce.step.reader import KeyRange
from tests.support.mapreduce.scheduler_harness import SchedulerHarness


@pytest.mark.parametrize(
    "splits", [[{"no": "range"}], "x", None, [5], [{"s": "x", "c": "event.1", "l": 0, "h": 1, "i": True}], {"a": 1}]
)
def test_a_malformed_result_ends_the_attempt_and_not_the_job(splits: Any) -> None:
    harness = SchedulerHarness("w", "v")
    job = harness.add()
    (give,) = harness.gives()
    harness.answer(give, {"splits": splits})
    assert job not in [order.job for order in harness.step() if isinstance(order, JobEnded)]
    assert job.state == QUERY
    assert "its result cannot be used" in job.status(harness.now).progress["last_failure"]
    harness.now += 60
    harness.live("w", "v", seconds=0.5)
    (again,) = harness.gives()
    harness.answer(again, {"splits": [KeyRange(0, "event.1", 0, 1).to_document()]})
    assert job.state == MAP


@pytest.mark.parametrize(
    ("kind", "result", "fault"),
    [
        (REDUCE_STEP, {"outputs": [["", 1, 1, 0, 0]]}, ""),
        (REDUCE_STEP, {"outputs": [["", 1, 1, 0]]}, "outputs"),
        (REDUCE_STEP, {"outputs": [["", -1, 1, 0, 0]]}, "outputs"),
        (REDUCE_STEP, {}, "outputs"),
        (SMALL, {"outputs": [], "docs_in": 1, "pairs_out": 1, "skipped_count": 0, "skipped_ids": []}, ""),
        (SMALL, {"outputs": [], "docs_in": True, "pairs_out": 1, "skipped_count": 0, "skipped_ids": []}, "docs_in"),
        (SMALL, {"outputs": [], "docs_in": 1, "pairs_out": 1, "skipped_count": 0}, "skipped_ids"),
        (CALL, {"result": object}, ""),
        (PUBLISH, {}, ""),
    ],
)
def test_results_of_each_kind_of_step_are_checked(kind: str, result: dict[str, Any], fault: str) -> None:
    found = result_fault(kind, result, None, 1)
    assert bool(found) == bool(fault)
    assert fault in found


@pytest.mark.parametrize("segments", [b"", b"x" * 50, encode({"s": 5}), encode({"s": [["", 0, "x", 4, 1]]})])
def test_map_output_whose_segments_cannot_be_read_is_not_accepted(segments: bytes) -> None:
    assert result_fault(MAP_STEP, {}, SplitOutput(0, "a", "w", "tcp://w", None, segments, 4), 1)


def test_map_output_of_partitions_that_the_job_does_not_have_is_not_accepted() -> None:
    output = SplitOutput(0, "a", "w", "tcp://w", None, pack_segments([["", 2, 0, 4, 1]]), 4)
    assert result_fault(MAP_STEP, {}, output, 3) == ""
    assert "must be of one of 2 partitions" in result_fault(MAP_STEP, {}, output, 2)


def test_many_partitions_are_grouped_fast() -> None:
    began = time.process_time()
    assert len(group_partitions({("", number): 2**23 for number in range(100_000)}, 1)) == 100_000
    assert time.process_time() - began < 20
