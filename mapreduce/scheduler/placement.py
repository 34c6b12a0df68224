"""Choice of the place for a step: by the health of workers, and by where this step has failed or runs already. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mapreduce.scheduler.step import CALL, PROBE, PUBLISH, Step, Trouble
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
            return self._may_repeat(mine, step, admitted, now)
        return not step.troubles or self._is_next(mine, step, admitted) or _waited(mine, step, now)

    def has_another_host(self, worker_id: str, step: Step) -> bool:
        """Return True if task code that fails on this worker, maybe because of its host, is to be tried on another.

        One other host is enough: what has failed so on two is a mistake of the task. Workers in quarantine, and those
        that have lost the step, need not be waited for.
        """
        mine = self._health.find(worker_id)
        if mine is None or _unable_hosts(step) - {mine.host.name}:
            return False
        places = [place for able in self._able(step) if (place := self._health.find(able)) is not None]
        return any(
            place.host is not mine.host
            and place.state != QUARANTINED
            and not step.troubles.get(place.name, Trouble()).lost
            for place in places
        )

    def _able(self, step: Step) -> list[str]:
        return [w.worker_id for w in self._workers.values() if w.slots and w.worker_id not in step.refused_by]

    def _is_next(self, mine: Place, step: Step, admitted: list[Place]) -> bool:
        return _order(mine, step) <= min(_order(place, step) for place in admitted)

    def _may_repeat(self, mine: Place, step: Step, admitted: list[Place], now: float) -> bool:
        """Return True if no worker that is idle now is a better place for one more attempt at a running step.

        A worker that may only claim to work leaves it for a while to one that works, even if that is busy; not a probe,
        which only others than that one are given.
        """
        others = [place for place in admitted if place is not mine and place.name not in _running(step)]
        newest_s = max(attempt.started_s for attempt in step.attempts.values())
        works = step.kind != PROBE and any(place.proven for place in others)
        if works and not mine.proven and now < newest_s + PATIENCE_S:
            return False
        idle = [place for place in admitted if self._workers[place.worker_id].accepts]
        free = [place for place in [*idle, mine] if not _leaves_time(place, step, now)]
        return mine in free and self._is_next(mine, step, free)


def _order(place: Place, step: Step) -> tuple[int, bool, bool, int, int, int]:
    """Return how late in the queue of places for `step` this one is: attempts that run there and failures there.

    A host that may be unable to run its task is worse than one that runs it already on another worker. If the step is
    late where it runs, or has failed, a worker that may only claim to work is worse, too.
    """
    host = place.host.name
    running = _running(step)
    troubles = {name: trouble.count for name, trouble in step.troubles.items()}
    return (
        running.count(place.name),
        host in _unable_hosts(step),
        bool(running or troubles) and not place.proven,
        sum(host_of(name) == host for name in running),
        sum(count for name, count in troubles.items() if host_of(name) == host),
        troubles.get(place.name, 0),
    )


def _running(step: Step) -> list[str]:
    """Return the names of the places of the running attempts."""
    return [attempt.place for attempt in step.attempts.values()]


def _unable_hosts(step: Step) -> set[str]:
    """Return the hosts on which task code has failed at `step` for a reason that may be theirs."""
    return {host_of(name) for name, trouble in step.troubles.items() if trouble.unable}


def _leaves_time(place: Place, step: Step, now: float) -> bool:
    """Return True if another host is trying the step after this one was unable to, and has had little time for it."""
    host = place.host.name
    elsewhere = any(host_of(attempt.place) != host for attempt in step.attempts.values())
    return elsewhere and host in _unable_hosts(step) and not _waited(place, step, now)


def _waited(place: Place, step: Step, now: float) -> bool:
    """Return True if the step has waited long enough for a place other than one on the host where it failed."""
    here = [trouble for name, trouble in step.troubles.items() if host_of(name) == place.host.name]
    count = sum(trouble.count for trouble in here)
    last_s = max((trouble.last_s for trouble in step.troubles.values()), default=0.0)
    return now >= last_s + min(PATIENCE_S * 2.0 ** min(count - 1, 30), LONGEST_PATIENCE_S)


def host_of(place: str) -> str:
    """Return the host in the name of a place."""
    return place.rpartition("#")[0]
