"""Check that the numbers of a batch are plausible, so that no aggregate and no backend fails on them. Pure.

Any program can connect a PUB socket to the broker, so nothing in a message is trusted.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from .exceptions import WireError
from .metric_type import COUNTER, SET
from .sketch import HASH_RANGE, HIGHEST_BUCKET, KEPT_HASHES, LOWEST_BUCKET, MOST_BUCKETS

MOST_COUNT = 2**62  # two of them still fit into 64 bits
_LOG_PARTS = {"positive", "negative", "zero"}


def checked_count(field: str, found: Any, least: int = 0) -> int:
    """Return `found` if it is a count of at least `least`. Raise `WireError`."""
    if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= MOST_COUNT:
        raise WireError(f"{field} {found!r} is not a count from {least} to 2^62")
    return found


def check_bounds(kind: str, found: tuple[Any, Any, Any]) -> None:
    """Check min, max and last (None if absent) of a batch of this type. Raise `WireError`."""
    lowest, highest, last = found
    if kind in {COUNTER, SET}:
        if found != (None, None, None):
            raise WireError(f"min {lowest!r}, max {highest!r}, last {last!r}: a {kind} has none")
    elif None in found or not lowest <= last <= highest:
        raise WireError(f"min {lowest!r}, max {highest!r}, last {last!r}: a {kind} has all three, last between them")


def checked_sketch(kind: str, measured: int, found: Any) -> dict[str, Any] | None:
    """Return `found` if it can be the sketch of `measured` values of this type. Raise `WireError`.

    Only a set must have one. The sketch of a distribution can be empty, from publishers that make none; otherwise it
    counts every value.
    """
    if kind == COUNTER or (found is None and kind != SET):
        if found is not None:
            raise WireError("sketch: a Counter has none")
        return None
    if not isinstance(found, dict):
        raise WireError(f"sketch {found!r:.80} is not an object")
    if kind == SET:
        _distinct(measured, found)
    elif found:
        _log(measured, found)
    return found


def _distinct(measured: int, found: dict[str, Any]) -> None:
    hashes = found.get("hashes")
    if found.keys() != {"hashes"} or not isinstance(hashes, list) or not 1 <= len(hashes) <= min(KEPT_HASHES, measured):
        raise WireError(f"sketch: a Set has 1 to {KEPT_HASHES} hashes, no more than values, and nothing else")
    if any(type(each) is not int or not 0 <= each < HASH_RANGE for each in hashes):
        raise WireError("sketch: a hash is an integer of 63 bits")


def _log(measured: int, found: dict[str, Any]) -> None:
    if unknown := found.keys() - _LOG_PARTS:
        raise WireError(f"sketch field {min(unknown)!r} is unknown: use {', '.join(sorted(_LOG_PARTS))}")
    lists = [found.get("positive", []), found.get("negative", [])]
    if any(not isinstance(flat, list) or len(flat) % 2 or len(flat) > 2 * MOST_BUCKETS for flat in lists):
        raise WireError(f"sketch: use lists of at most {MOST_BUCKETS} pairs of bucket and count")
    if any(type(each) is not int for each in chain(*lists)):
        raise WireError("sketch: buckets and counts are integers")
    for flat in lists:
        buckets = flat[::2]
        if buckets and (min(buckets) < LOWEST_BUCKET or max(buckets) > HIGHEST_BUCKET):
            raise WireError(f"sketch: buckets range from {LOWEST_BUCKET} to {HIGHEST_BUCKET}, the sizes of floats")
        if len(set(buckets)) < len(buckets) or min(flat[1::2], default=1) < 1:
            raise WireError("sketch: each bucket occurs once, with a count of at least 1")
    held = sum(chain(*(flat[1::2] for flat in lists))) + checked_count("zero", found.get("zero", 0))
    if held != measured:
        raise WireError(f"sketch: it holds {held} values, but the batch {measured}")
