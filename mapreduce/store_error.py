"""Tells which failures of MongoDB pass by themselves and which are the job's own."""

from __future__ import annotations

from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

from mapreduce.exceptions import MapReduceError, StoreRefusedError, StoreUnavailableError

# MongoDB's error_codes.yml: refusals that concern the server's state, or rights and disk, and not the request.
_PASSING = {
    6, 7, 18, 43, 63, 89, 91, 133, 150, 189, 202, 216, 234, 262, 317, 358, 384, 9001, 10107, 11600, 11602, 13388,
    13435, 13436, 14031,
}  # fmt: skip


def as_engine_error(error: Exception) -> MapReduceError | None:
    """`error` as one of the engine's own; None when it is not from MongoDB."""
    if isinstance(error, MapReduceError):
        return error
    if isinstance(error, ConnectionFailure):
        return StoreUnavailableError(f"MongoDB does not answer: {error}")
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        faults = details.get("writeErrors", []) or details.get("writeConcernErrors", [])
        shown = "; ".join(str(fault.get("errmsg")) for fault in faults[:3])
        passing = not details.get("writeErrors") or all(fault.get("code") in _PASSING for fault in faults)
        kind = StoreUnavailableError if passing else StoreRefusedError
        return kind(f"MongoDB refused {len(faults)} writes: {shown}")
    if isinstance(error, OperationFailure):
        passing = error.code in _PASSING or error.has_error_label("RetryableWriteError")
        kind = StoreUnavailableError if passing else StoreRefusedError
        said = (error.details or {}).get("errmsg") or error  # the error's own text ends in the whole reply, undecoded
        return kind(f"MongoDB refused: {said} (code {error.code})")
    if isinstance(error, PyMongoError):
        return StoreUnavailableError(f"MongoDB: {error}")
    return None
