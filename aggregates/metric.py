"""Share the keys, merging and derived numbers of tasks over measurements (events of type `metric`).

Key: `name/source/YYYY-MM-DDTHH:MMZ`, with tags in braces after the name; different metrics have different keys. Sums
beyond 64 bits continue as floats, up to the largest float. The classes that AggDefs name are in `agg_tasks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from aggregates import period
from aggregates.event_field import number_at, text_at
from aggregates.period import Span
from aggregates.task import Task
from ingest.metrics.clamp import clamp
from ingest.metrics.sketch import DistinctSketch, LogSketch

PERIOD_S = 60
State = dict[str, Any]


def part(text: str) -> str:
    """Return the text percent-encoded as a dimension of a key."""
    return text.replace("%", "%25").replace("/", "%2F")


_BRACES = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D"})
_INSIDE = str.maketrans({"%": "%25", "{": "%7B", "}": "%7D", ",": "%2C", "=": "%3D"})


def minute_key(timestamp: datetime, context: Mapping[str, Any]) -> str:
    """Return the key of a measurement: name, tags, source and minute."""
    name = context["name"].translate(_BRACES)
    if tags := context.get("tags"):
        name += (
            "{"
            + ",".join(f"{key.translate(_INSIDE)}={value.translate(_INSIDE)}" for key, value in sorted(tags.items()))
            + "}"
        )
    return f"{name.replace('/', '%2F')}/{part(context['source'])}/{period.minute_key(timestamp)}Z"


class MinuteTask(Task, ABC):
    """Base class of metric tasks; keeps one state per name, source and minute."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, State]]:
        for event in events:
            if (pair := self._pair(event)) is not None:
                yield pair

    def _pair(self, event: dict[str, Any]) -> tuple[str, State] | None:
        """Return key and state of one batch; None for an event that is no batch, whoever has sent it as one."""
        try:
            context, extra = event["context"], event["extra"]
            rate = extra.get("rate", 1)
            count = extra["count"] if rate == 1 else clamp(round(extra["count"] / rate))
            failed = context.get("outcome") == "error"
            state = {"count": count, "errors": count if failed else 0} | self.first_state(event, rate, failed)
            key = minute_key(event["timestamp"], context)
            self.finalize(key, self.reduce(key, [state, state]))
        except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
            return None
        return key, state

    @abstractmethod
    def first_state(self, event: dict[str, Any], rate: float, failed: bool) -> State:
        """Return the state of one batch, apart from `count` and `errors`."""

    def period(self, key: str) -> Span:
        return period.minute(key.rpartition("/")[2])


class DistributionTask(MinuteTask):
    """Timers, gauges, histograms: `reduce` merges sketches, `finalize` reads quantiles from them."""

    fields = (
        "timestamp", "context.name", "context.source", "context.tags", "context.outcome",
        "extra.count", "extra.sum", "extra.min", "extra.max", "extra.last", "extra.sketch", "extra.rate",
    )  # fmt: skip

    def first_state(self, event: dict[str, Any], rate: float, failed: bool) -> State:
        extra = event["extra"]
        return {
            "measured": extra["count"],
            "sum": extra["sum"],
            "min": extra["min"],
            "max": extra["max"],
            "last": extra["last"],
            "at": event["timestamp"],
            "sketch": extra.get("sketch", {}),
        }

    def reduce(self, key: str, values: Iterable[State]) -> State:
        found: State = {}
        sketch = LogSketch()
        for value in values:
            sketch.merge(LogSketch.from_document(value["sketch"]))
            if not found:
                found = dict(value)
                continue
            for name in ("count", "errors", "measured", "sum"):
                found[name] = clamp(found[name] + value[name])
            found["min"] = min(found["min"], value["min"])
            found["max"] = max(found["max"], value["max"])
            if (value["at"], value["last"]) > (found["at"], found["last"]):
                found |= {"at": value["at"], "last": value["last"]}
        return found | {"sketch": sketch.to_document()}

    def finalize(self, key: str, value: State) -> State:
        sketch = LogSketch.from_document(value["sketch"])
        shares = sketch.quantiles([0.5, 0.95, 0.99]) if sketch.count else [value["last"]] * 3
        p50, p95, p99 = (min(max(share, value["min"]), value["max"]) for share in shares)
        return {
            "rate": value["count"] / PERIOD_S,
            "mean": min(max(value["sum"] / value["measured"], value["min"]), value["max"]),  # the sum may be capped
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "min": value["min"],
            "max": value["max"],
            "last": value["last"],
            "count": value["count"],
            "errors": value["errors"],
        }


class CounterTask(MinuteTask):
    """Counters: sum, and rate per second; calls that raised are not counted."""

    fields = (
        "timestamp", "context.name", "context.source", "context.tags", "context.outcome",
        "extra.count", "extra.sum", "extra.rate",
    )  # fmt: skip

    def first_state(self, event: dict[str, Any], rate: float, failed: bool) -> State:
        total = event["extra"]["sum"]
        return {"sum": 0 if failed else total if rate == 1 else clamp(total / rate)}

    def reduce(self, key: str, values: Iterable[State]) -> State:
        found: State = {"count": 0, "errors": 0, "sum": 0}
        for value in values:
            for name in found:
                found[name] = clamp(found[name] + value[name])
        return found

    def finalize(self, key: str, value: State) -> State:
        return {
            "rate": value["sum"] / PERIOD_S,
            "sum": value["sum"],
            "count": value["count"] - value["errors"],
            "errors": value["errors"],
        }


class SetTask(MinuteTask):
    """Sets: estimated number of distinct values."""

    fields = (
        "timestamp", "context.name", "context.source", "context.tags", "context.outcome",
        "extra.count", "extra.sketch", "extra.rate",
    )  # fmt: skip

    def first_state(self, event: dict[str, Any], rate: float, failed: bool) -> State:
        return {"sketch": event["extra"].get("sketch", {})}

    def reduce(self, key: str, values: Iterable[State]) -> State:
        found: State = {"count": 0, "errors": 0}
        sketch = DistinctSketch()
        for value in values:
            sketch.merge(DistinctSketch.from_document(value["sketch"]))
            for name in found:
                found[name] = clamp(found[name] + value[name])
        return {**found, "sketch": sketch.to_document()}

    def finalize(self, key: str, value: State) -> State:
        return {"distinct": DistinctSketch.from_document(value["sketch"]).estimate, "count": value["count"]}


class DeliveryTask(Task):
    """Delivery: measurements received from each publisher and lost on the way; key `publisher/level`.

    Sequence numbers start at 1, so every one missing below the highest is a lost batch, whichever process was down.
    """

    fields = (
        "timestamp", "context.level", "context.source", "extra.count", "extra.publisher", "extra.sequence",
        "extra.before",
    )  # fmt: skip

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, State]]:
        for event in events:
            publisher, level = text_at(event, "extra", "publisher"), text_at(event, "context", "level")
            count, before = number_at(event, "extra", "count"), number_at(event, "extra", "before")
            sequence = number_at(event, "extra", "sequence")
            if publisher and level and count is not None and before is not None and sequence is not None:
                yield (
                    f"{part(publisher)}/{part(level)}",
                    {"batches": 1, "measurements": count, "sequence": sequence, "sent": clamp(before + count)},
                )

    def reduce(self, key: str, values: Iterable[State]) -> State:
        found: State = {"batches": 0, "measurements": 0, "sequence": 0, "sent": 0}
        for value in values:
            for name in ("batches", "measurements"):
                found[name] = clamp(found[name] + value[name])
            found["sequence"] = max(found["sequence"], value["sequence"])
            found["sent"] = max(found["sent"], value["sent"])
        return found

    def finalize(self, key: str, value: State) -> State:
        return {
            "measurements": value["measurements"],
            "lost_measurements": value["sent"] - value["measurements"],
            "batches": value["batches"],
            "lost_batches": value["sequence"] - value["batches"],
        }
