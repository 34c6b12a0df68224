"""Run the map over one split: group the pairs it yields, combine early, and write sorted runs by partition.

Memory is bounded by `MapJob.spill_bytes`: above it the held pairs are combined and, if that does not help, written as
a run.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pymongo.errors import PyMongoError

from mapreduce.codec import NOT_BSON, encode
from mapreduce.exceptions import KeyRefusedError, MapFailedError, MapReduceError, ReduceFailedError, WorkerUnableError
from mapreduce.key import identity
from mapreduce.resource_error import may_be_of_host
from mapreduce.step.partition import group_by_partition
from mapreduce.step.reader import DocumentReader
from mapreduce.step.spill import RunWriter
from mapreduce.task_error import described, is_of_task
from mapreduce.traceback_text import task_traceback

PAIRS_AT_ONCE = 2_048  # pairs taken from the map between two checks of memory
COMBINE_AT = 50_000  # values held before they are combined
OBJECT_BYTES = 150  # memory of a Python value beyond its encoded size
SKIPPED_SHOWN = 1_000  # ids of skipped documents that are kept; the rest are only counted
SKIPPED_BYTES = 256 * 2**10  # limit of these ids, encoded

MapFunction = Callable[[Iterator[dict[str, Any]]], Iterable[Any]]
ReduceFunction = Callable[[Any, Any], Any]


@dataclass
class MapCounts:
    docs_in: int = 0
    pairs_out: int = 0
    skipped_count: int = 0
    skipped_ids: list[Any] = field(default_factory=list)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> MapCounts:
        """Return the counts among the fields of `document`."""
        return cls(**{item.name: document[item.name] for item in fields(cls)})

    def add(self, other: MapCounts) -> None:
        self.docs_in += other.docs_in
        self.pairs_out += other.pairs_out
        self.skipped_count += other.skipped_count
        self.skipped_ids = shown_ids([*self.skipped_ids, *other.skipped_ids])


@dataclass(frozen=True)
class MapJob:
    """Functions and limits of a map, without its documents."""

    map: MapFunction
    combine: ReduceFunction | None  # the reduce if it is associative, else None
    labelled: bool  # True if the map yields {c, k, v}
    partitions: int
    spill_bytes: int
    id_key: str = "_id"


def shown_ids(ids: list[Any]) -> list[Any]:
    """Return the first of `ids`: at most `SKIPPED_SHOWN` of them and `SKIPPED_BYTES` encoded."""
    if not ids:
        return ids
    kept: list[Any] = []
    held = 0
    for found in ids[:SKIPPED_SHOWN]:
        held += len(encode({"i": found}))
        if held > SKIPPED_BYTES:
            break
        kept.append(found)
    return kept


def stored_pairs(documents: Iterator[dict[str, Any]]) -> Iterator[tuple[Any, Any]]:
    """Yield `(_id, value)` of each document: the map of a source without one."""
    for document in documents:
        yield document["_id"], document["value"]


class Collector:
    """Group pairs by label and key, and write them to a `RunWriter`, sorted and partitioned. Belongs to one thread."""

    def __init__(self, job: MapJob, writer: RunWriter) -> None:
        self._job = job
        self._writer = writer
        self._groups: defaultdict[str, defaultdict[Hashable, list[Any]]] = defaultdict(lambda: defaultdict(list))
        self._keys: dict[bytes, Any] = {}  # normalised keys by canonical bytes; strings and integers are not in it
        self._held = 0
        self._since_combine = 0
        self._value_bytes = 64.0
        self.pairs = 0

    def take(self, pairs: Iterable[Any]) -> None:
        """Add all pairs that a map yields. Errors of the map propagate."""
        stream = iter(pairs)
        add = self._add_labelled if self._job.labelled else self._add_plain
        while chunk := list(itertools.islice(stream, PAIRS_AT_ONCE)):
            try:
                add(chunk)
            except (TypeError, ValueError, KeyError) as error:
                raise _no_pair(chunk, labelled=self._job.labelled) or error from error
            self._grown(chunk)

    def finish(self) -> None:
        """Combine and write the held pairs."""
        self._combine()
        self._write()

    def _add_plain(self, chunk: list[Any]) -> None:
        groups = self._groups[""]
        identity_of = self._identity
        for key, value in chunk:
            if type(key) is not str:
                groups[identity_of(key)].append(value)
            else:
                groups[key].append(value)

    def _add_labelled(self, chunk: list[Any]) -> None:
        for item in chunk:
            label, key, value = item["c"], item["k"], item["v"]
            if type(label) is not str:
                raise MapFailedError(f"the map yielded c = {label!r}; use the name of an output")
            self._groups[label][key if type(key) is str else self._identity(key)].append(value)

    def _identity(self, key: Any) -> Hashable:
        if type(key) is int:
            return key
        name, normal = identity(key)
        if type(name) is bytes:
            self._keys[name] = normal
        return name

    def _grown(self, chunk: list[Any]) -> None:
        count = len(chunk)
        self.pairs += count
        self._held += count
        self._since_combine += count
        self._measure(chunk[0])
        limit = self._job.spill_bytes
        if self._since_combine >= COMBINE_AT or self._held * (self._value_bytes + OBJECT_BYTES) > limit:
            self._combine()
            if self._held * (self._value_bytes + OBJECT_BYTES) > limit / 2:
                self._write()

    def _measure(self, item: Any) -> None:
        """Update the average size of values by one of each chunk; a larger one takes effect at once."""
        value = item["v"] if self._job.labelled else item[1]
        if type(value) is int or type(value) is float:
            size = 16
        else:
            try:
                size = len(encode({"v": value}))
            except NOT_BSON:  # writing it will raise an error with its key
                return
        self._value_bytes = max(size, 0.9 * self._value_bytes + 0.1 * size)

    def _combine(self) -> None:
        self._since_combine = 0
        combine = self._job.combine
        if combine is None:
            return
        held = 0
        for groups in self._groups.values():
            for name, values in groups.items():
                if len(values) > 1:
                    groups[name] = [call_reduce(combine, self._key(name), values)]
            held += len(groups)
        self._held = held

    def _key(self, name: Hashable) -> Any:
        return self._keys[name] if type(name) is bytes else name

    def _write(self) -> None:
        for label, groups in self._groups.items():
            if groups:
                self._write_label(label, groups)
        self._groups.clear()
        self._keys.clear()
        self._held = 0

    def _write_label(self, label: str, groups: dict[Hashable, list[Any]]) -> None:
        single = self._held == len(groups)  # each key has one value, as after combining
        for index, names in group_by_partition(groups, self._job.partitions):
            keys = [self._keys[name] if type(name) is bytes else name for name in names] if self._keys else names
            if single:
                values = [groups[name][0] for name in names]
            else:
                keys = [key for key, name in zip(keys, names, strict=True) for _ in groups[name]]
                values = [value for name in names for value in groups[name]]
            self._writer.write(label, index, keys, values)


def call_reduce(reduce: ReduceFunction, key: Any, values: Any) -> Any:
    """Return what `reduce` makes of `values`. Raise `ReduceFailedError` naming the key if it fails."""
    try:
        return reduce(key, values)
    except BaseException as error:
        if isinstance(error, MapReduceError) or not is_of_task(error):
            raise
        raise ReduceFailedError(
            f"reduce failed on key {key!r}: {described(error)}", {"key": key, "traceback": task_traceback(error)}
        ) from error


def _no_pair(chunk: list[Any], *, labelled: bool) -> MapFailedError | None:
    for item in chunk:
        if labelled and not (isinstance(item, dict) and {"c", "k", "v"} <= set(item)):
            return MapFailedError(f"the map yielded {item!r}; yield {{'c': output, 'k': key, 'v': value}}")
        if not labelled and not (isinstance(item, tuple | list) and len(item) == 2):
            return MapFailedError(f"the map yielded {item!r}; yield (key, value)")
    return None


def run_map(
    job: MapJob,
    read: Callable[[], Iterable[list[dict[str, Any]]]],
    make_writer: Callable[[], RunWriter],
    *,
    skip: bool,
    elsewhere: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[RunWriter, MapCounts]:
    """Map all documents of a split. Each call of `read` returns its batches from the start.

    If the map raises, `MapFailedError` names the document; with `skip`, the split is mapped again document by
    document, and those on which the map fails are left out and counted. Nothing is left out for a reason that may be
    this host's if the split can be tried `elsewhere`. Other errors propagate.
    """
    documents = DocumentReader(read(), on_progress)
    writer = make_writer()
    collector = Collector(job, writer)
    try:
        collector.take(job.map(iter(documents)))
        collector.finish()
    except MapReduceError as error:
        writer.discard()
        if not skip or isinstance(error, ReduceFailedError | WorkerUnableError):
            _name_document(error, documents, job.id_key)
            raise
    except BaseException as error:
        writer.discard()
        if isinstance(error, PyMongoError) or not is_of_task(error):
            raise
        if not skip or (elsewhere and may_be_of_host(error)):
            raise _map_failed(job, documents, read, error) from error
    else:
        return writer, MapCounts(documents.count, collector.pairs)
    return _run_each(job, DocumentReader(read(), on_progress), make_writer(), elsewhere=elsewhere)


def _run_each(
    job: MapJob, documents: DocumentReader, writer: RunWriter, *, elsewhere: bool
) -> tuple[RunWriter, MapCounts]:
    """Map each document separately, so that a document on which the map fails contributes nothing."""
    counts = MapCounts()
    collector = Collector(job, writer)
    try:
        for document in documents:
            counts.docs_in += 1
            try:
                pairs = _checked(list(job.map(iter([document]))), labelled=job.labelled)
            except BaseException as error:
                if isinstance(error, PyMongoError) or not is_of_task(error):
                    raise
                if elsewhere and may_be_of_host(error):
                    raise _failed_on(document, job.id_key, error) from error
                counts.skipped_count += 1
                if len(counts.skipped_ids) < SKIPPED_SHOWN:
                    counts.skipped_ids.append(document.get(job.id_key, document.get("_id")))
            else:
                collector.take(pairs)
        collector.finish()
    except BaseException:
        writer.discard()
        raise
    counts.pairs_out = collector.pairs
    counts.skipped_ids = shown_ids(counts.skipped_ids)
    return writer, counts


def _checked(pairs: list[Any], *, labelled: bool) -> list[Any]:
    """Return `pairs`. Raise the collector's error for the first invalid one, before the collector has taken any."""
    if fault := _no_pair(pairs, labelled=labelled):
        raise fault
    for item in pairs:
        key, value = (item["k"], item["v"]) if labelled else item
        identity(key)
        encode({"v": value})
    return pairs


def _map_failed(
    job: MapJob, documents: DocumentReader, read: Callable[[], Iterable[list[dict[str, Any]]]], error: BaseException
) -> MapFailedError:
    document = documents.current
    if document is None or not _fails_alone(job, document):
        # A map that reads ahead fails late: search for the document that fails by itself.
        document = next((item for item in DocumentReader(read()) if _fails_alone(job, item)), None)
    return _failed_on(document, job.id_key, error)


def _failed_on(document: dict[str, Any] | None, id_key: str, error: BaseException) -> MapFailedError:
    where = "no single document" if document is None else f"document {document.get(id_key)!r}"
    return MapFailedError(
        f"map failed on {where}: {described(error)}",
        {"document_id": None if document is None else document.get(id_key), "traceback": task_traceback(error)},
    )


def _fails_alone(job: MapJob, document: dict[str, Any]) -> bool:
    try:
        list(job.map(iter([document])))
    except BaseException as error:
        if not is_of_task(error):
            raise
        return True
    return False


def _name_document(error: MapReduceError, documents: DocumentReader, id_key: str) -> None:
    """Add to `error` the document that was read last, if the map caused it."""
    document = documents.current
    if (
        isinstance(error, MapFailedError | KeyRefusedError)
        and document is not None
        and "document_id" not in error.details
    ):
        error.details["document_near"] = document.get(id_key)
