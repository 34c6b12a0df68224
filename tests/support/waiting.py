"""Waiting for a condition: the one way in which tests wait for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pymongo.errors import OperationFailure

WITHIN_S = 60.0  # for hangs only: whatever is waited for takes a fraction of it on a machine with other things to do
PAUSE_S = 0.01
_MADE_MEANWHILE = 166  # what mongod says to who reads a view in the moment in which it is made


def eventually(condition: Callable[[], Any], within_s: float = WITHIN_S, what: str = "") -> Any:
    """Return the first true value of `condition`; raise `AssertionError` with the last one after `within_s`.

    An `AssertionError` of `condition` itself goes through at once: it says that waiting is in vain.
    """
    deadline = time.monotonic() + within_s
    found: Any = None
    while True:
        try:
            found = condition()
        except OperationFailure as error:
            if error.code != _MADE_MEANWHILE:
                raise
            found = error
        else:
            if found:
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what or condition}; the last value was {found!r}")
        time.sleep(PAUSE_S)
