"""One attempt at a step, and when workers of which nothing is known must share a step. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass

# While only unproven workers have a step, of which nothing shows that they work, the number of attempts may double at
# this interval. So the time until a healthy worker has it grows with the logarithm of the number of the others.
UNPROVEN_S = 0.5
UNPROVEN_PROGRESS_S = 1.0  # the same while one of them reports progress


@dataclass
class Attempt:
    """One attempt at a step on one worker."""

    attempt_id: str
    worker_id: str
    number: int  # 1 = the first attempt
    started_s: float  # on the router's clock
    progressed_s: float  # time of the last progress, on the router's clock
    place: str = ""  # name of the worker's place, which a restarted worker takes over
    proven: bool = True  # False if the worker may only have claimed to work until then
    docs: int = 0  # documents or keys it has reported so far
    phase: str | None = None  # as last reported; None = not reported yet
    confirmed: bool = False  # True once its executor has reported anything

    @property
    def never_began(self) -> bool:
        """Return True if nothing shows that the worker, of which nothing is known, has begun."""
        return not self.proven and not self.confirmed

    def quiet_s(self, now: float) -> float:
        """Return the seconds since its start or its last progress."""
        return now - max(self.started_s, self.progressed_s)


def is_only_claimed(attempts: list[Attempt], claimed_s: float, worker_id: str, now: float) -> bool:
    """Return True if only other workers that are not proven have the step, and it is time for one more attempt.

    Those that have lost it unbegun had it since `claimed_s`.
    """
    if any(attempt.proven or attempt.worker_id == worker_id for attempt in attempts):
        return False
    progress = any(attempt.confirmed and attempt.quiet_s(now) < UNPROVEN_S for attempt in attempts)
    age_s = now - min(claimed_s, *(attempt.started_s for attempt in attempts))
    doublings = int(age_s / (UNPROVEN_PROGRESS_S if progress else UNPROVEN_S))
    return len(attempts) < 1 << min(doublings, 30)
