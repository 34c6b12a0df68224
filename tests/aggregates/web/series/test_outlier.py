"""Outliers: what a picture of a series leaves out, and what it never does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from aggregates.web.series.outlier import bulk

HOUR = 3_600_000.0
DAY = 24 * HOUR
JULY = datetime(2011, 7, 1, tzinfo=UTC).timestamp() * 1000


def year(number: int) -> float:
    return (datetime(number, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)


def every(step: float, count: int, start: float = JULY) -> list[float]:
    return [start + n * step for n in range(count)]


def left_out(times: list[float]) -> list[float]:
    ordered = sorted(times)
    low, high = bulk(ordered)
    return ordered[:low] + ordered[high:]


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
