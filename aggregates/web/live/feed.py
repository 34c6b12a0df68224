"""Feeds: read a state, and make the message that leads from one state to the next. No Django here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from pymongo.database import Database

from aggregates.web.compute_thread import AnswerPlace, compute
from aggregates.web.json_encoding import to_json_in_pieces
from aggregates.web.live.series_state import SeriesState, difference
from aggregates.web.series import freshness, output_position
from aggregates.web.series.query import SeriesQuery, read_series

Notice = Mapping[str, Any]
OpenDatabase = Callable[[], Database[dict[str, Any]]]
_POINT_BYTES = 25
MOST_CHANGED = 50_000  # points; a message of more saves little, and takes much memory to make


@dataclass(frozen=True, slots=True, weakref_slot=True)
class StreamMessage:
    """One server-sent event before it is framed: its kind and its JSON."""

    kind: str
    data: bytes


class Feed(Protocol):
    """A query whose answer is watched. Equal feeds share one channel, so feeds must be hashable.

    A feed can have an attribute `poll_s`, which replaces `SendPacing.poll_s`. Large states have one `size_bytes`.
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

    def read(self) -> SeriesState:
        """Return the whole answer."""
        with ExitStack() as held:
            return self.read_holding(held)

    def read_holding(self, held: ExitStack) -> SeriesState:
        """Return the same; a large one holds its place among large answers until `held` is closed."""
        database = self._open_database()
        position = output_position.find(database, self.query.name)
        current = freshness.of_position(database, position)
        chart = read_series(database, self.query, position, held)
        size_bytes = _POINT_BYTES * sum(len(series.data) for series in chart.series) + chart.text_chars
        return compute(size_bytes, SeriesState.of, chart.series, {**chart.facts(), **current.document()})

    def whole(self, state: SeriesState) -> StreamMessage:
        return StreamMessage("series", compute(state.size_bytes, state.json))

    def change(self, before: SeriesState, after: SeriesState) -> StreamMessage | None:
        with AnswerPlace() as place:
            place.take(after.size_bytes)
            return compute(max(before.size_bytes, after.size_bytes), series_change, before, after)


def series_change(before: SeriesState, after: SeriesState) -> StreamMessage | None:
    """Return the message that leads from `before` to `after`; None if they are equal.

    It is `points` (`set` and `gone` per series), or `series` with everything if the series differ, many points changed,
    or a series that changed has two points at one x. Applying `set` and `gone` to the series of `before`, by
    `[key, field]`, gives exactly those of `after`.
    """
    if before == after:
        return None
    same_series = [each.name for each in before.series] == [each.name for each in after.series]
    if not same_series or before.facts.keys() != after.facts.keys():
        return StreamMessage("series", after.json())
    changes = []
    left = max(50, min(MOST_CHANGED, sum(each.count for each in after.series) // 2))
    for old, new in zip(before.series, after.series, strict=True):
        if old.pieces == new.pieces:
            continue
        found = None if old.repeats or new.repeats else difference(old, new, left)
        if found is None:
            return StreamMessage("series", after.json())
        points, gone = found
        left -= len(points) + len(gone)
        if points or gone:
            changes.append({"key": new.key, "field": new.field, "set": points, "gone": gone})
    return StreamMessage("points", to_json_in_pieces({"series": changes, **after.facts}))
