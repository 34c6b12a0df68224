"""Find the clocks whose periods keys may follow that are instants, beside that of their aggregate.

`2015-01-01T00:00+01:00` and a datetime of 23:00Z may both be the first midnight of a year, and neither names a zone.
"""

from __future__ import annotations

import zoneinfo
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import timedelta, timezone
from functools import cache
from itertools import pairwise
from typing import Final

from aggregates.clock import wall_clock
from aggregates.web.series.granularity import DAY_MS, instant_at

_LOCAL_MS: Final = tuple(DAY_MS // count for count in (1, 2, 3, 4, 6, 8, 12, 24))  # that start at local midnight
_LEAST_CHANGE_MS: Final = 1_800_000
_MOST_CHANGE_MS: Final = 3 * 3_600_000  # by which clocks have been set forward and back (Antarctica/Casey)
_MOST_RESTS: Final = 4  # standard and summer time, and both again after a zone has moved
_MOST_ODD: Final = 2  # of the samples, which no zone has to explain
_AHEAD_MS: Final = 14 * 3_600_000  # of UTC, at most
_BEHIND_MS: Final = 12 * 3_600_000
_SAMPLES: Final = 64  # starts that a zone has to explain, besides the next ones and those around changes
_MS: Final = timedelta(milliseconds=1)
_FIRST_ZONES: Final = (  # of zones that change their clocks alike, the one that is named
    "Europe/Berlin",
    "Europe/London",
    "Europe/Helsinki",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "Australia/Sydney",
    "Pacific/Auckland",
)


def other_clocks(
    starts: Sequence[float], offsets: Collection[timedelta], shown_zone: str, *, several: bool
) -> Iterator[str]:
    """Yield the names of zones whose clock the ascending `starts` of instants may follow; some perhaps twice.

    That of the viewer, that of the only offset of the keys, and, if there are `several` starts or offsets, the clock
    which explains at what time of the day they are.
    """
    if shown_zone:
        yield shown_zone
    if len(offsets) == 1:
        yield wall_clock(timezone(next(iter(offsets)))).name
    last = len(starts) - 1
    chosen = [i * last // _SAMPLES for i in range(_SAMPLES + 1)]
    times = {int(starts[at]) % DAY_MS for at in chosen}
    if several and len(times) == 1:
        yield from _fixed(times.pop())
    if several or len(offsets) > 1:
        nearby = sorted({*chosen, *(min(at + 1, last) for at in chosen)})
        for length in _LOCAL_MS:
            if _may_change(starts, nearby, length):
                if zone := _changing(starts, nearby, offsets, length):
                    yield zone
                return


def may_be_changed(rest: int, length: int) -> bool:
    """Return True if a start this long after that of a period may be one itself, once the clock was changed."""
    return rest != 0 and rest % _LEAST_CHANGE_MS == 0 and min(rest, length - rest) <= _MOST_CHANGE_MS


def _fixed(time_ms: int) -> Iterator[str]:
    """Yield the clocks without changes that show midnight at a time of the day in UTC."""
    for offset_ms in (DAY_MS - time_ms, -time_ms):
        if offset_ms % 60_000 == 0 and -_BEHIND_MS <= offset_ms <= _AHEAD_MS:
            yield wall_clock(timezone(timedelta(milliseconds=offset_ms))).name


def _may_change(starts: Sequence[float], chosen: Sequence[int], length: int) -> bool:
    """Return True if periods of a local length may start at several times, because their clock changes."""
    counts = Counter(int(starts[at]) % length for at in chosen)
    rests = set(counts)
    if not _near(rests, length):
        often = {rest for rest, count in counts.items() if count > 1}
        rests = often if len(rests) - len(often) <= _MOST_ODD else rests
    if len(rests) < 2 or not _near(rests, length):
        return False
    apart = [int(starts[later]) - int(starts[at]) for at, later in pairwise(chosen)]
    return length == DAY_MS or 2 * sum(each % length == 0 for each in apart) > len(apart)


def _near(rests: Iterable[int], length: int) -> bool:
    """Return True if there are few times, and all are so near to each other that one clock may have shown the same."""
    ordered = sorted(rests)
    if not 0 < len(ordered) <= _MOST_RESTS:
        return False
    longest = max(later - rest for rest, later in pairwise((*ordered, ordered[0] + length)))
    return length - longest <= _MOST_CHANGE_MS


def _changing(
    starts: Sequence[float], chosen: Sequence[int], offsets: Collection[timedelta], length: int
) -> str | None:
    """Return the zone whose changes explain why periods of a local length seem to start at several times of the day.

    One that explains all starts is preferred, then one in which they start at midnight. None if there is no such zone.
    """
    samples = [(int(starts[at]), instant_at(int(starts[at]))) for at in _telling(starts, chosen, length)]
    first, begin = samples[0]
    found: str | None = None
    best = (1 + (_MOST_ODD if len(starts) > 2 * _MOST_ODD else 0), False)
    for zone in _zones():
        clock = wall_clock(zone)
        rest = (first + clock.offset(begin) // _MS) % length
        rank = 0, rest != 0
        for start, instant in samples:
            if rank >= best:
                break
            shown = clock.offset(instant)
            odd = (start + shown // _MS - rest) % length
            if odd:  # unless the clock jumps over the start of the period
                after, shown = shown, clock.offset(instant_at(start - 1))
                odd = max(0, odd - max(0, (after - shown) // _MS))
            if odd or (len(offsets) > 1 and shown not in offsets):
                rank = rank[0] + 1, rank[1]
        if length == DAY_MS and rank < best:  # a day has started when the clock showed this for the first time
            repeats = sum(clock.first(clock.reading(instant)) < instant for _, instant in samples)
            rank = rank[0] + repeats, rank[1]
        if rank < best:
            best, found = rank, zone
        if best == (0, False):
            break
    return found


def _telling(starts: Sequence[float], chosen: Sequence[int], length: int) -> list[int]:
    """Return the indexes of starts by which to tell zones apart, those next to changes of the clock first.

    Changes are searched between the chosen starts. The first index is that of a start with the same rest as the next
    one, at which no clock jumps, so that its rest is the right one.
    """
    around: list[int] = []
    same = chosen[0]
    for low, high in pairwise(chosen):
        rest = int(starts[low]) % length
        if int(starts[high]) % length == rest:
            same = low
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if int(starts[middle]) % length == rest else (low, middle)
        around += (low, high)
    return list(dict.fromkeys((same, *around, *chosen)))


@cache
def _zones() -> tuple[str, ...]:
    return tuple(dict.fromkeys((*_FIRST_ZONES, *sorted(zoneinfo.available_timezones()))))
