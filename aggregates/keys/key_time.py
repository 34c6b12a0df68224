"""Tell how the keys of an output are read: the zone whose clock they name, and the lengths of their periods.

It belongs to the aggregate, so its task says it: by `period(key)`, whose spans carry zone and length, or by the
attribute `zone`. Runs record it in the position (`key_times`), from which readers take it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Final

from aggregates.clock import wall_clock
from aggregates.keys.key_period import is_empty, period_of
from aggregates.keys.pair_length import PairLengths
from aggregates.keys.period_length import Step, known, months, of_months, of_seconds
from aggregates.period import SECONDS, Pair, Span
from aggregates.task import Task, has_period
from ingest.log_limit import LogLimit
from mapreduce.task_error import is_of_task

log = logging.getLogger(__name__)

ENOUGH: Final = 20  # keys that agree on average well enough to ask no further ones
MOST_STEPS: Final = 8  # of one output that are recorded; the rarest are left out
_warnings = LogLimit(every_s=86_400)  # of zones of tasks: every refresh asks again


@dataclass(frozen=True)
class KeyTime:
    """Say in which zone the keys of one output are read, and how long their periods are."""

    zone: str = "UTC"  # a name for `wall_clock`
    step: Step | None = None  # length of the periods of most keys; None if the task does not say it
    asked: int = 0  # keys that it was told from; keys with the same plain pair count once
    others: tuple[Step, ...] = ()  # lengths of the periods of other keys, such as days in an output of hours

    def to_document(self) -> dict[str, Any]:
        """Return the document for MongoDB."""
        return {**vars(self), "others": list(self.others)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> KeyTime:
        """Restore from the result of `to_document`; other fields are ignored. A zone unknown here is read as UTC."""
        others = (known(each) for each in document.get("others") or ())
        return cls(
            known_zone(document.get("zone")) or "UTC",
            known(document.get("step")),
            document.get("asked", 0),
            tuple(each for each in others if each is not None),
        )


def tell(task: Task, keys: Iterable[Any]) -> KeyTime:
    """Return what most of `keys` say, and the lengths that others say; keys on which `period` fails say nothing."""
    own = _own_zone(task)
    spans = list(_spans(task, keys)) if has_period(type(task)) else []
    if not spans:
        return KeyTime(own or "UTC")
    plain = [span for span in spans if not isinstance(span, Span)]
    pairs = PairLengths(plain)
    found = Counter(
        (_zone(task, span, own), _of_span(span) if isinstance(span, Span) else pairs.step(span)) for span in spans
    )
    (zone, step), _ = found.most_common(1)[0]
    others = dict.fromkeys(each for (_, each), _ in found.most_common() if each != step)
    asked = len(spans) - len(plain) + len({*plain})  # many keys of one period do not say whether others are as long
    return KeyTime(zone, step, asked, tuple(others)[: MOST_STEPS - 1])


def _spans(task: Task, keys: Iterable[Any]) -> Iterator[Pair]:
    for key in keys:
        try:
            span = period_of(task, key)
        except BaseException as error:
            if not is_of_task(error):
                raise
            continue  # a rebuild names these keys
        if span is not None and (isinstance(span, Span) or not is_empty(span)):
            yield span


def known_zone(zone: Any) -> str | None:
    """Return the name of a zone; None if it has no name, or is not in the time zone database."""
    try:
        return wall_clock(zone).name or None
    except Exception:  # noqa: BLE001 - a tzinfo is code of the task, which can raise anything
        return None


def _own_zone(task: Task) -> str | None:
    """Return the name of the task's own zone; None if it has none, or one that is unknown."""
    if task.zone is None:
        return None
    name = known_zone(task.zone)
    if name is None:
        _warn_of(task, task.zone)
    return name


def _zone(task: Task, span: Pair, own: str | None) -> str:
    """Return the zone of a span; for a plain pair, which has none, that of the task, else that of its datetimes."""
    if own is not None and not isinstance(span, Span):
        return own
    zone = span.zone if isinstance(span, Span) else span[0].tzinfo
    name = known_zone(zone) or own
    if name is None:
        _warn_of(task, zone)
    return name or "UTC"


def _warn_of(task: Task, zone: str | tzinfo | None) -> None:
    """Log, at most once a day, that a zone has no name by which pages and other processes could find it."""
    kind = "" if isinstance(zone, str) else f" of {type(zone).__module__}.{type(zone).__qualname__}"
    try:
        shown = repr(zone)
    except Exception:  # noqa: BLE001 - as above
        shown = "?"
    if _warnings.allows(f"{type(task).__module__}.{type(task).__qualname__}{kind or shown}"):
        log.warning(
            "zone of keys is not in the time zone database, UTC is used: name one, by "
            'zoneinfo.ZoneInfo("Europe/Berlin") in period(key) or by zone = "Europe/Berlin" task=%s zone=%.200s',
            type(task).__qualname__,
            f"{shown}{kind}",
        )


def _of_span(span: Span) -> Step:
    count = months(span.unit) * span.unit_count
    return of_months(count) if count else of_seconds(SECONDS[span.unit] * span.unit_count)
