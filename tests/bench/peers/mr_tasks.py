"""The task of the map-reduce benchmarks: count by day and project. Both sides of each comparison use it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

FIELDS = ("timestamp", "context.project")


def by_day_and_project(events: Iterable[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """`project/YYYY-MM-DD` and 1."""
    for event in events:
        yield f"{event['context']['project']}/{event['timestamp'].date()}", 1


def by_user(events: Iterable[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """A key with 200,000 or 500,000 values, and 1."""
    for event in events:
        yield event["context"]["user"], 1


def slow_by_day_and_project(events: Iterable[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """The same count, with 20 microseconds of Python work for each event."""
    for event in events:
        end = time.perf_counter() + 20e-6
        while time.perf_counter() < end:
            pass
        yield f"{event['context']['project']}/{event['timestamp'].date()}", 1


def add(key: str, values: Iterable[int]) -> int:
    """The sum."""
    return sum(values)
