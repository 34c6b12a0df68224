"""The length of periods in unusual keys: several lengths in one output, quarters, instants, very few keys."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from aggregates import period
from aggregates.keys.key_time import KeyTime, tell
from aggregates.task import Task
from aggregates.web.series.key_span import KeySpan
from aggregates.web.series.points import ChartData, by_dimension
from aggregates.web.series.time_span import OPEN

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")
MIXED = KeyTime("UTC", "hour", 100, ("day", "week", "month"))


def chart(keys: Iterable[Any], key_time: KeyTime | None = None, shown: str = "UTC") -> ChartData:
    documents = [{"_id": key, "value": 1} for key in keys]
    return by_dimension(documents, span=KeySpan(OPEN, OPEN, key_time or KeyTime()), shown_zone=shown)


def added(found: ChartData) -> int:
    """Return how many points filling would add to the one series of a chart."""
    times = [point[0] for point in found.series[0].data]
    assert found.granularity is not None
    grid = found.granularity.starts(times[0], times[-1])
    assert set(grid) >= set(times)
    return len(grid) - len(times)


def dates(count: int, days: int = 1, first: date = date(2015, 1, 5)) -> list[str]:
    return [f"{first + n * days * DAY}" for n in range(count)]


def months(count: int, each: int = 1, form: str = "{:04}-{:02}-01") -> list[str]:
    return [form.format(2015 + n * each // 12, n * each % 12 + 1) for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 100])
def test_dates_in_an_output_of_hours_are_days(count: int) -> None:
    for key_time in (MIXED, KeyTime("UTC", "hour"), KeyTime("UTC", "hour", 100, ("day",)), KeyTime("UTC", "minute")):
        found = chart(dates(count), key_time)
        assert (found.step, added(found)) == ("day", 0)


@pytest.mark.parametrize("count", [2, 3, 8, 100])
def test_of_several_lengths_that_keys_say_the_longest_is_taken_that_fits(count: int) -> None:
    for keys, step in (
        (dates(count, 7), "week"),
        (months(count), "month"),
        ([f"{T0 + n * HOUR:%Y-%m-%dT%H:00}" for n in range(count)], "hour"),
    ):
        found = chart(keys, MIXED)
        assert (found.step, added(found)) == (step, 0)


def test_hours_of_one_time_of_the_day_stay_hours_where_no_key_says_days() -> None:
    nightly = [f"{day}T00:00" for day in dates(30)]
    assert chart(nightly, KeyTime("UTC", "hour")).step == "hour"
    assert chart(dates(30, 7), KeyTime("UTC", "day")).step == "day"


def test_a_length_that_no_key_was_heard_to_say_is_measured_in_an_output_of_several() -> None:
    assert chart(months(24), KeyTime("UTC", "hour", 100, ("day",))).step == "month"
    assert chart([f"{year}-01-01" for year in range(2000, 2010)], KeyTime("UTC", "hour", 100, ("day",))).step == "year"


T0 = datetime(2015, 7, 1, 13, tzinfo=UTC)


@pytest.mark.parametrize("count", [2, 8, 40])
@pytest.mark.parametrize(
    ("each", "step"), [(1, "month"), (2, "P2M"), (3, "P3M"), (4, "P4M"), (6, "P6M"), (12, "year"), (24, "P2Y")]
)
def test_several_months_that_the_task_says_are_periods(each: int, step: str, count: int) -> None:
    for form in ("{:04}-{:02}-01", "{:04}-{:02}", "{:04}-{:02}-01T00:00"):
        found = chart(months(count, each, form), KeyTime("UTC", step))
        assert (found.step, added(found)) == (step, 0)


@pytest.mark.parametrize(
    ("each", "step"), [(1, "month"), (2, "P2M"), (3, "P3M"), (4, "P4M"), (6, "P6M"), (12, "year"), (24, "P2Y")]
)
def test_several_months_are_measured(each: int, step: str) -> None:
    for form in ("{:04}-{:02}-01", "{:04}-{:02}"):
        found = chart(months(44, each, form))
        assert (found.step, added(found)) == (step, 0)
        gap = months(44, each, form)
        del gap[3], gap[20:22]
        assert added(chart(gap)) == 3


@pytest.mark.parametrize("first", [date(2015, 4, 1), date(2015, 4, 6), date(2015, 1, 15)])
def test_years_and_months_may_start_on_another_day(first: date) -> None:
    years = [f"{first.replace(year=year)}" for year in range(2015, 2025)]
    found = chart(years, KeyTime("UTC", "year"))
    assert (found.step, added(found)) == ("year", 0)
    each_month = [f"{first.replace(month=month)}" for month in range(1, 13)]
    found = chart(each_month, KeyTime("UTC", "month"))
    assert (found.step, added(found)) == ("month", 0)


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("days", [1, 2, 7, 10, 14, 28, 30, 31, 91, 365])
def test_days_in_any_number_are_periods(days: int, said: bool) -> None:
    step = {1: "day", 7: "week"}.get(days, f"P{days}D")
    key_time = KeyTime("UTC", {1: "day", 7: "week"}.get(days, days * 86_400)) if said else None
    for keys in (
        dates(30, days),
        [datetime(2015, 1, 5, 22, tzinfo=UTC) + n * days * DAY for n in range(30)],
        [f"{datetime(2015, 1, 5, 6, tzinfo=UTC) + n * days * DAY:%Y-%m-%dT%H:%M}" for n in range(30)],
    ):
        found = chart(keys, key_time)
        assert (found.step, added(found)) == (step, 0)


@pytest.mark.parametrize("seconds", [7, 90, 240, 480, 700, 5400, 18_000])
def test_lengths_that_are_no_usual_part_of_a_day_are_measured(seconds: int) -> None:
    keys = [f"{T0 + n * timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}" for n in range(60) if n % 5]
    found = chart(keys)
    assert found.granularity is not None
    assert (found.granularity.length_ms, added(found)) == (seconds * 1000, 11)


@pytest.mark.parametrize("shown", ["UTC", "America/New_York", "Europe/Berlin", "Asia/Tokyo"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("form", ["offset", "datetime"])
def test_days_and_months_of_another_zone_are_found_in_instants(form: str, zone: str, shown: str) -> None:
    days = [datetime(2015, 1, 1, tzinfo=ZoneInfo(zone)) + n * DAY for n in range(731)]
    for moments, step in ((days, "day"), ([day for day in days if day.day == 1], "month")):
        found = chart([each if form == "datetime" else each.isoformat() for each in moments], shown=shown)
        assert (found.step, added(found)) == (step, 0)


def test_the_own_offset_of_keys_is_a_clock_for_few_of_them() -> None:
    days = [f"2015-07-{day:02}T00:00+02:00" for day in range(3, 8)]
    assert chart(days).step == chart(days, shown="America/New_York").step == "day"
    assert chart(months(3, 1, "{:04}-{:02}-01T00:00+01:00"), shown="America/New_York").step == "month"
    assert chart([f"2015-03-{day:02}T00:00+0{1 + (day > 29)}:00" for day in range(27, 32)]).step == "day"


@pytest.mark.parametrize("count", [2, 3, 7, 8, 30])
@pytest.mark.parametrize(
    ("first", "step", "seconds"),
    [
        (datetime(2015, 1, 5, 22, tzinfo=UTC), "day", 86_400),
        (datetime(2015, 1, 5, 6, tzinfo=UTC), 43_200, 43_200),
        (datetime(2015, 1, 5, 6, tzinfo=UTC), 28_800, 28_800),
        (datetime(2015, 1, 5, 0, 15, tzinfo=UTC), "hour", 3_600),
        (datetime(2015, 1, 5, 3, tzinfo=UTC), 18_000, 18_000),
        (datetime(2015, 1, 5, 22, tzinfo=UTC), "week", 604_800),
    ],
)
def test_a_said_length_is_believed_wherever_its_periods_start(
    first: datetime, step: Any, seconds: int, count: int
) -> None:
    moments = [first + n * timedelta(seconds=seconds) for n in range(count)]
    for keys in (moments, [f"{moment:%Y-%m-%dT%H:%M}" for moment in moments]):
        assert added(chart(keys, KeyTime("UTC", step))) == 0


def test_two_doubled_hours_alone_are_hours() -> None:
    hours = ["2011-10-30T02:00+02:00", "2011-10-30T02:00+01:00"]
    for zone in ("UTC", "Europe/Berlin"):
        assert chart(hours, KeyTime(zone), shown="Europe/Berlin").step == "hour"


def test_dates_of_berlin_with_offsets_name_the_zone_that_explains_them() -> None:
    days = [datetime(2015, 1, 1, tzinfo=BERLIN) + n * DAY for n in range(200)]
    assert chart([day.isoformat() for day in days]).facts()["key_zone"] == "Europe/Berlin"


@pytest.mark.parametrize("day", [1, 6, 15])
@pytest.mark.parametrize("each", [1, 3, 12, 24])
def test_months_of_another_day_are_measured(each: int, day: int) -> None:
    keys = [f"{key[:8]}{day:02}" for key in months(20, each)]
    for kept in (keys, keys[:7] + keys[9:]):
        assert added(chart(kept)) == 20 - len(kept)


@pytest.mark.parametrize("form", ["{:%Y-%m-%dT%H:%M}", "{:%Y-%m-%dT%H:%MZ}"])
def test_days_of_another_zone_are_found_in_texts_of_utc(form: str) -> None:
    days = [(datetime(2015, 3, 1, tzinfo=BERLIN) + n * DAY).astimezone(UTC) for n in range(60)]
    assert (chart(map(form.format, days)).step, added(chart(map(form.format, days)))) == ("day", 0)
    few = [form.format(day) for day in days[26:31]]
    assert chart(few, KeyTime("UTC", "day")).step == "day"
    assert chart(few).step == "hour"


WRITTEN = {
    **{f"PT{count}M": partial(period.minute_key, count=count) for count in (1, 4, 5, 8, 15, 36, 96, 480)},
    **{f"PT{count}H": partial(period.hour_key, count=count) for count in (1, 2, 6, 12, 24)},
    "day": period.day_key,
    "week": period.week_key,
    "month": period.month_key,
    "year": period.year_key,
}
READ = {"day": period.day, "week": period.week, "month": period.month, "year": period.year}


@pytest.mark.parametrize("begin", ["2011-03-25", "2011-10-28", "2015-12-30"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "+05:45"])
@pytest.mark.parametrize("kind", WRITTEN)
def test_the_periods_that_a_task_says_are_filled_and_others_never_finer(kind: str, zone: str, begin: str) -> None:
    chance = random.Random(f"{kind}{zone}{begin}")
    count = int(kind[2:-1]) if kind.startswith("PT") else 1
    read = READ.get(kind) or partial(period.minute if kind.endswith("M") else period.hour, count=count)
    stride = timedelta(minutes=count if kind.endswith("M") else 60 * count) if kind not in READ else 6 * HOUR
    first = datetime.fromisoformat(begin).replace(tzinfo=UTC)
    size = {"week": 800, "month": 3500, "year": 20_000}.get(kind, 400)
    keys = list(dict.fromkeys(WRITTEN[kind](first + n * stride / 2, zone) for n in range(size)))

    class Said(Task):
        def period(self, key: str) -> Any:
            return read(key, zone)

    class Plain(Said):
        def period(self, key: str) -> Any:
            return tuple(read(key, zone))

    Plain.zone = zone
    for length, missing in ((2, 0.0), (5, 0.3), (9, 0.1), (40, 0.6), (200, 0.3)):
        kept = [key for key in keys[:length] if chance.random() >= missing] or keys[:1]
        true = [key for key in keys if kept[0] <= key <= kept[-1]]
        for task in (Said(), Plain()):
            assert added(chart(kept, tell(task, kept))) == len(true) - len(kept)
        if len(kept) >= 8:
            assert added(chart(kept, KeyTime(zone))) <= len(true) - len(kept)
