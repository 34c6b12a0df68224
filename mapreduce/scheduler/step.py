"""The steps of one job: which are waiting, running or late, and on which workers. Pure: no I/O, no clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mapreduce.scheduler.attempt import UNPROVEN_S, Attempt, is_only_claimed
from mapreduce.scheduler.step_timing import StepTiming

PLAN, MAP_STEP, REDUCE_STEP, PUBLISH, CALL, SMALL = "plan", "map", "reduce", "publish", "call", "small"
PROBE = "probe"  # does nothing: the answer shows that a worker has a process that runs steps
KINDS = (PLAN, MAP_STEP, REDUCE_STEP, PUBLISH, PROBE, CALL, SMALL)
WRITING = (REDUCE_STEP, PUBLISH, SMALL)  # kinds that write results to MongoDB
FIRST_BACKUP_S = 5.0  # until a second attempt at a step if no duration is known, and from that one to a third
FOURTH_S = 60.0  # from the third attempt to a fourth if one of them makes progress
CONFIRM_S = 5.0  # for an executor to confirm the start of a call; doubled with each loss on the same worker
UNPROVEN_CONFIRM_S = 1.0  # for an unproven worker to confirm the start of a call
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_IN_ANY_CASE = 5  # times the failures after which a job ends if they are at enough places


@dataclass
class Trouble:
    """Failures of a step at one place."""

    lost: int = 0
    unbegun: int = 0  # of the lost ones, those that an unproven worker has not even begun
    transient: int = 0
    unable: int = 0  # of the transient ones, those of task code for a reason that may be the host's
    last_s: float = 0.0  # time of the last one, on the router's clock

    @property
    def count(self) -> int:
        """Return the number of failures of any kind."""
        return self.lost + self.transient


@dataclass(eq=False)
class Step:
    """Planning, one split, some partitions, publishing, a call or the probe before it, or all of a small job."""

    kind: str
    index: int
    done: bool = False
    lost: int = 0  # attempts lost with their worker or timed out
    transient: int = 0  # attempts that failed for a temporary reason
    not_before_s: float = 0.0  # end of its pause, on the router's clock
    attempts: dict[str, Attempt] = field(default_factory=dict)  # running attempts by id
    refused_by: set[str] = field(default_factory=set)  # workers that cannot run it
    troubles: dict[str, Trouble] = field(default_factory=dict)  # by name of the place
    claimed_s: float = math.inf  # when the first of the attempts began that were lost `unbegun`

    def lose(self, attempt: Attempt, now: float, *, unbegun: bool = False) -> None:
        """Record that an attempt was lost with its worker or executor, or has timed out.

        One that was `unbegun` says nothing of the step.
        """
        self.lost += not unbegun
        self.claimed_s = min(self.claimed_s, attempt.started_s) if unbegun else self.claimed_s
        trouble = self.trouble(attempt.place, now)
        trouble.lost += 1
        trouble.unbegun += unbegun

    def fail(self, place: str, now: float, *, unable: bool = False) -> None:
        """Record that an attempt failed for a temporary reason, or because the host may be `unable` to run its task."""
        self.transient += 1
        trouble = self.trouble(place, now)
        trouble.transient += 1
        trouble.unable += unable

    def trouble(self, place: str, now: float) -> Trouble:
        """Return the failures at a place, the last of which is at `now`."""
        found = self.troubles.setdefault(place, Trouble())
        found.last_s = now
        return found

    def exhausted(self, most_lost: int, most_transient: int, able: Mapping[str, bool]) -> bool:
        """Return True if the step was lost `most_lost` times or has failed `most_transient` times, at enough places.

        `able` has the names of places that can run it, and True for those without failures in a row. No place counts
        for more than its share, and temporary failures only once each of the latter has failed too: bad places cannot
        end a job while a good one is there. But at several times these numbers it is over in any case.
        """
        if self.lost >= _IN_ANY_CASE * most_lost or self.transient >= _IN_ANY_CASE * most_transient:
            return True
        places = max(1, len({*able, *self.troubles}))
        share, share_of_failed = math.ceil(most_lost / places), math.ceil(most_transient / places)
        lost = sum(min(trouble.lost - trouble.unbegun, share) for trouble in self.troubles.values())
        failed = sum(min(trouble.transient, share_of_failed) for trouble in self.troubles.values())
        untried = any(works and place not in self.troubles for place, works in able.items())
        return lost >= most_lost or (failed >= most_transient and not untried)


MayTake = Callable[[Step], bool]


class Steps:
    """All steps of a job by kind and index. The time to find the next one does not grow with their number."""

    def __init__(self, ceiling_s: float) -> None:
        self.timings = {kind: StepTiming(ceiling_s) for kind in KINDS}
        self.timings[CALL].first_s = ceiling_s  # a call reports no progress, and its duration is unknown
        for kind in KINDS:
            # A call can change anything at each run, so it gets no second attempt beside the first.
            self.timings[kind].first_backup_s = None if kind == CALL else FIRST_BACKUP_S
        self._all: dict[tuple[str, int], Step] = {}
        self._left = dict.fromkeys(KINDS, 0)
        self._waiting: dict[str, deque[Step]] = {kind: deque() for kind in KINDS}
        self._paused: list[Step] = []
        self._by_attempt: dict[str, Step] = {}

    def add(self, kind: str, index: int) -> None:
        step = Step(kind, index)
        self._all[kind, index] = step
        self._left[kind] += 1
        self._waiting[kind].append(step)

    def get(self, kind: str, index: int) -> Step | None:
        """Return the step; None if there is none."""
        return self._all.get((kind, index))

    def count(self, kind: str) -> int:
        return sum(1 for found, _ in self._all if found == kind)

    def left(self, kind: str) -> int:
        """Return the number of steps of a kind that are not done."""
        return self._left[kind]

    @property
    def under_way(self) -> set[Step]:
        """Return the steps with at least one running attempt."""
        return set(self._by_attempt.values())

    def find(self, attempt_id: str) -> tuple[Step, Attempt] | None:
        """Return the step and the running attempt; None if it was abandoned or never existed."""
        step = self._by_attempt.get(attempt_id)
        return (step, step.attempts[attempt_id]) if step else None

    def attempts(self, wanted: Callable[[Attempt], bool] = lambda _: True) -> list[Attempt]:
        """Return the running attempts for which `wanted` is true."""
        return [a for step in self.under_way for a in step.attempts.values() if wanted(a)]

    def offer(
        self, kinds: tuple[str, ...], worker_id: str, now: float, most: int, may_take: MayTake = lambda step: True
    ) -> Step | None:
        """Return the step that an idle worker should run, of those that it may take; None if there is none.

        First choice is a second attempt at a step without progress for longer than others took, then a waiting step if
        fewer than `most` are running, then a second attempt at a step that is merely slow.
        """
        self._requeue_paused(now)
        late = [s for s in self.under_way if s.kind in kinds and self._wants_backup(s, worker_id, now)]
        late = sorted((step for step in late if may_take(step)), key=lambda step: step.index)
        silent = [step for step in late if self._is_silent(step, now)]
        if silent:
            return silent[0]
        if len(self.under_way) < most:
            for kind in kinds:
                for step in self._waiting[kind]:
                    if worker_id in step.refused_by:
                        continue
                    if may_take(step):
                        return step
                    if not step.troubles and not step.refused_by:
                        break  # the worker gets none of those that nobody has tried: there can be thousands
        return late[0] if late else None

    def silent(self, now: float) -> list[Step]:
        """Return the steps whose only attempt has shown no progress for longer than other steps took."""
        only = [step for step in self.under_way if len(step.attempts) == 1]
        late = [step for step in only if self._wants_backup(step, "", now) and self._is_silent(step, now)]
        return sorted(late, key=lambda step: step.index)

    def begin(
        self, step: Step, attempt_id: str, worker_id: str, now: float, place: str = "", *, proven: bool = True
    ) -> Attempt:
        """Record that `step` was assigned to a worker; `place` names its place, by default its id."""
        if not step.attempts:
            self._waiting[step.kind].remove(step)
        attempt = Attempt(attempt_id, worker_id, step.lost + 1, now, now, place or worker_id, proven)
        step.attempts[attempt_id] = attempt
        self._by_attempt[attempt_id] = step
        return attempt

    def finish(self, step: Step) -> list[Attempt]:
        """Record that `step` is done; return the attempts that were still running."""
        ended = self.remove_attempts(step)
        if not step.done:
            step.done = True
            self._left[step.kind] -= 1
            self._unqueue(step)
        return ended

    def reopen(self, step: Step) -> None:
        """Make a finished step wait again."""
        if step.done:
            step.done = False
            step.claimed_s = math.inf
            self._left[step.kind] += 1
            self._waiting[step.kind].appendleft(step)

    def abandon(self, attempt_id: str, now: float, *, pause: bool = False) -> None:
        """Remove an attempt that ended without a result. With `pause`, delay the next one, longer each time."""
        step = self._by_attempt.pop(attempt_id)
        del step.attempts[attempt_id]
        if step.attempts or step.done:
            return
        if pause:
            tries = min(step.transient + step.lost, 20)
            step.not_before_s = now + min(_FIRST_PAUSE_S * 2.0**tries, _LONGEST_PAUSE_S)
            self._paused.append(step)
        else:
            self._waiting[step.kind].appendleft(step)

    def remove_attempts(self, step: Step) -> list[Attempt]:
        """Remove and return the attempts of `step`, which does not go back to waiting."""
        ended = list(step.attempts.values())
        for attempt in ended:
            del self._by_attempt[attempt.attempt_id]
        step.attempts.clear()
        return ended

    def take_back(self, kind: str) -> list[Attempt]:
        """Make all running steps of a kind wait again; return their attempts."""
        ended: list[Attempt] = []
        for step in [step for step in self.under_way if step.kind == kind]:
            ended += self.remove_attempts(step)
            step.claimed_s = math.inf
            self._waiting[kind].appendleft(step)
        return ended

    def overdue(self, now: float) -> list[Attempt]:
        """Return the attempts that have exceeded their time without progress."""
        return [
            attempt
            for step in self.under_way
            for attempt in step.attempts.values()
            if attempt.quiet_s(now) > self._limit_s(step, attempt)
        ]

    def refused(self, workers: set[str]) -> bool:
        """Return True if each of `workers` has refused the same waiting step; False without workers."""
        return bool(workers) and any(
            step.refused_by >= workers for queue in self._waiting.values() for step in queue if step.refused_by
        )

    def next_check_s(self, now: float) -> float:
        """Return the seconds until a second attempt, a time limit or the end of a pause can be due."""
        found = [60.0, *(step.not_before_s - now for step in self._paused)]
        for step in self.under_way:
            backup = self.timings[step.kind].backup_after_s()
            for attempt in step.attempts.values():
                age = now - attempt.started_s
                found.append(self._limit_s(step, attempt) - attempt.quiet_s(now))
                if backup is not None and len(step.attempts) == 1 and age < backup:
                    found.append(backup - age)
                if not attempt.proven:
                    found.append(UNPROVEN_S - age % UNPROVEN_S)
        return max(min(found), 0.001)

    def _requeue_paused(self, now: float) -> None:
        for step in [step for step in self._paused if step.not_before_s <= now]:
            self._paused.remove(step)
            if step.lost:
                self._waiting[step.kind].append(step)  # it may kill the next executor too: others come first
            else:
                self._waiting[step.kind].appendleft(step)

    def _unqueue(self, step: Step) -> None:
        if step in self._waiting[step.kind]:
            self._waiting[step.kind].remove(step)
        if step in self._paused:
            self._paused.remove(step)

    def _is_silent(self, step: Step, now: float) -> bool:
        after = self.timings[step.kind].backup_after_s() or 0.0
        return all(attempt.quiet_s(now) >= after for attempt in step.attempts.values())

    def _limit_s(self, step: Step, attempt: Attempt) -> float:
        """Return the longest time without progress for an attempt."""
        limit_s = self.timings[step.kind].limit_s(attempt.number)
        if step.kind == CALL and not attempt.confirmed:
            before = step.troubles.get(attempt.place, Trouble()).lost
            first_s = CONFIRM_S if attempt.proven or before else UNPROVEN_CONFIRM_S
            return min(first_s * 2.0 ** min(before, 30), limit_s)
        return limit_s

    def _wants_backup(self, step: Step, worker_id: str, now: float) -> bool:
        """Return True if the step is late, and this worker has no attempt at it or the only one."""
        after = self.timings[step.kind].backup_after_s()
        attempts = list(step.attempts.values())
        if after is None or not attempts or worker_id in step.refused_by:
            return False
        if is_only_claimed(attempts, step.claimed_s, worker_id, now):
            return True
        if len(attempts) == 1:
            return now - attempts[0].started_s >= after
        if any(attempt.worker_id == worker_id for attempt in attempts):
            return False
        # Workers may lie, or hang alike. Each further attempt waits twice as long, so that there are few of them.
        silent_s = max(after, FIRST_BACKUP_S)
        doublings = min(len(attempts) - 2, 30)
        wait_s = silent_s * 2.0**doublings
        if any(attempt.quiet_s(now) < silent_s for attempt in attempts):
            wait_s = 2 * silent_s if not doublings else max(silent_s, FOURTH_S) * 2.0 ** (doublings - 1)
        return now - max(attempt.started_s for attempt in attempts) >= wait_s
