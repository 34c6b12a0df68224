"""Summaries of many values that are small, can be merged, and say how exact they are. Pure Python.

`LogSketch` is the idea of DDSketch (Masson, Rim, Lee: DDSketch, PVLDB 12(12), 2019): values are counted in buckets
whose bounds grow by a constant factor. `DistinctSketch` keeps the smallest hashes seen (Bar-Yossef et al.: Counting
distinct elements in a data stream, 2002).
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
MOST_BUCKETS = 2048  # values from 1e-9 to 1e8 fit; beyond that the smallest share a bucket
KEPT_HASHES = 1024  # up to so many distinct values the count is exact; beyond, its standard error is 3 %
_SCALE = 1 / log(GAMMA)
LOWEST_BUCKET = ceil(log(5e-324) * _SCALE)  # of the smallest float; no value has a bucket below it
HIGHEST_BUCKET = ceil(log(sys.float_info.max) * _SCALE)
MOST_COUNTED = 2**62  # in one bucket of a document: more is written as this, so that two still fit into 64 bits
_HALF = 2 / (GAMMA + 1)
HASH_RANGE = 2**63


class LogSketch:
    """Counts of values by size; a quantile is within 1 % of a value that has that rank. For one thread at a time."""

    __slots__ = ("negative", "positive", "zero")

    def __init__(self) -> None:
        self.positive: Counter[int] = Counter()
        self.negative: Counter[int] = Counter()
        self.zero = 0

    def add_all(self, values: Sequence[float]) -> None:
        """Count finite numbers; no Python code runs per value when all are above 0."""
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
        """Add the counts of `other`; the result is that of one sketch which saw all values."""
        self.positive.update(other.positive)
        self.negative.update(other.negative)
        self.zero += other.zero
        for counts in (self.positive, self.negative):
            if len(counts) > MOST_BUCKETS:
                _collapse(counts)

    @property
    def count(self) -> int:
        """How many values were added."""
        return self.positive.total() + self.negative.total() + self.zero

    def buckets(self) -> list[tuple[float, int]]:
        """Value and count of each bucket, smallest value first."""
        below = [(-_middle(index), count) for index, count in sorted(self.negative.items(), reverse=True)]
        at = [(0.0, self.zero)] if self.zero else []
        return below + at + [(_middle(index), count) for index, count in sorted(self.positive.items())]

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """The values at these shares, in rising order of 0 to 1, of all values. Raises `ValueError` when empty."""
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
        """What JSON and BSON can hold: lists `[bucket, count, bucket, count, ...]`; empty parts are left out."""
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
        """The inverse. Raises `ValueError` or `TypeError` for anything else."""
        sketch = cls()
        sketch.positive = _counted(document.get("positive", ()))
        sketch.negative = _counted(document.get("negative", ()))
        sketch.zero = int(document.get("zero", 0))
        return sketch


class DistinctSketch:
    """How many different values were seen: exact up to 1,024, then within 3 % (standard error)."""

    __slots__ = ("hashes",)

    def __init__(self) -> None:
        self.hashes: set[int] = set()

    def add_all(self, values: Iterable[Any]) -> None:
        """Note the values by their text: 1 and "1" are the same."""
        self.add_hashes(map(hash_of, values))

    def add_hashes(self, hashes: Iterable[int]) -> None:
        """Note values of which `hash_of` is known."""
        self.hashes.update(hashes)
        self._shrink()

    def merge(self, other: DistinctSketch) -> None:
        """Take in what `other` saw."""
        self.hashes |= other.hashes
        self._shrink()

    def _shrink(self) -> None:
        if len(self.hashes) > KEPT_HASHES:
            self.hashes = set(sorted(self.hashes)[:KEPT_HASHES])

    @property
    def estimate(self) -> int:
        """The number of different values."""
        if len(self.hashes) < KEPT_HASHES:
            return len(self.hashes)
        return round((KEPT_HASHES - 1) * HASH_RANGE / max(self.hashes))

    def to_document(self) -> dict[str, Any]:
        """What JSON and BSON can hold."""
        return {"hashes": sorted(self.hashes)}

    @classmethod
    def from_document(cls, document: Any) -> DistinctSketch:
        """The inverse. Raises `ValueError` or `TypeError` for anything else."""
        sketch = cls()
        sketch.hashes = {int(found) for found in document.get("hashes", ())}
        return sketch


def hash_of(value: Any) -> int:
    """63 bits that are the same in every process."""
    return int.from_bytes(hashlib.blake2b(str(value).encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 1


def _middle(index: int) -> float:
    """The value whose relative distance to both bounds of the bucket is the same."""
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
    """Put the smallest values into one bucket, so that `MOST_BUCKETS` are left."""
    ordered = sorted(counts)
    lowest = ordered[len(ordered) - MOST_BUCKETS]
    for index in ordered[: len(ordered) - MOST_BUCKETS]:
        counts[lowest] += counts.pop(index)
