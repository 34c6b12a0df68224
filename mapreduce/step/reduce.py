"""Reduce partitions: collect the values of each key from all runs, and reduce each key once.

A partition that fits into memory is grouped in a dict; a bigger one is merged from its sorted runs, so that memory
holds one batch per run instead of the partition.
"""

from __future__ import annotations

import heapq
import itertools
import operator
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mapreduce.exceptions import ReduceFailedError
from mapreduce.key import as_written, canonical
from mapreduce.step.map import ReduceFunction, call_reduce
from mapreduce.step.spill import MapOutput, RunSlice, RunWriter, batches, read_file

FOLD_COUNT = 1_000  # values per call of an associative reduce while a partition is merged
FAN_IN = 128  # runs merged at the same time
READ_BYTES = 256 * 2**10


@dataclass(frozen=True)
class SortedRun:
    """A locally available sorted run: its bytes, or their place in a local file."""

    length: int  # bytes
    data: bytes | None  # None = in the file `path` at `offset`
    path: Path | None = None
    offset: int = 0

    @classmethod
    def of(cls, output: MapOutput, segment: RunSlice) -> SortedRun:
        start, end = segment.offset, segment.offset + segment.length
        return cls(segment.length, None if output.data is None else output.data[start:end], output.path, start)

    def batches(self) -> Iterator[Any]:
        """Yield the run's `{k, v}` batches; a file is read piece by piece."""
        if self.data is not None:
            yield from batches(self.data)
            return
        rest, position, end = b"", self.offset, self.offset + self.length
        while position < end:
            piece = read_file(self.path or Path(), position, min(READ_BYTES, end - position))
            position += len(piece)
            rest += piece
            whole = _whole_documents(rest)
            yield from batches(rest[:whole])
            rest = rest[whole:]


def _whole_documents(data: bytes) -> int:
    """Return the length of the complete BSON documents at the start of `data`."""
    end = 0
    while end + 4 <= len(data):
        length = int.from_bytes(data[end : end + 4], "little")
        if end + length > len(data):
            break
        end += length
    return end


@dataclass(frozen=True)
class ReduceJob:
    """Function and limits for reducing a partition, without its runs."""

    reduce: ReduceFunction | None  # None = each key has exactly one value
    associative: bool
    memory_bytes: int  # a partition of up to this many encoded bytes is grouped in memory
    scratch: Callable[[], Path]  # returns a new file name for an intermediate run


def reduce_runs(job: ReduceJob, runs: Sequence[SortedRun]) -> Iterator[tuple[Any, Any]]:
    """Yield `(key, state)`, each key of one partition once, in no particular order.

    An associative reduce receives lists (of partly reduced values, if there are many); any other reduce receives an
    iterator. Raise `ReduceFailedError` naming the key, `OutputGoneError` if the bytes of a run are missing.
    """
    if sum(run.length for run in runs) <= job.memory_bytes:
        return _in_memory(job, runs)
    return _merged(job, runs)


def _in_memory(job: ReduceJob, runs: Sequence[SortedRun]) -> Iterator[tuple[Any, Any]]:
    groups: defaultdict[Hashable, list[Any]] = defaultdict(list)
    keys: dict[Hashable, Any] = {}
    for run in runs:
        for batch in run.batches():
            for key, value in zip(batch["k"], batch["v"], strict=True):
                if type(key) is str or type(key) is int:
                    groups[key].append(value)
                else:
                    code = canonical(key)
                    keys[code] = key
                    groups[code].append(value)
    while groups:
        name, values = groups.popitem()
        key = as_written(keys[name]) if type(name) is bytes else name
        yield key, call_reduce(job.reduce or _only, key, values if job.associative else iter(values))


def _only(key: Any, values: Iterable[Any]) -> Any:
    found = list(itertools.islice(values, 2))
    if len(found) > 1:
        raise ReduceFailedError(f"key {key!r} has several values but the job has no reduce: name one", {"key": key})
    return found[0]


def _merged(job: ReduceJob, runs: Sequence[SortedRun]) -> Iterator[tuple[Any, Any]]:
    scratch: list[Path] = []
    try:
        while len(runs) > FAN_IN:
            runs = [_merge_to_file(job, runs[at : at + FAN_IN], scratch) for at in range(0, len(runs), FAN_IN)]
        for _, records in itertools.groupby(_records(runs), key=operator.itemgetter(0)):
            _, decoded, first = next(records)
            key = as_written(decoded)
            values = itertools.chain([first], map(operator.itemgetter(2), records))  # noqa: B031 - read once, in order
            yield key, call_reduce(job.reduce or _only, key, _folded(job, key, values) if job.associative else values)
    finally:
        for path in scratch:
            path.unlink(missing_ok=True)


def _records(runs: Sequence[SortedRun]) -> Iterator[tuple[bytes, Any, Any]]:
    """Yield `(canonical key, key, value)` of all runs in order of canonical key."""
    return heapq.merge(*(_run_records(run) for run in runs), key=operator.itemgetter(0))


def _run_records(run: SortedRun) -> Iterator[tuple[bytes, Any, Any]]:
    for batch in run.batches():
        for key, value in zip(batch["k"], batch["v"], strict=True):
            yield canonical(key), key, value


def _folded(job: ReduceJob, key: Any, values: Iterator[Any]) -> list[Any]:
    """Return the values of one key as a list of at most `FOLD_COUNT`, reducing repeatedly to get there."""
    held = list(itertools.islice(values, FOLD_COUNT))
    while more := list(itertools.islice(values, FOLD_COUNT - 1)):
        held = [call_reduce(job.reduce or _only, key, held), *more]
    return held


def _merge_to_file(job: ReduceJob, runs: Sequence[SortedRun], scratch: list[Path]) -> SortedRun:
    """Merge several runs into one in a scratch file, without reducing."""
    path = job.scratch()
    scratch.append(path)
    writer = RunWriter(path, inline_bytes=0)
    records = _records(runs)
    while chunk := list(itertools.islice(records, 4_096)):
        writer.write("", 0, [record[1] for record in chunk], [record[2] for record in chunk])
    writer.finish()
    return SortedRun(writer.written, None, path)
