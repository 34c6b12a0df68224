"""Measure how long the periods of a series are from the spacing of their starts, by the clock of one zone."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Final

from aggregates.clock import wall_clock
from aggregates.keys import period_length
from aggregates.keys.period_length import Step
from aggregates.web.series.granularity import DAY_MS, MIN_MS, Granularity, instant_at, month_of, stretches
from aggregates.web.series.key_clock import may_be_changed

_MINUTES = (720, 480, 360, 240, 180, 120, 60, 30, 20, 15, 10, 5, 3, 2, 1)
FIXED_S: Final = (*(60 * minutes for minutes in _MINUTES), 30, 20, 15, 10, 5, 3, 2, 1)
SEVERAL: Final = 8  # starts from which on a single odd one is not believed
_LONGEST_REST_MS: Final = 28 * DAY_MS  # from the start of a month; later days are not in every month
_LEAST_CHANGED_MS: Final = 3_600_000  # the shortest periods that a change of the clock moves, by half an hour or more
_CHUNK = 1_000
_SHORTER = 2 / 3  # of the shortest varying length that is known: what a shorter one can have that nobody has asked for
_SPARSE_MS = 7 * DAY_MS  # on average between starts
_MS = timedelta(milliseconds=1)


class Spacing:
    """The starts of one series, with what the clock of a zone shows at each."""

    def __init__(self, starts: Sequence[float], zone: str, instants: bool) -> None:
        self._zone = zone
        self._instants = instants
        self._starts = starts
        # Starts at which the clock jumps, with the first reading that it skips; the first instant of all is one too.
        self._jumps: dict[float, float] = {MIN_MS: -math.inf} if starts[0] <= MIN_MS else {}
        # Starts at readings that the clock shows for the second time: there starts no day, and nothing longer.
        self._repeats: set[float] = set()
        self._answers: dict[tuple[int, int, int], bool] = {}  # of `_fits`, which looks at all starts
        self._readings = self._read()
        self.count = 1 if starts[0] == starts[-1] else len(starts)
        self._allowed = 0 if self.count < SEVERAL else max(1, self.count // 100)

    @property
    def extent_ms(self) -> float:
        """Return how far the first and the last start are apart."""
        return self._starts[-1] - self._starts[0]

    def _read(self) -> Sequence[float]:
        starts = self._starts
        whole: Sequence[float] = list(map(int, starts))
        if whole != starts:
            whole = starts  # fractions of milliseconds
        offset = wall_clock(self._zone).fixed_offset
        if offset is not None:
            shift = offset // _MS
            return [start + shift for start in whole] if shift else whole
        if starts[-1] - starts[0] > _SPARSE_MS * len(starts):
            return [self._read_one(start) for start in whole]
        readings: list[float] = []
        shown = None
        for begin, end, shift in stretches(self._zone, starts[0] - DAY_MS, starts[-1]):
            inside = whole[bisect_left(starts, begin) : bisect_left(starts, end)]
            if shown is not None and begin + shift > shown:
                self._jumps[float(begin)] = shown
            elif shown is not None:
                self._repeats.update(inside[: bisect_left(inside, shown - shift)])
            readings += [start + shift for start in inside]
            shown = end + shift
        return readings

    def _read_one(self, start: float) -> float:
        """Return one reading, which is faster than to follow the zone through centuries between few starts."""
        clock = wall_clock(self._zone)
        before, shift = (clock.offset(instant_at(at)) // _MS for at in (max(start - 1, MIN_MS), start))
        if before < shift:
            self._jumps[start] = start + before
        early = clock.offset(instant_at(start - DAY_MS / 4)) // _MS
        if early > shift and clock.offset(instant_at(start + shift - early)) // _MS == early:
            self._repeats.add(start)
        return start + shift

    def fitting(self, step: Step, *, exact: bool = False) -> Granularity | None:
        """Return the granularity of this step if the starts agree with it: all if `exact`, else but for a few odd ones.

        Periods may also start off the hours of the clock, or in other months than January.
        """
        allowed = 0 if exact else self._allowed
        if least_s := period_length.least_s(step):
            return self._varying(step, least_s * 1000, allowed)
        if months := period_length.months(step):
            anchors = self._samples() if self.count >= SEVERAL or not exact else self._midnights()
            return self._calendar(months, (0, *anchors), allowed)
        length = period_length.seconds(step) * 1000
        anchors = [0] if DAY_MS % length == 0 else []
        if self.count >= SEVERAL or not exact:
            anchors += [reading % length for reading in self._samples()]
        elif length % DAY_MS == 0:
            anchors += [reading % length for reading in self._samples() if reading % DAY_MS == 0]
        for anchor in dict.fromkeys(anchors):
            if self._fits(length, anchor, allowed):
                return self._of_length(length // 1000, anchor)
        return None

    def _varying(self, step: Step, least_ms: int, allowed: int) -> Granularity | None:
        """Return the starts themselves as all that is known, if none are much nearer than the shortest period."""
        near = sum(0 < after - before < _SHORTER * least_ms for before, after in pairwise(self._starts))
        if near > 2 * allowed:
            return None
        return Granularity(step, self._zone, self._instants, listed=tuple(dict.fromkeys(self._starts)))

    def single(self, spelled: Step) -> Granularity:
        """Return the granularity of a single start: as it is spelled, but for hours written with minutes of zero."""
        units = ("hour", "minute", "second") if spelled in ("hour", "minute", "second") else (spelled,)
        for unit in units:
            length = period_length.seconds(unit) * 1000
            if period_length.months(unit) or unit == "week" or self._fits(length, 0):
                return self.fitting(unit) or self._finest()
        return self._finest()

    def measured(self) -> Granularity:
        """Return the longest granularity that all starts agree with, but for a few odd ones.

        From `SEVERAL` starts on, it is the distance of neighbours, whatever that is, if all others agree.
        """
        whole_days = self._fits(DAY_MS, 0)
        if months := self._calendar(1, (0, *(self._samples() if self.count >= SEVERAL else ())), self._allowed):
            return self._longer(months)
        neighbours = self._neighbours() if self.count >= SEVERAL else None
        if whole_days:
            if neighbours is not None and neighbours.length_ms % DAY_MS == 0:
                return neighbours
            return self.fitting("week") or self._of_length(DAY_MS // 1000)
        if neighbours is not None:
            return neighbours
        if self.count < SEVERAL:  # too few to tell where periods start that start off the clock's own hours
            apart = min((int(b - a) for a, b in pairwise(self._starts) if b > a), default=0) // 1000
            plain = (length for length in FIXED_S if length <= max(apart, 1) and self._fits(length * 1000, 0))
            return next(map(self._of_length, plain), self._finest())
        common = math.gcd(*(int(b - a) for a, b in pairwise(self._readings)))
        if common >= 1000 and common % 1000 == 0 and (found := self.fitting(common // 1000)):
            return found
        for seconds in (DAY_MS // 1000, *FIXED_S):
            for anchor in (0, self._samples()[-1] % (seconds * 1000)):
                if self._fits(seconds * 1000, anchor):
                    return self._of_length(seconds, anchor)
        return self._finest()

    def hides_a_change(self, found: Granularity) -> bool:
        """Return True if some starts are odd by what was found, and that of another clock may have been changed there.

        Where it was, one day or month after the change is odd, as a wrong one would be.
        """
        if found.length_ms < _LEAST_CHANGED_MS or self.fitting(found.step, exact=True):
            return False
        if wall_clock(self._zone).fixed_offset is None:
            return True
        length = min(found.length_ms, DAY_MS)
        rests = {int(reading - found.anchor_ms) % length for reading in self._readings}
        return any(may_be_changed(rest, length) for rest in rests)

    def _longer(self, months: Granularity) -> Granularity:
        """Return years, or from `SEVERAL` starts on as many months as neighbours are apart, if all starts agree."""
        if self.count >= SEVERAL:
            anchors = self._samples() if months.anchor_ms else self._midnights()
            numbers = [month_of(reading)[0] for reading in self._readings]
            for count in self._recurring(b - a for a, b in pairwise(numbers)):
                if found := self._calendar(int(count), anchors, self._allowed):
                    return found
        return self._calendar(12, (0,), self._allowed) or months

    def _neighbours(self) -> Granularity | None:
        """Return the granularity whose length is the distance of neighbours; None if the others do not agree."""
        for part in (self._readings[:_CHUNK], self._readings):
            for distance in self._recurring(b - a for a, b in pairwise(part)):
                if distance % 1000 == 0 and (found := self.fitting(int(distance) // 1000)):
                    return found
            if len(part) == len(self._readings):
                break
        return None

    def _midnights(self) -> list[int]:
        return [reading // DAY_MS * DAY_MS for reading in self._samples()]

    def _samples(self) -> list[int]:
        """Return two readings, since one of them may be odd."""
        return [int(self._readings[i]) for i in (0, len(self._readings) // 2)]

    @staticmethod
    def _recurring(distances: Iterable[float]) -> list[float]:
        """Return the two shortest distances that occur more than once, the shortest first."""
        counts = Counter(distances)
        return sorted(each for each, count in counts.items() if each > 0 and count > 1)[:2]

    def _of_length(self, seconds: int, anchor_ms: int = 0) -> Granularity:
        return Granularity(period_length.of_seconds(seconds), self._zone, self._instants, anchor_ms)

    def _finest(self) -> Granularity:
        return Granularity("second", self._zone, self._instants, strict=False)

    def _fits(self, length: int, anchor: int, allowed: int | None = None) -> bool:
        """Return True if the starts agree with a length, but for the `allowed` odd ones."""
        asked = length, anchor, self._allowed if allowed is None else allowed
        if asked not in self._answers:
            self._answers[asked] = self._agree(*asked)
        return self._answers[asked]

    def _agree(self, length: int, anchor: int, allowed: int) -> bool:
        odd = 0
        for at in range(0, len(self._readings), _CHUNK):  # most lengths that do not fit are refused by the first chunk
            odd += self._odd(at, length, anchor)
            if odd > allowed:
                return False
        self._answers[length, anchor, 0] = odd == 0
        return True

    def _odd(self, at: int, length: int, anchor: int) -> int:
        """Count the readings of a chunk at which no period starts."""
        readings = self._readings[at : at + _CHUNK]
        if anchor:
            rests = [(reading - anchor) % length for reading in readings]
        else:
            rests = [reading % length for reading in readings]
        odd = len(rests) - rests.count(0)
        if self._repeats and self._instants and length % DAY_MS == 0:
            odd += sum(not rest for start, rest in self._chunk(at, rests) if start in self._repeats)
        if odd and self._jumps:
            for (start, rest), reading in zip(self._chunk(at, rests), readings, strict=True):
                odd -= bool(rest) and reading - rest >= self._jumps.get(start, math.inf)
        return odd

    def _chunk(self, at: int, rests: Sequence[float]) -> Iterator[tuple[float, float]]:
        return zip(self._starts[at : at + _CHUNK], rests, strict=True)

    def _calendar(self, months: int, anchors: Iterable[int], allowed: int) -> Granularity | None:
        """Return periods of so many months that start as at one of the anchors, if the starts agree."""
        for anchor in dict.fromkeys(anchors):
            month, rest = month_of(anchor)
            if (
                rest < _LONGEST_REST_MS
                and self._fits(DAY_MS, rest % DAY_MS, allowed)
                and self._fits_months(months, month, rest, allowed)
            ):
                return Granularity(period_length.of_months(months), self._zone, self._instants, anchor)
        return None

    def _fits_months(self, months: int, month: int, rest: int, allowed: int) -> bool:
        time = rest % DAY_MS
        odd = 0
        for reading in self._readings:
            number, found = month_of((reading - time) // DAY_MS * DAY_MS)
            odd += found != rest - time or (number - month) % months != 0
            if odd > allowed:
                return False
        return True
