"""Errors of the map-reduce engine: one base, a stable code each, and a dict form for the wire."""

from __future__ import annotations

from typing import Any

from mapreduce.task_error import MESSAGE_CHARACTERS, sendable_detail, sendable_text


class MapReduceError(Exception):
    """Base of every error that the engine raises or reports.

    `code` is stable and crosses the wire, `retryable` says if the same call can succeed later, `details` holds
    BSON-able data about the case (a key, a document id, a traceback).
    """

    code = "engine"
    retryable = False

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.details)

    def to_document(self) -> dict[str, Any]:
        """Return `{code, message, details}`, bounded in size and BSON-able, for the wire and for job records."""
        return {
            "code": self.code,
            "message": sendable_text(self.message, MESSAGE_CHARACTERS),
            "details": {str(name): sendable_detail(value) for name, value in self.details.items()},
        }


class SpecError(MapReduceError):
    """A request or job description is invalid; the message names the field, its value and what is allowed."""

    code = "bad_request"


class JobConflictError(MapReduceError):
    """A job id was submitted again with a different job."""

    code = "job_conflict"


class FunctionRefusedError(MapReduceError):
    """A function name does not resolve to something defined in an allowed module."""

    code = "function_refused"


class CodeChangedError(MapReduceError):
    """The source of a module on this machine differs from the version that the job was accepted with."""

    code = "code_changed"


# Errors of one worker that lacks a job's code or must not run it. The router has checked it: other workers can do it.
REFUSALS = (CodeChangedError, FunctionRefusedError)


class KeyRefusedError(MapReduceError):
    """A map yielded a key that cannot be an `_id`."""

    code = "key_refused"


class MapFailedError(MapReduceError):
    """The map raised or yielded something other than a pair; `details` hold the document's id and the traceback."""

    code = "map_failed"


class ReduceFailedError(MapReduceError):
    """The reduce raised; `details` hold the key and the traceback."""

    code = "reduce_failed"


class FinalizeFailedError(MapReduceError):
    """The finalize raised; `details` hold the key and the traceback."""

    code = "finalize_failed"


class CallFailedError(MapReduceError):
    """The function of a basic job raised; `details` hold the traceback."""

    code = "call_failed"


class ResultTooBigError(MapReduceError):
    """The return value of a function, or the status of a job, is too big for a job record."""

    code = "result_too_big"


class OutputRefusedError(MapReduceError):
    """An output cannot be written; the message says what to change."""

    code = "output_refused"


class InputRefusedError(MapReduceError):
    """An input cannot be read as asked; the message says what to change."""

    code = "input_refused"


class CommitConflictError(MapReduceError):
    """An output document already contains a part of this job's range of ids: ranges overlap."""

    code = "commit_conflict"


class StoreUnavailableError(MapReduceError):
    """MongoDB did not answer, or refused for a temporary reason."""

    code = "store_unavailable"
    retryable = True


class StoreRefusedError(MapReduceError):
    """MongoDB refused a read or write of a job for a permanent reason."""

    code = "store_refused"


class OutputGoneError(MapReduceError):
    """Map output could not be fetched from the worker that held it; `details` list the splits."""

    code = "output_gone"
    retryable = True


class WorkerFailedError(MapReduceError):
    """A step was lost with its worker, or ran past its time limit, as often as is allowed."""

    code = "worker_failed"


class VersionRefusedError(MapReduceError):
    """Router and worker run different versions."""

    code = "version_refused"


class JobFailedError(MapReduceError):
    """A job ended in `error` or `cancelled` instead of giving its result; `details` hold its error."""

    code = "job_failed"


class JobTimeoutError(MapReduceError):
    """A job did not end within the caller's timeout; it goes on."""

    code = "job_timeout"
    retryable = True


class RouterUnreachableError(MapReduceError):
    """No router answers at the request address; a command that fails with it exits with `exit_code`."""

    code = "router_unreachable"
    retryable = True
    exit_code = 2


def from_document(document: dict[str, Any]) -> MapReduceError:
    """Return the error that `to_document` described; a plain `MapReduceError` if its code is unknown."""
    kind = _BY_CODE.get(str(document.get("code")), MapReduceError)
    details = document.get("details")
    return kind(str(document.get("message", "")), dict(details) if isinstance(details, dict) else {})


_BY_CODE: dict[str, type[MapReduceError]] = {kind.code: kind for kind in MapReduceError.__subclasses__()}
