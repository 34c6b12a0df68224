"""Find the times that lie far from the bulk, such as those of a wrong clock, so that a picture can leave them out.

One event of 1970 or 2036 would stretch a chart of last week over decades, and its filling beyond any bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

_DAY_MS: Final = 86_400_000.0
PAUSE_MS: Final = 30 * _DAY_MS  # a shorter pause is never taken for a wrong clock
MOST_PART: Final = 0.5  # of the bulk; more cannot be called outliers
FARTHEST: Final = 2_000.0  # lengths of the bulk, for outliers as many as the bulk; proportionally fewer for fewer


def bulk(times: Sequence[float], *, start: bool = True, end: bool = True) -> tuple[int, int]:
    """Return the slice of the ascending `times` without the outliers at its start and its end.

    The bulk grows from the largest cluster between pauses. What is beyond a pause joins it unless it is few against
    the bulk and far from it, both together: one time among 2,000 must be as far away as the bulk is long, one among 20
    a hundred times as far. So pauses in a long history stay, and so do two clusters of like size. With `start` or `end`
    False, that side has no outliers.
    """
    count = len(times)
    if count < 3 or times[-1] - times[0] < PAUSE_MS:
        return 0, count
    edges = [0, *_pauses(times), count]
    low, high = max(pairwise(edges), key=lambda cluster: cluster[1] - cluster[0])
    while True:
        extent = max(times[high - 1] - times[low], _DAY_MS)
        if low and not _apart(low, high - low, times[low] - times[low - 1], extent):
            low = edges[bisect_left(edges, low) - 1]
        elif high < count and not _apart(count - high, high - low, times[high] - times[high - 1], extent):
            high = edges[bisect_left(edges, high) + 1]
        else:
            return low if start else 0, high if end else count


def _pauses(times: Sequence[float]) -> Iterator[int]:
    """Yield the index after each pause; from one time to the last within a pause from it, there is none."""
    at = 0
    while at < len(times) - 1:
        last = bisect_left(times, times[at] + PAUSE_MS, at + 1) - 1
        if last == at:
            at += 1
            yield at
        else:
            at = last


def _apart(beyond: int, inside: int, pause_ms: float, extent_ms: float) -> bool:
    """Return True if the `beyond` times after a pause are few and far enough to be outliers."""
    part = beyond / inside
    return part <= MOST_PART and pause_ms >= extent_ms * max(1.0, FARTHEST * part)
