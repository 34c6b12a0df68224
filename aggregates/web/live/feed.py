"""Feeds: read a state, and make the message that leads from one state to the next. No Django here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from pymongo.database import Database

from aggregates.web.compute_thread import compute
from aggregates.web.json_encoding import to_json, to_json_in_pieces
from aggregates.web.series import freshness, output_position
from aggregates.web.series.query import SeriesQuery, read_series

Notice = Mapping[str, Any]
OpenDatabase = Callable[[], Database[dict[str, Any]]]
_POINT_BYTES = 25


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One server-sent event before it is framed: its kind and its JSON."""

    kind: str
    data: bytes


class Feed(Protocol):
    """A query whose answer is watched. Equal feeds share one channel, so feeds must be hashable.

    A feed can have an attribute `poll_s`, which replaces `SendPacing.poll_s`.
    """

    def concerns(self, notice: Notice) -> bool:
        """Return True if the answer may differ after this notice."""

    def stamp(self) -> Any:
        """Return a value that is cheap to get and changes with the answer; None if there is no such value."""

    def read(self) -> Any:
        """Return the current answer. May block; called by one thread or greenlet at a time."""

    def whole(self, state: Any) -> StreamMessage:
        """Return the message for a viewer that has nothing yet."""

    def change(self, before: Any, after: Any) -> StreamMessage | None:
        """Return the message for a viewer that has `before`; None if nothing changed."""


class SeriesFeed:
    """Watch the points of one `SeriesQuery`: `series` messages hold all of them, `points` messages the changes."""

    def __init__(self, query: SeriesQuery, open_database: OpenDatabase) -> None:
        self.query = query
        self._open_database = open_database
        self._names = {query.name}  # names of the aggregate in notices

    def __hash__(self) -> int:
        return hash(self.query)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeriesFeed) and self.query == other.query

    def concerns(self, notice: Notice) -> bool:
        """Return True for a refresh of this aggregate, named by its definition or its output."""
        return notice.get("$command") == "agg_complete" and notice.get("name") in self._names

    def stamp(self) -> Any:
        """Return the last event id contained; None for a collection that no definition fills."""
        current = freshness.read(self._open_database(), self.query.name)
        if current.aggdef:
            self._names = {self.query.name, current.aggdef}
        return current.through

    def read(self) -> dict[str, Any]:
        """Return the whole answer in the form of the API."""
        with ExitStack() as held:
            return self.read_holding(held)

    def read_holding(self, held: ExitStack) -> dict[str, Any]:
        """Return the same; a large one holds its place among large answers until `held` is closed."""
        database = self._open_database()
        position = output_position.find(database, self.query.name)
        current = freshness.of_position(database, position)
        chart = read_series(database, self.query, position, held)
        return {"series": [series.document() for series in chart.series], **chart.facts(), **current.document()}

    def whole(self, state: dict[str, Any]) -> StreamMessage:
        return StreamMessage("series", compute(size_of(state), to_json_in_pieces, state))

    def change(self, before: dict[str, Any], after: dict[str, Any]) -> StreamMessage | None:
        return compute(size_of(after), series_change, before, after)


def size_of(state: Mapping[str, Any]) -> int:
    """Return about how many bytes the JSON of all series has."""
    return _POINT_BYTES * sum(len(series["data"]) for series in state["series"])


def series_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> StreamMessage | None:
    """Return the message that leads from `before` to `after`; None if they are equal.

    It is `points` (`set` and `gone` per series), or `series` with everything if the series differ, most points changed,
    or a series that changed has two points at one x. Applying `set` and `gone` to the series of `before`, by
    `[key, field]`, gives exactly those of `after`.
    """
    if before == after:
        return None
    same_series = [_identity(series) for series in before["series"]] == [
        _identity(series) for series in after["series"]
    ]
    if not same_series or before.keys() != after.keys():
        return StreamMessage("series", to_json_in_pieces(after))
    changes = []
    changed = total = 0
    for old, new in zip(before["series"], after["series"], strict=True):
        if old["data"] == new["data"]:
            total += len(new["data"])
            continue
        have = {point[0]: point[1] for point in old["data"]}
        new_points = [point for point in new["data"] if point[0] not in have or have[point[0]] != point[1]]
        left = {point[0] for point in new["data"]}
        if len(have) < len(old["data"]) or len(left) < len(new["data"]):
            return StreamMessage("series", to_json_in_pieces(after))
        gone = [x for x in have if x not in left]
        total += len(new["data"])
        changed += len(new_points) + len(gone)
        if new_points or gone:
            changes.append({"key": new["key"], "field": new["field"], "set": new_points, "gone": gone})
    if changed > 50 and changed * 2 > total:
        return StreamMessage("series", to_json_in_pieces(after))
    rest = {name: value for name, value in after.items() if name != "series"}
    return StreamMessage("points", to_json({"series": changes, **rest}))


def _identity(series: Mapping[str, Any]) -> tuple[Any, ...]:
    return series["key"], series["field"], series["label"]
