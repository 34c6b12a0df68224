"""Tell which plain pairs have lengths that vary, so that nobody can say where a period starts that no key names.

Half months, retail months of 4 and 5 weeks, moon months, school terms and shifts are such. Pairs of several units in
one output are not: days lie in the weeks and months of the same time, and a week is a multiple of a day.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from itertools import chain, pairwise
from typing import Final, NamedTuple

from aggregates.keys.period_length import Step, of_varying
from aggregates.period import Pair

_DAY_S: Final = 86_400
_RATIO: Final = 2  # lengths of one kind of period are closer to each other; longer ones may be another unit
_ADJACENT_S: Final = 1.0  # some pairs end with the last second, or microsecond, of their period
_RARE: Final = 0.1  # of pairs: lengths below a day that fewer have are those of nights when clocks are changed
_FEW: Final = 4  # pairs from which on the first and the last may be cut off


class _Stretch(NamedTuple):
    start_s: float
    end_s: float
    length_s: int  # without a change of clocks


def varying_steps(pairs: Iterable[tuple[Pair, int]]) -> dict[int, Step]:
    """Return the step of each length that is one of varying ones; `pairs` come with their lengths in seconds.

    Lengths vary if pairs never overlap and either differ by less than a factor of two, or grow and shrink from one pair
    to the next. Pairs of units such as days and months do neither, nor does a history whose recent part is finer.
    """
    distinct = {(start.timestamp(), end.timestamp()): length for (start, end), length in pairs}
    stretches = _usual(sorted(_Stretch(*ends, length) for ends, length in distinct.items()))
    found: dict[int, Step] = {}
    for group in _joined(_alike(stretches), _swinging(stretches)):
        lengths = [one.length_s for one in group]
        if len(set(lengths)) > 1 and not _overlap(group):
            step = of_varying(statistics.median_low(lengths), min(lengths))
            found |= dict.fromkeys(lengths, step)
    return found


def _usual(stretches: list[_Stretch]) -> list[_Stretch]:
    """Leave out rare lengths below a day, and a shorter first and last one, which the data may have cut off."""
    counts = Counter(one.length_s for one in stretches)
    least = max(2.0, _RARE * len(stretches))
    kept = [one for one in stretches if one.length_s % _DAY_S == 0 or counts[one.length_s] >= least]
    if len(kept) < _FEW:
        return kept
    median = statistics.median_low(one.length_s for one in kept)
    inside = range(1, len(kept) - 1)
    return [one for at, one in enumerate(kept) if at in inside or counts[one.length_s] > 1 or one.length_s >= median]


def _swinging(stretches: list[_Stretch]) -> set[int]:
    """Return the lengths between which pairs change, if they both grow and shrink from one to the very next."""
    if _overlap(stretches):
        return set()
    changes = {
        (before.length_s, after.length_s)
        for before, after in pairwise(stretches)
        if after.start_s - before.end_s <= _ADJACENT_S and after.length_s != before.length_s
    }
    both = len({before < after for before, after in changes}) > 1
    return {length for change in changes for length in change} if both else set()


def _overlap(stretches: list[_Stretch]) -> bool:
    return any(after.start_s < before.end_s for before, after in pairwise(stretches))


def _alike(stretches: list[_Stretch]) -> list[list[_Stretch]]:
    """Group stretches by length, so that those of one group differ from the next one by less than the factor."""
    groups: list[list[_Stretch]] = []
    longest = 0
    for one in sorted(stretches, key=lambda each: each.length_s):
        if one.length_s >= _RATIO * longest:
            groups.append([])
        groups[-1].append(one)
        longest = one.length_s
    return [sorted(group) for group in groups]


def _joined(groups: list[list[_Stretch]], swinging: set[int]) -> list[list[_Stretch]]:
    """Make one group of those that have one of these lengths."""
    together = [group for group in groups if any(one.length_s in swinging for one in group)]
    rest = [group for group in groups if group not in together]
    return [sorted(chain.from_iterable(together)), *rest]
