"""Make one aggregate current with an increment, or by finishing an interrupted one."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from aggregates.definition.definition import Definition
from aggregates.exceptions import FullRunDueError, RunCancelledError, RunFailedError, TaskError
from aggregates.run import failpoint, jobs
from aggregates.run.context import RunContext
from aggregates.run.decision import Decision, change_since_full_run, next_action
from aggregates.run.inputs import readable_input
from aggregates.run.lease import HeldLease, Lease
from aggregates.run.outcome import Outcome, RunCounts, make_outcome
from aggregates.run.planner import Plan
from aggregates.run.position import PlannedRange, Position, new_uid
from aggregates.run.position_store import PositionUpdate
from aggregates.run.watermark import IdRange, ReadableInput


def plan_range(
    run_context: RunContext, plan: Plan, span: IdRange, generation: int, readable: ReadableInput, uid: str = ""
) -> PlannedRange:
    """Plan to add `span` to `generation`; the result is ready to be recorded."""
    uid = uid or new_uid()
    specs = plan.specs(uid, run_context.database.name, generation, span)
    return PlannedRange(
        uid=uid,
        start=span.start,
        through=span.through,
        generation=generation,
        code=plan.version,
        jobs=tuple(spec.to_document() for spec in specs),
        basic=plan.basic,
        complete_through=readable.complete_through,
    )


def refresh(run_context: RunContext, definition: Definition, wait_s: float = 0.0) -> Outcome | Decision:
    """Process new events and return the outcome, or a decision to `build`, which the caller carries out.

    Block until the jobs are done. Raise `LeaseHeldError` if another process still holds the lease after `wait_s`,
    `TaskError`, `RunFailedError` if a job fails (the position has not moved), and whatever the engine or MongoDB raise.
    Called again after any of these, or after a crash, it resumes without counting an event twice or skipping one.
    """
    readable = readable_input(run_context, definition)
    position = run_context.position(definition)
    if idle := _idle(definition, position, readable):
        if position.generation and not position.key_times:  # of a version that did not record them
            _record_key_times(run_context, definition, position)
        return idle
    plan = run_context.plan(definition, readable.range(position.position, readable.through), full=False)
    change = change_since_full_run(position, plan.version, definition.fingerprint())
    if change != position.due and not position.blocked:
        run_context.position_store.record_full_run_due(position.name, change)
    decision = next_action(position, readable, definition, associative=plan.associative, change=change)
    if decision.action == "build":
        return decision
    done: Outcome | Decision | None = None
    if decision.action == "increment":
        done = _refresh_fast(run_context, definition, position, readable, plan)
    if done is None:
        with run_context.hold_lease(position.name, "live", wait_s) as (held_lease, latest):
            done = IncrementalRun(run_context, definition, held_lease, readable).run(latest, plan)
    if position.generation and not (change and position.key_times):  # a change says nothing about the old results
        run_context.record_key_times(definition, position, plan)
    return done


def _record_key_times(run_context: RunContext, definition: Definition, position: Position) -> None:
    """Record how keys are read without a run; a task that cannot be used is reported by the next one."""
    with contextlib.suppress(TaskError):
        plan = run_context.plan(definition, IdRange(None, None, ()), full=True)
        run_context.record_key_times(definition, position, plan)


def accept_change(run_context: RunContext, definition: Definition) -> None:
    """Let increments continue after a change of task or definition: a person confirms that the results are right.

    How keys are read is recorded again at once, since the change may be that of a zone. Nothing changes if the results
    are half those of another run.
    """
    readable, position = readable_input(run_context, definition), run_context.position(definition)
    plan = run_context.plan(definition, readable.range(position.position, readable.through), full=False)
    run_context.position_store.accept_change(position.name, plan.version, definition.fingerprint())
    if position.generation and not position.blocked:
        run_context.record_key_times(definition, position, plan)


def _refresh_fast(
    run_context: RunContext, definition: Definition, position: Position, readable: ReadableInput, plan: Plan
) -> Outcome | None:
    """Run an ordinary increment with two writes to the position instead of four. Return None if that is impossible."""
    began = time.monotonic()
    if position.shown != position.generation:
        return None
    span = readable.range(position.position, readable.through)
    if not _has_input(run_context, plan, span):
        after = run_context.position_store.skip_empty_range(
            position, PositionUpdate(span.through, readable.complete_through)
        )
        counts, uid = RunCounts(), ""
    else:
        planned = plan_range(run_context, plan, span, position.generation, readable)
        failpoint.hit("planned")
        taken = run_context.position_store.acquire_for(position.name, planned)
        if taken is None:
            return None
        counts, after = _perform_taken(run_context, definition, readable, planned, taken[0])
        uid = planned.uid
    if after is None:
        return None
    facts = {"uid": uid, "start": span.start, "counts": counts, "code": plan.version}
    return make_outcome(definition, after, "complete", **facts, duration_s=time.monotonic() - began)


def _perform_taken(
    run_context: RunContext, definition: Definition, readable: ReadableInput, planned: PlannedRange, lease: Lease
) -> tuple[RunCounts, Position | None]:
    """Add a range recorded under `lease`, which is released as the position advances, or here if that fails."""
    moved = False
    try:
        failpoint.hit("leased")
        failpoint.hit("recorded")
        with run_context.lease_renewer.renewing(lease) as held_lease:
            found = IncrementalRun(run_context, definition, held_lease, readable).perform(planned, release=True)
        moved = True
        return found
    finally:
        if not moved:
            run_context.position_store.release(lease)


def _has_input(run_context: RunContext, plan: Plan, span: IdRange) -> bool:
    """Return False if no source has a document in the range, which saves an empty job.

    Without a filter nearly every range has one, and the query would cost more than it saves.
    """
    if plan.basic or not all(source.query for job in plan.jobs for source in job.sources):
        return True
    home = run_context.database
    database = home.client[span.database] if span.database else home
    queries = {repr(source.query): source.query for job in plan.jobs for source in job.sources}
    return any(
        database[name].find_one({"$and": [span.condition(), dict(query)]}, {"_id": 1}) is not None
        for query in queries.values()
        for name in span.collections
    )


def _idle(definition: Definition, position: Position, readable: ReadableInput) -> Outcome | None:
    """Return the outcome if there is nothing to do or a full run is due; saves the lease and the plan."""
    if position.shown != position.generation:
        return None
    decision = next_action(position, readable, definition, associative=True)
    if decision.action == "nothing":
        return make_outcome(definition, position, "nothing", decision.reason)
    if decision.action == "blocked":
        return make_outcome(definition, position, "blocked", decision.reason)
    return None


class IncrementalRun:
    """Perform one refresh under a held lease."""

    def __init__(
        self, run_context: RunContext, definition: Definition, held_lease: HeldLease, readable: ReadableInput
    ) -> None:
        self._run_context = run_context
        self._definition = definition
        self._held_lease = held_lease
        self._lease = held_lease.lease
        self._positions = run_context.position_store
        self._mark = readable

    def run(self, position: Position, plan: Plan) -> Outcome | Decision:
        """Finish an open range, then process new events; return a decision to `build` if only that helps."""
        began = time.monotonic()
        position = self._run_context.generations.switch_views(position)
        counts = RunCounts()
        start = position.position
        uid = ""
        while True:
            change = change_since_full_run(position, plan.version, self._definition.fingerprint())
            decision = next_action(position, self._mark, self._definition, associative=plan.associative, change=change)
            if decision.action == "resume":
                assert position.open_range is not None
                planned: PlannedRange | None = self.current(position, position.open_range, plan)
            elif decision.action == "increment":
                planned = self._begin(position, plan, decision)
            else:
                break
            if planned is None:
                position = self._positions.get(position.name)
                continue
            uid = planned.uid
            done, position = self.perform(planned)
            counts += done
            if plan.code and planned.through != self._mark.through:
                plan = self._plan(position)
        if uid or position.position != start:
            facts = {"uid": uid, "start": start, "counts": counts, "code": plan.version}
            return make_outcome(self._definition, position, "complete", **facts, duration_s=time.monotonic() - began)
        if decision.action == "build":
            return decision
        state = "blocked" if decision.action == "blocked" else "nothing"
        return make_outcome(self._definition, position, state, decision.reason)

    def _plan(self, position: Position) -> Plan:
        span = self._mark.range(position.position, self._mark.through)
        return self._run_context.plan(self._definition, span, full=False)

    def _begin(self, position: Position, plan: Plan, decision: Decision) -> PlannedRange:
        span = self._mark.range(decision.start, decision.through)
        planned = plan_range(self._run_context, plan, span, position.generation, self._mark)
        failpoint.hit("planned")
        self._positions.record_range(self._lease, planned)
        failpoint.hit("recorded")
        return planned

    def current(self, position: Position, planned: PlannedRange, plan: Plan) -> PlannedRange | None:
        """Return the open range in the form in which it can be resumed, replanned if the code changed before it wrote.

        Return None if the range was abandoned, which leaves the aggregate waiting for a full run.
        """
        if planned.code == plan.version and planned.generation == position.generation:
            return jobs.with_code(planned, plan.code)
        states = [self._run_context.engine.status(spec.job_id) for spec in jobs.specs(planned)]
        if any(status.state not in ("UNKNOWN", "error", "cancelled") for status in states) and all(
            status.state not in ("error", "cancelled") for status in states
        ):
            return planned
        clean = not planned.wrote and all(
            jobs.nothing_written(status) or (status.state == "UNKNOWN" and self._run_context.durable_jobs)
            for status in states
        )
        if clean and not self._traces(planned):
            span = self._mark.range(planned.start, planned.through)
            again = plan_range(self._run_context, plan, span, position.generation, self._mark)
            again = replace(again, complete_through=planned.complete_through)
            self._positions.abandon(self._lease, planned)
            self._positions.record_range(self._lease, again)
            return again
        reason = f"the code of the task was changed while a run through {planned.through} was half done"
        self._positions.abandon(self._lease, planned, due=reason, blocked=True)
        return None

    def perform(self, planned: PlannedRange, *, release: bool = False) -> tuple[RunCounts, Position]:
        """Add a recorded range and advance the position past it; `release` also releases the lease."""
        try:
            counts = jobs.perform(
                self._run_context.engine, planned, self._run_context.stop_check(self._held_lease, planned.uid)
            )
        except RunCancelledError as error:
            self._cancel(planned, error)
            raise
        except RunFailedError as error:
            planned = self._positions.record_failed_attempt(self._lease, planned, wrote=error.wrote)
            if not planned.wrote and not self._traces(planned):
                self._positions.abandon(self._lease, planned)
            raise
        failpoint.hit("jobs_done")
        reached = PositionUpdate(planned.through, planned.complete_through, counts.skipped, counts.skipped_count)
        position = self._positions.advance(self._lease, planned, reached, release=release)
        failpoint.hit("moved")
        if any(name.endswith("*") for name in position.outputs):
            position = self._run_context.generations.switch_views(position)
        return counts, position

    def _traces(self, planned: PlannedRange) -> bool:
        """Return True if the outputs hold documents written for the range."""
        return any(
            self._run_context.database[output.collection].find_one({"through": planned.through}, {"_id": 1}) is not None
            for spec in jobs.specs(planned)
            for output in spec.outputs.values()
            if "*" not in output.collection
        )

    def _cancel(self, planned: PlannedRange, error: RunCancelledError) -> None:
        """Abandon a cancelled range. A full run is due unless it is certain that nothing was written."""
        engine = self._run_context.engine
        for spec in jobs.specs(planned):
            engine.cancel(spec.job_id)
        states = [engine.status(spec.job_id) for spec in jobs.specs(planned)]
        clean = not planned.wrote and all(status.ended and jobs.nothing_written(status) for status in states)
        clean = clean and not self._traces(planned)
        due = "" if clean else f"the run through {planned.through} was cancelled and may have written results"
        self._positions.abandon(self._lease, planned, due=due, blocked=bool(due))


def require_unblocked(position: Position) -> None:
    """Raise `FullRunDueError` if only a full run helps."""
    if position.blocked:
        raise FullRunDueError(f"zagg.{position.name}: a full run is due: {position.due}")
