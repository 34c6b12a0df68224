"""Reduces partitions: brings the values of each key together from all runs, and reduces each key once.

What fits into memory is grouped in a dict; a partition that does not is merged from its sorted runs, so that memory
holds one batch of each run and not the partition.
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

from mapreduce.exceptions import MapReduceError, ReduceFailedError
from mapreduce.key import canonical
from mapreduce.step.map import ReduceFunction, reduce_failed
from mapreduce.step.spill import RunWriter, batches, read_file
from mapreduce.task_error import is_of_task

FOLD_COUNT = 1_000  # values handed to an associative reduce at once when a partition is streamed
FAN_IN = 128  # runs merged at once
READ_BYTES = 256 * 2**10


@dataclass(frozen=True)
class SortedRun:
    """A sorted run at hand: its bytes, or where they lie in a local file."""

    length: int  # bytes
    data: bytes | None
    path: Path | None = None
    offset: int = 0

    def batches(self) -> Iterator[Any]:
        """Its `{k, v}` batches; a run in a file is read piece by piece."""
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
    """Length of the complete BSON documents at the start of `data`."""
    end = 0
    while end + 4 <= len(data):
        length = int.from_bytes(data[end : end + 4], "little")
        if end + length > len(data):
            break
        end += length
    return end


@dataclass(frozen=True)
class ReduceJob:
    """What the reduction of a partition needs beside its runs."""

    reduce: ReduceFunction | None  # None = each key has exactly one value
    associative: bool
    memory_bytes: int  # encoded bytes of one partition that are grouped in memory
    scratch: Callable[[], Path]  # a new file name for intermediate runs


def reduce_runs(job: ReduceJob, runs: Sequence[SortedRun]) -> Iterator[tuple[Any, Any]]:
    """Yield `(key, state)`, each key of one partition once, in no particular order.

    An associative reduce is given lists (folded, when there are many values), one that is not an iterator that can be
    read once. Raises `ReduceFailedError` naming the key, `OutputGoneError` when the bytes of a run are not there.
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
        key = keys[name] if type(name) is bytes else name
        yield key, _reduced(job, key, values if job.associative else iter(values))


def _reduced(job: ReduceJob, key: Any, values: Any) -> Any:
    if job.reduce is None:
        return _only(key, values)
    try:
        return job.reduce(key, values)
    except BaseException as error:
        if isinstance(error, MapReduceError) or not is_of_task(error):
            raise
        raise reduce_failed(key, error) from error


def _only(key: Any, values: Iterable[Any]) -> Any:
    found = list(itertools.islice(values, 2))
    if len(found) > 1:
        raise ReduceFailedError(f"key {key!r} has several values and the job has no reduce: name one", {"key": key})
    return found[0]


def _merged(job: ReduceJob, runs: Sequence[SortedRun]) -> Iterator[tuple[Any, Any]]:
    scratch: list[Path] = []
    try:
        while len(runs) > FAN_IN:
            runs = [_merge_to_file(job, runs[at : at + FAN_IN], scratch) for at in range(0, len(runs), FAN_IN)]
        for _, records in itertools.groupby(_records(runs), key=operator.itemgetter(0)):
            _, key, first = next(records)
            values = itertools.chain([first], map(operator.itemgetter(2), records))  # noqa: B031 - read once, in order
            yield key, _reduced(job, key, _folded(job, key, values) if job.associative else values)
    finally:
        for path in scratch:
            path.unlink(missing_ok=True)


def _records(runs: Sequence[SortedRun]) -> Iterator[tuple[bytes, Any, Any]]:
    """`(canonical key, key, value)` of all runs in order of key."""
    return heapq.merge(*(_run_records(run) for run in runs), key=operator.itemgetter(0))


def _run_records(run: SortedRun) -> Iterator[tuple[bytes, Any, Any]]:
    for batch in run.batches():
        for key, value in zip(batch["k"], batch["v"], strict=True):
            yield canonical(key), key, value


def _folded(job: ReduceJob, key: Any, values: Iterator[Any]) -> list[Any]:
    """The values of one key as a list of at most `FOLD_COUNT`, reduced as often as that takes."""
    held = list(itertools.islice(values, FOLD_COUNT))
    while more := list(itertools.islice(values, FOLD_COUNT - 1)):
        held = [_reduced(job, key, held), *more]
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
