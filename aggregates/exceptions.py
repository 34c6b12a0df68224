"""Errors of the aggregation service. Each has a stable `code`, a `retryable` flag, and can be pickled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class AggregateError(Exception):
    """Base class of the errors of `aggregates`; its text is one line for a person."""

    code = "aggregate_error"
    retryable = False
    exit_code = 1


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
    """The output belongs to another AggDef, or a plain collection has the name of its view."""

    code = "output_taken"


class FullRunDueError(AggregateError):
    """An increment would be wrong; only a full run helps. The text says why."""

    code = "full_run_due"


class EventsGoneError(AggregateError):
    """Some events in the aggregate are no longer stored; a full run would lose them."""

    code = "events_gone"


class LeaseHeldError(AggregateError):
    """Another process holds the lease of this output, until it is done or its lease expires."""

    code = "busy"
    retryable = True


class LeaseLostError(AggregateError):
    """Another process has taken over because this one renewed its lease too late; nothing is lost."""

    code = "lease_lost"
    retryable = True


class NotRebuildableError(AggregateError):
    """A range cannot be rebuilt: its ends are wrong, or the task or the state of its output does not allow it."""

    code = "not_rebuildable"


class RouterAbsentError(AggregateError):
    """No router answers where the configuration says it is."""

    code = "router_absent"
    retryable = True
    exit_code = 2


class RunFailedError(AggregateError):
    """A job of the run failed; `traceback` is the worker's, `wrote` is True if results may be partly written."""

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
    """A mail or webhook could not be sent; it is retried."""

    code = "alert_not_sent"
    retryable = True


class UnknownAggregateError(AggregateError):
    """No AggDef has this name, or it has no output yet; the text says which names exist."""

    code = "unknown_aggregate"


def known(names: Iterable[str], at_most: int = 12) -> str:
    """Return the names, sorted, to end a sentence: "a, b and 3 more" if more than `at_most`; "none" if empty."""
    ordered = sorted(names)
    if not ordered:
        return "none"
    more = f" and {len(ordered) - at_most} more" if len(ordered) > at_most else ""
    return ", ".join(ordered[:at_most]) + more


def _run_failed(cls: type[RunFailedError], message: str, traceback: str, wrote: bool) -> RunFailedError:
    return cls(message, traceback, wrote=wrote)
