"""Ticks of the time axis: round times of the chart's zone, whatever the zone of the browser and the length."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support.web.node import run_modules

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR, DAY = 3_600_000, 86_400_000
BROWSERS = ("UTC", "Europe/Berlin", "Europe/Dublin", "Asia/Beirut", "America/New_York", "Australia/Lord_Howe")
TICKS = """
    const { timeTicks } = await import("./time-axis.js");
    return given.map(([min, max, least, zone]) => timeTicks(min, max, least, zone));
"""

Ticks = list[dict[str, Any]]


def ms(text: str) -> int:
    """Return an instant such as `2026-03-29T01:00Z`, of any year from 1 on, in milliseconds."""
    return round((datetime.fromisoformat(text) - EPOCH) / timedelta(milliseconds=1))


@pytest.fixture
def axes(tmp_path: Path) -> Any:
    """Return a function from axes, [min, max, least distance, zone] each, to their ticks."""
    return lambda asked, browser="UTC": run_modules(tmp_path, TICKS, asked, browser)


def labels(ticks: Ticks) -> list[str]:
    return [tick["label"] for tick in ticks]


def first_lines(ticks: Ticks) -> list[str]:
    return [tick["label"].partition("\n")[0] for tick in ticks]


CHANGES = {
    # hours of the chart's zone around a change of clocks, in that zone or in another
    ("2026-03-29T00:00Z", "2026-03-29T04:00Z", "UTC"): "00:00 01:00 02:00 03:00 04:00",
    ("2026-03-29T00:00Z", "2026-03-29T04:00Z", "Europe/Dublin"): "00:00 02:00 03:00 04:00 05:00",
    ("2026-03-28T23:00Z", "2026-03-29T03:00Z", "Europe/Berlin"): "00:00 01:00 03:00 04:00 05:00",
    ("2026-10-24T22:00Z", "2026-10-25T02:00Z", "Europe/Berlin"): "00:00 01:00 02:00 02:00 03:00",
    ("2026-03-28T21:00Z", "2026-03-29T00:00Z", "Asia/Beirut"): "23:00 01:00 02:00 03:00",
    ("2026-10-24T20:00Z", "2026-10-24T23:00Z", "Asia/Beirut"): "23:00 23:00 00:00 01:00",
    ("2026-03-08T06:00Z", "2026-03-08T09:00Z", "America/New_York"): "01:00 03:00 04:00 05:00",
    ("2026-11-01T05:00Z", "2026-11-01T08:00Z", "America/New_York"): "01:00 01:00 02:00 03:00",
    ("2026-04-04T14:00Z", "2026-04-04T17:00Z", "Australia/Lord_Howe"): "01:00 02:00 03:00",
    ("2026-10-03T14:30Z", "2026-10-03T17:00Z", "Australia/Lord_Howe"): "01:00 03:00 04:00",
    ("2026-03-29T00:00Z", "2026-03-29T04:00Z", "Asia/Kathmandu"): "06:00 07:00 08:00 09:00",
}


@pytest.mark.parametrize("browser", BROWSERS)
def test_hours_are_those_of_the_chart_whatever_the_browser_does(axes: Any, browser: str) -> None:
    asked = [[ms(low), ms(high), HOUR, zone] for low, high, zone in CHANGES]
    assert [" ".join(first_lines(ticks)) for ticks in axes(asked, browser)] == list(CHANGES.values())


def test_half_hours_that_a_clock_shows_twice_have_two_ticks(axes: Any) -> None:
    [ticks] = axes([[ms("2026-04-04T14:00Z"), ms("2026-04-04T16:00Z"), HOUR // 2, "Australia/Lord_Howe"]])
    assert first_lines(ticks) == ["01:00", "01:30", "01:30", "02:00", "02:30"]


def test_a_time_that_is_shown_again_too_soon_has_one_tick(axes: Any) -> None:
    [ticks] = axes([[ms("2026-10-24T20:00Z"), ms("2026-10-25T07:00Z"), 2 * HOUR, "Europe/Berlin"]])
    assert first_lines(ticks) == ["22:00", "00:00", "02:00", "04:00", "06:00", "08:00"]


def test_days_begin_with_their_first_instant(axes: Any) -> None:
    [gap, fold, skipped] = axes(
        [
            [ms("2026-03-27T12:00Z"), ms("2026-03-31T12:00Z"), 20 * HOUR, "Asia/Beirut"],
            [ms("2026-10-31T00:00Z"), ms("2026-11-03T12:00Z"), 20 * HOUR, "America/Havana"],
            [ms("2011-12-28T12:00Z"), ms("2012-01-01T12:00Z"), 20 * HOUR, "Pacific/Apia"],
        ]
    )
    assert [(tick["at"], tick["label"]) for tick in gap] == [
        (ms("2026-03-27T22:00Z"), "28 Mar\n2026"),
        (ms("2026-03-28T22:00Z"), "29 Mar"),  # from 01:00 on
        (ms("2026-03-29T21:00Z"), "30 Mar"),
        (ms("2026-03-30T21:00Z"), "31 Mar"),
    ]
    midnights = ("10-31T04:00", "11-01T04:00", "11-02T05:00", "11-03T05:00")
    assert [tick["at"] for tick in fold] == [ms(f"2026-{midnight}Z") for midnight in midnights]
    assert labels(skipped) == ["29 Dec\n2011", "31 Dec", "1 Jan\n2012", "2 Jan"]


def test_long_ranges_have_firsts_of_months_and_years(axes: Any) -> None:
    months, quarters, years, decades, centuries, all_years = axes(
        [
            [ms("2025-11-15T00:00Z"), ms("2026-03-15T00:00Z"), 28 * DAY, "America/New_York"],
            [ms("2025-11-15T00:00Z"), ms("2026-12-15T00:00Z"), 80 * DAY, "Asia/Tokyo"],
            [ms("1999-06-01T00:00Z"), ms("2004-06-01T00:00Z"), 365 * DAY, "Europe/Berlin"],
            [ms("1950-01-01T00:00Z"), ms("2000-06-01T00:00Z"), 3000 * DAY, "UTC"],
            [ms("0001-01-01T00:00Z"), ms("0999-01-01T00:00Z"), 200 * 365 * DAY, "UTC"],
            [ms("0001-01-01T00:00Z"), ms("9999-12-31T23:59Z"), 700 * 365 * DAY, "America/New_York"],
        ]
    )
    assert labels(months) == ["Dec\n2025", "Jan\n2026", "Feb", "Mar"]
    assert [tick["at"] for tick in months[:2]] == [ms("2025-12-01T05:00Z"), ms("2026-01-01T05:00Z")]
    assert labels(quarters) == ["Jan\n2026", "Apr", "Jul", "Oct"]
    assert labels(years) == ["2000", "2001", "2002", "2003", "2004"]
    assert labels(decades) == ["1950", "1960", "1970", "1980", "1990", "2000"]
    assert labels(centuries) == ["200", "400", "600", "800"]
    assert labels(all_years) == [str(year) for year in range(1000, 10_000, 1000)]


def test_labels_say_the_day_and_the_year_once(axes: Any) -> None:
    begin = ms("2025-12-31T22:00Z")
    hours, seconds, parts = axes(
        [
            [begin, begin + 4 * HOUR, HOUR, "UTC"],
            [begin + 2 * HOUR - 2000, begin + 2 * HOUR + 1000, 1000, "UTC"],
            [begin + 2 * HOUR - 5, begin + 2 * HOUR + 4, 5, "UTC"],
        ]
    )
    assert labels(hours) == ["22:00\n31 Dec 2025", "23:00", "00:00\n1 Jan 2026", "01:00", "02:00"]
    assert labels(seconds) == ["23:59:58\n31 Dec 2025", "23:59:59", "00:00:00\n1 Jan 2026", "00:00:01"]
    assert labels(parts) == ["59.995\n31 Dec 23:59", "00.000\n1 Jan 00:00"]


def test_every_tick_is_round_in_its_zone_and_no_two_are_too_close(axes: Any) -> None:
    zones = ["UTC", "Asia/Kathmandu", "Africa/Casablanca", "America/Santiago", "Pacific/Chatham", *BROWSERS[1:]]
    lengths = [
        20,
        900,
        7_000,
        90_000,
        HOUR,
        5 * HOUR,
        40 * HOUR,
        9 * DAY,
        70 * DAY,
        800 * DAY,
        40_000 * DAY,
        2_900_000 * DAY,
    ]
    starts = ["2026-03-28T20:10Z", "2026-10-25T00:00Z", "1995-01-31T13:37Z", "0001-01-02T00:00Z"]
    asked = [
        [ms(start), ms(start) + length, length / most, zone]
        for zone in zones for length in lengths for start in starts for most in (3.2, 11, 30)
    ]  # fmt: skip
    found = axes(asked)
    assert axes(asked, "Europe/Berlin") == found
    for (low, high, least, zone), ticks in zip(asked, found, strict=True):
        times = [tick["at"] for tick in ticks]
        assert times or high - low < 4 * least, (low, high, zone)
        assert all(low <= at <= high for at in times)
        assert all(after - before >= least for before, after in pairwise(times)), (low, high, zone)
        for at, label in zip(times, first_lines(ticks), strict=True):
            assert label in _forms(at, zone), (at, label, zone)


def _forms(at: float, zone: str) -> set[str]:
    """Return how an instant may be labelled, by the clock of its zone; only what is round has the longer forms."""
    now = (EPOCH + timedelta(milliseconds=at)).astimezone(ZoneInfo(zone))
    found = {f"{now:%S}.{now.microsecond // 1000:03d}"}
    if now.microsecond == 0:
        found.add(f"{now:%H:%M:%S}")
        if now.second == 0:
            found.add(f"{now:%H:%M}")
    before = now.astimezone(UTC) - timedelta(seconds=1)
    if before.astimezone(ZoneInfo(zone)).date() < now.date():
        found.add(f"{now.day} {now:%b}")
        if now.day == 1:
            found |= {f"{now:%b}"} | ({str(now.year)} if now.month == 1 else set())
    return found
