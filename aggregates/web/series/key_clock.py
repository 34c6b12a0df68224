"""Find the clocks whose periods keys may follow that are instants, beside that of their aggregate.

`2015-01-01T00:00+01:00` and a datetime of 23:00Z may both be the first midnight of a year, and neither names a zone.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta, timezone
from functools import cache
from typing import Final

from aggregates.clock import wall_clock
from aggregates.web.series.granularity import DAY_MS, instant_at

_LOCAL_MS: Final = tuple(DAY_MS // count for count in (1, 2, 3, 4, 6, 8))  # periods that start at local midnight
_CHANGES_MS: Final = (1_800_000, 3_600_000)  # by which clocks are set forward and back
_AHEAD_MS: Final = 14 * 3_600_000  # of UTC, at most
_BEHIND_MS: Final = 12 * 3_600_000
_SAMPLES: Final = 64  # starts that a zone has to explain
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
    samples = [int(starts[i * (len(starts) - 1) // _SAMPLES]) for i in range(_SAMPLES + 1)]
    times = {start % DAY_MS for start in samples}
    if several and len(times) == 1:
        yield from _fixed(times.pop())
    if several or len(offsets) > 1:
        for length in _LOCAL_MS:
            rests = sorted({start % length for start in samples})
            if len(rests) == 2 and (rests[1] - rests[0] in _CHANGES_MS or rests[0] - rests[1] + length in _CHANGES_MS):
                if zone := _changing(samples, offsets, length):
                    yield zone
                return


def _fixed(time_ms: int) -> Iterator[str]:
    """Yield the clocks without changes that show midnight at a time of the day in UTC."""
    for offset_ms in (DAY_MS - time_ms, -time_ms):
        if offset_ms % 60_000 == 0 and -_BEHIND_MS <= offset_ms <= _AHEAD_MS:
            yield wall_clock(timezone(timedelta(milliseconds=offset_ms))).name


def _changing(samples: Sequence[int], offsets: Collection[timedelta], length: int) -> str | None:
    """Return the zone whose changes explain why periods of a local length seem to start at two times of the day.

    One in which they start at midnight is preferred. None if there is no such zone.
    """
    second: str | None = None
    for zone in _zones():
        rest: int | None = None
        for start in samples:
            offset = wall_clock(zone).offset(instant_at(start))
            found = (start + offset // timedelta(milliseconds=1)) % length
            if (rest is not None and found != rest) or (len(offsets) > 1 and offset not in offsets):
                break
            rest = found
        else:
            if rest == 0:
                return zone
            second = second or zone
    return second


@cache
def _zones() -> tuple[str, ...]:
    return tuple(dict.fromkeys((*_FIRST_ZONES, *sorted(zoneinfo.available_timezones()))))
