"""Execution of the steps of a job in any engine: plan, map a split, reduce partitions, publish."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mapreduce.codec import CODEC
from mapreduce.job.function_registry import Registry
from mapreduce.job.spec import REDUCE, JobSpec
from mapreduce.step import commit, replacement, split
from mapreduce.step.map import MapCounts, MapJob, run_map, stored_pairs
from mapreduce.step.reader import KeyRange, batches
from mapreduce.step.reduce import ReduceJob, SortedRun, reduce_runs
from mapreduce.step.spill import MapOutput, RunWriter

Bring = Callable[[], Sequence[SortedRun]]  # returns the runs of one partition
MEMORY_SHARE = 4  # a partition of up to spill_bytes / MEMORY_SHARE encoded bytes is grouped in memory


@dataclass(frozen=True)
class StepLimits:
    """Limits of one step: size of splits, memory, files and time."""

    map_job_size: int  # documents per split
    spill_bytes: int  # map output held in memory before a run is written
    compress: int  # zlib level of runs, 0 = none
    scratch: Path  # folder of this job's files
    prefix: str = "inline"  # start of the names of this process's files
    read_limit_s: float = 600.0  # longest time for which the read of a split can keep the server busy


@dataclass(frozen=True)
class ReduceCounts:
    """Counts of the reduction of some partitions."""

    keys: int  # distinct keys
    written: int  # documents written by this call
    present: int  # documents that already contained exactly this range
    late: int  # documents that are already past this range


@dataclass
class _Seen:
    keys: int = 0


class StepRunner:
    """One job with its functions resolved in this process. Belongs to one thread; every step blocks.

    The constructor raises `FunctionRefusedError` or `CodeChangedError` if this process lacks the job's functions or
    has loaded another version of them.
    """

    def __init__(self, spec: JobSpec, client: Any, registry: Registry, limits: StepLimits) -> None:
        registry.check_code(spec.code)
        self.spec = spec
        self._client = client
        self._limits = limits
        self._database = client.get_database(spec.database, codec_options=CODEC)
        self._maps = [registry.resolve(s.map_name, spec.params) if s.map_name else None for s in spec.sources]
        self._reduce = registry.resolve(spec.reduce_name, spec.params) if spec.reduce_name else None
        self._finalize = registry.resolve(spec.finalize_name, spec.params) if spec.finalize_name else None
        self._numbers = itertools.count()

    def plan(self) -> list[KeyRange]:
        """Return the splits of the inputs, after creating the collections for outputs of type replace."""
        self._refuse_views()
        for output in self.spec.outputs.values():
            if output.output_type == "replace":
                replacement.prepare_replacement(self._database, self.spec.job_id, output.collection)
        return split.plan(self._client, self.spec, self._limits.map_job_size)

    def map(
        self,
        span: KeyRange,
        partitions: int,
        on_progress: Callable[[int], None] | None = None,
        *,
        elsewhere: bool = False,
    ) -> tuple[MapOutput, MapCounts]:
        """Map one split into sorted runs by partition; call `on_progress` with the number of documents read so far.

        With `elsewhere`, as in `run_map`, another host can try the split.
        """
        source = self.spec.sources[span.source]
        database = self._client.get_database(source.database or self.spec.database)
        job = MapJob(
            map=self._maps[span.source] or stored_pairs,
            combine=self._reduce if self.spec.associative else None,
            labelled=self.spec.labelled(),
            partitions=partitions,
            spill_bytes=self._limits.spill_bytes,
            id_key=source.id_key,
        )
        writer, counts = run_map(
            job,
            lambda: batches(database, source, span, self.spec.split_limit_s or self._limits.read_limit_s),
            lambda: RunWriter(self._scratch("map"), self._limits.compress),
            skip=self.spec.on_error == "skip",
            elsewhere=elsewhere,
            on_progress=on_progress,
        )
        return writer.finish(), counts

    def reduce(
        self,
        partitions: Mapping[str, Sequence[Bring]],
        on_progress: Callable[[str, int], None] = lambda phase, keys: None,
    ) -> dict[str, ReduceCounts]:
        """Reduce and commit the partitions of each output label, each given by a function that returns its runs.

        Return counts by label; call `on_progress` with the phase and the keys so far when a phase starts.
        Commits before a failure stay: repeating the call completes them.
        """
        found: dict[str, ReduceCounts] = {}
        seen = _Seen()
        for label, groups in partitions.items():
            before = seen.keys
            on_progress(REDUCE, before)
            output = self.spec.output(label)
            # A stamp makes repeats of `reduce` harmless; the other types write the same documents again.
            job = commit.CommitJob(output, self._reduce, self._finalize, self.spec.stamp)
            results = self._results(groups, seen)
            counts = commit.commit(
                self._database, self.spec.job_id, job, results, lambda phase: on_progress(phase, seen.keys)
            )
            found[label] = ReduceCounts(seen.keys - before, counts.written, counts.present, counts.late)
        return found

    def small(
        self, on_progress: Callable[[int, str | None], None], *, elsewhere: bool = False
    ) -> tuple[MapCounts, dict[str, ReduceCounts]]:
        """Run all of a job whose documents fit into one split: read each input whole, and shuffle nothing.

        Return counts, those of the reduce by label; call `on_progress` with the documents or keys so far, and
        with a phase when it starts. Repeating it is as harmless as repeating `reduce`. `elsewhere` is as in `map`.
        """
        self._refuse_views()
        total = MapCounts()
        outputs: list[MapOutput] = []
        try:
            for span in self._whole_inputs():
                output, counts = self.map(
                    span, 1, lambda docs: on_progress(total.docs_in + docs, None), elsewhere=elsewhere
                )
                total.add(counts)
                outputs.append(output)
            return total, self.reduce(runs_by_label(outputs, 1), lambda phase, keys: on_progress(keys, phase))
        finally:
            for output in outputs:
                if output.path is not None:
                    output.path.unlink(missing_ok=True)

    def _refuse_views(self) -> None:
        commit.refuse_views(self._database, [output.collection for output in self.spec.outputs.values()])

    def _whole_inputs(self) -> Iterator[KeyRange]:
        for index, source in enumerate(self.spec.sources):
            for name in dict.fromkeys(source.input_names):
                yield KeyRange(index, name, self.spec.id_min, self.spec.id_max, hinted=False)

    def publish(self) -> None:
        """Replace the collections of outputs of type replace by the results, each in one step."""
        for output in self.spec.outputs.values():
            if output.output_type == "replace":
                replacement.publish(self._database, self.spec.job_id, output.collection)

    def _results(self, groups: Sequence[Bring], seen: _Seen) -> Iterator[tuple[Any, Any]]:
        job = ReduceJob(
            reduce=self._reduce,
            associative=self.spec.associative,
            memory_bytes=self._limits.spill_bytes // MEMORY_SHARE,
            scratch=lambda: self._scratch("merge"),
        )
        for bring in groups:
            for result in reduce_runs(job, bring()):
                seen.keys += 1
                yield result

    def _scratch(self, kind: str) -> Path:
        return self._limits.scratch / f"{self._limits.prefix}.{kind}.{next(self._numbers)}.bson"


def runs_by_label(outputs: Sequence[MapOutput], partitions: int) -> dict[str, list[Bring]]:
    """Return the runs of this process's map output, by label and partition, as `StepRunner.reduce` takes them."""
    found: dict[str, list[list[SortedRun]]] = {}
    for output in outputs:
        for segment in output.segments:
            groups = found.setdefault(segment.label, [[] for _ in range(partitions)])
            groups[segment.partition].append(SortedRun.of(output, segment))
    return {label: [partial(list, runs) for runs in groups] for label, groups in found.items()}
