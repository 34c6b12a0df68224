"""Read and write numbers as text that every reader takes for the same number."""

from __future__ import annotations

import math
import re
import sys
from decimal import Decimal
from typing import Final

LARGEST: Final = sys.float_info.max
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def whole_number(text: str) -> int:
    """Return the number of ASCII digits. Raise `ValueError` for other forms that `int` reads, such as `1_000`."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a whole number of digits 0 to 9")
    return int(text)


def decimal_number(text: str) -> float:
    """Return the double nearest to a finite decimal. Raise `ValueError` for what else `float` reads: `1_000`, `nan`."""
    if not _DECIMAL.fullmatch(text) or not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:60]!r} is not a finite number of digits 0 to 9")
    return number


def plain_decimal(value: float | Decimal, digits: int = 0) -> str:
    """Return `value` without an exponent: the shortest text that reads as it, or one of `digits` significant digits.

    An infinite float becomes the largest one, since no decimal can say it, and -0 becomes 0. statsd reads a sampling
    rate up to the first character that is neither a digit nor a dot, so that `4e-05` is 4 to it (stats.js,
    `handlePacket`), and a gauge that begins with a sign as a change.
    """
    if isinstance(value, Decimal):
        return format(value, "f")  # with its trailing zeros, which say how exact it is
    if isinstance(value, float):
        value = min(max(value, -LARGEST), LARGEST)
    text = format(Decimal(f"{value:.{digits}g}" if digits else str(value)), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
