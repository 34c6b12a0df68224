"""Filling: what is shown for periods without data, and what a filled picture leaves out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aggregates.keys.key_time import KeyTime
from aggregates.web.exceptions import BadRequestError, TooLargeError
from aggregates.web.series.fill import Fill, fill_in, read_fill
from aggregates.web.series.key_span import KeySpan
from aggregates.web.series.points import ChartData, by_dimension
from aggregates.web.series.time_span import OPEN, TimeSpan

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = 86_400_000.0
FIRST = datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000
T0 = datetime(2011, 7, 1, 13, tzinfo=UTC)
HOURS = {f"{T0 + n * HOUR:%Y-%m-%dT%H:00}": n + 1 for n in range(48)}


def filled(
    values: dict[Any, Any],
    fill: Fill,
    span: TimeSpan = OPEN,
    now: datetime = NOW,
    key_time: KeyTime | None = None,
    limit: int = 100,
) -> ChartData:
    documents = [{"_id": key, "value": value} for key, value in values.items()]
    found = by_dimension(documents, span=KeySpan(span, span, key_time or KeyTime()), now=now)
    fill_in(found, fill, now, limit=limit)
    return found


@pytest.mark.parametrize(("fill", "between"), [("gap", None), ("zero", 0), ("previous", 1)])
def test_periods_without_data_are_filled(fill: Any, between: Any) -> None:
    found = filled({"2024-01-01": 1, "2024-01-03": 3, "2024-01-04": 4}, fill)
    assert found.series[0].data == [[FIRST, 1], [FIRST + DAY, between], [FIRST + 2 * DAY, 3], [FIRST + 3 * DAY, 4]]


def test_filling_covers_the_span_but_not_the_future() -> None:
    span = TimeSpan(datetime(2024, 1, 1, 12, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
    found = filled({"2024-01-03": 3}, "zero", span, datetime(2024, 1, 4, 5, tzinfo=UTC))
    assert found.series[0].data == [[FIRST + DAY, 0], [FIRST + 2 * DAY, 3], [FIRST + 3 * DAY, 0]]


def test_two_hours_are_two_points_and_two_days_forty_eight() -> None:
    two = dict(list(HOURS.items())[:2])
    assert [y for _, y in filled(two, "zero").series[0].data] == [1, 2]
    assert [y for _, y in filled(HOURS, "zero").series[0].data] == list(range(1, 49))


def test_thirty_days_of_hours_of_eight_pages_are_filled() -> None:
    hours = [f"{T0 + n * HOUR:%Y-%m-%dT%H:00}" for n in range(720)]
    found = filled(
        {f"page{page}/{hour}": 1 for page in range(8) for hour in hours if hash(hour) % 3 or page == 0}, "gap"
    )
    assert [len(series.data) for series in found.series] == [720] * 8


def test_a_local_year_of_hours_has_one_point_for_each_hour_of_the_clock() -> None:
    values = {"2011-01-01T00:00": 1, "2011-12-31T23:00": 2}
    found = filled(values, "zero", key_time=KeyTime("Europe/Berlin", "hour"))
    assert len(found.series[0].data) == 365 * 24 - 1  # one hour is skipped, and the doubled one is one key


def test_a_wrong_clock_that_runs_on_is_left_out_and_counted() -> None:
    wrong = {f"2000-01-01T{hour:02}:00": 9 for hour in range(12)}
    found = filled({**wrong, **HOURS}, "zero")
    assert [y for _, y in found.series[0].data] == list(range(1, len(HOURS) + 1))
    assert (found.step, found.outliers) == ("hour", 12)


def test_the_newest_points_after_a_long_pause_are_shown_alone_only_if_both_parts_would_be_too_many() -> None:
    before, now = (
        [f"2020-01-{1 + n // 24:02}T{n % 24:02}:00" for n in range(720)],
        datetime(2026, 11, 29, 20, tzinfo=UTC),
    )
    resumed = [f"{now - n * HOUR:%Y-%m-%dT%H:00}" for n in range(3)]
    one = filled(dict.fromkeys([*before, *resumed], 1), "zero", now=now)
    assert (len(one.series[0].data), sum(y for _, y in one.series[0].data), one.outliers) == (60_597, 723, 0)
    values = {f"{page}/{hour}": 1 for page in "abcdefgh" for hour in [*before, *resumed]}
    for span in (OPEN, TimeSpan(None, now)):
        many = filled(values, "zero", span, now)
        assert ([[y for _, y in series.data] for series in many.series], many.outliers) == ([[1, 1, 1]] * 8, 8 * 720)


@pytest.mark.parametrize("wrong", ["0001-01-01T00:00", "1970-01-01T00:00", "2000-01-01T00:00", "9999-12-31T23:59"])
@pytest.mark.parametrize("count", [2, 48])
def test_an_outlier_is_left_out_and_counted(wrong: str, count: int) -> None:
    hours = dict(list(HOURS.items())[:count])
    found = filled({wrong: 9, **hours}, "zero")
    assert [y for _, y in found.series[0].data] == list(range(1, count + 1))
    assert (found.step, found.outliers) == ("hour", 1)


def test_without_a_fill_outliers_stay_and_a_range_that_asks_for_them_keeps_them() -> None:
    values = {"2000-01-01": 9, **{f"2024-01-{day:02}": day for day in range(1, 32)}}
    assert (len(filled(values, "").series[0].data), filled(values, "").outliers) == (32, 0)
    asked = filled(values, "zero", TimeSpan(datetime(2000, 1, 1, tzinfo=UTC), None))
    assert (asked.series[0].data[0], asked.outliers) == ([datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1000, 9], 0)


def test_a_point_between_the_starts_of_periods_is_left_out_and_counted() -> None:
    found = filled({**HOURS, "2011-07-02T13:07": 99}, "zero")
    assert [y for _, y in found.series[0].data] == list(range(1, 49))
    assert found.outliers == 1


def test_outliers_never_make_a_filled_picture_too_large() -> None:
    def starts(form: str, step: timedelta, count: int) -> list[str]:
        return [f"{T0 + n * step:{form}}" for n in range(count)]

    minutes = starts("%Y-%m-%dT%H:%M", timedelta(minutes=1), 180)
    pages = {f"page{page}/{minute}": 1 for page in range(8) for minute in minutes}
    for wrong in ("2011-06-02T13:00", "2011-06-30T13:00", "1970-01-01T00:00", "2011-07-28T04:05"):
        found = filled({**pages, f"page1/{wrong}": 9}, "zero")
        assert ([len(series.data) for series in found.series], found.outliers) == ([180] * 8, 1)
    seconds = starts("%Y-%m-%dT%H:%M:%S", timedelta(seconds=1), 600)
    found = filled({**dict.fromkeys(seconds, 1), "2011-06-28T13:00:00": 9}, "zero")
    assert (len(found.series[0].data), found.outliers) == (600, 1)
    first = filled({"2011-07-01T13:00": 20, "1970-01-01T00:00": 1}, "zero", now=T0, key_time=KeyTime("UTC", "hour"))
    assert ([y for _, y in first.series[0].data], first.outliers) == ([20], 1)


def test_a_small_history_is_left_out_and_counted_only_if_the_picture_would_be_too_large() -> None:
    early = [f"2006-01-01T{hour:02}:00" for hour in range(20)]
    late = [f"{T0 + n * HOUR:%Y-%m-%dT%H:00}" for n in range(1500)]
    alone = filled(dict.fromkeys([*early, *late], 1), "zero")
    assert (sum(y for _, y in alone.series[0].data), alone.outliers) == (1520, 0)
    beside = filled({f"{page}/{hour}": 1 for page in "abcdefgh" for hour in [*early, *late]}, "zero")
    assert ([len(series.data) for series in beside.series], beside.outliers) == ([1500] * 8, 160)


@pytest.mark.parametrize("fill", ["gap", "zero"])
@pytest.mark.parametrize(
    ("values", "zone"),
    [
        ({"2026-01-01": 1, "2026-01-01T00:00": 2, "2026-01-01T00:00Z": 4, "2026-01-02": 8, "2026-01-05": 16}, "UTC"),
        ({**HOURS, "2011-07-02": 1000, "2011-07-03": 2000}, "UTC"),
        ({T0 + n * HOUR: 1 for n in range(20)} | {f"{T0 + n * HOUR:%Y-%m-%dT%H:00}": 2 for n in range(10)}, "UTC"),
        ({f"2026-03-08T{h:02}:{minute}": 1 for h in range(24) for minute in ("00", 15, 30, 45)}, "America/New_York"),
        ({f"2026-03-08T{hour:02}": hour + 1 for hour in range(24) if hour != 7}, "America/New_York"),
        ({"a/2026-01-01": 1, "a/2026-01-01T00": 2, "a/2026-01-03": 3, "b/2026-01-02": 4}, "UTC"),
        ({**HOURS, "2011-07-02T13:00Z": 1000, "2011-07-02T13:07": 5000, "2011-07-02T13:07Z": 6000}, "UTC"),
        ({"1970-01-01": 1, "1970-01-01T00:00": 2} | {f"2026-01-{day:02}": 4 for day in range(1, 32)}, "UTC"),
    ],
)  # fmt: skip
def test_filling_keeps_all_points_that_start_at_one_instant(values: dict[Any, int], zone: str, fill: Any) -> None:
    plain, found = (filled(values, one, key_time=KeyTime(zone)) for one in ("", fill))
    for series, before in zip(found.series, plain.series, strict=True):
        assert series.data == sorted(series.data, key=lambda point: point[0])
        assert [point for point in before.data if point in series.data] == [
            point for point in series.data if point in before.data and point[1]
        ]
    kept = sum(point in series.data for series, b in zip(found.series, plain.series, strict=True) for point in b.data)
    assert kept + found.outliers == len(values)


def test_the_last_of_several_points_at_one_instant_goes_on_as_the_previous_one() -> None:
    found = filled({"2026-01-01": 1, "2026-01-01T00:00": 2, "2026-01-03": 3}, "previous")
    assert [y for _, y in found.series[0].data] == [1, 2, 2, 3]


def test_a_series_of_nothing_but_outliers_is_dropped() -> None:
    values = {f"a/{hour}": n for hour, n in HOURS.items()} | {"b/1970-01-01T00:00": 1, "c/2011-07-02T13:07": 1}
    found = filled(values, "gap")
    assert ([series.key for series in found.series], found.outliers) == (["a"], 2)


LARGEST_WRONG = {f"{name}/{hour}": 1 for name in "abc" for hour in HOURS} | {
    "d/1970-01-01T00:00": 1_000_000,
    "e/2011-07-02T13:07": 1_000_000,
}


@pytest.mark.parametrize(("limit", "shown", "omitted"), [(1, "a", 2), (2, "ab", 1), (3, "abc", 0), (100, "abc", 0)])
@pytest.mark.parametrize("fill", ["gap", "zero", "previous"])
def test_series_of_nothing_but_outliers_take_the_place_of_no_other(
    fill: Any, limit: int, shown: str, omitted: int
) -> None:
    found = filled(LARGEST_WRONG, fill, limit=limit)
    assert "".join(series.key for series in found.series) == shown
    assert (found.omitted, found.outliers) == (omitted, 2)


def test_without_a_fill_the_largest_series_are_kept_whatever_their_times() -> None:
    found = filled(LARGEST_WRONG, "", limit=1)
    assert ([series.key for series in found.series], found.omitted, found.outliers) == (["d"], 4, 0)


def test_an_outlier_does_not_make_its_series_larger_and_is_counted_only_if_that_is_shown() -> None:
    values = {f"{name}/{hour}": size for name, size in (("a", 1), ("b", 2)) for hour in HOURS} | {
        "a/1970-01-01": 99_999
    }
    one, both = (filled(values, "zero", limit=limit) for limit in (1, 2))
    assert ([series.key for series in one.series], one.omitted, one.outliers) == (["b"], 1, 0)
    assert ([series.key for series in both.series], both.omitted, both.outliers) == (["a", "b"], 0, 1)


def test_a_small_history_that_is_too_far_away_takes_the_place_of_no_other_series() -> None:
    early = {f"early/2006-01-01T{hour:02}:00": 1_000_000 for hour in range(20)}
    late = {f"{page}/{T0 + n * HOUR:%Y-%m-%dT%H:00}": 1 for page in "abcdefgh" for n in range(1500)}
    found = filled({**early, **late}, "zero", limit=6)
    assert "".join(series.key for series in found.series) == "abcdef"
    assert (found.omitted, found.outliers) == (2, 20)


def test_filling_too_many_points_is_refused_before_they_are_made() -> None:
    with pytest.raises(TooLargeError, match="more than 250000 points"):
        filled(
            {"1900-01-01T00:00:00": 1, "1900-01-01T00:00:01": 2, "2100-01-01T00:00:00": 1}, "zero", TimeSpan(NOW, None)
        )
    with pytest.raises(TooLargeError, match="more than 250000 points"):
        filled({"2001-01-01T00:00:00": 1, "2009-01-01T00:00:01": 1}, "zero")


def test_an_unknown_fill_is_refused() -> None:
    assert read_fill("gap") == "gap"
    with pytest.raises(BadRequestError, match="fill = 'nope' is unknown: use gap, zero or previous"):
        read_fill("nope")


def test_a_range_until_now_leaves_out_a_wrong_clock_at_its_open_side() -> None:
    values = {"2011-07-01T13:00": 20, "1970-01-01T00:00": 1}
    found = filled(values, "zero", TimeSpan(None, T0), T0, KeyTime("UTC", "hour"))
    assert ([y for _, y in found.series[0].data], found.outliers) == ([20], 1)
