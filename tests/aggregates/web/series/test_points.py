"""Series: grouping, omitted series, and keys that are no dates."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128, Int64

from aggregates.keys.key_time import KeyTime
from aggregates.web.exceptions import TooLargeError
from aggregates.web.series import points as points_module
from aggregates.web.series.key_span import KeySpan
from aggregates.web.series.points import ChartData, by_dimension, by_field, keep_largest
from aggregates.web.series.time_span import OPEN, TimeSpan

DAY = 86_400_000.0
FIRST = datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000


def documents(values: dict[Any, Any]) -> list[dict[str, Any]]:
    return [{"_id": key, "value": value} for key, value in values.items()]


def chart(values: dict[Any, Any], prefix: str = "", fields: tuple[str, ...] = (), span: TimeSpan = OPEN) -> ChartData:
    return by_dimension(documents(values), span=KeySpan(span, span, KeyTime()), prefix=prefix, fields=fields)


def bulk_of(values: dict[Any, Any], span: TimeSpan = OPEN) -> ChartData:
    """Return the chart of a page at noon of 2024-01-30."""
    now = datetime(2024, 1, 30, 12, tzinfo=UTC)
    return by_dimension(documents(values), span=KeySpan(span, span, KeyTime()), bulk=True, now=now)


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


DAYS = {f"2024-01-{day:02d}": day for day in range(1, 31)}


@pytest.mark.parametrize("odd", ["9999-12-31", "2036-02-07", "2024-02-01", "2024-01-31"])
def test_a_picture_ends_now_and_counts_what_is_later(odd: str) -> None:
    found = bulk_of({**DAYS, odd: 1})
    assert [y for _, y in found.series[0].data] == list(DAYS.values())
    assert (found.later, found.outliers, found.step) == (1, 0, "day")
    assert found.facts()["later"] == 1


def test_a_history_after_now_is_left_out_too() -> None:
    later = {f"2036-02-{day:02d}": 1 for day in range(1, 29)}
    found = bulk_of({**DAYS, **later})
    assert (len(found.series[0].data), found.later) == (30, 28)


@pytest.mark.parametrize("odd", ["1970-01-01", "0001-01-01", "1924-01-01"])
def test_a_picture_leaves_out_outliers_before_it_and_counts_them(odd: str) -> None:
    found = bulk_of({odd: 1, **DAYS})
    assert len(found.series[0].data) == 30
    assert (found.later, found.outliers) == (0, 1)
    assert "later" not in found.facts()
    assert len(chart({odd: 1, **DAYS}).series[0].data) == 31  # all, unless asked for the bulk


def test_series_of_nothing_but_wrong_dates_are_left_out_and_counted() -> None:
    found = bulk_of({**{f"a/{day}": y for day, y in DAYS.items()}, "b/1970-01-01": 9, "c/9999-12-31": 9})
    assert [series.label for series in found.series] == ["a"]
    assert (found.later, found.outliers) == (1, 1)


def test_a_picture_of_nothing_but_the_future_or_the_past_is_whole() -> None:
    for year in ("2036", "1987"):
        days = {f"{year}-02-{day:02d}": day for day in range(1, 29)}
        found = bulk_of(days)
        assert (len(found.series[0].data), found.later, found.outliers) == (28, 0, 0)


def test_a_range_that_reaches_now_has_no_future_and_one_that_starts_later_is_whole() -> None:
    later = {"9999-12-31": 1}
    last_month = TimeSpan(datetime(2024, 1, 1, tzinfo=UTC), None)
    found = bulk_of(later, last_month)
    assert (found.series, found.later, found.step) == ([], 1, None)
    for span in (
        TimeSpan(datetime(2030, 1, 1, tzinfo=UTC), None),
        TimeSpan(None, datetime(9999, 12, 31, 23, tzinfo=UTC)),
    ):
        assert (len(bulk_of(later, span).series), bulk_of(later, span).later) == (1, 0)


def test_the_bulk_of_keys_that_are_no_dates_is_everything() -> None:
    assert bulk_of({"py": 3, "rst": 4}).series[0].data == [["py", 3], ["rst", 4]]


@pytest.mark.parametrize("key", ["x{}/2024-01-01", "x/{}"])
def test_an_answer_has_a_largest_number_of_points_and_series(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {key.format(number): {"a": 1, "b": 2} for number in range(10)}
    monkeypatch.setattr(points_module, "MAX_POINTS", 80)
    assert sum(len(series.data) for series in chart(values).series) == 20
    monkeypatch.setattr(points_module, "MAX_POINTS", 19)
    with pytest.raises(TooLargeError, match="more than 19 points"):
        chart(values)


@pytest.mark.parametrize(("key", "chars"), [("{}/2024-01-01", 10 * (203 + 205)), ("{}", 2 + 4 + 20 * 100)])
def test_an_answer_has_a_largest_number_of_characters(key: str, chars: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each series has a label, a key and a field; one key that is no date is written for each field."""
    values = {key.format("x" * 99 + str(number)): {"a": 1, "bb": 2} for number in range(10)}
    assert chart(values).text_chars == chars
    monkeypatch.setattr(points_module, "MAX_TEXT_CHARS", chars)
    assert sum(len(series.data) for series in chart(values).series) == 20
    monkeypatch.setattr(points_module, "MAX_TEXT_CHARS", chars - 1)
    with pytest.raises(TooLargeError, match=f"more than {chars - 1} characters"):
        chart(values)
