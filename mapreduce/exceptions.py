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

    def __init_subclass__(cls, **traits: Any) -> None:
        """Set `code` and the other attributes that a class statement names."""
        for name, value in traits.items():
            setattr(cls, name, value)

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}

    def to_document(self) -> dict[str, Any]:
        """Return `{code, message, details}`, bounded in size and BSON-able, for the wire and for job records."""
        return {
            "code": self.code,
            "message": sendable_text(self.message, MESSAGE_CHARACTERS),
            "details": {str(name): sendable_detail(value) for name, value in self.details.items()},
        }


class SpecError(MapReduceError, code="bad_request"):
    """A request or job description is invalid; the message names the field, its value and what is allowed."""


class JobConflictError(MapReduceError, code="job_conflict"):
    """A job id was submitted again with a different job."""


class FunctionRefusedError(MapReduceError, code="function_refused"):
    """A function name does not resolve to something defined in an allowed module."""


class CodeChangedError(MapReduceError, code="code_changed"):
    """The source of a module on this machine differs from the version that the job was accepted with."""


# Errors of one worker that lacks a job's code or must not run it. The router has checked it: other workers can do it.
REFUSALS = (CodeChangedError, FunctionRefusedError)


class KeyRefusedError(MapReduceError, code="key_refused"):
    """A map yielded a key that cannot be an `_id`."""


class MapFailedError(MapReduceError, code="map_failed"):
    """The map raised or yielded something other than a pair; `details` hold the document's id and the traceback."""


class ReduceFailedError(MapReduceError, code="reduce_failed"):
    """The reduce raised; `details` hold the key and the traceback."""


class FinalizeFailedError(MapReduceError, code="finalize_failed"):
    """The finalize raised; `details` hold the key and the traceback."""


# Errors that task code has raised in a step.
TASK_FAILURES = (MapFailedError, ReduceFailedError, FinalizeFailedError)


class CallFailedError(MapReduceError, code="call_failed"):
    """The function of a basic job raised; `details` hold the traceback."""


class ResultTooBigError(MapReduceError, code="result_too_big"):
    """The return value of a function, or the status of a job, is too big for a job record."""


class OutputRefusedError(MapReduceError, code="output_refused"):
    """An output cannot be written; the message says what to change."""


class InputRefusedError(MapReduceError, code="input_refused"):
    """An input cannot be read as asked; the message says what to change."""


class CommitConflictError(MapReduceError, code="commit_conflict"):
    """An output document already contains a part of this job's range of ids: ranges overlap."""


class StoreUnavailableError(MapReduceError, code="store_unavailable", retryable=True):
    """MongoDB did not answer, or refused for a temporary reason."""


class StoreRefusedError(MapReduceError, code="store_refused"):
    """MongoDB refused a read or write of a job for a permanent reason.

    `details` have the `server_code` if the login lacks a right. That is a fault of the worker, if others have it.
    """


def lacks_right(error: MapReduceError) -> bool:
    """Return True if MongoDB refused because the login of this process lacks a right."""
    return isinstance(error, StoreRefusedError) and "server_code" in error.details


class OutputGoneError(MapReduceError, code="output_gone", retryable=True):
    """Map output could not be fetched from the worker that held it; `details` list the splits."""


class OtherStoreError(MapReduceError, code="other_store", retryable=True):
    """A worker's MongoDB is not the router's. Other workers may have the right one."""


class WorkerUnableError(MapReduceError, code="worker_unable", retryable=True):
    """A worker lacks what a step needs, such as space on its disk or memory. Other workers may have it."""


class TaskUnableError(MapReduceError, code="task_unable", retryable=True):
    """Task code failed on a worker for a reason that may be its host's, such as a missing module or file.

    The step is tried on another host. What fails there too is an error of the task.
    """


def counts_against_worker(error: MapReduceError) -> bool:
    """Return True if a failure is a trouble of the worker, not a mistake of the task or of the job."""
    return (error.retryable and not isinstance(error, TaskUnableError)) or lacks_right(error)


class WorkerFailedError(MapReduceError, code="worker_failed"):
    """A step was lost with its worker, or ran past its time limit, as often as is allowed."""


class VersionRefusedError(MapReduceError, code="version_refused"):
    """Router and worker run different versions."""


class JobFailedError(MapReduceError, code="job_failed"):
    """A job ended in `error` or `cancelled` instead of giving its result; `details` hold its error."""


class JobTimeoutError(MapReduceError, code="job_timeout", retryable=True):
    """A job did not end within the caller's timeout; it goes on."""


class RouterUnreachableError(MapReduceError, code="router_unreachable", retryable=True, exit_code=2):
    """No router answers at the request address; a command that fails with it exits with `exit_code`."""


def from_document(document: dict[str, Any]) -> MapReduceError:
    """Return the error that `to_document` described; a plain `MapReduceError` if its code is unknown."""
    kind = _BY_CODE.get(str(document.get("code")), MapReduceError)
    details = document.get("details")
    return kind(str(document.get("message", "")), dict(details) if isinstance(details, dict) else {})


_BY_CODE: dict[str, type[MapReduceError]] = {kind.code: kind for kind in MapReduceError.__subclasses__()}
CODES = frozenset({MapReduceError.code, *_BY_CODE})
