"""Record of the failures of workers and their hosts: who backs off, and who is in quarantine. Pure: no I/O, no clock.

As in Spark (`HealthTracker`, and `spark.excludeOnFailure` in https://spark.apache.org/docs/latest/configuration.html),
troubles of a worker count against it, mistakes of a task do not, and enough failing workers of a host count against the
host. Unlike there, what counts is failures in a row, a worker is tried again by itself after growing pauses, and a
restarted worker goes on with the record of the one before it on its host.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

WORKING, BACKING_OFF, QUARANTINED = "working", "backing off", "quarantined"
FIRST_PAUSE_S = 0.5  # after one failure; doubled with each further one in a row
LONGEST_PAUSE_S = 60.0
PROBE_S = 2.0  # shortest time between two steps for a worker that has not succeeded since it failed
QUARANTINE_AFTER = 5  # failures in a row
HOST_AFTER = 2  # failing workers of a host, none of which succeeds, that count against all of its workers
OVERTAKEN_AFTER = 3  # late attempts in a row that others overtook; from there on each counts as a failure
LATE_S = 0.25  # an attempt overtaken sooner says nothing: steps report no oftener, and machines are busy now and then
MUCH_SLOWER, MUCH_LATER_S = 3.0, 2.0  # an attempt overtaken by so much is a failure at once
FORGET_S = 3_600.0  # a worker that has left for this long is forgotten
KEPT = 1_000  # workers that have left and are not forgotten
REASON_CHARACTERS = 300

log = logging.getLogger(__name__)


@dataclass
class FailureRecord:
    """Failures in a row of a worker, or of the workers of a host together."""

    failures: int = 0  # since the last success
    reason: str = ""  # of the last one that was not only slow
    slow: bool = False  # True if the reason is only that others were quicker
    since_s: float = 0.0  # time of the first one
    failed_s: float = float("-inf")  # time of the last one
    retry_s: float = 0.0  # time of the next attempt, if others can do the work until then

    def fail(self, why: str, begun_s: float, now: float, *, slow: bool = False) -> bool:
        """Count a failure; return False if the attempt began before the last one, and so met the same fault.

        If the attempt was only `slow`, any other reason says more.
        """
        same = begun_s <= self.failed_s
        if same and not self.failures:
            return False
        if self.slow or not slow or not self.reason:
            self.reason, self.slow = why[:REASON_CHARACTERS], slow
        if same:
            return False
        self.failures += 1
        self.since_s = now if self.failures == 1 else self.since_s
        self.failed_s = now
        self.retry_s = now + self.pause_s
        return True

    def succeed(self) -> None:
        """Forget the failures, but not when the last one was: attempts that began before it may still fail."""
        self.failures, self.reason, self.slow, self.retry_s = 0, "", False, 0.0

    def probed(self, now: float) -> None:
        """Record that a step was assigned while failures count."""
        if self.failures:
            self.retry_s = now + max(self.pause_s, PROBE_S)

    @property
    def pause_s(self) -> float:
        """Return the pause after the last failure."""
        return min(FIRST_PAUSE_S * 2.0 ** min(self.failures - 1, 30), LONGEST_PAUSE_S)


@dataclass(eq=False)
class Host:
    """A machine, with the places of its workers."""

    name: str
    record: FailureRecord = field(default_factory=FailureRecord)
    failing: set[str] = field(default_factory=set)  # places that failed since any place of this host succeeded
    left: list[tuple[float, Place]] = field(default_factory=list)  # places without a worker, and since when
    count: int = 0  # places so far


@dataclass(eq=False)
class Place:
    """Where steps run: a worker, or the one that follows it on its host."""

    name: str  # `host#number`; kept by the worker that follows
    host: Host
    worker_id: str
    worker_name: str  # for people
    record: FailureRecord = field(default_factory=FailureRecord)
    answered: bool = False  # True if it has done a probe since it joined or last failed
    proven: bool = False  # True if it has done a step since it joined or last failed
    overtaken: int = 0  # late attempts in a row that another place overtook
    lacks_right: bool = False  # True if MongoDB refused a step to its login, and it has written nothing since

    @property
    def worst(self) -> FailureRecord:
        """Return its own record, or that of its host if that is worse."""
        return max(self.host.record, self.record, key=lambda record: (record.failures, record is self.record))

    @property
    def failures(self) -> int:
        """Return the failures in a row that count against it."""
        return self.worst.failures

    @property
    def retry_s(self) -> float:
        """Return the time from which it gets a step although others can do the work."""
        return max(self.record.retry_s, self.host.record.retry_s)

    @property
    def state(self) -> str:
        """Return `working`, `backing off` or `quarantined`."""
        return QUARANTINED if self.failures >= QUARANTINE_AFTER else BACKING_OFF if self.failures else WORKING


@dataclass(frozen=True)
class HealthReport:
    """Health of a worker; times are on the router's clock, None while no failure counts."""

    state: str = WORKING
    failures: int = 0  # in a row
    reason: str = ""  # of the last one
    since_s: float | None = None  # when the first failed
    retry_s: float | None = None  # when it gets a step although others can do the work


class HealthTracker:
    """Places of all workers. Belongs to the router's thread."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}
        self._places: dict[str, Place] = {}  # of registered workers, by worker id
        self.all_work = True  # False if failures count against any of them

    def join(self, worker_id: str, worker_name: str) -> None:
        """Give a worker its place: the one it had, else the worst that a worker of its host has left, else a new one.

        So neither a new registration nor a restart clears a record. `worker_name` is `host:pid`.
        """
        if worker_id in self._places:
            return
        name = worker_name.rpartition(":")[0] or worker_name
        host = self._hosts.setdefault(name, Host(name))
        known = max(host.left, key=lambda item: (item[1].worker_id == worker_id, item[1].failures), default=None)
        if known is None:
            host.count += 1
            place = Place(f"{name}#{host.count}", host, worker_id, worker_name)
        else:
            host.left.remove(known)
            place = known[1]
            place.worker_id, place.worker_name = worker_id, worker_name
        self._places[worker_id] = place
        self._look_around()

    def _look_around(self) -> None:
        self.all_work = not any(place.failures for place in self._places.values())

    def leave(self, worker_id: str, now: float) -> None:
        """Keep the record of a worker that has left, if it failed, for the one that follows it on its host."""
        place = self._places.pop(worker_id, None)
        if place is not None and place.failures:
            place.host.left.append((now, place))
        used = {place.host.name for place in self._places.values()}
        times = sorted(left_s for host in self._hosts.values() for left_s, _ in host.left)
        oldest_s = max(now - FORGET_S, times[-KEPT] if len(times) > KEPT else 0.0)
        for name, host in list(self._hosts.items()):
            host.left = [(left_s, place) for left_s, place in host.left if left_s >= oldest_s]
            if not host.left and name not in used:
                del self._hosts[name]
        self._look_around()

    def find(self, worker_id: str) -> Place | None:
        """Return the place of a registered worker."""
        return self._places.get(worker_id)

    def place_name(self, worker_id: str) -> str:
        """Return the name of the place of a worker; the id of a worker that is not registered."""
        place = self._places.get(worker_id)
        return worker_id if place is None else place.name

    def is_unknown(self, worker_id: str) -> bool:
        """Return True if a worker has neither done a step nor failed since it joined: it may only claim to work."""
        place = self._places.get(worker_id)
        return place is None or not (place.proven or place.failures)

    def needs_probe(self, worker_id: str) -> bool:
        """Return True if a worker has done neither a step nor a probe since it joined or last failed."""
        place = self._places.get(worker_id)
        return place is None or not (place.proven or place.answered)

    def may_only_claim(self, worker_id: str) -> bool:
        """Return True if nothing has come from a worker since it joined or was overtaken: no step, and no failure."""
        place = self._places.get(worker_id)
        return place is None or not (place.proven or (place.failures and not place.worst.slow))

    def report(self, worker_id: str) -> HealthReport:
        """Return what people want to know of a worker's health."""
        place = self._places.get(worker_id)
        if place is None or not place.failures:
            return HealthReport()
        worst = place.worst
        return HealthReport(place.state, place.failures, worst.reason, worst.since_s, place.retry_s)

    def failed(self, worker_id: str, why: str, begun_s: float, now: float, *, slow: bool = False) -> None:
        """Count a failure of an attempt that began at `begun_s` against its worker, and maybe against the host."""
        place = self._places.get(worker_id)
        if place is None:
            return
        before = place.state
        if not place.record.fail(why, begun_s, now, slow=slow):
            return
        self.all_work = place.proven = place.answered = False
        host = place.host
        host.failing.add(place.name)
        if len(host.failing) >= HOST_AFTER:
            host.record.fail(f"{len(host.failing)} workers of host {host.name} fail: {why}", begun_s, now, slow=slow)
        if place.state != before:
            log.warning(
                "worker %s worker=%.100r failures=%d retry_in_s=%.1f reason=%r",
                "quarantined" if place.state == QUARANTINED else "backs off", place.worker_name, place.failures,
                place.retry_s - now, place.worst.reason,
            )  # fmt: skip

    def overtaken(self, worker_id: str, took_s: float, begun_s: float, now: float) -> None:
        """Record that another place did a step in `took_s`, which this worker had begun before at `begun_s`.

        It is a failure if that was much quicker, or if it happens again and again to steps that are really late.
        """
        place = self._places.get(worker_id)
        age_s = now - begun_s
        if place is None or age_s < LATE_S:
            return
        place.overtaken += 1
        if place.overtaken >= OVERTAKEN_AFTER or (age_s >= MUCH_LATER_S and age_s > MUCH_SLOWER * took_s):
            why = f"took more than {age_s:.1f} s for a step that took {took_s:.1f} s elsewhere"
            self.failed(worker_id, why, begun_s, now, slow=True)

    def lacked_right(self, worker_id: str) -> None:
        """Record that the login of a worker lacks a right in MongoDB: what it reads from now on proves nothing."""
        if (place := self._places.get(worker_id)) is not None:
            place.lacks_right = True

    def answered(self, worker_id: str) -> None:
        """Record that a worker has done a probe. That shows less than a step: failures go on to count."""
        if (place := self._places.get(worker_id)) is not None:
            place.answered = True

    def succeeded(self, worker_id: str, *, wrote: bool = True) -> None:
        """Record a success of a worker, which also shows that its host works; `wrote` is False if it only read."""
        place = self._places.get(worker_id)
        if place is None or (place.lacks_right and not wrote):
            return
        place.overtaken, place.lacks_right, place.proven = 0, False, True
        if place.failures or place.record.failures:
            log.info("worker works again worker=%.100r failures=%d", place.worker_name, place.failures)
        place.record.succeed()
        place.host.record.succeed()
        place.host.failing.clear()
        if not self.all_work:
            self._look_around()

    def assigned(self, worker_id: str, now: float) -> None:
        """Record that a worker got a step, which is a probe if failures count against it."""
        place = self._places.get(worker_id)
        if place is not None:
            place.record.probed(now)
            place.host.record.probed(now)

    def admitted(self, workers: Iterable[str], now: float) -> list[Place]:
        """Return the places among those of `workers`, which can all do a step, that may be given it.

        These are the ones with fewest failures in a row, and those whose pause is over. So nobody is kept waiting while
        all fail alike, as they do without MongoDB. A host whose pause is over is tried where it has failed least.
        """
        places = [place for worker_id in workers if (place := self._places.get(worker_id)) is not None]
        fewest = min((place.failures for place in places), default=0)
        best: dict[str, int] = {}
        for place in places:
            best[place.host.name] = min(place.record.failures, best.get(place.host.name, place.record.failures))

        def is_due(place: Place) -> bool:
            on_trial = not place.host.record.failures or place.record.failures == best[place.host.name]
            return place.retry_s <= now and on_trial

        return [place for place in places if place.failures <= fewest or is_due(place)]
