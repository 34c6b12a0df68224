"""Errors of the aggregation service. Each has a stable `code`, a `retryable` flag, and can be pickled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class AggregateError(Exception):
    """Base class of the errors of `aggregates`; its text is one line for a person."""

    code = "aggregate_error"
    retryable = False
    exit_code = 1

    def __init_subclass__(cls, **traits: Any) -> None:
        """Set `code` and the other attributes that a class statement names."""
        for name, value in traits.items():
            setattr(cls, name, value)


class TaskError(AggregateError, code="bad_task"):
    """A task cannot be found, imported or used."""


class TaskRefusedError(TaskError, code="task_refused"):
    """A dotted path outside the modules that may hold tasks."""


class DefinitionError(AggregateError, code="bad_definition"):
    """A field of an aggregate definition has a value that is not allowed; `field` names it."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class TimeTextError(AggregateError, code="bad_time"):
    """A text that names no time, or more than one; the message says what to write."""


class OutputTakenError(AggregateError, code="output_taken"):
    """The output belongs to another AggDef, or a plain collection has the name of its view."""


class FullRunDueError(AggregateError, code="full_run_due"):
    """An increment would be wrong; only a full run helps. The text says why."""


class EventsGoneError(AggregateError, code="events_gone"):
    """Some events in the aggregate are no longer stored; a full run would lose them."""


class LeaseHeldError(AggregateError, code="busy", retryable=True):
    """Another process holds the lease of this output, until it is done or its lease expires."""


class LeaseLostError(AggregateError, code="lease_lost", retryable=True):
    """Another process has taken over because this one renewed its lease too late; nothing is lost."""


class NotRebuildableError(AggregateError, code="not_rebuildable"):
    """A range cannot be rebuilt: its ends are wrong, or the task or the state of its output does not allow it."""


class RouterAbsentError(AggregateError, code="router_absent", retryable=True, exit_code=2):
    """No router answers where the configuration says it is."""


class RunFailedError(AggregateError, code="run_failed", retryable=True):
    """A job of the run failed; `traceback` is the worker's, `wrote` is True if results may be partly written."""

    def __init__(self, message: str, traceback: str = "", *, wrote: bool = False) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.wrote = wrote


class RunCancelledError(RunFailedError, code="run_cancelled", retryable=False):
    """A person cancelled the run."""


class RunStateError(AggregateError, code="bad_run_state"):
    """A run is not in the state that the request needs."""


class AlertError(AggregateError, code="alert_not_sent", retryable=True):
    """A mail or webhook could not be sent; it is retried."""


class UnknownAggregateError(AggregateError, code="unknown_aggregate"):
    """No AggDef has this name, or it has no output yet; the text says which names exist."""


def known(names: Iterable[str], at_most: int = 12) -> str:
    """Return the names, sorted, to end a sentence: "a, b and 3 more" if more than `at_most`; "none" if empty."""
    ordered = sorted(names)
    if not ordered:
        return "none"
    more = f" and {len(ordered) - at_most} more" if len(ordered) > at_most else ""
    return ", ".join(ordered[:at_most]) + more
