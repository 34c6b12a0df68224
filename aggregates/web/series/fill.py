"""Fill the periods of a chart that have no data, without what lies far from the bulk."""

from __future__ import annotations

import math
from datetime import datetime
from itertools import pairwise
from operator import itemgetter
from typing import Any, Literal

from aggregates.web.exceptions import BadRequestError, TooLargeError
from aggregates.web.series.points import ChartData, Series
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


def fill_in(chart: ChartData, fill: Fill, now: datetime) -> None:
    """Add a point for every missing period to each series: null, 0 or the previous value, depending on `fill`.

    The range runs from the start of the chart's span (or the first point) to its end, at most `now` (or the last one).
    Of varying periods only those are known, and so can be missing, that another series has. Outliers are left out and
    counted: points outside the bulk of the chart, and odd ones that start no period. A series of nothing else is
    dropped. If the picture would have more than `MAX_FILLED_POINTS` points, its bulk is taken more narrowly; raise
    `TooLargeError` if that does not help.
    """
    if not fill or chart.granularity is None:
        return
    _leave_out(chart, *chart.bulk)
    if not chart.series:
        return
    first, last = _range(chart, now)
    if _size(chart, first, last) > MAX_FILLED_POINTS and chart.core != chart.bulk:
        _leave_out(chart, *chart.core)
        first, last = _range(chart, now)
    if _size(chart, first, last) > MAX_FILLED_POINTS:
        raise TooLargeError(
            f"fill = {fill} would make more than {MAX_FILLED_POINTS} points: use a shorter range, or no fill"
        )
    grid = chart.granularity.starts(first, last)
    filled = (_Filled(series, grid, fill, strict=chart.granularity.strict) for series in chart.series)
    kept = []
    for one in filled:
        chart.outliers += one.odd
        if one.points:
            one.series.data = one.points
            kept.append(one.series)
    chart.series = kept


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


def _leave_out(chart: ChartData, low: float, high: float) -> None:
    """Remove the points outside `low` to `high`, and the series of nothing else."""
    for series in chart.series:
        if series.data[0][0] < low or series.data[-1][0] > high:
            inside = [point for point in series.data if low <= point[0] <= high]
            chart.outliers += len(series.data) - len(inside)
            series.data = inside
    chart.series = [series for series in chart.series if series.data]


class _Filled:
    """The points of one series on a grid, and how many are on none of its starts.

    Where several have the same start, all are kept in their order, as they are without a fill.
    """

    def __init__(self, series: Series, grid: list[float], fill: Fill, *, strict: bool) -> None:
        self.series = series
        have: dict[float, Any] = dict(series.data)
        if not strict:
            grid = sorted({*grid, *have})
        hits = sum(map(have.__contains__, grid))
        if hits == len(grid) == len(series.data):
            self.points = series.data
        else:
            self.points = _points(have, grid, fill) if hits else []
        self.odd = len(have) - hits
        if len(have) < len(series.data):
            others = _others(series.data, frozenset(grid))
            self.points = sorted([*others, *self.points], key=itemgetter(0))
            self.odd = len(series.data) - len(others) - hits


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
