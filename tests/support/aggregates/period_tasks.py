"""Tasks for the tests of periods and zones: what the keys of their outputs say about time, and how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from dateutil import tz

from aggregates import period
from aggregates.task import Task
from tests.support.aggregates import tasks
from tests.support.aggregates.zones import of_file


class TotalByType(tasks.CountByDay):
    """Yield a key without a period beside keys with one."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield "total", 1
            yield f"day/{event['timestamp']:%Y-%m-%d}", 1

    def period(self, key: str) -> period.Span | None:
        return period.day(key.partition("/")[2]) if key.startswith("day/") else None


class ByHourInBerlin(tasks.CountByDay):
    """Count by project and hour of a zone that changes its clocks."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield f"{event['context']['project']}/{period.hour_key(event['timestamp'], 'Europe/Berlin')}", 1

    def period(self, key: str) -> period.Span:
        return period.hour(key.rpartition("/")[2], "Europe/Berlin")


class PlainPairsOfDateutil(ByHourInBerlin):
    """Say the same hours as plain pairs in a zone of dateutil, which cannot be hashed."""

    def period(self, key: str) -> Any:
        start = datetime.fromisoformat(key.rpartition("/")[2]).replace(tzinfo=tz.gettz("Europe/Berlin"))
        return start, start + timedelta(hours=1)


class PlainPairsWithoutName(ByHourInBerlin):
    """Say the same hours as plain pairs in a zone that tells no name."""

    def period(self, key: str) -> Any:
        start = datetime.fromisoformat(key.rpartition("/")[2]).replace(tzinfo=of_file("Europe/Berlin"))
        return start, start + timedelta(hours=1)


class ByDayOfAnyYear(tasks.CountByDay):
    """Count by project and day, with years of four digits."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield f"{event['context']['project']}/{period.day_key(event['timestamp'])}", 1


class PlainPairs(tasks.CountByDay):
    """Return a pair without unit or zone, as tasks did before spans had them."""

    zone = "America/New_York"

    def period(self, key: str) -> tuple[datetime, datetime]:
        start, end = period.day(key.rpartition("/")[2], "America/New_York")
        return start, end


class ByHalfMonth(tasks.CountByDay):
    """Count by periods that begin on the 1st and on the 16th, as plain pairs."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield f"{event['timestamp']:%Y-%m}-{1 if event['timestamp'].day < 16 else 16:02}", 1

    def period(self, key: str) -> tuple[datetime, datetime]:
        start, end = period.month(key[:7])
        middle = start.replace(day=16)
        return (start, middle) if key.endswith("01") else (middle, end)


class OfZone(tasks.Scaled):
    """Name the zone of its keys, which have no period."""

    zone = "Asia/Tokyo"


class OfZoneInParams(tasks.Scaled):
    """Take the zone of its keys, which have no period, as a parameter."""

    def __init__(self, zone: str | None = None) -> None:
        Task.__init__(self, zone=zone)
        self.factor = 1
        self.zone = zone


class DaysOfZoneInParams(tasks.CountByDay):
    """Take the zone of its days as a parameter."""

    def __init__(self, tz: str = "UTC") -> None:
        super().__init__(tz=tz)
        self.tz = tz

    def period(self, key: str) -> period.Span:
        return period.day(key.rpartition("/")[2], self.tz)


class HourAndDay(Task):
    """Fill two outputs, each by a task of its own."""

    def run(self, socket: Any, full: bool = False) -> None:
        self.subtask(ByHourInBerlin).start_mr(socket, "hours", full)
        self.subtask(tasks.CountByDay).start_mr(socket, "days", full)


class HourAndDayKeys(Task):
    """Count by hour and by day in one output, as in 2011; `period` tells them apart by the first part of the key."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield f"hour/{period.hour_key(event['timestamp'])}", 1
            yield f"date/{period.day_key(event['timestamp'])}", 1

    def reduce(self, key: str, values: Iterable[int]) -> int:
        return sum(values)

    def period(self, key: str) -> period.Span:
        kind, _, text = key.partition("/")
        return period.hour(text) if kind == "hour" else period.day(text)


class HourAndDayOutputs(HourAndDayKeys):
    """Fill outputs of one pattern, one of them with hours and the other with days."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        for event in events:
            yield {"c": "a", "k": f"hour/{period.hour_key(event['timestamp'])}", "v": 1}
            yield {"c": "b.x", "k": f"date/{period.day_key(event['timestamp'])}", "v": 1}

    def run(self, socket: Any, full: bool = False) -> None:
        self.start_xmr(socket, full, name="multi")


class ByHourAsSpelled(tasks.CountByDay):
    """Count by project and hour, as minutes of zero, and say nothing about periods or zones."""

    def map(self, events: Iterator[dict[str, Any]]) -> Iterable[tuple[str, int]]:
        for event in events:
            yield f"{event['context']['project']}/{event['timestamp']:%Y-%m-%dT%H:00}", 1

    period = Task.period
