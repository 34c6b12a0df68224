"""Cut the inputs of a job into splits: ranges of an indexed key with about `map_job_size` documents each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pymongo.database import Database

from mapreduce.codec import CODEC, encoded
from mapreduce.exceptions import InputRefusedError
from mapreduce.job.spec import JobSpec, Source
from mapreduce.job.value_check import is_whole
from mapreduce.step.reader import KeyRange, id_filter

MAX_SPLITS = 10_000  # bounds the router's state of a job; bigger inputs get bigger splits
_SAMPLES_PER_SPLIT = 20


def plan(client: Any, spec: JobSpec, map_job_size: int) -> list[KeyRange]:
    """Return all splits of a job: each present document in the range of ids is in exactly one of them.

    Raise `InputRefusedError` if an input cannot be read. Blocks on MongoDB.
    """
    size = spec.map_job_size or map_job_size
    splits: list[KeyRange] = []
    for index, source in enumerate(spec.sources):
        database = client.get_database(source.database or spec.database, codec_options=CODEC)
        for name in dict.fromkeys(source.input_names):
            for collection, real in expand(database, name):
                if real:
                    splits += _cut(database, spec, index, collection, size)
                else:
                    splits.append(KeyRange(index, collection, spec.id_min, spec.id_max, hinted=False))
    return splits


def expand(database: Database[dict[str, Any]], name: str, depth: int = 0) -> Iterator[tuple[str, bool]]:
    """Yield `(collection, can be cut into ranges)` for each collection behind `name`.

    A view that only concatenates collections is replaced by these; a view that computes is read whole.
    """
    found = next(iter(database.list_collections(filter={"name": name})), None)
    if found is None or found["type"] != "view" or depth > 10:
        yield name, True
        return
    parts = _union(found["options"]["pipeline"])
    if parts is None:
        yield name, False
        return
    for part in [found["options"]["viewOn"], *parts]:
        yield from expand(database, part, depth + 1)


def _union(pipeline: list[dict[str, Any]]) -> list[str] | None:
    """Return the collections that a pipeline appends unchanged; None if it does anything else."""
    names: list[str] = []
    for stage in pipeline:
        union = stage.get("$unionWith")
        if isinstance(union, str):
            names.append(union)
        elif isinstance(union, dict) and union.get("coll") and not union.get("pipeline"):
            names.append(union["coll"])
        else:
            return None
    return names


def _cut(
    database: Database[dict[str, Any]], spec: JobSpec, index: int, collection: str, size: int
) -> Iterator[KeyRange]:
    source = spec.sources[index]
    ends = _ends(database, source, spec, collection)
    if ends is None:
        return
    first, last = ends
    if not _comparable(first, last):
        yield KeyRange(index, collection, spec.id_min, spec.id_max, hinted=False)
        return
    if is_whole(first) and is_whole(last):
        bounds = _even_bounds(first, last, database[collection].estimated_document_count(), size)
    else:
        bounds = _sampled_bounds(database, source, spec, collection, last, size)
    low = spec.id_min
    for high in bounds:
        yield KeyRange(index, collection, low, high)
        low = high


def _ends(database: Database[dict[str, Any]], source: Source, spec: JobSpec, collection: str) -> tuple[Any, Any] | None:
    """Return the lowest and highest id in the range; None if the range is empty."""
    bounds = id_filter(source.id_key, spec.id_min, spec.id_max)
    found = []
    for direction in (1, -1):
        cursor = database[collection].find(encoded(bounds), {source.id_key: 1}).sort(source.id_key, direction).limit(1)
        document = next(iter(cursor), None)
        if document is None:
            return None
        found.append(_value(document, source.id_key))
    return found[0], found[1]


def _value(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    return document


def _comparable(first: Any, last: Any) -> bool:
    """Return True if a MongoDB range can span both values: range operators match a single type."""
    if isinstance(first, int | float) and isinstance(last, int | float):
        return isinstance(first, bool) == isinstance(last, bool)
    return first is not None and type(first) is type(last)


def _even_bounds(first: int, last: int, documents: int, size: int) -> list[int]:
    """Return the upper bounds of equal ranges from `first` to `last`, wider than `size` if ids are sparse."""
    span = last - first + 1
    sparse = 2 * documents < span
    width = max(size, math.ceil(size * span / max(documents, 1)) if sparse else size)
    width = max(width, math.ceil(span / MAX_SPLITS))
    return [min(high, last) for high in range(first + width - 1, last + width, width)]


def _sampled_bounds(
    database: Database[dict[str, Any]], source: Source, spec: JobSpec, collection: str, last: Any, size: int
) -> list[Any]:
    """Return upper bounds taken from the sorted ids of a random sample."""
    splits = min(math.ceil(max(database[collection].estimated_document_count(), 1) / size), MAX_SPLITS)
    if splits <= 1:
        return [last]
    pipeline: list[dict[str, Any]] = [{"$sample": {"size": splits * _SAMPLES_PER_SPLIT}}]
    bounds = id_filter(source.id_key, spec.id_min, spec.id_max)
    if bounds:
        pipeline.insert(0, {"$match": encoded(bounds)})
    pipeline += [{"$project": {source.id_key: 1}}, {"$sort": {source.id_key: 1}}]
    cursor = database[collection].aggregate(pipeline, allowDiskUse=True)
    ids = [_value(document, source.id_key) for document in cursor]
    if any(isinstance(value, list) for value in ids):
        raise InputRefusedError(f"input {collection}: key {source.id_key!r} contains arrays; name another id_key")
    found = [value for value in ids[_SAMPLES_PER_SPLIT - 1 :: _SAMPLES_PER_SPLIT] if value != last]
    return [*dict.fromkeys(found), last]
