"""Errors of the aggregation service. Each has a stable `code`, says whether a retry may help, and pickles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class AggregateError(Exception):
    """Base of every error that `aggregates` raises; its text is one line for a person."""

    code = "aggregate_error"
    retryable = False
    exit_code = 1

    def to_document(self) -> dict[str, Any]:
        """What crosses a wire."""
        return {"code": self.code, "message": str(self)}


class TaskError(AggregateError):
    """A task cannot be found, imported or used."""

    code = "bad_task"


class TaskRefusedError(TaskError):
    """A dotted path outside the modules that may hold tasks."""

    code = "task_refused"


class DefinitionError(AggregateError):
    """A field of an aggregate definition has a value that is not allowed; `field` names it."""

    code = "bad_definition"

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message, field)
        self.field = field

    def __str__(self) -> str:
        return str(self.args[0])


class OutputTakenError(AggregateError):
    """The output belongs to another AggDef, or a plain collection lies where its view would be."""

    code = "output_taken"


class FullRunDueError(AggregateError):
    """An increment would be wrong; only a full run helps. The text says why."""

    code = "full_run_due"


class EventsGoneError(AggregateError):
    """Events that are in the aggregate are no longer stored, so that a full run would lose them."""

    code = "events_gone"


class BusyError(AggregateError):
    """Another process holds the lease of this output; it will let go, or its lease will run out."""

    code = "busy"
    retryable = True


class LeaseLostError(AggregateError):
    """This process was too slow to renew its lease, and another one has taken over; nothing is lost."""

    code = "lease_lost"
    retryable = True


class NotRebuildableError(AggregateError):
    """A range was to be rebuilt, but the task does not say which time its keys stand for."""

    code = "not_rebuildable"


class RouterAbsentError(AggregateError):
    """No router answers where the configuration says it is."""

    code = "router_absent"
    retryable = True
    exit_code = 2


class RunFailedError(AggregateError):
    """A job of the run ended in an error; `traceback` is the worker's, `wrote` whether results may be partly there."""

    code = "run_failed"
    retryable = True

    def __init__(self, message: str, traceback: str = "", *, wrote: bool = False) -> None:
        super().__init__(message, traceback, wrote)
        self.traceback = traceback
        self.wrote = wrote

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return _run_failed, (type(self), str(self), self.traceback, self.wrote)


class RunCancelledError(RunFailedError):
    """A person cancelled the run."""

    code = "run_cancelled"
    retryable = False


class RunStateError(AggregateError):
    """A run is not in the state that the request needs."""

    code = "bad_run_state"


class AlertError(AggregateError):
    """A mail or webhook did not go out; it is tried again."""

    code = "alert_not_sent"
    retryable = True


class UnknownAggregateError(AggregateError):
    """No AggDef has this name; the text lists some that there are."""

    code = "unknown_aggregate"


def known(names: Iterable[str], at_most: int = 12) -> str:
    """The names as the end of a sentence, cut when there are many: "a, b and 3 more"; "none" when empty."""
    ordered = sorted(names)
    if not ordered:
        return "none"
    more = f" and {len(ordered) - at_most} more" if len(ordered) > at_most else ""
    return ", ".join(ordered[:at_most]) + more


def _run_failed(cls: type[RunFailedError], message: str, traceback: str, wrote: bool) -> RunFailedError:
    return cls(message, traceback, wrote=wrote)
