"""Keep a log line that would repeat from filling the log."""

from __future__ import annotations

import time

MOST_KEYS = 100


class LogLimit:
    """Allow a log line with the same key once in `every_s` seconds, and lines with at most `MOST_KEYS` keys."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._logged_at: dict[str, float] = {}  # replaced, never changed in place: any thread may call `allows`

    def allows(self, key: str = "") -> bool:
        """Return whether to log the line with this key now, and count it as logged if so."""
        now = time.monotonic()
        recent = {each: at for each, at in self._logged_at.items() if now - at < self._every_s}
        if key in recent or len(recent) >= MOST_KEYS:
            return False
        self._logged_at = recent | {key: now}
        return True
