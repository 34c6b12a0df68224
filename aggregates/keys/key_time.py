"""Tell how the keys of an output are read: the zone whose clock they name, and the length of their periods.

It belongs to the aggregate, so its task says it: by `period(key)`, whose spans carry zone and length, or by the
attribute `zone`. Runs record it in the position (`key_times`), from which readers take it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from aggregates.clock import wall_clock
from aggregates.keys.key_period import period_of
from aggregates.period import SECONDS, Pair, Span, Unit
from aggregates.task import Task, has_period

log = logging.getLogger(__name__)

ENOUGH: Final = 20  # keys that agree on average well enough to ask no further ones

Step = Unit | int  # a calendar unit, or a length in seconds that is none

_BY_SECONDS: dict[int, Unit] = {seconds: unit for unit, seconds in SECONDS.items()}
_BY_DAYS: dict[int, Unit] = {28: "month", 29: "month", 30: "month", 31: "month", 365: "year", 366: "year"}


@dataclass(frozen=True)
class KeyTime:
    """How the keys of one output are read."""

    zone: str = "UTC"  # a name for `wall_clock`
    step: Step | None = None  # length of the periods; None if the task does not say it
    asked: int = 0  # keys that it was told from

    def to_document(self) -> dict[str, Any]:
        """Return the document for MongoDB."""
        return dict(vars(self))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> KeyTime:
        """Restore from the result of `to_document`; other fields are ignored. A zone unknown here is read as UTC."""
        return cls(known_zone(document.get("zone")) or "UTC", document.get("step"), document.get("asked", 0))


def tell(task: Task, keys: Iterable[Any]) -> KeyTime:
    """Return what most of `keys` say, so that an odd one never decides; keys on which `period` fails say nothing."""
    own = _own_zone(task)
    found: Counter[tuple[str, Step]] = Counter(_answers(task, keys, own)) if has_period(type(task)) else Counter()
    if not found:
        return KeyTime(own or "UTC")
    (zone, step), _ = max(found.items(), key=lambda item: item[1])
    return KeyTime(zone, step, found.total())


def _answers(task: Task, keys: Iterable[Any], own: str | None) -> Iterator[tuple[str, Step]]:
    for key in keys:
        try:
            span = period_of(task, key)
        except Exception:  # noqa: BLE001 - code of the task can raise anything; a rebuild names these keys
            continue
        if span is not None and (isinstance(span, Span) or span[0] < span[1]):
            yield _zone(span, own), _step(span)


def known_zone(zone: Any) -> str | None:
    """Return the name of a zone; None if it has no name, or is not in the time zone database."""
    try:
        return wall_clock(zone).name or None
    except (ValueError, KeyError, OSError, TypeError, AttributeError):  # ZoneInfoNotFoundError is a KeyError
        return None


def _own_zone(task: Task) -> str | None:
    """Return the name of the task's own zone; None if it has none, or one that is unknown."""
    if task.zone is None:
        return None
    name = known_zone(task.zone)
    if name is None:
        log.warning("zone of task unknown, UTC is used task=%s zone=%r", type(task).__qualname__, task.zone)
    return name


def _zone(span: Pair, own: str | None) -> str:
    """Return the zone of a span; for a plain pair, which has none, that of the task, else that of its datetimes."""
    if isinstance(span, Span):
        return wall_clock(span.zone).name or own or "UTC"
    if own is not None:
        return own
    zone = span[0].tzinfo
    return (wall_clock(zone).name or "UTC") if zone is not None else "UTC"


def _step(span: Pair) -> Step:
    if isinstance(span, Span):
        return span.unit if span.unit_count == 1 else SECONDS[span.unit] * span.unit_count
    return _unit_of(span[1] - span[0])


def _unit_of(length: timedelta) -> Step:
    """Return the length of a plain pair as a unit, if it is one."""
    seconds = max(round(length.total_seconds()), 1)
    days = round(length / timedelta(days=1))
    near_days = abs(length - timedelta(days=days)) <= timedelta(hours=1)  # clocks may change in between
    if near_days and days in _BY_DAYS:
        return _BY_DAYS[days]
    if near_days and days in (1, 7) and seconds not in _BY_SECONDS:
        return "day" if days == 1 else "week"
    return _BY_SECONDS.get(seconds, seconds)
