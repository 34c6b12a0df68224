"""Starts of periods whose lengths vary without being those of calendar months; UTC."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

DAY = timedelta(days=1)


def by_months(count: int, day: int = 1) -> list[datetime]:
    return [datetime(2023 + number // 12, number % 12 + 1, day, tzinfo=UTC) for number in range(count)]


def in_days(first: datetime, lengths: Iterable[int]) -> list[datetime]:
    """Return starts from `first` on, so many days apart."""
    return [first + number * DAY for number in itertools.accumulate(lengths, initial=0)]


def _half_months(count: int) -> list[datetime]:
    return [one.replace(day=day) for one in by_months(count) for day in (1, 16)]


def _last_days(count: int) -> list[datetime]:
    return [one - DAY for one in by_months(count)]


VARYING = {
    "half months": _half_months(24),
    "4-4-5 months": in_days(datetime(2024, 1, 1, tzinfo=UTC), [28, 28, 35] * 8),
    "5-4-4 months": in_days(datetime(2023, 1, 29, tzinfo=UTC), [35, 28, 28] * 4),
    "moon months": in_days(datetime(2026, 1, 18, tzinfo=UTC), [29, 30, 29, 30, 30, 29, 30, 29, 30, 29, 30, 30] * 2),
    "school terms": in_days(datetime(2024, 9, 2, tzinfo=UTC), [47, 9, 48, 16, 40, 7, 33, 16, 45, 42] * 2),
    "billing periods": in_days(datetime(2026, 1, 9, tzinfo=UTC), [31, 28, 33, 30, 29, 32] * 4),
    "months that begin on their last day": _last_days(30),
    "quarters that begin on a Monday": in_days(datetime(2024, 1, 1, tzinfo=UTC), [91, 91, 91, 91, 91, 98] * 4),
    "quarters that begin on odd days": in_days(datetime(2024, 1, 5, tzinfo=UTC), [88, 93, 91, 94, 90] * 4),
    "retail years": in_days(datetime(2000, 1, 31, tzinfo=UTC), [364, 364, 364, 364, 371] * 4),
    "work weeks and weekends": in_days(datetime(2026, 1, 5, tzinfo=UTC), [5, 2] * 20),
    "weeks cut off at the ends of months": sorted(
        {*in_days(datetime(2026, 1, 5, tzinfo=UTC), [7] * 40), *by_months(46)[36:]}
    ),
    "Ethiopian months": in_days(datetime(2023, 9, 11, tzinfo=UTC), [*[30] * 12, 6, *[30] * 12, 5, *[30] * 3]),
}
