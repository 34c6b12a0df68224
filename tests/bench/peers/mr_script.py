"""Count as a good programmer would by hand: two processes, raw batches of id ranges, map, combine, add up, write."""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import bson
from bson.codec_options import CodecOptions
from pymongo import InsertOne, MongoClient, WriteConcern

from tests.bench.peers import mr_tasks

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)


def _documents(uri: str, database: str, low: int, high: int) -> Iterator[dict[str, Any]]:
    with MongoClient(uri) as client:
        cursor = client[database]["event.1"].find_raw_batches(
            {"_id": {"$gt": low, "$lte": high}}, dict.fromkeys(mr_tasks.FIELDS, 1), batch_size=5_000
        )
        for batch in cursor:
            yield from bson.decode_all(batch, _CODEC)


def count_range(uri: str, database: str, low: int, high: int) -> dict[str, int]:
    """Map one range of ids and combine."""
    groups: dict[str, list[int]] = defaultdict(list)
    for key, value in mr_tasks.by_day_and_project(_documents(uri, database, low, high)):
        groups[key].append(value)
    return {key: mr_tasks.add(key, values) for key, values in groups.items()}


def run(pool: Any, uri: str, database: str, last: int, output: str) -> None:
    """Count with the two processes of `pool` and write the result, durably, to `output`."""
    middle = last // 2
    parts = pool.starmap(count_range, [(uri, database, 0, middle), (uri, database, middle, last)])
    groups: dict[str, list[int]] = defaultdict(list)
    for part in parts:
        for key, value in part.items():
            groups[key].append(value)
    with MongoClient(uri) as client:
        target = client[database].get_collection(output, write_concern=WriteConcern(w="majority", j=True))
        target.drop()
        target.bulk_write(
            [InsertOne({"_id": k, "value": mr_tasks.add(k, v)}) for k, v in groups.items()], ordered=False
        )


def make_pool() -> Any:
    """Two processes, started before the clock runs, as the engine's workers are."""
    return multiprocessing.get_context("spawn").Pool(2)
