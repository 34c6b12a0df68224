"""Ask a task for the periods of keys. A key on which it fails is named and counted, and never stops the others."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from aggregates.clock import clamp
from aggregates.period import Pair
from aggregates.task import Task
from mapreduce.task_error import is_of_task

log = logging.getLogger(__name__)

MOST_NAMED = 5  # keys that are named; the others are only counted


def period_of(task: Task, key: Any) -> Pair | None:
    """Return the period of `key`, or None if the task says that it has none.

    Raise whatever `period(key)` raises, and `ValueError` for a result that is no span of time.
    """
    found = task.period(key)
    if found is None:
        return None
    if not all(isinstance(each, datetime) and each.utcoffset() is not None for each in (*found,)) or len(found) != 2:
        raise ValueError(f"period({key!r}) is {found!r:.200}, not a pair of timezone-aware datetimes")
    start, end = in_utc(found)
    if end < start:
        raise ValueError(f"period({key!r}) ends before it starts: {found!r:.200}")
    return found


def in_utc(pair: Pair) -> Pair:
    """Return the instants of a pair, in UTC.

    Python compares datetimes of one tzinfo as their clock shows them, which goes back where clocks are set back.
    """
    return clamp(pair[0]), clamp(pair[1])


def is_empty(pair: Pair) -> bool:
    """Return True if a pair holds no instant."""
    start, end = in_utc(pair)
    return start == end


class KeyPeriods:
    """Periods of the keys of one task, with an account of the odd ones, whose period cannot be told."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.odd_keys: list[str] = []  # the first ones, each with what the task raised
        self.odd_count = 0

    def of(self, key: Any) -> Pair | None:
        """Return the period of `key`, in UTC; None if it has none, or if the task fails on it."""
        try:
            found = period_of(self._task, key)
            return None if found is None else in_utc(found)
        except BaseException as error:
            if not is_of_task(error):
                raise
            return None

    def note_odd(self, key: Any) -> None:
        """Count `key` if the task fails on it; call it once for each key."""
        try:
            period_of(self._task, key)
        except BaseException as error:
            if not is_of_task(error):
                raise
            self.odd_count += 1
            if len(self.odd_keys) < MOST_NAMED:
                self.odd_keys.append(f"{key!r:.100} ({type(error).__name__}: {error!s:.100})")

    def report(self, output: str) -> None:
        """Log the odd keys, if there are any."""
        if self.odd_count:
            log.warning(
                "period unknown, keys kept as they are output=zagg.%s count=%d keys=%s",
                output,
                self.odd_count,
                "; ".join(self.odd_keys),
            )
