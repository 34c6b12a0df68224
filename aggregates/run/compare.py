"""Compare results with a tolerance for floats, which may have been added in another order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bson.binary import Binary
from bson.decimal128 import Decimal128

from mapreduce.codec import as_uuid

RELATIVE = 1e-9


def equal(one: Any, other: Any) -> bool:
    """Return True if two output values agree: floats within 1e-9 relative, datetimes to 1 ms, the rest exactly."""
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, float) or isinstance(other, float):
        return _close(one, other)
    if isinstance(one, datetime) and isinstance(other, datetime):
        return abs(one - other) < timedelta(milliseconds=1)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Decimal128) and isinstance(other, Decimal128):
        return bool(one.to_decimal() == other.to_decimal())
    if isinstance(one, Binary) != isinstance(other, Binary):  # a task may write a UUID as either
        one, other = (as_uuid(each) if isinstance(each, Binary) else each for each in (one, other))
    return bool(one == other)


def _close(one: Any, other: Any) -> bool:
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return False
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=RELATIVE)
