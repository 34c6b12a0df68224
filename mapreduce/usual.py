"""How long steps usually take, by the functions that do them: what a new job goes by until it knows itself. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from mapreduce.call import CallSpec
from mapreduce.pace import Pace
from mapreduce.spec import JobSpec
from mapreduce.step import MAP_STEP, PLAN, SMALL

KINDS = (PLAN, MAP_STEP, SMALL)  # a second try of others may still write when the job goes on
KEPT = 1_000  # sets of functions that are remembered, those used last


class Usual:
    """Typical durations of steps in earlier jobs with the same functions and splits. Belongs to the router's thread."""

    def __init__(self) -> None:
        self._by_name: OrderedDict[Hashable, dict[str, Pace]] = OrderedDict()

    def tell(self, spec: JobSpec | CallSpec, paces: dict[str, Pace]) -> None:
        """Let `paces` of a new job know what is known. Calls are never begun twice, whatever they take."""
        if isinstance(spec, CallSpec):
            return
        for kind, known in self._by_name.get(_name(spec), {}).items():
            paces[kind].before_s = known.typical_s

    def learn(self, spec: JobSpec | CallSpec, paces: dict[str, Pace]) -> None:
        """Remember what the steps of a job took that is complete."""
        if isinstance(spec, CallSpec):
            return
        name = _name(spec)
        known = self._by_name.setdefault(name, {})
        self._by_name.move_to_end(name)
        for kind in KINDS:
            pace = paces[kind]
            if pace.typical_s is not None:
                known.setdefault(kind, Pace(pace.ceiling_s)).add(pace.typical_s)
        while len(self._by_name) > KEPT:
            self._by_name.popitem(last=False)


def _name(spec: JobSpec) -> Hashable:
    maps = tuple(source.map_name for source in spec.sources)
    return maps, spec.reduce_name, spec.finalize_name, spec.map_job_size
