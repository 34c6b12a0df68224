"""Tell how long the periods of a series are.

The aggregate's key time says it, as long as the data agrees. Otherwise it is measured from the spacing of the starts,
whatever the form of the keys: years, months, weeks or days by the clock of the keys' zone, else a fixed length. Keys
that are instants may follow the clock of another zone: their own offset, that of the viewer, or one that explains why
their midnights move.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from aggregates.clock import wall_clock
from aggregates.keys import period_length
from aggregates.keys.key_time import KeyTime
from aggregates.keys.period_length import Step
from aggregates.period import Unit
from aggregates.web.series.granularity import Granularity
from aggregates.web.series.key_clock import other_clocks
from aggregates.web.series.spacing import SEVERAL, Spacing

_COARSE: Final = ("year", "month", "week")  # units whose forms, such as 2011-W27, leave no doubt about the length
_LEAST_S: Final = {"year": 31_536_000, "month": 2_419_200, "week": 604_800, "day": 86_400}  # of keys so spelled


def measure(
    starts: Sequence[float],
    key_time: KeyTime,
    spelled: Unit,
    *,
    offsets: Collection[timedelta] | None = None,
    shown_zone: str = "",
) -> Granularity:
    """Return the granularity of ascending `starts`, of which there is at least one.

    `spelled` is the finest precision of the keys, the last resort for a single start. `offsets` are those that keys
    which are instants name, zero for datetimes; None if no key is an instant.
    """
    own = Spacing(starts, key_time.zone, offsets is not None)
    said = _said(key_time, spelled, own.count)
    several = own.count >= SEVERAL
    others = partial(_others, starts, key_time.zone, offsets, shown_zone)
    found = _agreeing(own, said, key_time.step)
    if found and not own.hides_a_change(found):
        return _unsaid(own, found) if key_time.others and spelled in _LEAST_S else found
    if not found and spelled in _COARSE and (found := own.fitting(spelled)):
        return _longest([found, own.measured()]) if several else found
    clocks = (Spacing(starts, zone, True) for zone in (others(several=True) if said else ()))
    if found := _elsewhere(found, clocks, said, key_time.step):
        return found
    if own.count == 1:
        return own.single(spelled)
    if found := _uneven(own, said, key_time.step):
        return found
    zones = sorted({*others(several=several)} - {key_time.zone})
    return _longest_measured([own, *(Spacing(starts, zone, True) for zone in zones)])


def _elsewhere(
    found: Granularity | None, clocks: Iterable[Spacing], said: Sequence[Step], usual: Step | None
) -> Granularity | None:
    """Return the first granularity, not shorter than the one `found`, by whose clock no change hides in odd starts.

    If there is none, return what was found, or else the first that was found here.
    """
    for clock in clocks:
        other = _agreeing(clock, said, usual)
        if other and (found is None or other.length_ms >= found.length_ms):
            if not clock.hides_a_change(other):
                return other
            found = found or other
    return found


def _longest_measured(clocks: Sequence[Spacing]) -> Granularity:
    """Return the longest granularity; of several, the first by whose clock no change hides in odd starts."""
    measured = [(clock.measured(), clock) for clock in clocks]
    longest = _longest(found for found, _ in measured)
    equal = [(found, clock) for found, clock in measured if found.strict and found.length_ms == longest.length_ms]
    if len(equal) > 1:
        return next((found for found, clock in equal if not clock.hides_a_change(found)), longest)
    return longest


def _others(
    starts: Sequence[float], key_zone: str, offsets: Collection[timedelta] | None, shown_zone: str, *, several: bool
) -> Iterable[str]:
    """Return the zones that instants may follow: keys with offsets, datetimes, and texts in a zone without changes.

    The days of such texts are not those of the viewer.
    """
    if offsets:
        return other_clocks(starts, offsets, shown_zone, several=several)
    if wall_clock(key_zone).fixed_offset is None:
        return ()
    return other_clocks(starts, (), "", several=several)


def _said(key_time: KeyTime, spelled: Unit, count: int) -> list[Step]:
    """Return the steps that keys of the output say, the longest first, without those that such keys cannot have.

    A date names no hour, and where keys name months or weeks their lengths do not vary. A single start agrees with
    every step, so that what most keys say is the first for it.
    """
    steps = [*([] if key_time.step is None else [key_time.step]), *key_time.others]
    steps = [step for step in steps if period_length.seconds(step) >= _LEAST_S.get(spelled, 0)]
    if spelled in _COARSE:
        steps = [step for step in steps if not period_length.least_s(step)]
    return steps if count == 1 else sorted(steps, key=period_length.seconds, reverse=True)


def _agreeing(clock: Spacing, said: Sequence[Step], usual: Step | None) -> Granularity | None:
    """Return the first of some steps that the starts agree with, all of them if it is longer than the usual one."""
    for step in said:
        longer = usual is not None and period_length.seconds(step) > period_length.seconds(usual)
        if found := clock.fitting(step, exact=longer):
            return found
    return None


def _uneven(clock: Spacing, said: Sequence[Step], usual: Step | None) -> Granularity | None:
    """Return periods that vary if the starts lie at no grid that keys say, but are never much nearer than these say.

    Such as 13 weeks and, in a year whose keys nobody had asked yet, 14. Only for days and more.
    """
    if usual is None or not said:
        return None
    shortest = min(period_length.least_s(step) or period_length.seconds(step) for step in said)
    if shortest < _LEAST_S["day"]:
        return None
    return clock.fitting(period_length.of_varying(period_length.seconds(usual), shortest))


def _unsaid(clock: Spacing, said: Granularity) -> Granularity:
    """Return a longer granularity that no key has been heard to say, where the said one would leave most periods empty.

    Only for an output whose keys say several: the longest of them are so few that they may not have been asked.
    """
    if said.varies or clock.count < SEVERAL or clock.extent_ms < 2 * clock.count * said.length_ms:
        return said
    found = clock.measured()
    return found if found.length_ms > said.length_ms and clock.fitting(found.step, exact=True) else said


def _longest(found: Iterable[Granularity]) -> Granularity:
    return max(found, key=lambda each: each.length_ms if each.strict else 0)
