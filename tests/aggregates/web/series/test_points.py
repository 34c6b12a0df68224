"""Series: grouping, omitted series, and keys that are no dates."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128, Int64

from aggregates.keys.key_time import KeyTime
from aggregates.web.series.key_span import KeySpan
from aggregates.web.series.points import ChartData, by_dimension, by_field, keep_largest
from aggregates.web.series.time_span import OPEN, TimeSpan

DAY = 86_400_000.0
FIRST = datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000


def documents(values: dict[Any, Any]) -> list[dict[str, Any]]:
    return [{"_id": key, "value": value} for key, value in values.items()]


def chart(values: dict[Any, Any], prefix: str = "", fields: tuple[str, ...] = (), span: TimeSpan = OPEN) -> ChartData:
    return by_dimension(documents(values), span=KeySpan(span, span, KeyTime()), prefix=prefix, fields=fields)


def test_answers_to_2011_queries_keep_values_unchanged() -> None:
    answer = by_field(documents({"a/2024-01-01": 3, "b": {"x": None, "y": [1]}, "c": "text"}), "UTC")
    assert answer == {"value": [[FIRST, 3], ["c", "text"]], "x": [["b", None]], "y": [["b", [1]]]}


def test_each_combination_of_dimensions_and_field_is_a_series() -> None:
    found = chart({"a/2024-01-01": {"n": 1, "m": 2}, "a/2024-01-02": {"n": 3}, "b/2024-01-01": 5})
    assert {(s.label, s.key, s.field): s.data for s in found.series} == {
        ("a n", "a", "n"): [[FIRST, 1], [FIRST + DAY, 3]],
        ("a m", "a", "m"): [[FIRST, 2]],
        ("b", "b", "value"): [[FIRST, 5]],
    }
    assert found.step == "day"


def test_labels_leave_out_the_prefix_and_show_escaped_slashes() -> None:
    assert chart({"a/2024-01-01": 1}, prefix="a/").series[0].label == "a"
    assert chart({"x%2Fy/2024-01-01": 1}).series[0].label == "x/y"
    assert chart({"2024-01-01": 1}).series[0].label == "value"


def test_keys_that_are_not_dates_are_categories() -> None:
    found = chart({"py": 3, "rst": 4, 17: 5})
    assert found.step is None
    assert found.series[0].data == [["py", 3], ["rst", 4], [17, 5]]


def test_only_numbers_become_points() -> None:
    found = chart({"2024-01-01": {"a": "x", "b": True, "c": None, "d": Int64(4), "e": Decimal128("1.5")}})
    assert {s.field: s.data[0][1] for s in found.series} == {"d": 4, "e": 1.5}


def test_named_fields_reach_into_documents() -> None:
    found = chart({"2024-01-01": {"a": {"b": 1}, "c.d": 2, "e": 3}}, fields=("a.b", "c.d", "nothing"))
    assert {s.field: s.data[0][1] for s in found.series} == {"a.b": 1, "c.d": 2}


def test_times_ascend_for_any_order_of_keys() -> None:
    found = chart({"2024-01": 1, "2024-01-15T00:00Z": 2, "2023": 3})
    times = [point[0] for point in found.series[0].data]
    assert times == sorted(times)


def test_the_span_limits_times_and_not_categories() -> None:
    span = TimeSpan(datetime(2024, 1, 2, tzinfo=UTC), None)
    assert chart({"2024-01-01": 1, "2024-01-02": 2}, span=span).series[0].data == [[FIRST + DAY, 2]]
    assert chart({"py": 1}, span=span).series[0].data == [["py", 1]]


def test_the_largest_series_are_kept_in_order() -> None:
    found = chart({"a/2024-01-01": 1, "b/2024-01-01": 9, "c/2024-01-01": 5})
    keep_largest(found, 2)
    assert [s.key for s in found.series] == ["b", "c"]
    assert found.omitted == 1


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, Decimal128("NaN"), Decimal128("-Infinity")])
def test_a_value_that_is_not_finite_is_a_gap_and_adds_nothing_to_the_size_of_its_series(odd: Any) -> None:
    values = {"a/2024-01-01": 1, "b/2024-01-01": odd, "b/2024-01-02": 2, "c/2024-01-01": 1000, "d/2024-01-01": 600}
    found = chart({**values, "e/2024-01-01": odd})
    assert [s.data for s in found.series if s.key == "b"] == [[[FIRST, None], [FIRST + DAY, 2]]]
    keep_largest(found, 3)
    assert [s.key for s in found.series] == ["b", "c", "d"]
    assert found.omitted == 2


def test_sums_that_no_double_can_hold_are_still_ranked() -> None:
    found = chart({f"{name}/2024-01-0{day}": size for name, size in (("a", 1e308), ("b", -1.7e308)) for day in (1, 2)})
    keep_largest(found, 1)
    assert [s.key for s in found.series] == ["b"]


def test_whole_decimals_are_exact_and_signalling_ones_do_no_harm() -> None:
    values = {"a": Decimal128("9007199254740993"), "b": Decimal128("sNaN"), "c": Decimal128("1E+6000")}
    assert {s.field: s.data[0][1] for s in chart({"2024-01-01": values}).series} == {
        "a": 9007199254740993, "b": None, "c": None,
    }  # fmt: skip


def test_a_few_keys_that_are_no_dates_are_left_out_and_counted() -> None:
    dated = {"2024-01-01": 3, "2024-01-02": 4, "x/2024-01-01": 6, "y/2024-01-02": 7}
    found = chart({5: 1, "1-01-01": 2, **dated, "total": 5})
    assert {s.key: s.data for s in found.series} == {
        "": [[FIRST, 3], [FIRST + DAY, 4]],
        "x": [[FIRST, 6]],
        "y": [[FIRST + DAY, 7]],
    }
    assert (found.step, found.undated) == ("day", 3)


def test_a_few_dates_among_other_keys_are_categories_too() -> None:
    date = datetime(2024, 1, 1, tzinfo=UTC)
    found = chart({17: 1, "a": 2, "b/2011": 3, date: 4, "c": 5}, prefix="")
    assert [s.data for s in found.series] == [[[17, 1], ["a", 2], ["b/2011", 3], [date.isoformat(), 4], ["c", 5]]]
    assert (found.step, found.undated) == (None, 0)


def test_the_keys_of_an_empty_range_do_not_become_categories() -> None:
    span = TimeSpan(datetime(2030, 1, 1, tzinfo=UTC), None)
    found = chart({"2024-01-01": 1, "2024-01-02": 2, "total": 3}, span=span)
    assert (found.series, found.undated) == ([], 1)


def test_a_key_without_an_offset_is_read_in_the_zone_of_its_aggregate() -> None:
    values = documents({"2024-07-01T13:00": 1, "2024-07-01T13:00Z": 2})
    found = by_dimension(values, span=KeySpan(OPEN, OPEN, KeyTime("Europe/Berlin")), shown_zone="Asia/Tokyo")
    noon = datetime(2024, 7, 1, 12, tzinfo=UTC).timestamp() * 1000
    assert found.series[0].data == [[noon - DAY / 24, 1], [noon + DAY / 24, 2]]
