"""What a live channel shows: a feed reads a state and says what changed between two of them. No Django here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pymongo.database import Database

from aggregates.web.json_encoding import to_json
from aggregates.web.series import freshness
from aggregates.web.series.query import SeriesQuery, read_series

Notice = Mapping[str, Any]
OpenDatabase = Callable[[], Database[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One server-sent event before it is framed: its kind and its JSON."""

    kind: str
    data: bytes


class Feed(Protocol):
    """A question whose answer is watched. Feeds that are equal share one channel, so they must hash.

    A feed may have `poll_s`: how often its stamp is looked at, where that should not be as often as for the others.
    """

    def concerns(self, notice: Notice) -> bool:
        """Whether the answer may be another after this notice."""

    def stamp(self) -> Any:
        """A value that changes when the answer does, cheap to get; None when there is none."""

    def read(self) -> Any:
        """The answer now. May block; called by one thread or greenlet at a time."""

    def whole(self, state: Any) -> StreamMessage:
        """The message for a viewer who has nothing yet."""

    def change(self, before: Any, after: Any) -> StreamMessage | None:
        """The message for a viewer who has `before`; None when nothing changed."""


class SeriesFeed:
    """The points of one `SeriesQuery`: `series` is all of them, `points` those that changed."""

    def __init__(self, query: SeriesQuery, open_database: OpenDatabase) -> None:
        self.query = query
        self._open_database = open_database
        self._names = {query.name}  # under which notices may speak of it

    def __hash__(self) -> int:
        return hash(self.query)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeriesFeed) and self.query == other.query

    def concerns(self, notice: Notice) -> bool:
        """Only the commits of its own aggregate, named by its definition or its output."""
        return notice.get("$command") == "agg_complete" and notice.get("name") in self._names

    def stamp(self) -> Any:
        """How far the aggregate is; None for a collection that no definition fills."""
        current = freshness.read(self._open_database(), self.query.name)
        if current.aggdef:
            self._names = {self.query.name, current.aggdef}
        return current.through

    def read(self) -> dict[str, Any]:
        """The whole answer as the API gives it."""
        database = self._open_database()
        current = freshness.read(database, self.query.name)
        chart = read_series(database, self.query)
        return {
            "series": [series.document() for series in chart.series],
            "step": chart.step,
            "omitted": chart.omitted,
            **current.document(),
        }

    def whole(self, state: dict[str, Any]) -> StreamMessage:
        """All points."""
        return StreamMessage("series", to_json(state))

    def change(self, before: dict[str, Any], after: dict[str, Any]) -> StreamMessage | None:
        """Points that changed, unless the series themselves are others or most points changed."""
        return series_change(before, after)


def series_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> StreamMessage | None:
    """What leads from one answer to the next: nothing, `points` (`set` and `gone` per series), or all of it again.

    Applying `set` and `gone` to the series of `before`, by `[key, field]`, gives the series of `after` exactly.
    """
    if before == after:
        return None
    if [_identity(series) for series in before["series"]] != [_identity(series) for series in after["series"]]:
        return StreamMessage("series", to_json(after))
    changes = []
    changed = total = 0
    for old, new in zip(before["series"], after["series"], strict=True):
        have = {point[0]: point[1] for point in old["data"]}
        new_points = [point for point in new["data"] if point[0] not in have or have[point[0]] != point[1]]
        left = {point[0] for point in new["data"]}
        gone = [x for x in have if x not in left]
        total += len(new["data"])
        changed += len(new_points) + len(gone)
        if new_points or gone:
            changes.append({"key": new["key"], "field": new["field"], "set": new_points, "gone": gone})
    if changed > 50 and changed * 2 > total:
        return StreamMessage("series", to_json(after))
    rest = {name: value for name, value in after.items() if name != "series"}
    return StreamMessage("points", to_json({"series": changes, **rest}))


def _identity(series: Mapping[str, Any]) -> tuple[Any, ...]:
    return series["key"], series["field"], series["label"]
