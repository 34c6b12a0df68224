"""Tell how long the periods are that a task says as plain pairs of datetimes, which name no unit.

One pair cannot say it: February has 28 days, and so have four weeks; a day has 23 hours where clocks are set forward.
So pairs are seen together. They are months if they start and end on the same day of the month by the clock of some
zone; else they have a fixed length, or several that vary.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Final

from aggregates.keys.period_length import MONTH_S, Step, of_months, of_seconds, seconds
from aggregates.keys.varying_length import varying_steps
from aggregates.period import Pair

_DAY: Final = timedelta(days=1)
_CHANGE: Final = timedelta(hours=1)  # by which clocks are set forward or back at most
_MONTH: Final = timedelta(seconds=MONTH_S)
_NEAR: Final = timedelta(days=3)  # what several months can differ from their average
_ALIGNED: Final = 0.9  # of pairs of months; more than the years of 365 days among all
# What leads from midnight in any zone behind the pairs' own to a time of that day, and in any zone ahead to one of the
# next, whether clocks are set forward or not.
_SHIFTS: Final = (timedelta(hours=1), timedelta(hours=14))


class PairLengths:
    """The lengths of some plain pairs, seen together."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._months: Counter[int] = Counter()  # by months: pairs that may be so long
        self._aligned: Counter[tuple[int, timedelta]] = Counter()  # of them: from a day of a month to the same day
        self._seconds: defaultdict[int, Counter[int]] = defaultdict(Counter)  # by whole days: lengths in seconds
        self._all: Counter[int] = Counter()  # lengths in seconds
        found = list(pairs)
        for pair in found:
            length, days, count = _seconds(pair), _days(pair), _months(pair)
            self._all[length] += 1
            if days:
                self._seconds[days][length] += 1
            if count:
                self._months[count] += 1
                self._aligned.update((count, shift) for shift in _SHIFTS if _is_aligned(pair, count, shift))
        others = [pair for pair in found if not self._are_months(_months(pair))]
        self._varying = varying_steps((pair, self._without_clocks(pair)) for pair in others)

    def step(self, pair: Pair) -> Step:
        """Return the length of one of the pairs."""
        count = _months(pair)
        if self._are_months(count):
            return of_months(count)
        return self._varying.get(self._without_clocks(pair)) or self._fixed(pair)

    def _fixed(self, pair: Pair) -> Step:
        days, length = _days(pair), _seconds(pair)
        if not days:
            return of_seconds(self._without_change(length))
        lengths = self._seconds[days]
        if len(lengths) == 1 and lengths[length] > 1:
            return of_seconds(length)
        return of_seconds(days * 86_400)

    def _without_clocks(self, pair: Pair) -> int:
        """Return the fixed length of a pair in seconds, in whole days if it is almost such."""
        return _days(pair) * 86_400 or seconds(self._fixed(pair))

    def _are_months(self, count: int) -> bool:
        return bool(count) and any(self._aligned[count, shift] >= _ALIGNED * self._months[count] for shift in _SHIFTS)

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


def _is_aligned(pair: Pair, count: int, shift: timedelta) -> bool:
    """Return True if a pair ends `count` months later on the same day of the month, both shifted."""
    start, end = (_day(moment, pair[0], shift) for moment in pair)
    return 12 * (end.year - start.year) + end.month - start.month == count and start.day == end.day


def _day(moment: datetime, like: datetime, shift: timedelta) -> date:
    try:
        return (moment.astimezone(like.tzinfo).replace(tzinfo=None, fold=0) + shift).date()
    except OverflowError:
        return moment.date()
