"""Write numbers and metric names as the text protocols of statsd and graphite read them."""

from __future__ import annotations

import argparse
import re
import sys
from decimal import Decimal

from ingest.metrics.identity import NOT_SPECIFIED, Identity

LARGEST = sys.float_info.max
EMPTY_PART = "_x00"  # no name contains a NUL, so no other part is written like this
_REJECTED = re.compile(r"[^A-Za-z0-9_.-]|_(?=x[0-9A-F]{2})")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]*\Z")


def plain_decimal(value: float, digits: int = 0) -> str:
    """Return `value` without an exponent: the shortest text that reads as it, or one of `digits` significant digits.

    An infinite value becomes the largest float, since no decimal can say it. statsd reads a sampling rate up to the
    first character that is neither a digit nor a dot, so that `4e-05` is 4 to it (stats.js, `handlePacket`).
    """
    value = min(max(value, -LARGEST), LARGEST) if isinstance(value, float) else value
    text = format(Decimal(f"{value:.{digits}g}" if digits else repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def path(metric: Identity, prefix: str) -> str:
    """Return the name with source and tags; characters that statsd or graphite reject become `_x` and hex bytes.

    Dots separate parts. An empty part, as in `a..b`, becomes `_x00`: carbon would make a folder without a name of it.
    """
    parts = [metric.name] if metric.source == NOT_SPECIFIED else [metric.source, metric.name]
    parts += [f"{key}_{value}" for key, value in metric.tags]
    parts += ["error"] if metric.outcome else []
    encoded = ".".join(_REJECTED.sub(_hex_encoded, part) for part in parts)
    return prefix + ".".join(part or EMPTY_PART for part in encoded.split("."))


def _hex_encoded(found: re.Match[str]) -> str:
    return "".join(f"_x{byte:02X}" for byte in found[0].encode())


def path_prefix(text: str) -> str:
    """Return `text` for the option `--prefix`. Raise `ArgumentTypeError` for what cannot begin a path."""
    if not _PREFIX.match(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot begin a path: use letters, digits, _ and - with single dots between them, such as shop."
        )
    return text
