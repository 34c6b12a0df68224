"""Wait for a condition: the only way in which tests wait for other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pymongo.errors import OperationFailure

WITHIN_S = 150.0  # only catches hangs: conditions take a fraction of it even on a busy machine
PAUSE_S = 0.01
_MADE_MEANWHILE = 166  # mongod's error code for reading a view at the moment it is created


def eventually(
    condition: Callable[[], Any],
    within_s: float = WITHIN_S,
    what: str = "",
    sleep: Callable[[float], object] = time.sleep,
) -> Any:
    """Return the first true value of `condition`; raise `AssertionError` with the last value after `within_s`.

    An `AssertionError` raised by `condition` passes through at once: it means that waiting is pointless.
    A test whose greenlets are to run meanwhile passes `gevent.sleep`.
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
        sleep(PAUSE_S)
