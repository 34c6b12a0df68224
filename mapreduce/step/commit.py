"""Write results to their collection so that repeating a write changes nothing.

Every engine commits through `commit`. A document is written on condition that it has not changed since it was read: of
two workers that commit the same result, one writes and the other finds it present. `decide_write` decides what a job
with the stamp (from, to) does to a document that contains ids up to `through`.
"""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import ReplaceOne, ReturnDocument, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure

from mapreduce.codec import CODEC, NOT_BSON, encode
from mapreduce.exceptions import (
    CommitConflictError,
    FinalizeFailedError,
    MapReduceError,
    OutputRefusedError,
    ReduceFailedError,
)
from mapreduce.job.spec import COMMIT, FINALIZE, Output
from mapreduce.job.spec_check import REPLACEMENTS
from mapreduce.key import identity
from mapreduce.step.map import ReduceFunction, call_reduce
from mapreduce.task_error import described, is_of_task
from mapreduce.traceback_text import task_traceback

PUBLISHED = "zmr.published"  # UUIDs of the collections to be published, by unpublished name
MARK_KEPT = datetime.timedelta(days=30)  # far longer than a job lives
DURABLE = WriteConcern(w="majority", j=True)
BATCH_COUNT = 10_000  # documents per lookup and write
BATCH_BYTES = 8 * 2**20
_REPLACEMENT = re.compile(rf"{re.escape(REPLACEMENTS)}([^.]+)\.(?:zagg|zgen)\.")
_DOT = "~"  # replaces the dots of a job id in a collection name; job ids contain no tilde
_DUPLICATE_KEY = 11000
_ROUNDS = 50  # a document that changes under us this often is a sign of a fault
_WRITTEN_AS_A_VIEW = 166
_NAMESPACE_NOT_FOUND = 26
_NAMESPACE_EXISTS = 48

OnPhase = Callable[[str], None]

INSERT, IN, MERGE, LATE, OVERLAP = "insert", "in", "merge", "late", "overlap"


@dataclass(frozen=True)
class CommitJob:
    """Output, functions and stamp for writing the results of one output."""

    output: Output
    reduce: ReduceFunction | None
    finalize: Callable[[Any, Any], Any] | None
    stamp: tuple[Any, Any] | None  # `(from, to)`; None only for outputs that are not of type reduce


@dataclass
class CommitCounts:
    written: int = 0  # documents inserted, merged or replaced by this call
    present: int = 0  # documents that already contained exactly this range
    late: int = 0  # documents that are already past this range


def decide_write(found: Mapping[str, Any] | None, stamp: tuple[Any, Any]) -> str:
    """Return what to do with a result for `found`, the present document of its key (None = there is none).

    `IN`: it contains exactly this range. `LATE`: it is past it. `MERGE`: it ends at or before the start of this range;
    a document without `through` contains nothing of it. `OVERLAP`: it ends inside the range.
    """
    if found is None:
        return INSERT
    low, high = stamp
    through = found.get("through")
    if through is None:
        return MERGE
    if through == high:
        return IN
    if through > high:
        return LATE
    return MERGE if low is not None and through <= low else OVERLAP


def replacement_name(collection: str, job_id: str) -> str:
    """Return the collection that holds the results of a `replace` job until they replace `collection`."""
    return f"{REPLACEMENTS}{job_id.replace('.', _DOT)}.{collection}"


def commit(
    database: Database[dict[str, Any]],
    job_id: str,
    job: CommitJob,
    results: Iterable[tuple[Any, Any]],
    on_phase: OnPhase = lambda phase: None,
) -> CommitCounts:
    """Write `(key, state)` results, each key at most once per call, and return counts. Blocks until all are durable.

    Call `on_phase` with `finalize` or `commit` when that phase starts. Repeating the call with the same stamp changes
    nothing. Raise `FinalizeFailedError` or `ReduceFailedError` naming the key, `CommitConflictError` if ranges overlap,
    `OutputRefusedError` if the output is a view.
    """
    replace = job.output.output_type == "replace"
    name = replacement_name(job.output.collection, job_id) if replace else job.output.collection
    collection = database.get_collection(name, codec_options=CODEC, write_concern=DURABLE)
    counts = CommitCounts()
    try:
        for batch in _batched(results):
            if job.finalize is not None:
                on_phase(FINALIZE)
            if job.output.output_type == "reduce":
                _reduce_into(collection, job, batch, counts, on_phase)
            else:
                _write_over(collection, job, batch, counts, on_phase)
    except OperationFailure as error:
        if error.code == _WRITTEN_AS_A_VIEW or "is a view" in str(error):
            raise _is_a_view(name) from None
        raise
    return counts


def refuse_views(database: Database[dict[str, Any]], names: Sequence[str]) -> None:
    """Raise `OutputRefusedError` if one of these outputs is a view."""
    for found in database.list_collections(filter={"name": {"$in": list(names)}, "type": "view"}):
        raise _is_a_view(found["name"])


def _is_a_view(name: str) -> OutputRefusedError:
    return OutputRefusedError(f"output {name} is a view: name a collection, or remove the view first")


def publish(database: Database[dict[str, Any]], job_id: str, collection: str) -> None:
    """Replace `collection` by the results of a `replace` job, in one step. Harmless if that is already done.

    The first call records the UUID of the collection with the results before renaming it. A step that wakes up late
    can recreate a collection of that name, empty or with some of the results: it is dropped, not published.
    """
    durable = database.with_options(write_concern=DURABLE)
    name = replacement_name(collection, job_id)
    marks: Collection[dict[str, Any]] = durable[PUBLISHED]
    there = _identity(durable, name)
    now = datetime.datetime.now(datetime.UTC)
    mark = marks.find_one_and_update(
        {"_id": name}, {"$setOnInsert": {"uuid": there, "at": now}}, upsert=True, return_document=ReturnDocument.AFTER
    )
    if there is None:
        return
    if mark is None or there != mark["uuid"]:
        durable.drop_collection(name)
        return
    try:
        durable[name].rename(collection, dropTarget=True)
    except OperationFailure as error:
        if error.code != _NAMESPACE_NOT_FOUND:
            raise
    marks.delete_many({"at": {"$lt": now - MARK_KEPT}})


def _identity(database: Database[dict[str, Any]], name: str) -> str | None:
    """Return MongoDB's UUID of the collection `name`, which survives a rename; None if there is no such collection."""
    found = database.command("listCollections", filter={"name": name}, codec_options=CODEC)["cursor"]["firstBatch"]
    return found[0]["info"]["uuid"].hex if found else None


def prepare_replacement(database: Database[dict[str, Any]], job_id: str, collection: str) -> None:
    """Create the collection for the results of a `replace` job, unless this job has one already.

    It can be called again at any time: a planner that wakes up late removes no results.
    """
    name = replacement_name(collection, job_id)
    try:
        database.with_options(write_concern=DURABLE).create_collection(name, check_exists=False)
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:
            raise


def replacement_owner(name: str) -> str | None:
    """Return the id of the job whose unpublished results are in `name`; None for any other collection."""
    found = _REPLACEMENT.match(name)
    return found[1].replace(_DOT, ".") if found else None


def _batched(results: Iterable[tuple[Any, Any]]) -> Iterator[list[tuple[Any, Any, int]]]:
    """Yield `(key, state, encoded bytes)` in batches bounded by count and bytes."""
    batch: list[tuple[Any, Any, int]] = []
    held = 0
    for key, state in results:
        size = _size(key, state)
        if batch and (len(batch) >= BATCH_COUNT or held + size > BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append((key, state, size))
        held += size
    if batch:
        yield batch


def _size(key: Any, state: Any) -> int:
    if type(key) is str and (type(state) is int or type(state) is float):
        return 64 + len(key)
    try:
        return len(encode({"_id": key, "state": state}))
    except NOT_BSON as error:
        shown = repr(state)[:200]
        raise ReduceFailedError(
            f"result {shown} of key {key!r} cannot be stored as BSON: {error}", {"key": key}
        ) from error


def document_for(job: CommitJob, key: Any, state: Any) -> dict[str, Any]:
    """Return the output document of one result. Raise `FinalizeFailedError` naming the key."""
    document: dict[str, Any] = {"_id": key, "value": state}
    if job.finalize is not None:
        value = _finalized(job.finalize, key, state)
        document["value"] = value
        if type(value) is not type(state) or value != state:
            document["state"] = state
    if job.stamp is not None:
        document["through"] = job.stamp[1]
    return document


def _finalized(finalize: Callable[[Any, Any], Any], key: Any, state: Any) -> Any:
    plain = isinstance(state, int | float | str | bytes | None)
    try:
        value = finalize(key, state if plain else copy.deepcopy(state))
        encode({"value": value})
    except MapReduceError:
        raise
    except BaseException as error:
        if not is_of_task(error):
            raise
        raise FinalizeFailedError(
            f"finalize failed on key {key!r}: {described(error)}",
            {"key": key, "traceback": task_traceback(error)},
        ) from error
    return value


def _write_over(
    collection: Collection[dict[str, Any]],
    job: CommitJob,
    batch: list[tuple[Any, Any, int]],
    counts: CommitCounts,
    on_phase: OnPhase,
) -> None:
    """Insert absent documents and replace present ones, unless they are past our range."""
    documents = [document_for(job, key, state) for key, state, _ in batch]
    on_phase(COMMIT)
    left = [documents[index] for index in _inserted(collection, documents)]
    writes = []
    for document in left:
        condition: dict[str, Any] = {"_id": document["_id"]}
        if job.stamp is not None:
            # `$not` also matches a document without `through`.
            condition["through"] = {"$not": {"$gt": job.stamp[1]}}
        writes.append(ReplaceOne(condition, document))
    replaced = collection.bulk_write(writes, ordered=False).matched_count if writes else 0
    counts.written += len(documents) - len(left) + replaced
    counts.late += len(left) - replaced


def _inserted(collection: Collection[dict[str, Any]], documents: list[dict[str, Any]]) -> list[int]:
    """Insert `documents`; return the indexes of those whose key was taken. Raise on any other failure.

    Uses one command, encoded in C as a whole: the driver's bulk writes take a third longer per document.
    """
    command = {
        "insert": collection.name,
        "documents": documents,
        "ordered": False,
        "writeConcern": collection.write_concern.document,
    }
    try:
        reply = collection.database.command(command, codec_options=CODEC)
    except DocumentTooLarge:
        half = len(documents) // 2
        if not half:
            raise
        first, second = _inserted(collection, documents[:half]), _inserted(collection, documents[half:])
        return first + [half + index for index in second]
    faults = reply.get("writeErrors", [])
    if "writeConcernError" in reply or any(fault["code"] != _DUPLICATE_KEY for fault in faults):
        late = [reply["writeConcernError"]] if "writeConcernError" in reply else []
        raise BulkWriteError({"writeErrors": faults, "writeConcernErrors": late})
    return [fault["index"] for fault in faults]


def _reduce_into(
    collection: Collection[dict[str, Any]],
    job: CommitJob,
    batch: list[tuple[Any, Any, int]],
    counts: CommitCounts,
    on_phase: OnPhase,
) -> None:
    left = [(key, state) for key, state, _ in batch]
    for _ in range(_ROUNDS):
        left = _reduce_round(collection, job, left, counts, on_phase)
        if not left:
            return
    raise CommitConflictError(
        f"document {left[0][0]!r} of {collection.name} changed {_ROUNDS} times while it was merged: another program "
        "writes to this collection",
        {"key": left[0][0]},
    )


def _reduce_round(
    collection: Collection[dict[str, Any]],
    job: CommitJob,
    results: list[tuple[Any, Any]],
    counts: CommitCounts,
    on_phase: OnPhase,
) -> list[tuple[Any, Any]]:
    """Read the present documents, decide, and write conditionally; return the results to be tried again."""
    stamp = job.stamp
    assert stamp is not None
    present = _present(collection, [key for key, _ in results])
    inserts: list[tuple[Any, Any]] = []
    merges: list[tuple[tuple[Any, Any], ReplaceOne[dict[str, Any]]]] = []
    for key, state in results:
        found = present.get(identity(key)[0])
        decision = decide_write(found, stamp)
        if decision == INSERT:
            inserts.append((key, state))
        elif decision == MERGE:
            assert found is not None
            merged = document_for(job, found["_id"], _merged_state(job, found, key, state))
            merges.append(((key, state), ReplaceOne(_unchanged(found), _carried(found, merged))))
        elif decision == IN:
            counts.present += 1
        elif decision == LATE:
            counts.late += 1
        else:
            raise CommitConflictError(
                f"document {key!r} of {collection.name} contains ids through {found and found['through']!r}, "
                f"inside the range {stamp[0]!r} to {stamp[1]!r} of this job: ranges must not overlap",
                {"key": key, "through": found and found["through"]},
            )
    documents = [document_for(job, key, state) for key, state in inserts]
    on_phase(COMMIT)
    again = [inserts[index] for index in _inserted(collection, documents)] if documents else []
    changed = _merge_round(collection, merges)
    counts.written += len(inserts) - len(again) + len(merges) - len(changed)
    return again + changed


def _present(collection: Collection[dict[str, Any]], keys: list[Any]) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for document in collection.find({"_id": {"$in": keys}}, batch_size=BATCH_COUNT):
        found[identity(document["_id"])[0]] = document
    return found


def _merged_state(job: CommitJob, found: Mapping[str, Any], key: Any, state: Any) -> Any:
    before = found["state"] if "state" in found else found.get("value")
    assert job.reduce is not None
    return call_reduce(job.reduce, key, [before, state])


def _unchanged(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter that matches `found` while unchanged: by `through`, which every commit raises, else by values."""
    if "through" in found:
        return {"_id": found["_id"], "through": found["through"]}
    values = {name: {"$eq": found[name]} for name in ("value", "state") if name in found}
    return {"_id": found["_id"], "through": {"$exists": False}, **values}


def _carried(found: Mapping[str, Any], merged: dict[str, Any]) -> dict[str, Any]:
    """Return `merged` with the fields of `found` that a commit does not write."""
    return {**{k: v for k, v in found.items() if k not in {"value", "state", "through"}}, **merged}


def _merge_round(
    collection: Collection[dict[str, Any]], merges: list[tuple[tuple[Any, Any], ReplaceOne[dict[str, Any]]]]
) -> list[tuple[Any, Any]]:
    """Write the merges; return all of them if any did not match: the next round finds which are present."""
    if not merges:
        return []
    result = collection.bulk_write([write for _, write in merges], ordered=False)
    if result.matched_count == len(merges):
        return []
    return [item for item, _ in merges]
