"""Write numbers as text that every reader takes for the same number."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Final

LARGEST: Final = sys.float_info.max


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
