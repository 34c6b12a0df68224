"""Find the times that lie far from the bulk, such as those of a wrong clock, so that a picture can leave them out.

One event of 1970 or 2036 would stretch a chart of last week over decades, and its filling beyond any bound. What
counts is how many times longer a few starts make the picture, whatever the length of a period.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final, NamedTuple

_HOUR_MS: Final = 3_600_000.0
_DAY_MS: Final = 24 * _HOUR_MS
_YEAR_MS: Final = 365 * _DAY_MS
# Where clocks begin that were never set: FILETIME and COBOL 1601, NTP 1900, HFS 1904, Unix 1970, FAT and GPS 1980, and
# many a clock chip 2000. Year 1 is the zero of .NET and of Go.
_BEGINNINGS_MS: Final = tuple(
    (date(*day) - date(1970, 1, 1)).days * _DAY_MS
    for day in (*((year, 1, 1) for year in (1, 1601, 1900, 1904, 1970, 1980, 2000)), (1980, 1, 6))
)
_RECENT_MS: Final = 7 * _DAY_MS
_MARGIN_MS: Final = 1.5 * _DAY_MS  # a clock counts on from there, and zones differ
SHORTEST: Final = 25  # periods; a picture that is shorter counts as this long
SHARES: Final = (0.02, 0.05)  # of the starts
STRETCH: Final = 10.0  # how many times longer SHARES of the starts may make the picture
MOST_SHARE: Final = 0.4  # of the starts; more are no outliers
MOST_STRETCH: Final = 100.0  # that `HISTORY` starts and more need, whatever their share
HISTORY: Final = 10  # neighbouring starts that can be believed
BELIEVED_STRETCH: Final = 100.0  # how many times more periods than starts a picture with such a history may have
BELIEVED_PART: Final = 0.5  # of the bulk; a history that is as large is believed anyhow
_FINER: Final = 24  # times
_SAMPLE: Final = 1_000  # gaps from which the usual one is told


class _Slice(NamedTuple):
    low: int
    high: int

    @property
    def size(self) -> int:
        return self.high - self.low


def bulk(
    times: Sequence[float],
    *,
    start: bool = True,
    end: bool = True,
    period_ms: float = 0.0,
    now_ms: float = math.inf,
    believe: bool = True,
) -> tuple[int, int]:
    """Return the slice of the ascending `times` without the outliers at its start and its end.

    Times are outliers if they are few and make the picture many times longer: 2 to 5 % of them ten times, fewer less,
    down to twice, and more ever more. A quarter of that is enough for those at which clocks begin, and for those after
    `now_ms`. More than `MOST_SHARE` are never outliers; but one of two or three times can be the bulk by itself if it
    is close to now, or if the other is that of a clock's beginning. `HISTORY` neighbouring times are a history, which
    is believed as long as the picture has at most `BELIEVED_STRETCH` periods for each start, a quarter of that if it
    begins where clocks do; and if it is half as large as the bulk.

    The last times until now are kept in any case, if they are of the last days or the last 50 periods: an output that
    resumes after a pause shows its newest numbers, although they are few, and a wrong clock hardly ever writes these.

    `period_ms` is the least length of a period. With `start` or `end` False, that side has no outliers. With `believe`
    False, for a picture that cannot be drawn otherwise, a quarter is enough for all, and histories are not believed;
    of times until now only the newest are kept then, if pauses make the picture too long for them, however many the
    others are.
    """
    count = len(times)
    if count < 2 or not (start or end):
        return 0, count
    found = _Slice(0, count) if _even(times) else _Search(times, period_ms, now_ms, believe).bulk()
    until = _until_now(times, period_ms, now_ms)
    if until and not believe:
        found = _newest(times, found.high if found.high < until else min(found.low, until - 1), until, period_ms)
    elif found.high < until:
        found = _Slice(found.low, until)
    return found.low if start else 0, found.high if end else count


def _until_now(times: Sequence[float], period_ms: float, now_ms: float) -> int:
    """Return the index after the last time until now; 0 if that is long ago."""
    until = bisect_right(times, now_ms + max(period_ms, _HOUR_MS))
    since = now_ms - max(_RECENT_MS, 2 * SHORTEST * period_ms)
    return until if until and math.isfinite(now_ms) and times[until - 1] >= since else 0


def _newest(times: Sequence[float], low: int, high: int, period_ms: float) -> _Slice:
    """Return the slice after the last of the longest pauses that stretch it beyond what is believed of a history."""
    usual = max(period_ms, min(_usual_gap(times[low:high]), _DAY_MS))  # periods may be spelled with seconds

    def stretched() -> bool:
        return times[high - 1] - times[low] > BELIEVED_STRETCH * (high - low) * usual > 0

    if stretched():
        for cut in sorted(range(low + 1, high), key=lambda at: times[at - 1] - times[at]):
            low = max(low, cut)
            if not stretched():
                break
    return _Slice(low, high)


def _even(times: Sequence[float]) -> bool:
    """Return True if so many times are so evenly spread that there cannot be an outlier; this is for speed only."""
    count = len(times)
    if count < _SAMPLE:
        return False
    part, half = int(count * (0.98 - MOST_SHARE)), (times[-1] - times[0]) / 2
    return all(times[at + part] - times[at] > half for at in range(0, count - part, count // 50))


class _Search:
    """The search for the bulk: the times are cut at their longest gaps first, and the larger part is kept."""

    def __init__(self, times: Sequence[float], period_ms: float, now_ms: float, believe: bool) -> None:
        self._times = times
        self._usual_ms = usual = _usual_gap(times)
        # Longer periods can be spelled with minutes or seconds; a few times far apart do not make a period long.
        longest = period_ms * (_FINER if period_ms < _HOUR_MS else 1)
        self._period_ms = min(max(period_ms, usual), longest) if period_ms else usual
        self._now_ms = now_ms
        self._believe = believe
        before = max(_MARGIN_MS, period_ms)
        self._clocks = [_between(times, at - before, at + _MARGIN_MS) for at in _BEGINNINGS_MS]
        self._clocks.append(_Slice(bisect_right(times, now_ms + max(_DAY_MS, self._period_ms)), len(times)))
        self._clocks = [clock for clock in self._clocks if clock.size > 0]

    def bulk(self) -> _Slice:
        times = self._times
        kept = inner = _Slice(0, len(times))
        if not self._period_ms:
            return kept
        for cut in sorted(_gaps(times, SHORTEST * self._period_ms), key=lambda at: times[at - 1] - times[at]):
            if inner.low < cut < inner.high:
                inner = self._larger(_Slice(inner.low, cut), _Slice(cut, inner.high))
                if self._apart(kept, inner):
                    kept = inner
        return kept

    def _larger(self, before: _Slice, after: _Slice) -> _Slice:
        left, right = (part.size - self._doubtful(part) for part in (before, after))
        return before if left > right else after

    def _doubtful(self, part: _Slice) -> int:
        """Count the times at which clocks begin, or which are still to come."""
        return sum(max(0, min(clock.high, part.high) - max(clock.low, part.low)) for clock in self._clocks)

    def _apart(self, outer: _Slice, inner: _Slice) -> bool:
        """Return True if the times of `outer` beyond `inner` are few and stretch the picture enough to be outliers."""
        times = self._times
        length = self._length(inner)
        pauses = [times[cut] - times[cut - 1] for cut in (inner.low, inner.high) if outer.low < cut < outer.high]
        pause = min(pauses, default=0.0)
        if pause < length:  # as at most of many cuts
            return False
        beyond = outer.size - inner.size
        doubtful = self._doubtful(outer) - self._doubtful(inner) >= beyond
        share = (len(times) - inner.size) / len(times)
        if beyond >= HISTORY and share <= 0.5 and self._too_long(outer, inner):
            return True
        if share > (0.5 if doubtful else MOST_SHARE) and not self._recent(inner):
            return False
        stretch = _stretch(beyond / outer.size)
        if beyond >= HISTORY:
            stretch = min(stretch, MOST_STRETCH)
        if doubtful or not self._believe:
            stretch = max(2.0, stretch / 4)
        if times[outer.high - 1] - times[outer.low] < stretch * length:
            return False
        if pause < length * min(max(1.0, (stretch - 1) / 4), STRETCH):
            return False  # the times grow fewer step by step
        return not self._believe or not any(self._worth(group, inner) for group in self._histories(outer, inner))

    def _length(self, part: _Slice) -> float:
        return max(self._times[part.high - 1] - self._times[part.low], SHORTEST * self._period_ms)

    def _recent(self, part: _Slice) -> bool:
        """Return True if these are the only ones of two or three times that are close to now."""
        times = self._times
        if len(times) > 3 or math.isinf(self._now_ms):
            return False
        long = times[-1] - times[0] > _YEAR_MS or not self._believe
        return long and abs(self._now_ms - times[part.high - 1]) <= 2 * SHORTEST * self._period_ms

    def _too_long(self, outer: _Slice, inner: _Slice) -> bool:
        """Return True if small histories are all that is beyond the bulk, and no picture with them is worth it."""
        times = self._times
        if not self._filled(outer) > BELIEVED_STRETCH / 4:
            return False
        groups = list(self._histories(outer, inner))
        most = BELIEVED_STRETCH / (4 if all(map(self._begins, groups)) else 1)
        return (
            sum(group.size for group in groups) == outer.size - inner.size
            and all(group.size < BELIEVED_PART * inner.size for group in groups)
            and self._filled(outer) > most
            and times[outer.high - 1] - times[outer.low] >= 2 * self._length(inner)
        )

    def _filled(self, part: _Slice) -> float:
        """Return how many periods the picture of a part has for each start."""
        return (self._times[part.high - 1] - self._times[part.low]) / (part.size * max(self._usual_ms, self._period_ms))

    def _worth(self, group: _Slice, inner: _Slice) -> bool:
        """Return True if a history is large enough to be believed, or does not make the picture of both too long."""
        if group.size >= BELIEVED_PART * inner.size:
            return True
        low, high = min(group.low, inner.low), max(group.high, inner.high)
        most = BELIEVED_STRETCH / (4 if self._begins(group) else 1)
        gap_ms = max(self._length(inner) / inner.size, self._period_ms)
        return self._times[high - 1] - self._times[low] <= most * (high - low) * gap_ms

    def _histories(self, outer: _Slice, inner: _Slice) -> Iterator[_Slice]:
        """Yield groups of `HISTORY` or more neighbours beyond the bulk, at most ten times as far apart as in it."""
        times, last = self._times, HISTORY - 1
        most = 10 * last * max(self._length(inner) / inner.size, self._period_ms)
        for side in (_Slice(outer.low, inner.low), _Slice(inner.high, outer.high)):
            at = side.low
            while at < side.high - last:
                end = at + last
                while end < side.high and times[end] - times[end - last] <= most:
                    end += 1
                if end == at + last:
                    at += 1
                    continue
                yield _Slice(at, end)
                at = end

    def _begins(self, group: _Slice) -> bool:
        """Return True if a group starts where clocks begin, or in the future."""
        return any(clock.low <= group.low < clock.high for clock in self._clocks)


def _stretch(share: float) -> float:
    """Return how many times longer this share of the times must make the picture to be outliers."""
    few, several = SHARES
    if share <= several:
        return 2.0 + (STRETCH - 2.0) * min(1.0, share / few)
    return STRETCH * (share / several) ** 2


def _usual_gap(times: Sequence[float]) -> float:
    """Return the gap than which a quarter of the gaps are shorter; 0 if there are fewer than two."""
    if len(times) < 3:
        return 0.0
    every = max(1, (len(times) - 1) // _SAMPLE)
    gaps = sorted(times[at] - times[at - 1] for at in range(1, len(times), every))
    return gaps[(len(gaps) - 1) // 4]


def _gaps(times: Sequence[float], least_ms: float) -> Iterator[int]:
    """Yield the index after each gap of at least this length."""
    at = 0
    while at < len(times) - 1:
        last = bisect_left(times, times[at] + least_ms, at + 1) - 1
        if last == at:
            at += 1
            yield at
        else:
            at = last


def _between(times: Sequence[float], low: float, high: float) -> _Slice:
    return _Slice(bisect_left(times, low), bisect_right(times, high))
