"""Fill the periods of a chart that have no data, without what lies far from the bulk."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from itertools import pairwise
from operator import itemgetter
from typing import Any, Literal

from aggregates.web.exceptions import BadRequestError, TooLargeError
from aggregates.web.series.granularity import Granularity
from aggregates.web.series.points import ChartData, keep_largest
from aggregates.web.series.time_span import instant_ms

Fill = Literal["", "gap", "zero", "previous"]
FILLS: tuple[Fill, ...] = ("", "gap", "zero", "previous")
MAX_FILLED_POINTS = 250_000

Points = list[list[Any]]


def read_fill(text: str) -> Fill:
    """Return `text` as a fill. Raise `BadRequestError` if it is not in `FILLS`."""
    for fill in FILLS:
        if text == fill:
            return fill
    raise BadRequestError(f"fill = {text[:60]!r} is unknown: use gap, zero or previous", parameter="fill")


def fill_in(chart: ChartData, fill: Fill, now: datetime, *, limit: int | None = None) -> None:
    """Add a point for every missing period to each series: null, 0 or the previous value, depending on `fill`.

    The range runs from the start of the chart's span (or the first point) to its end, at most `now` (or the last one).
    Of varying periods only those are known, and so can be missing, that another series has. Outliers are left out and
    counted: points outside the bulk of the chart, and odd ones that start no period. A series of nothing else is
    dropped. If the picture would have more than `MAX_FILLED_POINTS` points, its bulk is taken more narrowly; raise
    `TooLargeError` if that does not help.

    Of what remains, the `limit` largest series are kept, as without a fill; outliers of the others are not counted.
    """
    if not fill or chart.granularity is None:
        if limit is not None:
            keep_largest(chart, limit)
        return
    for low, high in chart.bounds():
        picture = _within(chart, low, high, chart.granularity, limit)
        first, last = _range(picture, now)
        if _size(picture, first, last) <= MAX_FILLED_POINTS:
            break
    else:
        raise TooLargeError(
            f"fill = {fill} would make more than {MAX_FILLED_POINTS} points: use a shorter range, or no fill"
        )
    chart.series, chart.omitted, chart.outliers = picture.series, picture.omitted, picture.outliers
    grid = chart.granularity.starts(first, last) if chart.series else []
    for series in chart.series:
        filled = _Filled(series.data, grid, fill, strict=chart.granularity.strict)
        series.data = filled.points
        chart.outliers += filled.odd


def _within(chart: ChartData, low: float, high: float, granularity: Granularity, limit: int | None) -> ChartData:
    """Return the chart without points outside `low` to `high`, and without series that start no period inside.

    Only then the `limit` largest series are chosen, so that outliers never take the place of others.
    """
    starts_period = cache(partial(_starts_period, granularity))
    picture = replace(chart, series=[])
    beyond: dict[int, int] = {}  # how many points were left out, by the id of the series
    for series in chart.series:
        data = series.data
        if data[0][0] < low or data[-1][0] > high:
            data = [point for point in data if low <= point[0] <= high]
        if any(starts_period(ms) for ms, _ in data):
            picture.series.append(kept := replace(series, data=data))
            beyond[id(kept)] = len(series.data) - len(data)
        else:
            picture.outliers += len(series.data)
    if limit is not None:
        keep_largest(picture, limit)
    picture.outliers += sum(beyond[id(series)] for series in picture.series)
    return picture


def _starts_period(granularity: Granularity, ms: float) -> bool:
    return not granularity.strict or bool(granularity.starts(ms, ms))


def _range(chart: ChartData, now: datetime) -> tuple[float, float]:
    span = chart.span
    first = min((series.data[0][0] for series in chart.series), default=math.inf)
    if span.start is not None:
        first = min(first, instant_ms(span.start))
    last = max((series.data[-1][0] for series in chart.series), default=-math.inf)
    if span.end is not None:
        last = max(last, instant_ms(min(span.end, now)))
    return first, last


def _size(chart: ChartData, first: float, last: float) -> float:
    """Return how many points the series have when they are filled from `first` to `last`."""
    assert chart.granularity is not None
    if chart.granularity.varies:
        return len(chart.granularity.starts(first, last)) * len(chart.series)
    return ((last - first) // chart.granularity.length_ms + 1) * len(chart.series)


class _Filled:
    """The points of one series on a grid, and how many are on none of its starts.

    Where several have the same start, all are kept in their order, as they are without a fill.
    """

    def __init__(self, data: Points, grid: list[float], fill: Fill, *, strict: bool) -> None:
        have = {point[0]: point[1] for point in data}
        if not strict:
            grid = sorted({*grid, *have})
        hits = sum(ms in have for ms in grid)  # not one call of C, which lets no other thread run
        self.points = data if hits == len(grid) == len(data) else _points(have, grid, fill)
        self.odd = len(have) - hits
        if len(have) < len(data):
            others = _others(data, frozenset(grid))
            self.points = sorted([*others, *self.points], key=itemgetter(0))
            self.odd = len(data) - len(others) - hits


def _others(data: Points, starts: frozenset[float]) -> Points:
    """Return the points at these starts that are followed by another one at the same start."""
    return [point for point, after in pairwise(data) if point[0] == after[0] and point[0] in starts]


def _points(have: dict[float, Any], grid: list[float], fill: Fill) -> Points:
    if fill == "gap":
        return [[ms, have.get(ms)] for ms in grid]
    if fill == "zero":
        return [[ms, have.get(ms, 0)] for ms in grid]
    points: Points = []
    before: Any = None
    for ms in grid:
        before = have.get(ms, before)
        points.append([ms, before])
    return points
