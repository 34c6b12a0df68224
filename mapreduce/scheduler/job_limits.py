"""Limits that apply to every job, and which jobs are small."""

from __future__ import annotations

from dataclasses import dataclass

from mapreduce.job.spec import JobSpec
from mapreduce.job.value_check import is_whole


@dataclass(frozen=True)
class JobLimits:
    """The router's settings that apply to every job."""

    reduce_count: int
    outstanding_maps: int
    outstanding_reduces: int
    split_limit_s: float
    map_job_size: int = 0  # a range of at most this many ids is a small job; 0 = there are no small jobs


def is_small(spec: JobSpec, map_job_size: int) -> bool:
    """Return True if the range of ids fits into one split: with whole and unique ids it bounds the documents."""
    low, high = spec.id_min, spec.id_max
    if not is_whole(low) or not is_whole(high) or any(source.id_key != "_id" for source in spec.sources):
        return False
    if any(output.output_type == "replace" for output in spec.outputs.values()):
        return False
    inputs = sum(len(source.input_names) for source in spec.sources)
    return bool((high - low) * inputs <= (spec.map_job_size or map_job_size))
