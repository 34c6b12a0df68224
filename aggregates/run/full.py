"""Build a new generation beside the current one and switch to it atomically: full runs and rebuilds.

Increments of the current generation go on during the build. Their events are added to the new generation before the
switch; only its last, small step holds them up.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from aggregates.definition.definition import Definition
from aggregates.exceptions import EventsGoneError, RunCancelledError, RunFailedError
from aggregates.run import failpoint, jobs
from aggregates.run.context import RunContext
from aggregates.run.decision import gone
from aggregates.run.incremental import make_step, new_uid, outcome_of
from aggregates.run.inputs import input_mark, pinned
from aggregates.run.lease import HeldLease
from aggregates.run.outcome import Outcome, RunCounts
from aggregates.run.planner import Plan
from aggregates.run.position import Build, Position
from aggregates.run.position_store import Reached
from aggregates.run.rebuild import Rebuild
from aggregates.run.watermark import Mark

SMALL_STEP = 20_000  # most ids in the last step before a switch
LIVE_WAIT_S = 120.0
ROUNDS = 20  # catch-up steps after which the build switches, however far behind it is


def full_run(run_context: RunContext, definition: Definition, *, force: bool = False) -> Outcome:
    """Compute the aggregate from all stored events and switch readers to it atomically.

    Blocks until done; called again after a crash, it resumes. Raises `EventsGoneError` if the aggregate holds events
    that are no longer stored and `force` is false, `BusyError` if another process is building.
    """
    with _building(run_context, definition) as (kept, position, mark):
        if (reason := gone(position, mark)) and not force:
            raise EventsGoneError(f"{definition.name}: {reason}; use force (--force) to run it anyway")
        plan = run_context.plan(definition, mark.range(mark.first, mark.through), full=True)
        builder = GenerationBuilder(run_context, definition, kept, plan)
        return builder.run(builder.resume_or_begin(position, mark))


def rebuild(run_context: RunContext, definition: Definition, since: datetime, until: datetime) -> Outcome:
    """Recompute the periods that overlap [since, until) from the stored events and keep the others as they are.

    Blocks until done. Raises `NotRebuildableError` if the task has no `period`, and whatever `full_run` raises.
    """
    with _building(run_context, definition) as (kept, position, mark):
        plan = run_context.plan(definition, mark.range(mark.first, mark.through), full=True)
        builder = GenerationBuilder(run_context, definition, kept, plan)
        builder.discard(position)
        return builder.run_rebuild(Rebuild(run_context, definition, plan), mark, since, until)


@contextmanager
def _building(run_context: RunContext, definition: Definition) -> Iterator[tuple[HeldLease, Position, Mark]]:
    name = run_context.position(definition).name
    with run_context.holding(name, "build") as (kept, position), pinned(run_context, definition):
        position = run_context.generations.show(position)
        yield kept, position, input_mark(run_context, definition)
    run_context.generations.sweep(run_context.position_store.get(name), run_context.grace_s)


class GenerationBuilder:
    """Performs one build under a held lease."""

    def __init__(self, run_context: RunContext, definition: Definition, kept: HeldLease, plan: Plan) -> None:
        self._run_context = run_context
        self._definition = definition
        self._kept = kept
        self._plan = plan
        self._tally = RunCounts()
        self._began = time.monotonic()

    # Starting

    def resume_or_begin(self, position: Position, mark: Mark) -> Build:
        """Return the interrupted build if it can be resumed, else a new one."""
        making = position.making
        if making is not None and self._resumable(making, mark):
            return making
        self.discard(position)
        return self.begin("full", mark)

    def _resumable(self, making: Build, mark: Mark) -> bool:
        return (
            making.mode == "full"
            and (making.code, making.definition) == (self._plan.version, self._definition.fingerprint())
            and (making.store, making.epoch) == (mark.store, mark.epoch)
            and making.base == mark.first
            and self._increments
        )

    @property
    def _increments(self) -> bool:
        return self._plan.associative and self._definition.kind != "aggregate"

    def begin(self, mode: str, mark: Mark, since: datetime | None = None, until: datetime | None = None) -> Build:
        """Record a new build and create its collections."""
        making = Build(
            uid=new_uid(),
            mode=mode,
            generation=self._run_context.position_store.number(self._kept.lease),
            code=self._plan.version,
            definition=self._definition.fingerprint(),
            base=mark.first,
            reached=None,
            since=since,
            until=until,
            store=mark.store,
            epoch=mark.epoch,
            version=mark.version,
        )
        position = self._run_context.position_store.record_build(self._kept.lease, making)
        self._run_context.generations.make(position.outputs, making.generation)
        failpoint.reach("generation_made")
        return making

    def discard(self, position: Position) -> None:
        """Abandon an interrupted build; the next sweep drops its collections."""
        if position.making is not None:
            if position.making.step is not None:
                jobs.discard(self._run_context.engine, position.making.step)
            self._run_context.position_store.drop_build(self._kept.lease)

    # The work

    def run(self, making: Build) -> Outcome:
        """Process everything that is readable, and switch."""
        try:
            making = self._catch_up(making)
            return self._switch(making)
        except (RunFailedError, RunCancelledError):
            self.discard(self._run_context.position_store.get(self._kept.lease.name))
            raise

    def run_rebuild(self, work: Rebuild, mark: Mark, since: datetime, until: datetime) -> Outcome:
        """Copy what stays, compute what is in the range, and switch."""
        name = self._kept.lease.name
        with self._live() as (_, position):
            since, until = work.widen(position, since, until)
            making = self.begin("rebuild", mark, since, until)
            making = replace(making, reached=position.position, skipped=position.skipped)
            work.copy_outside(position, making)
        failpoint.reach("copied")
        try:
            scratch = self._run_context.position_store.number(self._kept.lease)
            span = replace(mark.range(mark.first, making.reached), narrowing=work.narrowing(making))
            self._run_context.generations.make(position.outputs, scratch)
            step = make_step(self._run_context, self._plan, span, scratch, mark)
            self._tally += jobs.perform(self._run_context.engine, step, self._run_context.watch(self._kept, making.uid))
            work.copy_inside(position, making, scratch)
            making = replace(making, copied=True)
            self._run_context.position_store.record_build(self._kept.lease, making)
            return self.run(making)
        except (RunFailedError, RunCancelledError):
            self.discard(self._run_context.position_store.get(name))
            raise

    def _catch_up(self, making: Build) -> Build:
        for number in range(ROUNDS):
            if making.step is not None:
                making = self._perform(making)
            mark = input_mark(self._run_context, self._definition)
            behind = making.reached is None or (
                self._increments and mark.through is not None and mark.through > making.reached
            )
            if not behind or (number and mark.integral and mark.through - making.reached <= SMALL_STEP):
                break
            if mark.through is None:
                break
            making = self._perform(self._record(making, mark))
        return making

    def _record(self, making: Build, mark: Mark) -> Build:
        start = making.base if making.reached is None else making.reached
        step = make_step(self._run_context, self._plan, mark.range(start, mark.through), making.generation, mark)
        failpoint.reach("planned")
        making = replace(making, step=step)
        self._run_context.position_store.record_build(self._kept.lease, making)
        failpoint.reach("recorded")
        return making

    def _perform(self, making: Build) -> Build:
        step = making.step
        assert step is not None
        step = jobs.with_code(step, self._plan.code)
        tally = jobs.perform(self._run_context.engine, step, self._run_context.watch(self._kept, making.uid))
        failpoint.reach("jobs_done")
        self._tally += tally
        making = replace(
            making,
            step=None,
            reached=step.through,
            skipped=(making.skipped + tally.skipped)[:1000],
            skipped_count=making.skipped_count + tally.skipped_count,
        )
        self._run_context.position_store.record_build(self._kept.lease, making)
        failpoint.reach("moved")
        return making

    def _switch(self, making: Build) -> Outcome:
        with self._live() as (live, position):
            mark = input_mark(self._run_context, self._definition)
            if (
                self._increments
                and mark.through is not None
                and (making.reached is None or mark.through > making.reached)
            ):
                making = self._perform(self._record(making, mark))
            failpoint.reach("caught_up")
            if position.step is not None:  # of an interrupted increment, whose generation is about to be retired
                jobs.discard(self._run_context.engine, position.step)
            complete = mark.complete_through if making.reached == mark.through else position.complete_through
            reached = Reached(making.reached, complete, making.skipped, making.skipped_count)
            position = self._run_context.position_store.switch(self._kept.lease, live.lease, making, reached)
            position = self._run_context.generations.show(position)
        failpoint.reach("shown")
        return outcome_of(
            self._definition,
            position,
            "complete",
            mode=making.mode,
            uid=making.uid,
            start=making.base,
            tally=self._tally,
            code=making.code,
            duration_s=time.monotonic() - self._began,
        )

    @contextmanager
    def _live(self) -> Iterator[tuple[HeldLease, Position]]:
        """Wait for the increment in progress, then hold up further ones inside the block."""
        self._kept.check()
        with self._run_context.holding(self._kept.lease.name, "live", LIVE_WAIT_S) as held:
            yield held
