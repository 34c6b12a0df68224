"""Keys that are instants: the clock that their periods follow is found for every zone, at every change of its clock."""

from __future__ import annotations

import random
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest

from aggregates.clock import wall_clock
from aggregates.keys.key_time import KeyTime
from aggregates.web.series.fill import fill_in
from aggregates.web.series.key_span import KeySpan
from aggregates.web.series.points import ChartData, by_dimension
from aggregates.web.series.time_span import OPEN

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SPAN = datetime(2010, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
DAY = timedelta(days=1)
HALF_HOUR = timedelta(minutes=30)
Unit = Literal["day", "week", "month"]
FORMS: tuple[Callable[[datetime], Any], ...] = (datetime.isoformat, lambda start: start.astimezone(UTC))
LOSES_A_DAY = {"Pacific/Apia", "Pacific/Fakaofo"}  # at a change of 24 hours no time of the day tells anything


def filled(keys: list[Any], key_time: KeyTime, viewer: str) -> ChartData:
    documents = [{"_id": key, "value": 1} for key in keys]
    found = by_dimension(documents, span=KeySpan(OPEN, OPEN, key_time), shown_zone=viewer, now=NOW)
    fill_in(found, "zero", NOW)
    return found


def whole(keys: list[Any], step: str, key_time: KeyTime, viewer: str) -> bool:
    """Return True if the step is the right one, no point is left out and none is added."""
    found = filled(keys, key_time, viewer)
    return found.step == step and not found.outliers and all(y for line in found.series for _, y in line.data)


def midnights(zone: str, unit: Unit, at: datetime, count: int, before: int) -> list[datetime]:
    """Return as many local starts of days, weeks or months, `before` of them before a time."""
    day = at.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, tzinfo=None)
    if unit == "month":
        numbers = [day.year * 12 + day.month - 1 + n - before for n in range(count)]
        days = [day.replace(year=number // 12, month=number % 12 + 1, day=1) for number in numbers]
    else:
        first = day if unit == "day" else day - day.weekday() * DAY
        days = [first + (n - before) * (7 if unit == "week" else 1) * DAY for n in range(count)]
    return [each.replace(tzinfo=ZoneInfo(zone)) for each in days]


def told(starts: list[datetime], unit: Unit) -> list[KeyTime]:
    """Return what an aggregate may say of such keys: nothing, or the length, in UTC or in the offset of the first."""
    offset = starts[0].utcoffset()
    assert offset is not None
    return [KeyTime(), KeyTime("UTC", unit, 30), KeyTime(wall_clock(timezone(offset)).name, unit, 30)]


def changes() -> Iterator[tuple[str, datetime]]:
    """Yield each zone that is unlike all others, with one of its changes."""
    seen = set()
    for zone in sorted(zoneinfo.available_timezones() - LOSES_A_DAY):
        offsets = tuple(wall_clock(zone).offsets(*SPAN))
        if len(offsets) > 1 and offsets not in seen:
            seen.add(offsets)
            yield zone, random.Random(zone).choice(offsets[1:])[0]


def test_days_weeks_and_months_keep_their_length_around_a_change_in_every_zone() -> None:
    wrong = []
    units: tuple[Unit, ...] = ("day", "week", "month")
    for zone, at in changes():
        chance = random.Random(zone)
        for unit in units:
            count = chance.choice((10, 30))
            starts = midnights(zone, unit, at, count, chance.randint(0, count))
            key_time, form = chance.choice(told(starts, unit)), chance.choice(FORMS)
            viewer = chance.choice(("UTC", "America/New_York"))
            if not whole([form(start) for start in starts], unit, key_time, viewer):
                wrong.append((zone, at, unit, count, key_time, viewer, form(starts[0])))
    assert wrong == []


@pytest.mark.parametrize("viewer", ["UTC", "America/New_York"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("America/Santiago", "2026-09-06"),
        ("America/Santiago", "2026-04-05"),
        ("America/Asuncion", "2023-10-01"),
        ("America/Sao_Paulo", "2017-10-15"),
        ("Africa/Cairo", "2026-04-24"),
        ("Asia/Tehran", "2022-03-22"),
        ("Atlantic/Azores", "2026-03-29"),
        ("America/Scoresbysund", "2023-03-26"),
        ("America/Havana", "2026-03-08"),
        ("America/Havana", "2026-11-01"),
        ("Asia/Beirut", "2026-03-29"),
        ("Asia/Damascus", "2019-10-25"),
        ("Antarctica/Troll", "2026-03-29"),
        ("Antarctica/Casey", "2020-10-04"),
    ],
)
def test_days_of_a_zone_whose_clock_jumps_at_midnight_are_days(
    zone: str, change: str, form: Callable[[datetime], Any], viewer: str
) -> None:
    at = datetime.fromisoformat(change).replace(tzinfo=UTC) + DAY / 2
    for count in (10, 313):
        for before in (1, 2, 5, count - 2, count - 1):
            starts = midnights(zone, "day", at, count, before)
            for key_time in told(starts, "day"):
                assert whole([form(start) for start in starts], "day", key_time, viewer), (count, before, key_time)


@pytest.mark.parametrize("viewer", ["UTC", "America/New_York"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("zone", "begin", "hours"),
    [
        ("Australia/Lord_Howe", "2026-04-03", 1),
        ("Australia/Lord_Howe", "2026-10-02", 1),
        ("Australia/Lord_Howe", "2026-10-02", 6),
        ("America/Caracas", "2016-04-29", 1),
        ("America/Santiago", "2026-09-04", 2),
        ("America/Havana", "2026-03-06", 6),
        ("Europe/Berlin", "2026-03-27", 2),
        ("Europe/Berlin", "2026-10-24", 3),
    ],
)
def test_hours_of_a_local_clock_keep_their_length(
    zone: str, begin: str, hours: int, form: Callable[[datetime], Any], viewer: str
) -> None:
    first = datetime.fromisoformat(begin).replace(tzinfo=UTC)
    shown = [(first + n * HALF_HOUR).astimezone(ZoneInfo(zone)) for n in range(80 * hours)]
    starts = {each.replace(hour=each.hour // hours * hours, minute=0).astimezone(UTC) for each in shown}
    keys = [form(start.astimezone(ZoneInfo(zone))) for start in sorted(starts)]
    step, said = ("hour", "hour") if hours == 1 else (f"PT{hours}H", hours * 3600)
    for key_time in (KeyTime(), KeyTime("UTC", said, 9)):  # type: ignore[arg-type]
        assert whole(keys, step, key_time, viewer)


@pytest.mark.parametrize("odd", [timedelta(minutes=7), timedelta(hours=1), timedelta(hours=13)])
@pytest.mark.parametrize("zone", ["Africa/Casablanca", "Asia/Beirut", "America/Santiago", "Europe/Berlin"])
def test_one_odd_start_hides_no_clock(zone: str, odd: timedelta) -> None:
    for at in (20, 100, 199):
        starts = midnights(zone, "day", datetime(2021, 10, 28, tzinfo=UTC), 200, 0)
        keys = [f"{start.astimezone(UTC):%Y-%m-%dT%H:%M}" for start in (*starts, starts[at].astimezone(UTC) + odd)]
        for form in (sorted(keys), [datetime.fromisoformat(f"{key}Z") for key in sorted(keys)]):
            found = filled(form, KeyTime(), "UTC")
            assert (found.step, found.outliers, len(found.series[0].data)) == ("day", 1, 200)


def test_an_odd_start_that_no_change_explains_stays_odd() -> None:
    hours = [datetime(2026, 11, 1, tzinfo=UTC) + n * timedelta(hours=1) for n in range(300)]
    days = [datetime(2026, 1, 1, tzinfo=UTC) + n * DAY for n in range(300)]
    for starts, odd, step in (
        (hours, hours[9] + HALF_HOUR, "hour"),
        (days, days[9] + 2 * HALF_HOUR, "day"),
        (days, days[9] + timedelta(minutes=7), "day"),
    ):
        found = filled([*starts, odd], KeyTime("UTC", step, 9), "America/New_York")  # type: ignore[arg-type]
        assert (found.step, found.outliers, len(found.series[0].data)) == (step, 1, 300)
