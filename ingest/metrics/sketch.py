"""Summarize many values in small sketches that can be merged and have a known error. Pure Python.

`LogSketch` follows DDSketch (Masson, Rim, Lee: DDSketch, PVLDB 12(12), 2019): values are counted in buckets whose
bounds grow by a constant factor. `DistinctSketch` keeps the smallest hashes seen (Bar-Yossef et al.: Counting distinct
elements in a data stream, 2002).
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import repeat
from math import ceil, log
from operator import mul
from typing import Any

RELATIVE_ERROR = 0.01  # of every quantile
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
MOST_BUCKETS = 2048  # enough for values from 1e-9 to 1e8; of a wider range the smallest values share a bucket
KEPT_HASHES = 1024  # with fewer distinct values the count is exact; with more its standard error is 3 %
_SCALE = 1 / log(GAMMA)
LOWEST_BUCKET = ceil(log(5e-324) * _SCALE)  # bucket of the smallest float
HIGHEST_BUCKET = ceil(log(sys.float_info.max) * _SCALE)
MOST_COUNTED = 2**62  # largest count of a bucket in a document, so that the sum of two fits into 64 bits
_HALF = 2 / (GAMMA + 1)
HASH_RANGE = 2**63


class LogSketch:
    """Count values by size. A quantile is within 1 % of a value of that rank. For one thread at a time."""

    __slots__ = ("negative", "positive", "zero")

    def __init__(self) -> None:
        self.positive: Counter[int] = Counter()
        self.negative: Counter[int] = Counter()
        self.zero = 0

    def add_all(self, values: Sequence[float]) -> None:
        """Count finite numbers. No Python code runs per value if all are above 0."""
        try:
            indexes = list(map(ceil, map(mul, map(log, values), repeat(_SCALE))))
        except ValueError:
            self._add_each(values)
        else:
            self.positive.update(indexes)
        if len(self.positive) > MOST_BUCKETS:
            _collapse(self.positive)
        if len(self.negative) > MOST_BUCKETS:
            _collapse(self.negative)

    def _add_each(self, values: Iterable[float]) -> None:
        for value in values:
            if value > 0:
                self.positive[ceil(log(value) * _SCALE)] += 1
            elif value < 0:
                self.negative[ceil(log(-value) * _SCALE)] += 1
            else:
                self.zero += 1

    def merge(self, other: LogSketch) -> None:
        """Add the counts of `other`, as if one sketch had counted all values."""
        self.positive.update(other.positive)
        self.negative.update(other.negative)
        self.zero += other.zero
        for counts in (self.positive, self.negative):
            if len(counts) > MOST_BUCKETS:
                _collapse(counts)

    @property
    def count(self) -> int:
        return self.positive.total() + self.negative.total() + self.zero

    def buckets(self) -> list[tuple[float, int]]:
        """Return value and count of each bucket, smallest value first."""
        below = [(-_middle(index), count) for index, count in sorted(self.negative.items(), reverse=True)]
        at = [(0.0, self.zero)] if self.zero else []
        return below + at + [(_middle(index), count) for index, count in sorted(self.positive.items())]

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return the quantiles for ascending `shares` from 0 to 1. Raise `ValueError` if the sketch is empty."""
        if not (total := self.count):
            raise ValueError("a sketch without values has no quantiles")
        found: list[float] = []
        passed = 0
        for value, count in self.buckets():
            passed += count
            while len(found) < len(shares) and passed > shares[len(found)] * (total - 1):
                found.append(value)
        return found

    def to_document(self) -> dict[str, Any]:
        """Return lists `[bucket, count, bucket, count, ...]` for JSON and BSON; empty parts are left out."""
        document: dict[str, Any] = {}
        if self.positive:
            document["positive"] = _flat(self.positive)
        if self.negative:
            document["negative"] = _flat(self.negative)
        if self.zero:
            document["zero"] = min(self.zero, MOST_COUNTED)
        return document

    @classmethod
    def from_document(cls, document: Any) -> LogSketch:
        """Invert `to_document`. Raise `ValueError` or `TypeError` for anything else."""
        sketch = cls()
        sketch.positive = _counted(document.get("positive", ()))
        sketch.negative = _counted(document.get("negative", ()))
        sketch.zero = int(document.get("zero", 0))
        return sketch


class DistinctSketch:
    """Estimate the number of distinct values: exactly below 1,024, then with a standard error of 3 %."""

    __slots__ = ("hashes",)

    def __init__(self) -> None:
        self.hashes: set[int] = set()

    def add_all(self, values: Iterable[Any]) -> None:
        """Add values, compared by their text: 1 and "1" are the same."""
        self.add_hashes(map(hash_of, values))

    def add_hashes(self, hashes: Iterable[int]) -> None:
        """Add values whose `hash_of` is known."""
        self.hashes.update(hashes)
        self._shrink()

    def merge(self, other: DistinctSketch) -> None:
        self.hashes |= other.hashes
        self._shrink()

    def _shrink(self) -> None:
        if len(self.hashes) > KEPT_HASHES:
            self.hashes = set(sorted(self.hashes)[:KEPT_HASHES])

    @property
    def estimate(self) -> int:
        if len(self.hashes) < KEPT_HASHES:
            return len(self.hashes)
        return round((KEPT_HASHES - 1) * HASH_RANGE / max(self.hashes))

    def to_document(self) -> dict[str, Any]:
        return {"hashes": sorted(self.hashes)}

    @classmethod
    def from_document(cls, document: Any) -> DistinctSketch:
        """Invert `to_document`. Raise `ValueError` or `TypeError` for anything else."""
        sketch = cls()
        sketch.hashes = {int(found) for found in document.get("hashes", ())}
        return sketch


def hash_of(value: Any) -> int:
    """Return a 63-bit hash of the value's text that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(str(value).encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 1


def _middle(index: int) -> float:
    """Return the value that has the same relative distance to both bounds of the bucket."""
    try:
        return float(_HALF * GAMMA**index)
    except OverflowError:  # the bucket of the largest floats
        return float(_HALF * GAMMA ** (index - 1))


def _flat(counts: Counter[int]) -> list[int]:
    return [number for index in sorted(counts) for number in (index, min(counts[index], MOST_COUNTED))]


def _counted(flat: Sequence[int]) -> Counter[int]:
    if len(flat) % 2:
        raise ValueError("a sketch's list holds pairs of bucket and count")
    return Counter({int(index): int(count) for index, count in zip(flat[::2], flat[1::2], strict=True)})


def _collapse(counts: Counter[int]) -> None:
    """Merge the lowest buckets into one, so that `MOST_BUCKETS` are left."""
    ordered = sorted(counts)
    lowest = ordered[len(ordered) - MOST_BUCKETS]
    for index in ordered[: len(ordered) - MOST_BUCKETS]:
        counts[lowest] += counts.pop(index)
