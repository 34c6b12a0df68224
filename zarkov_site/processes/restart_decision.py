"""Pauses between the restarts of a process that dies again and again. Pure: no clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RestartPolicy:
    """Decide how long to wait before a part that died is restarted, and when to stop restarting it.

    Pauses double from `first_pause_s` to `longest_pause_s`. A part is not restarted after `max_deaths` deaths in a row;
    one that ran for `stable_after_s` starts a new row.
    """

    first_pause_s: float = 0.5
    longest_pause_s: float = 15.0
    stable_after_s: float = 30.0
    max_deaths: int = 6
    deaths_in_a_row: int = 0

    def record_death(self, lived_s: float) -> float | None:
        """Return the pause before the next start in seconds, or None if there must be none."""
        self.deaths_in_a_row = 1 if lived_s >= self.stable_after_s else self.deaths_in_a_row + 1
        if self.deaths_in_a_row >= self.max_deaths:
            return None
        return min(self.first_pause_s * 2.0 ** (self.deaths_in_a_row - 1), self.longest_pause_s)
