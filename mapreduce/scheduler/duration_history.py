"""Typical durations of steps by the functions they run, for jobs without finished steps of their own. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from mapreduce.job.basic_job import CallSpec
from mapreduce.job.spec import JobSpec
from mapreduce.scheduler.step import MAP_STEP, PLAN, SMALL
from mapreduce.scheduler.step_timing import StepTiming

KINDS = (PLAN, MAP_STEP, SMALL)  # a second attempt at other kinds could still write after the job has gone on
KEPT = 1_000  # sets of functions that are remembered, the most recently used


class DurationHistory:
    """Typical durations of steps in earlier jobs with the same functions and splits. Belongs to the router's thread."""

    def __init__(self) -> None:
        self._by_name: OrderedDict[Hashable, dict[str, StepTiming]] = OrderedDict()

    def apply_to(self, spec: JobSpec | CallSpec, timings: dict[str, StepTiming]) -> None:
        """Set `before_s` of a new job's `timings` from earlier jobs; not for calls, which get no second attempt."""
        if isinstance(spec, CallSpec):
            return
        for kind, known in self._by_name.get(_name(spec), {}).items():
            timings[kind].before_s = known.typical_s

    def record(self, spec: JobSpec | CallSpec, timings: dict[str, StepTiming]) -> None:
        """Remember the typical durations of a completed job's steps."""
        if isinstance(spec, CallSpec):
            return
        name = _name(spec)
        known = self._by_name.setdefault(name, {})
        self._by_name.move_to_end(name)
        for kind in KINDS:
            timing = timings[kind]
            if timing.typical_s is not None:
                known.setdefault(kind, StepTiming(timing.ceiling_s)).add(timing.typical_s)
        while len(self._by_name) > KEPT:
            self._by_name.popitem(last=False)


def _name(spec: JobSpec) -> Hashable:
    maps = tuple(source.map_name for source in spec.sources)
    return maps, spec.reduce_name, spec.finalize_name, spec.map_job_size
