"""Compute an aggregate by a plain loop over the stored events, for verification and previews.

The engine is not involved: no splits, no shuffle, no increments; only the task's own functions are called. Memory is
bounded: beyond the limit, groups spill to temporary files.
"""

from __future__ import annotations

import datetime
import itertools
import operator
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from pymongo.database import Database

from aggregates.run.external_sort import MEMORY_BYTES, RECORD_BYTES, SAMPLE, ExternalSort
from aggregates.run.planner import Plan, PlannedJob, PlannedSource
from aggregates.run.watermark import IdRange
from aggregates.task_code.registry import load_function
from mapreduce.codec import as_uuid, decode_batches, encode, encoded
from mapreduce.job.spec import ANY_LABEL

CHUNK = 500  # values of a key after which they are reduced to one


@dataclass
class Group:
    """The values of one key so far."""

    key: Any
    values: list[Any] = field(default_factory=list)


@dataclass
class RecountCounts:
    """Count of documents read, and ids of those on which a map with `on_error = "skip"` failed."""

    docs_in: int = 0
    skipped: list[Any] = field(default_factory=list)


def comparable_key(key: Any) -> Any:
    """Return a hashable value that is equal for two keys if and only if MongoDB considers them equal."""
    if isinstance(key, bool) or key is None:
        return ("bool", key)
    if isinstance(key, Decimal128):
        key = key.to_decimal()
    if isinstance(key, str) and not isinstance(key, Code):
        return str.__str__(key)  # of an enumeration, too, the text that is stored
    if isinstance(key, int):
        return int(key)  # of an `Int64`, too
    if isinstance(key, Binary):
        return bytes(key) if key.subtype == 0 else as_uuid(key)
    if isinstance(key, uuid.UUID):
        return uuid.UUID(int=key.int)
    if isinstance(key, DatetimeMS):
        return ("date", int(key))
    if isinstance(key, datetime.datetime):
        aware = key if key.tzinfo else key.replace(tzinfo=datetime.UTC)
        return ("date", (aware - _EPOCH) // datetime.timedelta(milliseconds=1))
    if isinstance(key, Mapping):
        return ("document", tuple((name, comparable_key(value)) for name, value in key.items()))
    if isinstance(key, list | tuple):
        return ("array", tuple(comparable_key(value) for value in key))
    return key


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def key_order(key: Any) -> bytes:
    """Return bytes equal for two keys exactly if MongoDB considers them equal; their order is arbitrary but stable."""
    return repr(_plain(comparable_key(key))).encode("utf-8", "surrogatepass")


def _plain(key: Any) -> Any:
    """Return the key with numbers as fractions: 1, 1.0 and Decimal("1.00") are equal but print differently."""
    if isinstance(key, tuple):
        return tuple(_plain(part) for part in key)
    if isinstance(key, int | float | Decimal) and not isinstance(key, bool):
        return ("number", *_fraction(key))
    return key


def _fraction(number: int | float | Decimal) -> tuple[Any, ...]:
    try:
        return Fraction(number).as_integer_ratio()
    except (ValueError, OverflowError):
        return (str(float(number)),)  # infinite or NaN


@dataclass(frozen=True)
class Result:
    """The expected value of one key."""

    output: str
    order: bytes  # see `key_order`
    key: Any
    value: Any

    @property
    def sort_key(self) -> tuple[str, bytes]:
        return self.output, self.order


class Recounter:
    """Recount the outputs of one plan, one range after another. Must be closed. Not thread-safe.

    Holds about `memory_bytes` of groups and, while iterating over results, the values of one key at a time.
    """

    def __init__(self, plan: Plan, database: Database[dict[str, Any]], memory_bytes: int = MEMORY_BYTES) -> None:
        self._plan = plan
        self._home = database
        self._memory_bytes = memory_bytes
        self._groups: dict[str, dict[Any, Group]] = {}
        self._in_memory = 0  # count of values in memory
        self._added = 0
        self._value_bytes = 64.0
        self._spilled = ExternalSort(memory_bytes)
        self.found = RecountCounts()

    @property
    def file_count(self) -> int:
        return self._spilled.file_count

    def close(self) -> None:
        self._spilled.close()

    def add_range(self, span: IdRange, limit: int | None = None) -> None:
        """Read the documents of a range, at most the newest `limit` of each collection. Ranges must not overlap.

        Raise what `map` raises, unless the task has `on_error = "skip"`, and what `reduce` raises.
        """
        for job in self._plan.jobs:
            for source in job.sources:
                self._add_documents(job, source, span, limit)

    def _add_documents(self, job: PlannedJob, source: PlannedSource, span: IdRange, limit: int | None) -> None:
        mapped = load_function(source.map_name, job.params)
        reduced = load_function(job.reduce_name, job.params)
        for document in self._documents(source, span, limit):
            self.found.docs_in += 1
            try:
                pairs = list(_pairs(mapped(iter([document])), job))
            except Exception:
                if job.on_error != "skip":
                    raise
                self.found.skipped.append(document.get("_id"))
                continue
            for output, key, value in pairs:
                self._add(job, reduced, output, key, value)

    def _documents(self, source: PlannedSource, span: IdRange, limit: int | None) -> Iterator[dict[str, Any]]:
        database = self._home.client[span.database] if span.database else self._home
        query = {"$and": [span.condition(), dict(source.query)]} if source.query else span.condition()
        fields = _projection(source.fields, span.id_key)
        for name in span.collections:
            cursor = database[name].find_raw_batches(encoded(query), fields)
            yield from decode_batches(cursor.sort(span.id_key, 1 if limit is None else -1).limit(limit or 0))

    def _add(self, job: PlannedJob, reduced: Callable[..., Any], output: str, key: Any, value: Any) -> None:
        groups = self._groups.setdefault(output, {})
        group = groups.setdefault(comparable_key(key), Group(key))
        group.values.append(value)
        self._in_memory += 1
        if job.associative and len(group.values) >= CHUNK:
            self._in_memory -= len(group.values) - 1
            group.values = [reduced(group.key, group.values)]
        self._added += 1
        if self._added % SAMPLE == 1:
            self._value_bytes = 0.9 * self._value_bytes + 0.1 * (2 * _size(value) + RECORD_BYTES)
        if self._in_memory * self._value_bytes > self._memory_bytes:
            self._shrink()

    def _shrink(self) -> None:
        """Reduce what can be reduced; if that is not enough, spill the groups to a file."""
        self._in_memory = 0
        for output, groups in self._groups.items():
            job = self._job_of(output)
            reduced = load_function(job.reduce_name, job.params)
            for group in groups.values():
                if job.associative and len(group.values) > 1:
                    group.values = [reduced(group.key, group.values)]
                self._in_memory += len(group.values)
        if self._in_memory * self._value_bytes > self._memory_bytes / 2:
            self._spill()
            self._spilled.flush()

    def _spill(self) -> None:
        for output, groups in self._groups.items():
            for group in groups.values():
                self._spilled.add((output, key_order(group.key)), {"k": group.key, "v": group.values})
        self._groups.clear()
        self._in_memory = 0

    def _job_of(self, output: str) -> PlannedJob:
        named = next((job for job in self._plan.jobs if output in job.outputs.values()), None)
        return named or next(job for job in self._plan.jobs if ANY_LABEL in job.outputs)

    def results(self) -> Iterator[Result]:
        """Yield the expected values, sorted by `Result.sort_key`. Nothing can be added after that."""
        self._spill()
        for sort_key, records in itertools.groupby(self._spilled, key=operator.itemgetter(0)):
            output, order = sort_key
            job = self._job_of(output)
            parts = [record for _, record in records]
            key, values = parts[0]["k"], [value for part in parts for value in part["v"]]
            state = load_function(job.reduce_name, job.params)(key, values)
            if job.finalize_name:
                state = load_function(job.finalize_name, job.params)(key, state)
            yield Result(output, order, key, state)


def _size(value: Any) -> int:
    if type(value) is int or type(value) is float:
        return 16
    try:
        return len(encode({"v": value}))
    except Exception:  # noqa: BLE001 - a value that cannot be stored fails with its key when it is reduced
        return 1_000


def _pairs(yielded: Iterable[Any], job: PlannedJob) -> Iterator[tuple[str, Any, Any]]:
    if "" in job.outputs:
        output = job.outputs[""]
        for key, value in yielded:
            yield output, key, value
        return
    for item in yielded:
        label = str(item["c"])
        pattern = job.outputs.get(label) or job.outputs[ANY_LABEL].replace("*", label)
        yield pattern, item["k"], item["v"]


def _projection(fields: tuple[str, ...] | None, id_key: str) -> dict[str, int] | None:
    """Return the projection of fields and id, without paths inside other paths, which MongoDB refuses."""
    if fields is None:
        return None
    wanted = {*fields, id_key, "_id"}
    return {path: 1 for path in wanted if not any(path.startswith(f"{other}.") for other in wanted)}
