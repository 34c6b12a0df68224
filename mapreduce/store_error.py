"""Tells which failures of MongoDB pass by themselves and which are the job's own."""

from __future__ import annotations

from bson.errors import BSONError
from pymongo.errors import BulkWriteError, ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError

from mapreduce.exceptions import MapReduceError, StoreRefusedError, StoreUnavailableError

# MongoDB's error_codes.yml: refusals that concern the server's state, or rights and disk, and not the request.
_PASSING = {
    6, 7, 18, 43, 63, 89, 91, 133, 150, 189, 202, 216, 234, 262, 317, 358, 384, 9001, 10107, 11600, 11602, 13388,
    13435, 13436, 14031,
}  # fmt: skip
_LOGIN = {13, 18, 8000}


def as_engine_error(error: BaseException) -> MapReduceError | None:
    """`error` as one of the engine's own; None when it is not from MongoDB."""
    if isinstance(error, MapReduceError):
        return error
    if isinstance(error, ConnectionFailure):
        said = str(error).split(", Topology Description:")[0]  # what follows is all the driver knows of each server
        return StoreUnavailableError(f"MongoDB does not answer: {said}: start it, or correct mongo_uri")
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
        # Its text holds the whole reply, with the cluster's keys and times.
        said = (error.details or {}).get("errmsg") or str(error)
        return kind(f"MongoDB refused: {said} (code {error.code})")
    if isinstance(error, ConfigurationError):  # such as a name that the name server does not know at the moment
        return StoreUnavailableError(f"MongoDB cannot be reached: {error}")
    if isinstance(error, PyMongoError | BSONError):  # the driver itself refused it: a name, a size, a document
        return StoreRefusedError(
            f"MongoDB cannot be asked that, or its answer not be read: {type(error).__name__}: {error}"
        )
    return None


def may_have_moved(error: BaseException) -> bool:
    """Whether the server may be at another address by now, or want another login."""
    if isinstance(error, OperationFailure):
        return error.code in _LOGIN
    return isinstance(error, ConnectionFailure | ConfigurationError)
