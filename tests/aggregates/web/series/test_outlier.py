"""Outliers: what a picture of a series leaves out, and what it never does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aggregates.web.series.outlier import bulk

SECOND = 1_000.0
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
MONTH = 30.4 * DAY
JULY = datetime(2011, 7, 1, tzinfo=UTC).timestamp() * 1000


def year(number: int, month: int = 1, day: int = 1) -> float:
    return (datetime(number, month, day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)


def every(step: float, count: int, start: float = JULY) -> list[float]:
    return [start + n * step for n in range(count)]


def left_out(times: list[float], **told: Any) -> list[float]:
    ordered = sorted(times)
    low, high = bulk(ordered, **told)
    return ordered[:low] + ordered[high:]


def months(count: int) -> list[float]:
    """Return the starts of this many months until November 2026."""
    numbers = [2026 * 12 + 10 - n for n in range(count)]
    return [year(number // 12, number % 12 + 1) for number in numbers]


@pytest.mark.parametrize("wrong", [1, 1601, 1900, 1970, 2000, 2036, 2038, 9999])
@pytest.mark.parametrize(
    "times",
    [every(HOUR, 2), every(HOUR, 48), every(60_000.0, 5000), every(DAY, 30), every(DAY, 5 * 365, year(2006))],
    ids=["2 hours", "48 hours", "5000 minutes", "30 days", "5 years"],
)
def test_one_wrong_clock_is_left_out(times: list[float], wrong: int) -> None:
    assert left_out([*times, year(wrong)]) == [year(wrong)]


def test_wrong_clocks_on_both_sides_and_several_on_one_are_left_out() -> None:
    wrong = [year(1601), year(1970), year(1970) + HOUR, year(2036), year(9999)]
    assert left_out([*every(HOUR, 48), *wrong]) == wrong


@pytest.mark.parametrize(
    "times",
    [
        [],
        [JULY],
        [JULY, year(1970)],
        every(DAY, 5 * 365, year(2005)) + every(DAY, 60, year(2011)),
        [*every(DAY, 5 * 365, year(2005)), year(2011)],
        every(HOUR, 48) + every(HOUR, 48, year(1970)),
        every(HOUR, 48) + every(HOUR, 30, year(1970)),
        every(DAY, 30) + every(DAY, 30, JULY + 400 * DAY),
        [*every(DAY, 10), JULY + 200 * DAY],
        [year(number) for number in (1990, 2005, 2006, 2007, 2008, 2009, 2010, 2011)],
        [year(number) for number in range(1970, 2011)] + every(HOUR, 48),
        every(30.4 * DAY, 36, year(2008)) + every(HOUR, 48),
        [*every(HOUR, 720), JULY - 20 * DAY],
    ],
)
def test_a_history_with_pauses_has_no_outliers(times: list[float]) -> None:
    assert left_out(times) == []


def test_a_side_that_was_asked_for_has_no_outliers() -> None:
    times = [year(1970), *every(HOUR, 48), year(2036)]
    assert bulk(times, start=False) == (0, 49)
    assert bulk(times, end=False) == (1, 50)


NOW = year(2026, 11, 29) + 21 * HOUR
SCATTERED = [year(1970 + 8 * n, 3) for n in range(6)]


def until_now(step: float, count: int) -> list[float]:
    return [NOW - NOW % step - n * step for n in range(count)]


@pytest.mark.parametrize(
    ("period", "times", "wrong"),
    [
        (SECOND, until_now(SECOND, 600), [NOW - 3 * DAY]),
        (SECOND, until_now(SECOND, 600), [NOW - DAY]),
        (MINUTE, until_now(MINUTE, 180), [NOW - 29 * DAY]),
        (MINUTE, until_now(MINUTE, 180), [NOW - DAY]),
        (HOUR, until_now(HOUR, 48), [NOW - 60 * DAY]),
        (HOUR, until_now(HOUR, 48), [NOW + 60 * DAY]),
        (HOUR, until_now(HOUR, 48), [year(1970), year(2036, 2, 7)]),
        (HOUR, until_now(HOUR, 48), [year(1970 + 5 * n // 2, 3) for n in range(20)]),
        (HOUR, until_now(HOUR, 48), [year(1970) + n * HOUR for n in range(5)]),
        (DAY, until_now(DAY, 30), [NOW + 730 * DAY]),
        (DAY, until_now(DAY, 30), [year(1970), year(2036, 2, 7)]),
        (DAY, until_now(DAY, 10), SCATTERED),
        (DAY, until_now(DAY, 10), [year(1970), year(1979, 11, 3), year(1999, 12, 31), year(2012, 7), year(2036, 2)]),
        (WEEK, until_now(WEEK, 100), [year(1969, 12, 29), year(2036, 2, 4)]),
        (WEEK, until_now(WEEK, 10), [year(1969, 12, 29), year(2036, 2, 4)]),
        *((MONTH, months(count), [year(1970)]) for count in (6, 12, 22, 24, 60, 120, 240)),
        (MONTH, months(22), [year(2000)]),
        (MONTH, months(22), [year(2036, 2)]),
        (MONTH, months(12), [year(1)]),
        (365 * DAY, [year(number) for number in range(2010, 2027)], [year(1)]),
        (MINUTE, until_now(HOUR, 2), [year(1970)]),
    ],
)
def test_few_times_that_make_the_picture_many_times_longer_are_left_out(
    period: float, times: list[float], wrong: list[float]
) -> None:
    assert left_out([*times, *wrong], period_ms=period, now_ms=NOW) == wrong


@pytest.mark.parametrize("wrong", [1, 1601, 1900, 1904, 1970, 1980, 2000, 2010, 2036, 9999])
@pytest.mark.parametrize("period", [SECOND, MINUTE, HOUR])
def test_a_wrong_clock_in_the_first_period_of_all_is_left_out(period: float, wrong: int) -> None:
    assert left_out([NOW, year(wrong)], period_ms=period, now_ms=NOW) == [year(wrong)]
    assert left_out([NOW, NOW - period, year(wrong)], period_ms=period, now_ms=NOW) == [year(wrong)]


def test_two_wrong_clocks_in_the_first_period_of_all_are_left_out() -> None:
    wrong = [year(1970), year(2036, 2, 7)]
    assert left_out([NOW, *wrong], period_ms=HOUR, now_ms=NOW) == wrong
    assert left_out([NOW, *wrong], period_ms=DAY, now_ms=NOW) == wrong


@pytest.mark.parametrize(
    ("period", "times"),
    [
        (HOUR, until_now(HOUR, 3000) + every(HOUR, 40, year(2016))),
        (DAY, [*until_now(DAY, 300), *every(DAY, 5, year(2021))]),
        (DAY, [year(number, 6) for number in range(2000, 2027)]),
        (DAY, sorted({NOW - int(1500 * 0.97**n) * DAY for n in range(250)})),
        (DAY, [NOW - int(n**1.7) * DAY for n in range(150)]),
        (DAY, [NOW - 2**n * DAY for n in range(7, 11)] + until_now(DAY, 100)),
        (DAY, [year(n) for n in range(2000, 2020)] + until_now(MONTH, 60) + until_now(WEEK, 100) + until_now(DAY, 365)),
        (HOUR, until_now(HOUR, 48) + every(HOUR, 48, NOW - 365 * DAY)),
        (HOUR, until_now(HOUR, 48) + every(HOUR, 24, year(1970))),
        (MINUTE, [NOW, NOW - 8 * HOUR]),
        (MINUTE, [NOW, NOW - 7 * DAY]),
        (MINUTE, [NOW, NOW - DAY, NOW - DAY - MINUTE]),
        (HOUR, [NOW, NOW - 7 * DAY]),
        (HOUR, [NOW, NOW - 300 * DAY]),
        (DAY, [NOW, NOW - 700 * DAY]),
        (DAY, [NOW, NOW - 1700 * DAY, NOW - 3700 * DAY]),
        (HOUR, [year(2011), year(2016)]),
    ],
)
def test_a_real_history_has_no_outliers_whatever_the_period(period: float, times: list[float]) -> None:
    assert left_out(times, period_ms=period, now_ms=NOW) == []


def test_a_small_history_is_left_out_of_a_picture_that_would_be_too_large() -> None:
    early = every(HOUR, 40, year(2016))
    assert left_out([*early, *until_now(HOUR, 3000)], period_ms=HOUR, now_ms=NOW, believe=False) == early
    like = every(HOUR, 48, year(1970)) + every(HOUR, 48)
    assert left_out(like, period_ms=HOUR, now_ms=NOW, believe=False) == []


ROLLOVER = NOW - 1024 * WEEK  # what a receiver of GPS says that counts its weeks with ten bits


@pytest.mark.parametrize(
    ("period", "times", "wrong"),
    [
        (HOUR, until_now(HOUR, 168), every(HOUR, 12, year(2000))),
        (HOUR, until_now(HOUR, 168), every(HOUR, 30, ROLLOVER)),
        (HOUR, until_now(HOUR, 48), every(HOUR, 12, year(1970))),
        (HOUR, until_now(HOUR, 3000), every(HOUR, 40, year(2000))),
        (DAY, until_now(DAY, 30), every(DAY, 10, year(1970))),
        (DAY, until_now(DAY, 30), every(DAY, 10, ROLLOVER)),
        (DAY, until_now(DAY, 30), every(DAY, 14, year(1970))),
        (WEEK, until_now(WEEK, 30), every(WEEK, 12, year(1970))),
        (MONTH, until_now(MONTH, 24), every(MONTH, 11, year(1))),
        (365 * DAY, [year(number) for number in range(1990, 2027)], [year(number) for number in range(9985, 9999)]),
        *(
            (period, until_now(period, count), every(period, 12, at))
            for period in (SECOND, MINUTE, HOUR)
            for count in (30, 168, 720)
            for at in (year(1), year(1970), year(1980, 1, 6), year(2000), ROLLOVER, year(2036, 2, 7), year(2061))
        ),
    ],
)
def test_a_wrong_clock_that_runs_on_is_left_out(period: float, times: list[float], wrong: list[float]) -> None:
    assert left_out([*times, *wrong], period_ms=period, now_ms=NOW) == wrong


@pytest.mark.parametrize("count", [168, 720, 1500])
@pytest.mark.parametrize("period", [SECOND, MINUTE, HOUR])
@pytest.mark.parametrize(
    "begins",
    [
        [year(1970), ROLLOVER],
        [year(1970), year(2036, 2, 7)],
        [year(2036, 2, 7), year(2061)],
        [year(1970), year(1980, 1, 6), year(2000), ROLLOVER, year(2036, 2, 7)],
    ],
)
def test_several_wrong_clocks_that_run_on_are_left_out(period: float, count: int, begins: list[float]) -> None:
    wrong = [time for begin in begins for time in every(period, 16, begin)]
    assert left_out([*until_now(period, count), *wrong], period_ms=period, now_ms=NOW) == wrong


def test_wrong_clocks_are_left_out_before_a_small_history_that_stays() -> None:
    early, times = every(HOUR, 40, year(2016)), until_now(HOUR, 3000)
    for wrong in ([year(1970)], every(HOUR, 12, year(1601))):
        assert left_out([*wrong, *early, *times], period_ms=HOUR, now_ms=NOW) == wrong


@pytest.mark.parametrize(
    ("period", "times"),
    [
        (HOUR, until_now(HOUR, 48) + every(HOUR, 12, NOW - 200 * DAY)),
        (DAY, until_now(DAY, 30) + every(DAY, 10, NOW - 3600 * DAY)),
        (DAY, until_now(DAY, 400) + every(DAY, 10, year(2000))),
        (WEEK, until_now(WEEK, 52) + every(WEEK, 10, year(2010))),
        (MONTH, until_now(MONTH, 24) + every(MONTH, 10, year(1990))),
        (DAY, until_now(30 * DAY, 100) + every(30 * DAY, 12, year(2001))),
    ],
)
def test_a_small_history_stays_that_does_not_make_the_picture_a_hundred_times_longer(
    period: float, times: list[float]
) -> None:
    assert left_out(times, period_ms=period, now_ms=NOW) == []


PAUSED = [
    (HOUR, every(HOUR, 720, year(2020)), until_now(HOUR, 3)),
    (HOUR, every(HOUR, 720, year(2020)), until_now(HOUR, 1)),
    (HOUR, every(HOUR, 720, year(2020)), until_now(HOUR, 20)),
    (HOUR, every(HOUR, 720, year(2020)), [time - 3 * DAY for time in until_now(HOUR, 3)]),
    (HOUR, every(HOUR, 720, year(1970)), until_now(HOUR, 3)),
    (SECOND, every(SECOND, 600, NOW - 30 * DAY), until_now(SECOND, 3)),
    (MINUTE, every(MINUTE, 1440, year(2026)), until_now(MINUTE, 12)),
    (DAY, every(DAY, 400, year(2015)), until_now(DAY, 5)),
    (WEEK, every(WEEK, 50, year(1990)), until_now(WEEK, 2)),
    (MONTH, every(MONTH, 24, year(1950)), [year(2026, 11)]),
]


@pytest.mark.parametrize(("period", "before", "resumed"), PAUSED)
def test_the_newest_times_after_a_long_pause_are_kept_with_what_precedes_them(
    period: float, before: list[float], resumed: list[float]
) -> None:
    assert left_out([*before, *resumed], period_ms=period, now_ms=NOW) == []
    wrong = [year(1), year(9999)]
    assert left_out([*before, *resumed, *wrong], period_ms=period, now_ms=NOW) == wrong


@pytest.mark.parametrize(("period", "before", "resumed"), PAUSED)
def test_what_precedes_the_newest_times_is_left_out_of_a_picture_that_would_be_too_large(
    period: float, before: list[float], resumed: list[float]
) -> None:
    told: dict[str, Any] = {"period_ms": period, "now_ms": NOW, "believe": False}
    assert left_out([*before, *resumed], **told) == before
    assert left_out([*before, *resumed, year(9999)], **told) == [*before, year(9999)]
    assert left_out([*before, *every(period, 2, before[-1] + 100 * period), *resumed], **told)[: len(before)] == before
    assert left_out([*before, *resumed], **told, start=False) == []
    assert left_out([*before, *resumed], **told, end=False) == before


@pytest.mark.parametrize("late", [NOW - 60 * DAY, NOW + 60 * DAY])
def test_times_that_are_not_of_now_are_outliers_after_a_pause_as_before_one(late: float) -> None:
    hours = every(HOUR, 720, year(2020))
    assert left_out([*hours, late], period_ms=HOUR, now_ms=NOW) == [late]
    assert left_out([*hours, NOW], period_ms=HOUR) == [NOW]  # nobody said that this is now


@pytest.mark.parametrize(
    ("period", "others", "newest"),
    [
        (HOUR, every(HOUR, 9, year(1970)), until_now(HOUR, 5)),
        (HOUR, every(HOUR, 9, year(1970)), until_now(HOUR, 1)),
        (HOUR, [*every(HOUR, 40, year(1970)), *every(HOUR, 40, year(2000))], until_now(HOUR, 5)),
        (HOUR, every(HOUR, 9, year(2062)), until_now(HOUR, 2)),
        (MINUTE, every(MINUTE, 100, NOW - 365 * DAY), until_now(MINUTE, 90)),
        (MINUTE, every(MINUTE, 1_000, NOW - 365 * DAY), until_now(MINUTE, 1_000)),
    ],
)
def test_of_a_picture_that_would_be_too_large_the_newest_times_are_kept_however_many_the_others_are(
    period: float, others: list[float], newest: list[float]
) -> None:
    told: dict[str, Any] = {"period_ms": period, "now_ms": NOW, "believe": False}
    assert left_out(sorted([*others, *newest]), **told) == others


@pytest.mark.parametrize("spelled", [SECOND, MINUTE, HOUR])
def test_hours_until_now_are_kept_however_finely_they_are_spelled(spelled: float) -> None:
    told: dict[str, Any] = {"period_ms": spelled, "now_ms": NOW, "believe": False}
    early, hours = every(HOUR, 20, year(1970)), until_now(HOUR, 500)
    assert left_out([*early, *hours], **told) == early
    assert left_out(hours, **told) == []


class Counted(list[float]):
    """Times that count how often one of them is read."""

    reads = 0

    def __getitem__(self, at: Any) -> Any:
        self.reads += 1
        return super().__getitem__(at)


@pytest.mark.parametrize(
    "times",
    [
        [NOW - SECOND * at**2.2 for at in range(5_000, -1, -1)],
        [NOW - SECOND * (5_000 - at) ** 0.5 * at for at in range(5_000, -1, -1)],
        until_now(HOUR, 5_000),
        [time for day in every(40 * DAY, 250, NOW - 250 * 40 * DAY) for time in every(HOUR, 20, day + 39 * DAY)],
    ],
    ids=["denser", "both", "hours", "bursts"],
)
@pytest.mark.parametrize("believe", [True, False])
def test_each_of_many_times_is_read_a_few_times_only(times: list[float], believe: bool) -> None:
    counted = Counted(sorted(times))
    bulk(counted, period_ms=SECOND, now_ms=NOW, believe=believe)
    assert counted.reads < 100 * len(times)
