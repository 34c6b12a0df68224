"""Tasks for the sample data and the overview page, which also serve as examples.

An event without the fields that a task reads, or with others in their place, is left out: it must not stop the numbers
of all the others, and `event_noval` sends events that nobody has checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aggregates import period
from aggregates.event_field import number_at, text_at
from aggregates.metric import CounterTask, DeliveryTask, DistributionTask, SetTask
from aggregates.period import Span
from aggregates.task import Task, register
from ingest.metrics.clamp import clamp

UNTYPED = "(none)"  # counted by type: events without one


@register
class CommitsByDay(Task):
    """Commits of each project on each day (UTC); key `project/YYYY-MM-DD`. Filter `{"type": "commit"}`."""

    fields = ["timestamp", "context.project"]

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            if project := text_at(event, "context", "project"):
                yield f"{project}/{period.day_key(event['timestamp'])}", 1

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)

    def period(self, key: str) -> Span:
        return period.day(key.rpartition("/")[2])


@register
class LinesChangedByDay(Task):
    """Lines inserted and deleted in each project on each day (UTC). Filter `{"type": "commit"}`."""

    fields = ["timestamp", "context.project", "extra.insertions", "extra.deletions"]

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, dict[str, float]]]:
        for event in events:
            project = text_at(event, "context", "project")
            insertions, deletions = number_at(event, "extra", "insertions"), number_at(event, "extra", "deletions")
            if project and insertions is not None and deletions is not None:
                key = f"{project}/{period.day_key(event['timestamp'])}"
                yield key, {"insertions": insertions, "deletions": deletions}

    def reduce(self, key: str, values: Iterable[dict[str, float]]) -> dict[str, float]:
        insertions: float = 0
        deletions: float = 0
        for value in values:
            insertions = clamp(insertions + value["insertions"])
            deletions = clamp(deletions + value["deletions"])
        return {"insertions": insertions, "deletions": deletions}

    def period(self, key: str) -> Span:
        return period.day(key.rpartition("/")[2])


@register
class ChangesByKind(Task):
    """Files touched, by project and kind of file; key `project/kind`. Filter `{"type": "change"}`."""

    fields = ["context.project", "extra.kind"]

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            project, kind = text_at(event, "context", "project"), text_at(event, "extra", "kind")
            if project and kind:
                yield f"{project}/{kind}", 1

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)


@register
class EventsByType(Task):
    """All events by type; key `type`."""

    fields = ["type"]

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield text_at(event, "type") or UNTYPED, 1

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)


@register
class EventsByMinute(Task):
    """All events by type and minute (UTC); key `type/YYYY-MM-DDTHH:MM`; `/` and `%` in a type are percent-encoded."""

    fields = ["timestamp", "type"]

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            kind = (text_at(event, "type") or UNTYPED).replace("%", "%25").replace("/", "%2F")
            yield f"{kind}/{period.minute_key(event['timestamp'])}", 1

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)

    def period(self, key: str) -> Span:
        return period.minute(key.rpartition("/")[2])


@register
class MetricTimers(DistributionTask):
    """Timers by name, source and minute: rate, mean, p50, p95, p99 in seconds. Filter `{"context.kind": "Timer"}`."""


@register
class MetricGauges(DistributionTask):
    """Gauges by name, source and minute: last, mean, lowest, highest. Filter `{"context.kind": "Gauge"}`."""


@register
class MetricHistograms(DistributionTask):
    """Histograms by name, source and minute. Filter `{"context.kind": "Histogram"}`."""


@register
class MetricCounters(CounterTask):
    """Counters by name, source and minute: sum and rate per second. Filter `{"context.kind": "Counter"}`."""


@register
class MetricSets(SetTask):
    """Distinct values by name, source and minute. Filter `{"context.kind": "Set"}`."""


@register
class MetricDelivery(DeliveryTask):
    """Measurements received from each publisher, and how many were lost. Filter `{"type": "metric"}`."""
