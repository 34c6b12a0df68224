"""Classification of MongoDB failures: temporary ones, and those that are the job's own fault."""

from __future__ import annotations

from bson.errors import BSONError
from pymongo.errors import BulkWriteError, ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError

from mapreduce.exceptions import MapReduceError, OtherStoreError, StoreRefusedError, StoreUnavailableError

# MongoDB's error_codes.yml: refusals caused by the server's state, permissions or disk, not by the request.
_PASSING = {
    6, 7, 18, 43, 63, 89, 91, 133, 150, 189, 202, 211, 216, 234, 262, 317, 358, 384, 9001, 10107, 11600, 11602, 13388,
    13435, 13436, 14031,
}  # fmt: skip
_LOGIN = {13, 18, 8000}
# UserNotFound, Unauthorized, MechanismUnavailable, AtlasError: another login may have the right.
_NO_RIGHT = {11, 13, 334, 8000}
# KeyNotFound: a client repeats the signed cluster time that it last heard; a server that has just started may not have
# read the key of it yet.
_UNKNOWN_KEY = {211}


def as_engine_error(error: BaseException) -> MapReduceError | None:
    """Return `error` as a `MapReduceError`; None if it does not come from MongoDB."""
    if isinstance(error, MapReduceError):
        return error
    if isinstance(error, ConnectionFailure):
        reason = str(error).split(", Topology Description:")[0]  # the rest lists the driver's state of each server
        return StoreUnavailableError(f"MongoDB does not answer: {reason}: start it, or correct mongo_uri")
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        faults = details.get("writeErrors", []) or details.get("writeConcernErrors", [])
        shown = "; ".join(str(fault.get("errmsg")) for fault in faults[:3])
        passing = not details.get("writeErrors") or all(fault.get("code") in _PASSING for fault in faults)
        kind = StoreUnavailableError if passing else StoreRefusedError
        lacking = [fault["code"] for fault in faults if fault.get("code") in _NO_RIGHT]
        return kind(f"MongoDB refused {len(faults)} writes: {shown}", {"server_code": lacking[0]} if lacking else {})
    if isinstance(error, OperationFailure):
        passing = error.code in _PASSING or error.has_error_label("RetryableWriteError")
        kind = StoreUnavailableError if passing else StoreRefusedError
        # The error's text would contain the whole reply, with the cluster's keys and times.
        reason = (error.details or {}).get("errmsg") or str(error)
        details = {"server_code": error.code} if error.code in _NO_RIGHT else {}
        return kind(f"MongoDB refused: {reason} (code {error.code})", details)
    if isinstance(error, ConfigurationError):  # for example a name that DNS does not resolve at the moment
        return StoreUnavailableError(f"MongoDB cannot be reached: {error}")
    if isinstance(error, PyMongoError | BSONError):  # refused by the driver: a name, a size, a document
        return StoreRefusedError(
            f"the driver refused the request to MongoDB or could not read its reply: {type(error).__name__}: {error}"
        )
    return None


def may_have_moved(error: BaseException) -> bool:
    """Return True if the server may have a new address, expect another login or not know the client's cluster time."""
    if isinstance(error, OperationFailure):
        return error.code in _LOGIN | _UNKNOWN_KEY
    return isinstance(error, ConnectionFailure | ConfigurationError | OtherStoreError)
