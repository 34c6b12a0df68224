"""Granularity: how long the periods of a series are, by its task or its data, and where they start."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregates import period
from aggregates.keys.key_time import KeyTime
from aggregates.web.series.granularity import Granularity
from aggregates.web.series.key_span import KeySpan
from aggregates.web.series.points import ChartData, by_dimension
from aggregates.web.series.time_span import OPEN

HOUR = timedelta(hours=1)
T0 = datetime(2011, 7, 1, 13, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "+05:30"]


def chart(keys: Iterable[Any], zone: str = "UTC", step: Any = None, shown: str = "UTC") -> ChartData:
    documents = [{"_id": key, "value": 1} for key in dict.fromkeys(keys)]
    return by_dimension(documents, span=KeySpan(OPEN, OPEN, KeyTime(zone, step)), shown_zone=shown)


def starts(found: ChartData) -> list[float]:
    times = [point[0] for point in found.series[0].data]
    assert found.granularity is not None
    return found.granularity.starts(times[0], times[-1])


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000


SPELLINGS = ["%Y-%m-%dT%H:00", "%Y-%m-%dT%H", "%Y-%m-%dT%H:00:00", "%Y-%m-%dT%H:00Z", "%Y-%m-%dT%H:00:00.000+00:00"]


@pytest.mark.parametrize("count", [2, 48])
@pytest.mark.parametrize("form", [*SPELLINGS, "%Y-%m-%d %H:00", "datetime"])
def test_hours_are_hours_in_any_spelling(form: str, count: int) -> None:
    times = [T0 + n * HOUR for n in range(count)]
    found = chart(times if form == "datetime" else [format(time, form) for time in times])
    assert found.step == "hour"
    assert starts(found) == [time.timestamp() * 1000 for time in times]


@pytest.mark.parametrize(
    ("minutes", "step"),
    [(1, "minute"), (2, "PT2M"), (5, "PT5M"), (10, "PT10M"), (15, "PT15M"), (30, "PT30M"), (60, "hour"), (180, "PT3H"),
     (360, "PT6H"), (720, "PT12H"), (1440, "day"), (10080, "week"), (0.5, "PT30S"), (1 / 60, "second")],
)  # fmt: skip
def test_the_length_is_measured_from_the_spacing(minutes: float, step: str) -> None:
    first = datetime(2011, 7, 1, tzinfo=UTC)
    keys = [(first + n * timedelta(minutes=minutes)).isoformat()[:19] for n in range(100) if n % 7]
    assert chart(keys).step == step


@pytest.mark.parametrize(
    ("keys", "step"),
    [
        (["2010", "2012"], "year"),
        (["2010-01-01", "2012-01-01"], "year"),
        (["2011-01", "2012-01"], "month"),
        (["2011-01-01", "2011-03-01"], "month"),
        (["2011-W01", "2011-W04"], "week"),
        (["2011-07-03", "2011-07-17"], "week"),
        (["2011-07-03", "2011-07-05"], "day"),
        (["2011-07-01"], "day"),
        (["2011-07-01T13"], "hour"),
        (["2011-07-01T13:00"], "hour"),
        (["2011-07-01T13:05"], "minute"),
        (["2011-07-01T13:05:07"], "second"),
        (["2011-07-01T13:05:07.5", "2011-07-01T13:05:08"], "second"),
    ],
)
def test_calendar_units_come_first_and_a_single_key_is_read_as_it_is_spelled(keys: list[str], step: str) -> None:
    assert chart(keys).step == step


def test_periods_may_start_off_the_hours_of_the_clock() -> None:
    keys = [T0 + HOUR / 2 + n * HOUR for n in range(48)]  # hours of India
    found = chart(keys)
    assert found.step == "hour"
    assert len(starts(found)) == 48


@pytest.mark.parametrize("odd", ["2011-07-02T13:07", "2011-07-02T13:07:09.25", "2011-07-01T00:00:01"])
def test_a_single_odd_key_does_not_make_the_step_finer(odd: str) -> None:
    assert chart([*(f"{T0 + n * HOUR:%Y-%m-%dT%H:00}" for n in range(48)), odd]).step == "hour"


def test_the_task_decides_as_long_as_the_data_agrees() -> None:
    hours = [f"{T0 + n * HOUR:%Y-%m-%dT%H:00}" for n in (0, 1, 5)]
    assert chart(hours).step == "hour"
    assert chart(hours, step="minute").step == "minute"
    assert chart(hours, step=300).step == "PT5M"
    assert chart(hours, step="day").step == "hour"
    assert chart(["2011-07-01T00:00", "2011-07-01T12:00"], step="hour").step == "hour"
    assert chart(["2011-01-01", "2012-01-01"], step="day").step == "day"
    assert chart(["2011-07-01", "2011-07-21"], step=864_000).step == "P10D"
    assert chart([f"2011-07-{day:02}" for day in range(1, 32)], step="month").step == "day"
    assert chart(["2011-07-01T13:07", "2011-07-01T14:07"], step="hour").step == "hour"
    assert chart(["2011-07-01T13:07", "2011-07-01T14:08"], step="hour").step == "minute"


def test_days_of_the_viewer_are_found_in_keys_that_are_instants() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    days = [datetime(2011, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(365)]
    for keys in (
        [day.replace(tzinfo=berlin) for day in days],
        [day.replace(tzinfo=berlin).isoformat() for day in days],
    ):
        found = chart(keys, shown="Europe/Berlin")
        assert found.step == "day"
        assert len(starts(found)) == 365


def test_both_of_two_doubled_hours_are_periods_if_the_keys_tell_them_apart() -> None:
    times = [datetime(2011, 10, 29, 20, tzinfo=UTC) + n * HOUR for n in range(12)]
    berlin = ZoneInfo("Europe/Berlin")
    apart = chart([time.astimezone(berlin).isoformat() for time in times], "Europe/Berlin", "hour")
    assert starts(apart) == [time.timestamp() * 1000 for time in times]
    together = chart([period.hour_key(time, berlin) for time in times], "Europe/Berlin", "hour")
    assert starts(together) == [
        time.timestamp() * 1000 for time in times if time != datetime(2011, 10, 30, 1, tzinfo=UTC)
    ]


WRITE = [
    lambda moment, zone: period.minute_key(moment, zone, 15),
    period.hour_key,
    lambda moment, zone: period.hour_key(moment, zone, 6),
    period.day_key,
    period.week_key,
    period.month_key,
]
STRIDE = dict.fromkeys(WRITE, HOUR / 2) | {WRITE[0]: HOUR / 4}


@pytest.mark.parametrize("begin", ["2011-03-01", "2011-09-20", "2011-12-20", "2017-10-01", "2018-02-01"])
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("write", WRITE)
def test_every_period_of_a_zone_is_a_start_and_nothing_else(write: Any, zone: str, begin: str) -> None:
    first = datetime.fromisoformat(begin).replace(tzinfo=UTC)
    keys = list(dict.fromkeys(write(first + n * STRIDE[write], zone) for n in range(42 * 24 * HOUR // STRIDE[write])))
    found = chart(keys, zone)
    assert starts(found) == [point[0] for point in found.series[0].data]
    assert len(starts(found)) == len(keys)


def test_days_follow_local_midnights_across_summer_time() -> None:
    days = Granularity("day", "Europe/Berlin").starts(at("2024-03-30T00:00+01:00"), at("2024-04-02T12:00+02:00"))
    assert [(b - a) / 3_600_000 for a, b in itertools.pairwise(days)] == [24, 23, 24]


@pytest.mark.parametrize(
    ("zone", "begin"),
    [("Africa/Freetown", "1939-08-20"), ("America/Noronha", "2000-10-01"), ("Asia/Gaza", "2040-10-10")],
)
def test_an_offset_that_lasts_for_days_only_is_not_missed(zone: str, begin: str) -> None:
    first = datetime.fromisoformat(begin).replace(tzinfo=UTC)
    keys = [period.hour_key(first + n * HOUR, zone) for n in range(30 * 24)]
    found = chart(keys, zone, "hour")
    assert set(starts(found)) >= {point[0] for point in found.series[0].data}
    days = chart([period.day_key(first + n * HOUR, zone) for n in range(30 * 24)], zone)
    assert starts(days) == [point[0] for point in days.series[0].data]


def test_months_and_years_have_their_own_lengths() -> None:
    months = Granularity("month", "UTC").starts(at("2023-12-01T00:00Z"), at("2024-03-01T00:00Z"))
    assert months == [at(f"{month}-01T00:00Z") for month in ("2023-12", "2024-01", "2024-02", "2024-03")]
    years = Granularity("year", "UTC").starts(at("2009-06-01T00:00Z"), at("2012-01-01T00:00Z"))
    assert years == [at(f"{year}-01-01T00:00Z") for year in (2010, 2011, 2012)]


@pytest.mark.parametrize(
    ("step", "moment"),
    [
        ("year", "2025-01-01T00:00Z"),
        ("month", "2024-04-01T00:00Z"),
        ("week", "2024-04-01T00:00Z"),
        ("day", "2024-04-01T00:00Z"),
        ("hour", "2024-03-31T16:00Z"),
        ("minute", "2024-03-31T15:30Z"),
    ],
)
def test_the_first_period_that_starts_at_or_after_a_moment_is_found(step: Any, moment: str) -> None:
    monday_ms = 4 * 86_400_000 if step == "week" else 0
    found = Granularity(step, "UTC", anchor_ms=monday_ms).starts(at("2024-03-31T15:30Z"), at("2025-02-01T00:00Z"))
    assert found[0] == at(moment)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("step", ["year", "month", "week", "day"])
def test_the_ends_of_time_have_starts(step: Any, zone: str) -> None:
    granularity = Granularity(step, zone)
    for first, last in (
        (at("0001-01-01T00:00Z"), at("0003-01-01T00:00Z")),
        (at("9997-01-01T00:00Z"), at("9999-12-31T00:00Z")),
    ):
        found = granularity.starts(first, last)
        assert found == sorted(set(found))
        assert first <= found[0] < found[-1] <= last
    assert granularity.starts(1.0, 0.0) == []


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "+05:30", "-11:00"])
@pytest.mark.parametrize("write", WRITE)
@pytest.mark.parametrize("begin", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 1, tzinfo=UTC)])
def test_the_periods_at_the_ends_of_time_are_starts(write: Any, zone: str, begin: datetime) -> None:
    count = 31 * 24 * HOUR // STRIDE[write]
    keys = list(dict.fromkeys(write(begin + n * STRIDE[write], zone) for n in range(count)))
    found = chart(keys, zone)
    assert len(keys) == len(starts(found))
    assert starts(found) == [point[0] for point in found.series[0].data]


@given(
    st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), min_size=1, max_size=20), st.sampled_from(ZONES)
)
def test_any_times_have_a_granularity(times: list[datetime], zone: str) -> None:
    found = chart([time.isoformat() for time in times], zone)
    assert found.granularity is not None
    assert found.granularity.length_ms >= 1000
