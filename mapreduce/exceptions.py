"""Errors of the map-reduce engine: one base, a stable code each, and a dict form for the wire."""

from __future__ import annotations

from typing import Any

from mapreduce.task_error import MESSAGE_CHARACTERS, sendable_detail, sendable_text


class MapReduceError(Exception):
    """Base of every error that the engine raises or reports.

    `code` is stable and crosses the wire, `retryable` says whether the same call may succeed later, `details` holds
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
        """The form in which it crosses the wire and is recorded: `{code, message, details}`, bounded and BSON-able."""
        return {
            "code": self.code,
            "message": sendable_text(self.message, MESSAGE_CHARACTERS),
            "details": {str(name): sendable_detail(value) for name, value in self.details.items()},
        }


class SpecError(MapReduceError):
    """A request or job description is wrong; the message names field, value and what is allowed."""

    code = "bad_request"


class JobConflictError(MapReduceError):
    """A job id was sent again with another job."""

    code = "job_conflict"


class FunctionRefusedError(MapReduceError):
    """A function name does not resolve to something defined in an allowed module."""

    code = "function_refused"


class CodeChangedError(MapReduceError):
    """The source of a module on this machine is not what the job was accepted with."""

    code = "code_changed"


# What a worker says that has not the code of a job, or may not run it, while others may: the router has looked at it.
REFUSALS = (CodeChangedError, FunctionRefusedError)


class KeyRefusedError(MapReduceError):
    """A map yielded a key that cannot be an `_id`."""

    code = "key_refused"


class MapFailedError(MapReduceError):
    """The map raised, or yielded something that is no pair; `details` name the document and the traceback."""

    code = "map_failed"


class ReduceFailedError(MapReduceError):
    """The reduce raised; `details` name the key and the traceback."""

    code = "reduce_failed"


class FinalizeFailedError(MapReduceError):
    """The finalize raised; `details` name the key and the traceback."""

    code = "finalize_failed"


class CallFailedError(MapReduceError):
    """The function of a basic job raised; `details` hold the traceback."""

    code = "call_failed"


class ResultTooBigError(MapReduceError):
    """What a function returned, or a job tells of itself, is more than the record of a job can hold."""

    code = "result_too_big"


class OutputRefusedError(MapReduceError):
    """An output cannot be written to; the message says what to change."""

    code = "output_refused"


class InputRefusedError(MapReduceError):
    """An input cannot be read as asked; the message says what to change."""

    code = "input_refused"


class CommitConflictError(MapReduceError):
    """An output document has taken in a part of the range of this job: ranges overlap."""

    code = "commit_conflict"


class StoreUnavailableError(MapReduceError):
    """MongoDB did not answer, or refused for a reason that passes."""

    code = "store_unavailable"
    retryable = True


class StoreRefusedError(MapReduceError):
    """MongoDB refused a read or write of a job for a reason that does not pass by itself."""

    code = "store_refused"


class OutputGoneError(MapReduceError):
    """Map output could not be fetched from the worker that held it; `details` name the splits."""

    code = "output_gone"
    retryable = True


class WorkerFailedError(MapReduceError):
    """A split was lost with its worker, or ran past its time limit, as often as is allowed."""

    code = "worker_failed"


class VersionRefusedError(MapReduceError):
    """Router and worker do not speak the same version."""

    code = "version_refused"


class JobUnknownError(MapReduceError):
    """No job has this id."""

    code = "job_unknown"


class JobFailedError(MapReduceError):
    """A job whose result was asked for ended in `error` or `cancelled`; `details` hold its error."""

    code = "job_failed"


class JobTimeoutError(MapReduceError):
    """A job has not ended within the time the caller gave; it goes on."""

    code = "job_timeout"
    retryable = True


class RouterUnreachableError(MapReduceError):
    """No router answers at the address of requests; a command that meets it exits with `exit_code`."""

    code = "router_unreachable"
    retryable = True
    exit_code = 2


class EngineMissingError(MapReduceError):
    """The engine that the settings name is not installed."""

    code = "engine_missing"


def from_document(document: dict[str, Any]) -> MapReduceError:
    """The error that `to_document` described; an unknown code gives a plain `MapReduceError`."""
    kind = _BY_CODE.get(str(document.get("code")), MapReduceError)
    details = document.get("details")
    return kind(str(document.get("message", "")), dict(details) if isinstance(details, dict) else {})


_BY_CODE: dict[str, type[MapReduceError]] = {kind.code: kind for kind in MapReduceError.__subclasses__()}
