"""Build a new generation beside the current one and switch to it atomically: full runs and rebuilds.

Increments of the current generation continue during the build. Their events are added to the new generation before the
switch; only the last, small range holds them up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from aggregates.clock import clamp
from aggregates.definition.definition import Definition
from aggregates.exceptions import EventsGoneError, RunCancelledError, RunFailedError
from aggregates.run import failpoint, jobs
from aggregates.run.context import RunContext
from aggregates.run.decision import events_missing
from aggregates.run.incremental import plan_range
from aggregates.run.inputs import inputs_locked, readable_input
from aggregates.run.lease import HeldLease
from aggregates.run.outcome import Outcome, RunCounts, make_outcome
from aggregates.run.planner import Plan
from aggregates.run.position import Build, Position, new_uid
from aggregates.run.position_store import PositionUpdate
from aggregates.run.rebuild import Rebuild
from aggregates.run.watermark import ReadableInput

SMALL_RANGE = 20_000  # most ids in the last range before a switch
LIVE_WAIT_S = 120.0
MOST_CATCH_UPS = 20  # ranges after which the build switches, however far behind it is


def full_run(run_context: RunContext, definition: Definition, *, force: bool = False) -> Outcome:
    """Compute the aggregate from all stored events and switch readers to it atomically.

    Block until done; called again after a crash, it resumes. Raise `EventsGoneError` if the aggregate holds events
    that are no longer stored and `force` is false, `LeaseHeldError` if another process is building.
    """
    with _building(run_context, definition) as (held_lease, position, readable):
        if (reason := events_missing(position, readable)) and not force:
            raise EventsGoneError(f"{definition.name}: {reason}; use force (--force) to run it anyway")
        plan = run_context.plan(definition, readable.range(readable.first, readable.through), full=True)
        builder = GenerationBuilder(run_context, definition, held_lease, plan)
        return builder.run(builder.resume_or_start(position, readable))


def rebuild(run_context: RunContext, definition: Definition, since: datetime, until: datetime) -> Outcome:
    """Recompute the periods that overlap [since, until) from the stored events and keep the others as they are.

    Keys whose period is unknown stay too, and the outcome names them. Block until done. Raise `NotRebuildableError` if
    the task has no `period`, and whatever `full_run` raises.
    """
    since, until = clamp(since), clamp(until)
    with _building(run_context, definition) as (held_lease, position, readable):
        plan = run_context.plan(definition, readable.range(readable.first, readable.through), full=True)
        builder = GenerationBuilder(run_context, definition, held_lease, plan)
        builder.discard(position)
        return builder.run_rebuild(Rebuild(run_context, definition, plan), readable, since, until)


@contextmanager
def _building(run_context: RunContext, definition: Definition) -> Iterator[tuple[HeldLease, Position, ReadableInput]]:
    name = run_context.position(definition).name
    with run_context.hold_lease(name, "build") as (held_lease, position), inputs_locked(run_context, definition):
        position = run_context.generations.switch_views(position)
        yield held_lease, position, readable_input(run_context, definition)
    run_context.generations.drop_retired(run_context.position_store.get(name), run_context.grace_s)


class GenerationBuilder:
    """Perform one build under a held lease."""

    def __init__(self, run_context: RunContext, definition: Definition, held_lease: HeldLease, plan: Plan) -> None:
        self._run_context = run_context
        self._definition = definition
        self._held_lease = held_lease
        self._lease = held_lease.lease
        self._positions = run_context.position_store
        self._plan = plan
        self._counts = RunCounts()
        self._started = time.monotonic()

    # Starting

    def resume_or_start(self, position: Position, readable: ReadableInput) -> Build:
        """Return the interrupted build if it can be resumed, else a new one."""
        build = position.open_build
        if build is not None and self._resumable(build, readable):
            return build
        self.discard(position)
        return self.start("full", readable)

    def _resumable(self, build: Build, readable: ReadableInput) -> bool:
        return (
            build.mode == "full"
            and (build.code, build.definition) == (self._plan.version, self._definition.fingerprint())
            and (build.store, build.epoch) == (readable.store, readable.epoch)
            and build.base == readable.first
            and self._increments
        )

    @property
    def _increments(self) -> bool:
        return self._plan.associative and self._definition.kind != "aggregate"

    def start(
        self, mode: str, readable: ReadableInput, since: datetime | None = None, until: datetime | None = None
    ) -> Build:
        """Record a new build and create its collections."""
        build = Build(
            uid=new_uid(),
            mode=mode,
            generation=self._positions.reserve_generation(self._lease),
            code=self._plan.version,
            definition=self._definition.fingerprint(),
            base=readable.first,
            reached=None,
            since=since,
            until=until,
            store=readable.store,
            epoch=readable.epoch,
            version=readable.version,
        )
        position = self._positions.record_build(self._lease, build)
        self._run_context.generations.create(position.outputs, build.generation)
        failpoint.hit("generation_made")
        return build

    def discard(self, position: Position) -> None:
        """Abandon an interrupted build; the next `drop_retired` drops its collections."""
        if position.open_build is not None:
            if position.open_build.open_range is not None:
                jobs.discard(self._run_context.engine, position.open_build.open_range)
            self._positions.discard_build(self._lease)

    # The work

    def run(self, build: Build) -> Outcome:
        """Process everything that is readable, and switch."""
        try:
            build = self._catch_up(build)
            return self._switch(build)
        except (RunFailedError, RunCancelledError):
            self.discard(self._positions.get(self._lease.name))
            raise

    def run_rebuild(self, work: Rebuild, readable: ReadableInput, since: datetime, until: datetime) -> Outcome:
        """Copy what stays, compute what is in the range, and switch."""
        with self._live() as (_, position):
            since, until = work.widen(position, since, until)
            build = self.start("rebuild", readable, since, until)
            build = replace(build, reached=position.position, skipped=position.skipped)
            work.copy(position, position.generation, build, inside=False)
        failpoint.hit("copied")
        try:
            scratch = self._positions.reserve_generation(self._lease)
            span = replace(readable.range(readable.first, build.reached), narrowing=work.narrowing(build))
            self._run_context.generations.create(position.outputs, scratch)
            planned = plan_range(self._run_context, self._plan, span, scratch, readable)
            self._counts += jobs.perform(
                self._run_context.engine, planned, self._run_context.stop_check(self._held_lease, build.uid)
            )
            work.copy(position, scratch, build, inside=True)
            build = replace(build, copied=True)
            self._positions.record_build(self._lease, build)
            work.periods.report(position.name)
            return replace(self.run(build), odd_keys=tuple(work.periods.odd_keys), odd_count=work.periods.odd_count)
        except (RunFailedError, RunCancelledError):
            self.discard(self._positions.get(self._lease.name))
            raise

    def _catch_up(self, build: Build) -> Build:
        for number in range(MOST_CATCH_UPS):
            if build.open_range is not None:
                build = self._perform(build)
            readable = readable_input(self._run_context, self._definition)
            if build.reached is not None and not self._has_more(build, readable):
                break
            if readable.through is None:
                break
            if number and readable.integral and readable.through - build.reached <= SMALL_RANGE:
                break
            build = self._perform(self._record(build, readable))
        return build

    def _has_more(self, build: Build, readable: ReadableInput) -> bool:
        """Return True if an increment would add something to the build."""
        new = readable.through is not None and (build.reached is None or readable.through > build.reached)
        return self._increments and new

    def _record(self, build: Build, readable: ReadableInput) -> Build:
        start = build.base if build.reached is None else build.reached
        planned = plan_range(
            self._run_context, self._plan, readable.range(start, readable.through), build.generation, readable
        )
        failpoint.hit("planned")
        build = replace(build, open_range=planned)
        self._positions.record_build(self._lease, build)
        failpoint.hit("recorded")
        return build

    def _perform(self, build: Build) -> Build:
        planned = build.open_range
        assert planned is not None
        planned = jobs.with_code(planned, self._plan.code)
        counts = jobs.perform(
            self._run_context.engine, planned, self._run_context.stop_check(self._held_lease, build.uid)
        )
        failpoint.hit("jobs_done")
        self._counts += counts
        build = replace(
            build,
            open_range=None,
            reached=planned.through,
            skipped=(build.skipped + counts.skipped)[:1000],
            skipped_count=build.skipped_count + counts.skipped_count,
        )
        self._positions.record_build(self._lease, build)
        failpoint.hit("moved")
        return build

    def _switch(self, build: Build) -> Outcome:
        with self._live() as (live, position):
            readable = readable_input(self._run_context, self._definition)
            if self._has_more(build, readable):
                build = self._perform(self._record(build, readable))
            failpoint.hit("caught_up")
            if position.open_range is not None:  # of an interrupted increment, whose generation is about to be retired
                jobs.discard(self._run_context.engine, position.open_range)
            complete = readable.complete_through if build.reached == readable.through else position.complete_through
            reached = PositionUpdate(build.reached, complete, build.skipped, build.skipped_count)
            position = self._positions.switch(self._lease, live.lease, build, reached)
            position = self._run_context.generations.switch_views(position)
        failpoint.hit("shown")
        self._run_context.record_key_times(self._definition, position, self._plan, again=True)
        return make_outcome(
            self._definition,
            position,
            "complete",
            mode=build.mode,
            uid=build.uid,
            start=build.base,
            counts=self._counts,
            code=build.code,
            duration_s=time.monotonic() - self._started,
        )

    @contextmanager
    def _live(self) -> Iterator[tuple[HeldLease, Position]]:
        """Wait for the increment in progress, then hold up further ones inside the block."""
        self._held_lease.check()
        with self._run_context.hold_lease(self._lease.name, "live", LIVE_WAIT_S) as held:
            yield held
