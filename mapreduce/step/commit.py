"""Write results to their collection so that repeating a write changes nothing.

Every engine commits through `commit`. A document is written on condition that it has not changed since it was read: of
two workers that commit the same result, one writes and the other finds it present. `decide_write` decides what a job
with the stamp (from, to) does to a document that contains ids up to `through`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pymongo import ReplaceOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure

from mapreduce.codec import ENCODING, NOT_BSON, RAW, decode, decode_batches, encode, encoded, why_not_bson
from mapreduce.exceptions import (
    CommitConflictError,
    FinalizeFailedError,
    MapReduceError,
    OutputRefusedError,
    ReduceFailedError,
)
from mapreduce.job.spec import COMMIT, FINALIZE, Output
from mapreduce.key import identity
from mapreduce.step.map import ReduceFunction, call_reduce
from mapreduce.step.replacement import DURABLE, replacement_name
from mapreduce.task_error import described, is_of_task
from mapreduce.traceback_text import task_traceback

BATCH_COUNT = 10_000  # documents per lookup and write
BATCH_BYTES = 8 * 2**20
MAX_DOCUMENT_BYTES = 16 * 2**20  # MongoDB's limit
_DUPLICATE_KEY = 11000
_DOCUMENT_TOO_LARGE = 10334
_ROUNDS = 50  # a document that changes under us this often is a sign of a fault
_WRITTEN_AS_A_VIEW = 166

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
    collection = database.get_collection(name, codec_options=ENCODING, write_concern=DURABLE)
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
        raise _not_storable(key, state, why_not_bson(error)) from error


def _not_storable(key: Any, state: Any, why: str) -> ReduceFailedError:
    return ReduceFailedError(f"result {repr(state)[:200]} of key {key!r} cannot be stored as BSON: {why}", {"key": key})


@contextmanager
def _naming_the_key(documents: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Raise `ReduceFailedError` naming the key if one of `documents` cannot be written because BSON cannot hold it.

    Results are encoded only once, by the driver, so such a result shows when it is written; if it is too large, MongoDB
    can be the one that refuses it.
    """
    try:
        yield
    except (*NOT_BSON, OperationFailure) as error:
        if isinstance(error, OperationFailure) and error.code != _DOCUMENT_TOO_LARGE:
            raise
        for document in documents:
            try:
                size = len(encode(document))
            except NOT_BSON as fault:
                raise _not_storable(document["_id"], _reduced(document), why_not_bson(fault)) from error
            if size > MAX_DOCUMENT_BYTES:
                why = f"{size} bytes; a document has at most {MAX_DOCUMENT_BYTES}"
                raise _not_storable(document["_id"], _reduced(document), why) from error
        raise


def _reduced(document: Mapping[str, Any]) -> Any:
    return document["state"] if "state" in document else document.get("value")


def document_for(job: CommitJob, key: Any, state: Any) -> dict[str, Any]:
    """Return the output document of one result. Raise `FinalizeFailedError` or `ReduceFailedError` naming the key.

    Whole numbers are checked here, before anything of the batch is written: readers would see half of its results.
    """
    if _outgrown(state):
        raise _not_storable(key, state, why_not_bson(OverflowError()))
    document: dict[str, Any] = {"_id": key, "value": state}
    if job.finalize is not None:
        value = _finalized(job.finalize, key, state)
        document["value"] = value
        if type(value) is not type(state) or value != state:
            document["state"] = state
    if job.stamp is not None:
        document["through"] = job.stamp[1]
    return document


def _outgrown(state: Any) -> bool:
    """Return True if a whole number has more than 64 bits: the state itself, or a field of it."""
    if type(state) is int:
        return not -(2**63) <= state < 2**63
    if type(state) is dict:
        return any(type(value) is int and not -(2**63) <= value < 2**63 for value in state.values())
    return False


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
    with _naming_the_key(documents):
        left = [documents[index] for index in _inserted(collection, documents)]
    writes = []
    for document in left:
        condition: dict[str, Any] = {"_id": document["_id"]}
        if job.stamp is not None:
            # `$not` also matches a document without `through`.
            condition["through"] = {"$not": {"$gt": job.stamp[1]}}
        writes.append(ReplaceOne(condition, document))
    with _naming_the_key(left):
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
        # A fault names the key that was taken, which can be any value.
        reply = decode(collection.database.command(command, codec_options=RAW).raw)
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
    merged: list[dict[str, Any]] = []
    for key, state in results:
        found = present.get(identity(key)[0])
        decision = decide_write(found, stamp)
        if decision == INSERT:
            inserts.append((key, state))
        elif decision == MERGE:
            assert found is not None
            merged.append(_carried(found, document_for(job, found["_id"], _merged_state(job, found, key, state))))
            merges.append(((key, state), ReplaceOne(_unchanged(found), merged[-1])))
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
    with _naming_the_key(documents):
        again = [inserts[index] for index in _inserted(collection, documents)] if documents else []
    with _naming_the_key(merged):
        changed = _merge_round(collection, merges)
    counts.written += len(inserts) - len(again) + len(merges) - len(changed)
    return again + changed


def _present(collection: Collection[dict[str, Any]], keys: list[Any]) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    cursor = collection.find_raw_batches(encoded({"_id": {"$in": keys}}), batch_size=BATCH_COUNT)
    for document in decode_batches(cursor):
        found[identity(document["_id"])[0]] = document
    return found


def _merged_state(job: CommitJob, found: Mapping[str, Any], key: Any, state: Any) -> Any:
    assert job.reduce is not None
    return call_reduce(job.reduce, key, [_reduced(found), state])


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
