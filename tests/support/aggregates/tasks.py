"""Tasks for the tests; fields of the events determine what fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aggregates import period
from aggregates.task import Task, register


class CountByDay(Task):
    """Count by project and day."""

    fields = ["timestamp", "context.project"]

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield f"{event['context']['project']}/{event['timestamp']:%Y-%m-%d}", 1

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)

    def period(self, key: str) -> period.Span:
        return period.day(key.rpartition("/")[2])


class Ending(CountByDay):
    """End the interpreter, as a program does that somebody made a task of."""

    def __init__(self) -> None:
        raise SystemExit("usage: ending FILE")


class Mean(CountByDay):
    """Compute a mean with finalize: the state keeps sum and count."""

    fields = None

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[Any, Any]]:
        for event in events:
            yield event["type"], {"sum": event["extra"]["n"], "count": 1}

    def reduce(self, key: Any, values: Iterable[Any]) -> Any:
        total = count = 0
        for value in values:
            total += value["sum"]
            count += value["count"]
        return {"sum": total, "count": count}

    def finalize(self, key: Any, value: Any) -> float:
        return value["sum"] / value["count"]

    period = Task.period


class Median(Task):
    """Compute a median, which is not associative."""

    associative = False

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield event["type"], event["extra"]["n"]

    def reduce(self, key: str, values: Iterable[int]) -> int:
        ordered = sorted(values)
        return ordered[len(ordered) // 2]


class Fragile(CountByDay):
    """Fail on an event with `extra.bad`."""

    fields = None

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            if event.get("extra", {}).get("bad"):
                raise ValueError(f"bad event {event['_id']}")
            yield event["type"], 1


POISON = {"poison"}


class FragileReduce(Task):
    """Fail in the reduce of the keys in `POISON`."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield event["type"], 1

    def reduce(self, key: str, values: Iterable[int]) -> int:
        if key in POISON:
            raise ValueError("poisoned")
        return sum(values)


class Tolerant(Fragile):
    """Skip the events on which the map fails."""

    on_error = "skip"


class Scaled(Task):
    """Count with a parameter."""

    def __init__(self, factor: int = 1) -> None:
        super().__init__(factor=factor)
        self.factor = factor

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield event["type"], self.factor

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)


def by_type(objects: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
    for item in objects:
        yield item["type"], 1


def by_project(objects: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
    for item in objects:
        yield item["context"].get("project", "none"), 1


def add(key: str, values: Iterable[int]) -> int:
    return sum(values)


class Style2011(Task):
    """Use module-level functions, and an output with a name of its own."""

    def _start_jobs(self, socket: Any, full: bool) -> None:
        self.start_mr(socket, self.db.zagg.of_2011, full, map=by_type, reduce=add)


class TwoSources(Task):
    """Start two calls for one output, which share their reduce."""

    def _start_jobs(self, socket: Any, full: bool) -> None:
        self.start_mr(socket, "zagg.both", full, map=by_type, reduce=add)
        self.start_mr(socket, "zagg.both", full, filter={"type": "a"}, map=by_project, reduce=add)


class TwoOutputs(Task):
    """Write two outputs of one AggDef."""

    def _start_jobs(self, socket: Any, full: bool) -> None:
        self.start_mr(socket, self.db.zagg.one, full, map=by_type, reduce=add)
        self.start_mr(socket, self.db.zagg.other, full, map=by_project, reduce=add)


class Labelled(Task):
    """Write several declared outputs in one pass."""

    outputs = ["types", "projects"]

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        for event in events:
            yield {"c": "types", "k": event["type"], "v": 1}
            yield {"c": "projects", "k": event["context"].get("project", "none"), "v": 1}

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)

    def _start_jobs(self, socket: Any, full: bool) -> None:
        self.start_xmr(socket, full, name="labelled")


class PerType(Labelled):
    """Write several outputs in one pass, named by the events."""

    outputs = ()

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        for event in events:
            yield {"c": event["type"], "k": event["context"].get("project", "none"), "v": 1}

    def _start_jobs(self, socket: Any, full: bool) -> None:
        self.start_xmr(socket, full, name="pertype")


@register
class WithSubtasks(Task):
    """Delegate to other tasks."""

    def run(self, socket: Any, full: bool = False) -> None:
        self.subtask(Style2011).run(socket, full)
        self.subtask(TwoOutputs).run(socket, full)


class WithCall(Task):
    """Call a basic job after the map-reduce."""

    def _start_jobs(self, socket: Any, full: bool) -> None:
        self.start_mr(socket, "called", full, map=by_type, reduce=add)
        self.start_basic_job(socket, note, "hello", full=full)


CALLS: list[Any] = []


def note(word: str, full: bool) -> None:
    CALLS.append((word, full))


class Lambda(Task):
    """Name a function that no worker can find."""

    def _start_jobs(self, socket: Any, full: bool) -> None:
        self.start_mr(socket, "lambda", full, map=lambda objects: [], reduce=add)


class Idle(Task):
    """Start nothing."""

    def _start_jobs(self, socket: Any, full: bool) -> None:
        """Nothing."""


class Sum(Task):
    """Sum the values of another aggregate by the part of the key before the slash."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for document in events:
            yield document["_id"].partition("/")[0], document["value"]

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)


class FieldsByName(Task):
    """Count the fields at any depth of whole events by their names."""

    output = "fields_by_name"

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            waiting: list[Any] = [event["context"], event["extra"]]
            for value in waiting:
                waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
                yield from ((name, 1) for name in value) if isinstance(value, dict) else ()

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)


class CountByItself(Task):
    """Count by the field `by` of events, as it is and inside a document and a list; only text has a period."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[Any, int]]:
        for event in events:
            found = event["extra"]["by"]
            yield found, 1
            yield {"in": found, "all": [found, {"deep": found}]}, 1

    def reduce(self, key: Any, values: Iterable[int]) -> int:
        return sum(values)

    def period(self, key: Any) -> period.Span | None:
        return period.day(key) if isinstance(key, str) else None


class ExtraByItself(Task):
    """Count by the field `by` of whole events, as it is and by its type, and keep the last one as a value."""

    output = "extra_by_itself"

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[Any, Any]]:
        for event in events:
            found = event["extra"]["by"]
            yield {"type": type(found).__name__}, found
            if not isinstance(found, dict):
                yield found, found

    def reduce(self, key: Any, values: Iterable[Any]) -> Any:
        return list(values)[-1]
