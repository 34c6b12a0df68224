"""Choice of the place for a step: by the health of workers, and by where this step has failed or runs already. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mapreduce.scheduler.step import CALL, PUBLISH, Step
from mapreduce.scheduler.worker_health import QUARANTINED, HealthTracker, Place
from mapreduce.scheduler.worker_state import WorkerState

PATIENCE_S = 5.0  # time for which a step that has failed on a host waits for another host; doubled with each failure
LONGEST_PATIENCE_S = 60.0


class Placement:
    """Decide who may take a step. Belongs to the router's thread."""

    def __init__(self, health: HealthTracker, workers: Mapping[str, WorkerState]) -> None:
        self._health = health
        self._workers = workers

    def able_places(self, step: Step) -> dict[str, bool]:
        """Return the names of the places of all workers, busy ones too, that have not refused `step`: do they work?"""
        places = [place for worker_id in self._able(step) if (place := self._health.find(worker_id)) is not None]
        return {place.name: not place.failures for place in places}

    def may_take(self, worker_id: str, step: Step, now: float) -> bool:
        """Return True if `step` may be given to this worker now.

        A worker to whom failures count gets it only if no other can do it or its pause is over. What has failed at a
        place goes to another host, then to another place, before it is tried there again; it does not wait for ever.
        """
        if not step.troubles and not step.attempts and self._health.all_work:
            return True
        mine = self._health.find(worker_id)
        admitted = self._health.admitted(self._able(step), now)
        if mine is None or mine not in admitted:
            return False
        if not step.troubles and not step.attempts and step.kind in (CALL, PUBLISH) and mine.state == QUARANTINED:
            # A probe with it would hold up the job; but it may have failed where it should not.
            return all(place.state == QUARANTINED for place in admitted)
        if step.attempts:
            return self._may_repeat(mine, step, admitted)
        return not step.troubles or self._is_next(mine, step, admitted) or _waited(mine, step, now)

    def _able(self, step: Step) -> list[str]:
        return [w.worker_id for w in self._workers.values() if w.slots and w.worker_id not in step.refused_by]

    def _is_next(self, mine: Place, step: Step, admitted: list[Place]) -> bool:
        return _order(mine, step) <= min(_order(place, step) for place in admitted)

    def _may_repeat(self, mine: Place, step: Step, admitted: list[Place]) -> bool:
        """Return True if no worker that is idle now is a better place for one more attempt at a running step."""
        idle = [place for place in admitted if self._workers[place.worker_id].accepts]
        return self._is_next(mine, step, [*idle, mine])


def _order(place: Place, step: Step) -> tuple[int, int, int, int]:
    """Return how late in the queue of places for `step` this one is: attempts that run there and failures there."""
    host = place.host.name
    running = [attempt.place for attempt in step.attempts.values()]
    troubles = {name: trouble.count for name, trouble in step.troubles.items()}
    return (
        sum(host_of(name) == host for name in running),
        running.count(place.name),
        sum(count for name, count in troubles.items() if host_of(name) == host),
        troubles.get(place.name, 0),
    )


def _waited(place: Place, step: Step, now: float) -> bool:
    """Return True if the step has waited long enough for a place other than one on the host where it failed."""
    here = [trouble for name, trouble in step.troubles.items() if host_of(name) == place.host.name]
    count = sum(trouble.count for trouble in here)
    last_s = max((trouble.last_s for trouble in step.troubles.values()), default=0.0)
    return now >= last_s + min(PATIENCE_S * 2.0 ** min(count - 1, 30), LONGEST_PATIENCE_S)


def host_of(place: str) -> str:
    """Return the host in the name of a place."""
    return place.rpartition("#")[0]
