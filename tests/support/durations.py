"""Durations that are promised, held on a machine that has other things to do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_MOST = 0.9  # of the tries of a round are to be as quick as promised


def seconds(action: Callable[[], object]) -> float:
    """Return how long `action` took."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def assert_within(limit_s: float, attempt: Callable[[], float], *, tries: int = 10, rounds: int = 5) -> None:
    """Assert that nine of ten attempts take less than `limit_s`, in one of a few rounds; `attempt` returns seconds.

    A machine that is busy slows down some attempts; a mechanism that is missing, such as a notice in place of which
    something looks every two seconds, slows down too many of every round.
    """
    shown = []
    for _ in range(rounds):
        took: list[float] = []
        while len(took) < tries and sum(t >= limit_s for t in took) <= tries - math.ceil(_MOST * tries):
            took.append(attempt())
        if sum(t < limit_s for t in took) >= math.ceil(_MOST * tries):
            return
        shown.append([round(t, 3) for t in took])
    raise AssertionError(f"not within {limit_s:g} s, in none of {rounds} rounds: {shown}")
