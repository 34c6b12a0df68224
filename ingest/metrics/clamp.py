"""Clamp numbers to what JSON and BSON can hold, however many and large the summands are."""

from __future__ import annotations

import sys

MOST_INT = 2**63  # an int of this size no longer fits into BSON's 64 bits
LARGEST = sys.float_info.max


def clamp(value: float | int) -> float | int:
    """Return `value` as a 64-bit int, or as a float if it is larger; the largest float takes the place of infinity."""
    if isinstance(value, int):
        if -MOST_INT <= value < MOST_INT:
            return value
        value = float(value) if abs(value) < 2**1023 else LARGEST if value > 0 else -LARGEST
    return min(max(value, -LARGEST), LARGEST)
