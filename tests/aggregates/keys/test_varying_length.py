"""Plain pairs whose lengths vary without being months, and pairs that look like such but are not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from aggregates.keys import period_length
from aggregates.keys.key_time import KeyTime, tell
from aggregates.task import Task
from tests.support.aggregates.varying_periods import VARYING, by_months, in_days

DAY = timedelta(days=1)
DAY_S = 86_400
BERLIN = ZoneInfo("Europe/Berlin")
FIRST = datetime(2015, 1, 1, tzinfo=UTC)
Pairs = list[tuple[datetime, datetime]]


def told(pairs: Pairs) -> KeyTime:
    class Read(Task):
        def period(self, key: int) -> Any:
            return pairs[key]

    return tell(Read(), range(len(pairs)))


def tiled(starts: Sequence[datetime]) -> Pairs:
    return list(itertools.pairwise(starts))


def hours(count: int, *lengths: int) -> Pairs:
    starts = itertools.accumulate(itertools.islice(itertools.cycle(lengths), count), initial=0)
    return tiled([FIRST + number * timedelta(hours=1) for number in starts])


@pytest.mark.parametrize("zone", [UTC, BERLIN, ZoneInfo("America/New_York")])
@pytest.mark.parametrize("kind", VARYING)
def test_lengths_that_vary_without_being_months_are_said_to_vary(kind: str, zone: tzinfo) -> None:
    starts = [one.replace(tzinfo=zone) for one in VARYING[kind]]
    lengths = [(two - one) / DAY for one, two in itertools.pairwise(starts)]
    for pairs in (tiled(starts), [(one.astimezone(UTC), two.astimezone(UTC)) for one, two in tiled(starts)]):
        found = told(pairs)
        assert found.step is not None
        assert period_length.least_s(found.step) == min(lengths) * DAY_S
        assert min(lengths) * DAY_S <= period_length.seconds(found.step) <= max(lengths) * DAY_S
        assert found.others == ()
        assert KeyTime.from_document(found.to_document()) == found


def test_pairs_that_end_with_their_last_second_or_have_gaps_vary_too() -> None:
    for kind in ("half months", "4-4-5 months", "school terms"):
        pairs = tiled(VARYING[kind])
        exact = told(pairs).step
        assert exact is not None
        for end in (timedelta(seconds=1), timedelta(microseconds=1)):
            assert told([(one, two - end) for one, two in pairs]).step == exact
    assert period_length.least_s(told(tiled(VARYING["half months"])[::3]).step or 0)


@pytest.mark.parametrize("lengths", [(6, 10, 8), (8, 16), (9, 15)])
def test_shifts_of_several_lengths_vary(lengths: tuple[int, ...]) -> None:
    step = told(hours(30, *lengths)).step
    assert step is not None
    assert period_length.least_s(step) == min(lengths) * 3600


def test_months_of_any_zone_do_not_vary() -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"):
        for day, hour in ((1, 0), (25, 0), (1, 6)):
            starts = [one.replace(day=day, hour=hour, tzinfo=ZoneInfo(zone)) for one in by_months(25)]
            pairs = [(one.astimezone(UTC), two.astimezone(UTC)) for one, two in tiled(starts)]
            if hour == 0:
                assert told(pairs) == KeyTime("UTC", "month", 24)
            assert told(tiled(starts)) == KeyTime(zone, "month", 24)


def test_pairs_of_several_units_are_no_varying_ones() -> None:
    days, weeks = in_days(FIRST, [1] * 60), in_days(FIRST, [7] * 9)
    months = tiled(by_months(13))
    assert told(tiled(days) + tiled(weeks)[:5]) == KeyTime("UTC", "day", 65, ("week",))
    assert told(tiled(days)[:5] + tiled(weeks)[2:]) == KeyTime("UTC", "week", 12, ("day",))
    assert told(months + tiled(days)) == KeyTime("UTC", "day", 72, ("month",))
    assert told(hours(48, 1) + tiled(days)) == KeyTime("UTC", "day", 108, ("hour",))


def test_a_history_whose_recent_part_is_finer_does_not_vary() -> None:
    pairs = tiled(in_days(FIRST, [30] * 5 + [7] * 20 + [1] * 50))
    assert told(pairs) == KeyTime("UTC", "day", 75, ("week", 30 * DAY_S))


def test_half_months_beside_days_and_months_vary_by_themselves() -> None:
    half = tiled(VARYING["half months"])
    months = tiled(by_months(13))
    found = told(half + months + tiled(in_days(FIRST, [1] * 10)))
    assert found.step is not None
    assert period_length.least_s(found.step) == 13 * DAY_S
    assert sorted(map(str, found.others)) == ["day", "month"]


def test_weeks_that_the_data_cuts_off_at_its_start_and_end_do_not_vary() -> None:
    assert told(tiled(in_days(FIRST, [4, *[7] * 20, 5]))).step == "week"


def test_changes_of_clocks_and_windows_that_overlap_are_no_varying_lengths() -> None:
    days = [datetime(2026, 3, 1, tzinfo=BERLIN) + n * DAY for n in range(250)]
    assert told([(one.astimezone(UTC), two.astimezone(UTC)) for one, two in tiled(days)]).step == "day"
    for change in (timedelta(hours=1), timedelta(minutes=30)):
        pairs = hours(100, 1)
        pairs[50] = (pairs[50][0], pairs[50][1] + change)
        later = [(one + change, two + change) for one, two in pairs[51:]]
        assert told(pairs[:51] + later).step == "hour"
    rolling = [(FIRST + n * DAY, FIRST + (n + 28 + n % 3) * DAY) for n in range(60)]
    step = told(rolling).step
    assert step is not None
    assert not period_length.least_s(step)


def test_many_keys_of_one_plain_pair_are_not_enough_to_ask_no_further_ones() -> None:
    pairs = tiled(VARYING["half months"])
    assert told([pairs[0]] * 50) == KeyTime("UTC", 15 * DAY_S, 1)
    assert told(pairs[:30] * 2).asked == 30
