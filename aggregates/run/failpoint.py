"""Name the points of a run at which a crash test can stop the process; in production they do nothing."""

from __future__ import annotations

from collections.abc import Callable

POINTS = (
    "claimed",  # the position document exists
    "leased",  # the lease is held
    "planned",  # the range is planned, nothing is recorded
    "recorded",  # the range is recorded, no job is submitted
    "submitted",  # the engine has the first job
    "jobs_done",  # all jobs of the range are complete, the position has not moved
    "moved",  # the position has moved
    "generation_made",  # a build is recorded and its collection exists
    "copied",  # a rebuild has copied what is outside its range
    "caught_up",  # a build has reached the position of the current generation
    "switched",  # the position document names the new generation
    "shown",  # the view shows the new generation
    "dropped",  # old generations are gone
)

hook: Callable[[str], None] | None = None


def hit(point: str) -> None:
    """Report to the hook, if set, that the process has reached `point`."""
    if hook is not None:
        hook(point)
