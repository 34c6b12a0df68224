"""Computes an aggregate by a plain loop over the stored events: what verification and previews compare with.

Nothing of the engine takes part: no splits, no shuffle, no increments. Only the task's own functions are called.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bson.codec_options import CodecOptions
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from pymongo.database import Database

from aggregates.registry import load_function
from aggregates.run.planner import Plan, PlannedJob, PlannedSource
from aggregates.run.source import Range
from mapreduce.spec import ANY_LABEL

CHUNK = 500  # values of a key that are reduced at once
AWARE: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)


@dataclass
class Group:
    """The values of one key so far."""

    key: Any
    values: list[Any] = field(default_factory=list)


@dataclass
class Recount:
    """Results by output and comparable key; documents of events that a `skip` task failed on."""

    groups: dict[str, dict[Any, Group]] = field(default_factory=dict)
    docs_in: int = 0
    skipped: list[Any] = field(default_factory=list)


def comparable(key: Any) -> Any:
    """Something hashable that is equal exactly for keys that MongoDB holds equal."""
    if isinstance(key, bool) or key is None:
        return ("bool", key)
    if isinstance(key, Decimal128):
        key = key.to_decimal()
    if isinstance(key, Int64):
        return int(key)
    if isinstance(key, datetime.datetime):
        aware = key if key.tzinfo else key.replace(tzinfo=datetime.UTC)
        return ("date", int((aware - _EPOCH) / datetime.timedelta(milliseconds=1)))
    if isinstance(key, Mapping):
        return ("document", tuple((name, comparable(value)) for name, value in key.items()))
    if isinstance(key, list | tuple):
        return ("array", tuple(comparable(value) for value in key))
    return key


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Recounter:
    """Recounts the outputs of one plan, range after range."""

    def __init__(self, plan: Plan, database: Database[dict[str, Any]]) -> None:
        self._plan = plan
        self._home = database
        self.found = Recount({output: {} for output in plan.outputs})

    def take(self, span: Range, limit: int | None = None) -> None:
        """Take in the documents of a range, at most `limit` of each collection; ranges must not overlap.

        Raises what the task raises, unless it says `on_error = "skip"`.
        """
        for job in self._plan.jobs:
            for source in job.sources:
                self._take(job, source, span, limit)

    def _take(self, job: PlannedJob, source: PlannedSource, span: Range, limit: int | None) -> None:
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

    def _documents(self, source: PlannedSource, span: Range, limit: int | None) -> Iterator[dict[str, Any]]:
        database = self._home.client[span.database] if span.database else self._home
        query = {"$and": [span.condition(), dict(source.query)]} if source.query else span.condition()
        fields = _projection(source.fields, span.id_key)
        for name in span.collections:
            cursor = database.get_collection(name, codec_options=AWARE).find(query, fields)
            yield from cursor.sort(span.id_key, 1 if limit is None else -1).limit(limit or 0)

    def _add(self, job: PlannedJob, reduced: Callable[..., Any], output: str, key: Any, value: Any) -> None:
        groups = self.found.groups.setdefault(output, {})
        group = groups.setdefault(comparable(key), Group(key))
        group.values.append(value)
        if job.associative and len(group.values) >= CHUNK:
            group.values = [reduced(group.key, group.values)]

    def results(self) -> dict[str, dict[Any, tuple[Any, Any]]]:
        """For each output the key and value that readers should see, by comparable key."""
        jobs = {output: job for job in self._plan.jobs for output in job.outputs.values()}
        found: dict[str, dict[Any, tuple[Any, Any]]] = {}
        for output, groups in self.found.groups.items():
            job = jobs.get(output) or next(j for j in self._plan.jobs if ANY_LABEL in j.outputs)
            reduced = load_function(job.reduce_name, job.params)
            finalize = load_function(job.finalize_name, job.params) if job.finalize_name else None
            if output.endswith("*"):
                continue
            values = found.setdefault(output, {})
            for comparable_key, group in groups.items():
                state = reduced(group.key, group.values)
                values[comparable_key] = (group.key, finalize(group.key, state) if finalize else state)
        return found


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
    """The fields and the id, without a path that lies within another one, which MongoDB refuses."""
    if fields is None:
        return None
    wanted = {*fields, id_key, "_id"}
    return {path: 1 for path in wanted if not any(path.startswith(f"{other}.") for other in wanted)}
