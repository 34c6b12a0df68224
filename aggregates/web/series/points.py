"""Turn documents of an aggregate into series for charts, without any I/O."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, Literal

from bson import Decimal128

from aggregates.web.exceptions import BadRequestError, TooLargeError
from aggregates.web.json_encoding import decimal_number
from aggregates.web.series.output_key import Unit, chart_x, complete_parts, parse_period, split_key
from aggregates.web.series.time_span import TimeSpan, first_step, steps

Fill = Literal["", "gap", "zero", "previous"]
FILLS: tuple[Fill, ...] = ("", "gap", "zero", "previous")
MAX_FILLED_POINTS = 250_000
_STEPS: tuple[Unit, ...] = ("second", "minute", "hour", "day", "week", "month", "year")


@dataclass
class Series:
    """One line of a chart."""

    label: str  # dimensions and field, for people
    key: str  # the dimensions as in the key, without the parts that the prefix fixes
    field: str  # "value" for plain numbers
    data: list[list[Any]] = dataclasses.field(default_factory=list)  # [x, y], ascending if x is a time

    def document(self) -> dict[str, Any]:
        """Return the series in the form of the API and the streams."""
        return {"label": self.label, "key": self.key, "field": self.field, "data": self.data}


@dataclass
class ChartData:
    """All series of one answer."""

    series: list[Series]
    step: Unit | None = None  # shortest period; None if the keys are not dates
    omitted: int = 0  # series left out because of `limit`, the smallest ones


def by_field(documents: Iterable[Mapping[str, Any]], zone: str) -> dict[str, list[list[Any]]]:
    """Return the answer of `/q`: for each field of the values, `[x, y]` in the order of the documents.

    A value that is not a document becomes field `value`. Values are passed on unchanged.
    """
    result: dict[str, list[list[Any]]] = {}
    for document in documents:
        x = chart_x(document["_id"], zone)
        value = document.get("value")
        if isinstance(value, Mapping):
            for name, item in value.items():
                result.setdefault(name, []).append([x, item])
        else:
            result.setdefault("value", []).append([x, value])
    return result


def by_dimension(
    documents: Iterable[Mapping[str, Any]], *, zone: str, prefix: str, fields: tuple[str, ...], span: TimeSpan
) -> ChartData:
    """Return one series per combination of dimensions and field, so that no two points of a series share a period.

    Keys that end with a date become times within `span`; other keys become categories, with the rest of the key after
    the complete parts of `prefix` as x. Without `fields`, all numeric fields are used.
    """
    shared = complete_parts(prefix)
    found: dict[tuple[str, str], Series] = {}
    seen_steps: set[Unit] = set()
    for document in documents:
        key = document["_id"]
        rest = str(key)[len(shared) :] if isinstance(key, str) else key
        dimensions, x, step = _place(rest, zone)
        if step is not None:
            if not span.contains(x):
                continue
            seen_steps.add(step)
        for name, y in _numbers(document.get("value"), fields):
            series = found.get((dimensions, name))
            if series is None:
                series = found[dimensions, name] = Series(_label(dimensions, name, shared), dimensions, name)
            series.data.append([x, y])
    for series in found.values():
        if series.data and isinstance(series.data[0][0], int | float):
            series.data.sort(key=itemgetter(0))
    step = next((name for name in _STEPS if name in seen_steps), None)
    return ChartData(list(found.values()), step)


def keep_largest(chart: ChartData, limit: int) -> None:
    """Keep the `limit` series with the largest sums, in the same order, and count the others as omitted.

    A value that is no finite number adds nothing.
    """
    if len(chart.series) <= limit:
        return
    kept = {id(series) for series in sorted(chart.series, key=_size, reverse=True)[:limit]}
    chart.omitted += len(chart.series) - limit
    chart.series = [series for series in chart.series if id(series) in kept]


def fill_in(chart: ChartData, fill: Fill, span: TimeSpan, zone: str, now: datetime) -> None:
    """Add a point for every missing period to each series: null, 0 or the previous value, depending on `fill`.

    The range runs from the start of the span (or the first point) to its end, at most `now` (or the last point).
    Raise `TooLargeError` if that makes more than `MAX_FILLED_POINTS` points.
    """
    times = [point[0] for series in chart.series for point in series.data]
    if not fill or chart.step is None or not times:
        return
    first = min(times)
    if span.start is not None:
        first = min(first, first_step(span.start, chart.step, zone))
    last = max(times)
    if span.end is not None:
        last = max(last, min(span.end, now).timestamp() * 1000)
    grid = []
    for ms in steps(first, last, chart.step, zone):
        grid.append(ms)
        if len(grid) * len(chart.series) > MAX_FILLED_POINTS:
            raise TooLargeError(
                f"fill = {fill} would make more than {MAX_FILLED_POINTS} points: use a shorter range, or no fill"
            )
    for series in chart.series:
        series.data = _filled(series.data, grid, fill)


def read_fill(text: str) -> Fill:
    """Return `text` as a fill. Raise `BadRequestError` if it is not in `FILLS`."""
    for fill in FILLS:
        if text == fill:
            return fill
    raise BadRequestError(f"fill = {text[:60]!r} is unknown: use gap, zero or previous", parameter="fill")


def _filled(data: list[list[Any]], grid: list[float], fill: Fill) -> list[list[Any]]:
    have = {point[0]: point[1] for point in data}
    result: list[list[Any]] = []
    before: Any = None
    for ms in sorted(set(grid) | set(have)):
        if ms in have:
            before = have[ms]
            result.append([ms, before])
        else:
            result.append([ms, {"gap": None, "zero": 0, "previous": before}[fill]])
    return result


def _place(key: Any, zone: str) -> tuple[str, Any, Unit | None]:
    """Return dimensions, x, and the step if x is a time."""
    if isinstance(key, str):
        dimensions, last = split_key(key)
        period = parse_period(last, zone)
        return ("", key, None) if period is None else (dimensions, period.ms, period.step)
    if isinstance(key, datetime):
        return "", chart_x(key, zone), "second"
    return "", chart_x(key, zone), None


def _numbers(value: Any, fields: tuple[str, ...]) -> Iterable[tuple[str, Any]]:
    """Return the numbers in a value by field; None for one that is not finite."""
    if not isinstance(value, Mapping):
        pairs: Iterable[tuple[str, Any]] = [("value", value)] if not fields or "value" in fields else []
    elif not fields:
        pairs = value.items()
    else:
        pairs = ((name, _at(value, name)) for name in fields)
    return [(name, _finite(item)) for name, item in pairs if _is_number(item)]


def _at(value: Any, path: str) -> Any:
    if isinstance(value, Mapping) and path in value:
        return value[path]
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal128) and not isinstance(value, bool)


def _finite(value: Any) -> Any:
    """Return a number as it is drawn and written: None, a gap, for NaN and infinities."""
    if isinstance(value, Decimal128):
        return decimal_number(value)
    return value if math.isfinite(value) else None


def _size(series: Series) -> tuple[float, float]:
    """Return the sum of absolute values, and a part of it that tells sums apart which no double can hold."""
    sizes = [abs(y) for _, y in series.data if y is not None and math.isfinite(y)]
    return sum(sizes), sum(size * 2.0**-64 for size in sizes)


def _label(dimensions: str, name: str, prefix: str) -> str:
    shown = dimensions.replace("%2F", "/").replace("%25", "%")
    if name != "value":
        return f"{shown} {name}".strip()
    return shown or prefix.strip("/") or "value"
