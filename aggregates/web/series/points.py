"""Turn documents of an aggregate into series for charts, without any I/O."""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any, Final, NoReturn

from bson import Decimal128

from aggregates.keys.period_length import Step
from aggregates.period import Unit
from aggregates.web.exceptions import TooLargeError
from aggregates.web.json_encoding import decimal_number
from aggregates.web.series import outlier
from aggregates.web.series.granularity import DAY_MS, Granularity
from aggregates.web.series.key_span import KeySpan
from aggregates.web.series.measure import measure
from aggregates.web.series.output_key import chart_x, complete_parts, parse_period, split_key
from aggregates.web.series.time_span import OPEN, TimeSpan, instant_ms

MAX_POINTS: Final = 1_000_000  # of an answer, which takes some 120 bytes of memory for each
_SERIES_POINTS: Final = 3  # a series takes as much memory as so many points
MAX_TEXT_CHARS: Final = 64 * 2**20  # of the labels, keys, fields and categories of an answer
_STEPS: tuple[Unit, ...] = ("second", "minute", "hour", "day", "week", "month", "year")


@dataclass(slots=True)
class Series:
    """One line of a chart."""

    label: str  # dimensions and field, for people
    key: str  # the dimensions as in the key, without the parts that the prefix fixes
    field: str  # "value" for plain numbers
    data: list[list[Any]] = dataclasses.field(default_factory=list)  # [x, y], ascending if x is a time

    def document(self) -> dict[str, Any]:
        """Return the series in the form of the API and the streams."""
        return {"label": self.label, "key": self.key, "field": self.field, "data": self.data}


def _everything() -> tuple[float, float]:
    return -math.inf, math.inf


@dataclass
class ChartData:
    """All series of one answer."""

    series: list[Series]
    granularity: Granularity | None = None  # None if the keys are not dates
    span: TimeSpan = OPEN  # that was asked for
    bulk: tuple[float, float] = (-math.inf, math.inf)  # times outside are outliers
    core: Callable[[], tuple[float, float]] = _everything  # a narrower bulk, for when the picture would be too large
    omitted: int = 0  # series left out because of `limit`, the smallest ones
    outliers: int = 0  # points left out of a picture: far from the others, or not at the start of a period
    later: int = 0  # points left out of a picture that ends now
    undated: int = 0  # keys left out because they are no dates, as most others are
    text_chars: int = 0  # of labels, keys, fields and categories, also of series left out
    shown_zone: str = ""  # of the viewer

    def bounds(self) -> Iterator[tuple[float, float]]:
        """Yield the bulk, and then the core, which is only found if it is asked for."""
        yield self.bulk
        yield self.core()

    @property
    def step(self) -> str | None:
        """Return the name of the granularity; None if the keys are not dates."""
        return self.granularity.name if self.granularity else None

    def facts(self) -> dict[str, Any]:
        """Return what the answer of the API says beside the series; what is rare is left out where there is none."""
        found: dict[str, Any] = {"step": self.step, "omitted": self.omitted, "outliers": self.outliers}
        if self.later:
            found["later"] = self.later
        if self.undated:
            found["undated"] = self.undated
        if self.granularity and self.granularity.varies:
            found["step_varies"] = True
        if (found_in := self.granularity) and found_in.length_ms >= DAY_MS and found_in.zone != self.shown_zone:
            found["key_zone"] = found_in.zone  # in which these periods have the names that people give them
        return found


def by_field(documents: Iterable[Mapping[str, Any]], zone: str) -> dict[str, list[list[Any]]]:
    """Return the answer of `/q`: for each field of the values, `[x, y]` in the order of the documents.

    A value that is not a document becomes field `value`. Values are passed on unchanged.
    """
    result: dict[str, list[list[Any]]] = {}
    for document in documents:
        x = chart_x(document["_id"], zone)
        value = document.get("value")
        if isinstance(value, dict):
            for name, item in value.items():
                result.setdefault(name, []).append([x, item])
        else:
            result.setdefault("value", []).append([x, value])
    return result


def by_dimension(
    documents: Iterable[Mapping[str, Any]],
    *,
    span: KeySpan,
    prefix: str = "",
    fields: tuple[str, ...] = (),
    bulk: bool = False,
    shown_zone: str = "",
    now: datetime | None = None,
) -> ChartData:
    """Return one series per combination of dimensions and field. `documents` may be looped over twice.

    Two points of a series have the same x if their keys name the same instant in two ways: `2026-01-01` and
    `2026-01-01T00:00Z`, or an hour that the clock skips and the next. They are in the order of the documents.

    Keys that end with a date become times within `span`, which also says how they are read, and other keys beside them
    are counted. If most keys are no dates, all become categories, with the rest of the key after the complete parts of
    `prefix` as x. Without `fields`, all numeric fields are used. `shown_zone` is that of the viewer, for keys that are
    instants. Times after `now` are more easily outliers. With `bulk`, outliers are left out and counted, and so is what
    comes after `now` if the span has no end, unless it is everything.
    """
    shared = complete_parts(prefix)
    zone = span.key_time.zone
    inside = {unit: span.of(unit).contains for unit in _STEPS}
    found: dict[tuple[str, str], Series] = {}
    spelled: set[Unit] = set()
    offsets: set[timedelta] = set()
    undated = count = 0
    size = _PointLimit(found)
    for count, document in enumerate(documents, 1):  # noqa: B007 - used after the loop
        dimensions, x, step, offset = _place(_below(document["_id"], shared), zone)
        if step is None:
            undated += 1
            continue
        if not inside[step](x):
            continue
        spelled.add(step)
        if offset is not None:
            offsets.add(offset)
        for name, y in size.counted(_numbers(document.get("value"), fields)):
            series = found.get((dimensions, name))
            if series is None:
                size.take(_SERIES_POINTS)
                series = found[dimensions, name] = Series(_label(dimensions, name, shared), dimensions, name)
                size.take_text(len(series.label) + len(dimensions) + len(name))
            series.data.append([x, y])
    if undated > count / 2:
        return _by_category(documents, shared, fields)
    chart = ChartData(list(found.values()), undated=undated, shown_zone=shown_zone, text_chars=size.text_chars)
    if found:
        finest = next(name for name in _STEPS if name in spelled)
        starts = _in_order(chart)
        chart.span = span.of(finest)
        key_time = span.key_time
        if bulk and now is not None:
            starts = _end_now(chart, starts, instant_ms(now))
        if not starts:
            return chart
        low, high = _set_bulk(chart, starts, key_time.step or finest, now)
        chart.granularity = measure(starts[low:high], key_time, finest, offsets=offsets or None, shown_zone=shown_zone)
    if bulk:
        chart.outliers += _cut(chart, *chart.bulk)
    return chart


class _PointLimit:
    """Count the points of an answer, and its text. Empty it and raise `TooLargeError` if they become too many."""

    def __init__(self, found: dict[Any, Series]) -> None:
        self._found = found
        self._left = MAX_POINTS
        self.text_chars = 0

    def take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            self._refuse(f"{MAX_POINTS} points")

    def take_text(self, count: int) -> None:
        self.text_chars += count
        if self.text_chars > MAX_TEXT_CHARS:
            self._refuse(f"{MAX_TEXT_CHARS} characters of keys and fields")

    def _refuse(self, what: str) -> NoReturn:
        while self._found:  # all at once they would be freed in one call of C, which lets no other thread run
            self._found.popitem()
        raise TooLargeError(f"the answer has more than {what}: use a shorter range, or fewer fields")

    def counted(self, numbers: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        self.take(len(numbers))
        return numbers


def _by_category(documents: Iterable[Mapping[str, Any]], shared: str, fields: tuple[str, ...]) -> ChartData:
    """Return one series for each field, with the rest of each key as x."""
    found: dict[str, Series] = {}
    size = _PointLimit(found)
    for document in documents:
        x = _category(_below(document["_id"], shared))
        x_chars = len(x) if isinstance(x, str) else 0
        for name, y in size.counted(_numbers(document.get("value"), fields)):
            series = found.get(name)
            if series is None:
                series = found[name] = Series(_label("", name, shared), "", name)
                size.take_text(len(series.label) + len(name))
            size.take_text(x_chars)
            series.data.append([x, y])
    return ChartData(list(found.values()), text_chars=size.text_chars)


def _in_order(chart: ChartData) -> list[float]:
    """Put the points in order of time, and return their times."""
    for series in chart.series:
        series.data.sort(key=itemgetter(0))
    if len(chart.series) == 1:
        return [point[0] for point in chart.series[0].data]
    # Most series have the same times: in their order, one call of C, which lets no other thread run, soon sorts them.
    return sorted(dict.fromkeys(point[0] for series in chart.series for point in series.data))


def _set_bulk(chart: ChartData, starts: list[float], step: Step, now: datetime | None) -> tuple[int, int]:
    """Set bulk and core of the chart, and return the slice of the bulk; a side with a bound has no outliers.

    Of many starts both take a second, so the core is only found if it is needed.
    """
    find = partial(
        outlier.bulk,
        starts,
        start=chart.span.start is None,
        end=chart.span.end is None,
        period_ms=Granularity(step, "UTC").length_ms,
        now_ms=math.inf if now is None else instant_ms(now),
    )
    low, high = find()
    chart.bulk = starts[low], starts[high - 1]

    def core() -> tuple[float, float]:
        inner, outer = find(believe=False)
        return starts[max(low, inner)], starts[min(high, outer) - 1]

    chart.core = core
    return low, high


def _end_now(chart: ChartData, starts: list[float], now_ms: float) -> list[float]:
    """Leave out and count the points after now, if the span includes now and has no end; return the other `starts`.

    A chart of nothing but the future keeps it, unless it was asked for what comes before, too.
    """
    begin = None if chart.span.start is None else instant_ms(chart.span.start)
    if chart.span.end is not None or (starts[0] if begin is None else begin) > now_ms:
        return starts
    chart.later = _cut(chart, -math.inf, now_ms)
    return starts[: bisect_right(starts, now_ms)]


def _cut(chart: ChartData, low: float, high: float) -> int:
    """Remove the points outside `low` to `high`, and the series of nothing else; return how many points these were."""
    count = 0
    for series in chart.series:
        if series.data[0][0] < low or series.data[-1][0] > high:
            inside = [point for point in series.data if low <= point[0] <= high]
            count += len(series.data) - len(inside)
            series.data = inside
    chart.series = [series for series in chart.series if series.data]
    return count


def keep_largest(chart: ChartData, limit: int) -> None:
    """Keep the `limit` series with the largest sums, in the same order, and count the others as omitted.

    A value that is no finite number adds nothing.
    """
    if len(chart.series) <= limit:
        return
    kept = {id(series) for series in sorted(chart.series, key=_size, reverse=True)[:limit]}
    chart.omitted += len(chart.series) - limit
    chart.series = [series for series in chart.series if id(series) in kept]


def _below(key: Any, shared: str) -> Any:
    return key[len(shared) :] if isinstance(key, str) else key


def _place(key: Any, zone: str) -> tuple[str, float, Unit | None, timedelta | None]:
    """Return dimensions, start, precision of the form, and the offset of an instant; no precision if no date."""
    if isinstance(key, str):
        dimensions, last = split_key(key)
        period = parse_period(last, zone)
        return _UNDATED if period is None else (dimensions, period.ms, period.step, period.offset)
    if isinstance(key, datetime):
        return "", chart_x(key, zone), "second", timedelta(0)
    return _UNDATED


_UNDATED = ("", 0.0, None, None)


def _category(key: Any) -> Any:
    """Return a key as x between others that are no dates."""
    return key if isinstance(key, str) else key.isoformat() if isinstance(key, datetime) else chart_x(key, "UTC")


def _numbers(value: Any, fields: tuple[str, ...]) -> list[tuple[str, Any]]:
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
