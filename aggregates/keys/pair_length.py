"""Tell how long the periods are that a task says as plain pairs of datetimes, which name no unit.

One pair cannot say it: February has 28 days, and so have four weeks; a day has 23 hours where clocks are set forward.
So pairs are seen together. They are months if all start and end on the same day of the month, or if their lengths vary
as those of months do; else they have a fixed length.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from aggregates.keys.period_length import MONTH_S, Step, of_months, of_seconds
from aggregates.period import Pair

_DAY: Final = timedelta(days=1)
_CHANGE: Final = timedelta(hours=1)  # by which clocks are set forward or back at most
_MONTH: Final = timedelta(seconds=MONTH_S)
_NEAR: Final = timedelta(days=3)  # what several months can differ from their average
_SAME: Final = 0.9  # of pairs that have one length; more than the years of 365 days among all


class PairLengths:
    """The lengths of some plain pairs, seen together."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._days: defaultdict[int, Counter[int]] = defaultdict(Counter)  # by months: lengths in whole days
        self._aligned: Counter[int] = Counter()  # by months: pairs from a day of a month to the same day
        self._seconds: defaultdict[int, Counter[int]] = defaultdict(Counter)  # by whole days: lengths in seconds
        self._all: Counter[int] = Counter()  # lengths in seconds
        for pair in pairs:
            seconds, days, count = _seconds(pair), _days(pair), _months(pair)
            self._all[seconds] += 1
            if days:
                self._seconds[days][seconds] += 1
            if count:
                self._days[count][days] += 1
                self._aligned[count] += _is_aligned(pair, count)

    def step(self, pair: Pair) -> Step:
        """Return the length of one of the pairs."""
        count, days, seconds = _months(pair), _days(pair), _seconds(pair)
        if count and self._varies(count):
            return of_months(count)
        if not days:
            return of_seconds(self._without_change(seconds))
        lengths = self._seconds[days]
        if len(lengths) == 1 and lengths[seconds] > 1:
            return of_seconds(seconds)
        return of_seconds(days * 86_400)

    def _varies(self, count: int) -> bool:
        days = self._days[count]
        if self._aligned[count] == days.total():
            return True
        return len(days) > 1 and days.most_common(1)[0][1] < _SAME * days.total()

    def _without_change(self, seconds: int) -> int:
        """Return the usual length instead of one that a clock set back has made longer, if that one is rare."""
        for change in (3_600, 1_800):
            if self._all[seconds - change] > 10 * self._all[seconds]:
                return seconds - change
        return seconds


def _seconds(pair: Pair) -> int:
    return max(round((pair[1] - pair[0]).total_seconds()), 1)


def _days(pair: Pair) -> int:
    """Return the length in whole days, but for a change of clocks; 0 if it is none."""
    length = pair[1] - pair[0]
    days = round(length / _DAY)
    return days if abs(length - days * _DAY) <= _CHANGE else 0


def _months(pair: Pair) -> int:
    """Return how many months long a pair may be, in parts or multiples of a year; 0 if it cannot be months."""
    length = pair[1] - pair[0]
    count = round(length / _MONTH)
    if not count or (12 % count and count % 12):
        return 0
    return count if _days(pair) and abs(length - count * _MONTH) <= _NEAR else 0


def _is_aligned(pair: Pair, count: int) -> bool:
    """Return True if a pair ends `count` months later on the same day of the month, at the same time."""
    start, end = (_local(moment, pair[0]) for moment in pair)
    months = 12 * (end.year - start.year) + end.month - start.month
    return months == count and start.replace(year=2000, month=1) == end.replace(year=2000, month=1)


def _local(moment: datetime, like: datetime) -> datetime:
    try:
        return moment.astimezone(like.tzinfo).replace(tzinfo=None, fold=0)
    except (OverflowError, ValueError, NotImplementedError):  # the latter two of a tzinfo that knows no summer time
        return moment.replace(tzinfo=None, fold=0)
