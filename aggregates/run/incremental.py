"""Make one aggregate current with an increment, or by finishing an interrupted one."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any

from aggregates.definition.definition import Definition
from aggregates.exceptions import FullRunDueError, RunCancelledError, RunFailedError
from aggregates.run import failpoint, jobs
from aggregates.run.context import RunContext
from aggregates.run.decision import Decision, change_of, next_run
from aggregates.run.inputs import input_mark
from aggregates.run.lease import HeldLease, Lease
from aggregates.run.outcome import Outcome, RunCounts
from aggregates.run.planner import Plan
from aggregates.run.position import Position, RunStep
from aggregates.run.position_store import Reached
from aggregates.run.watermark import IdRange, Mark


def new_uid() -> str:
    """Return an id for a step, from which the ids of its jobs are derived."""
    return uuid.uuid4().hex[:20]


def make_step(
    run_context: RunContext, plan: Plan, span: IdRange, generation: int, mark: Mark, uid: str = ""
) -> RunStep:
    """Return the step that adds `span` to `generation`, ready to be recorded."""
    uid = uid or new_uid()
    specs = plan.specs(uid, run_context.database.name, generation, span)
    return RunStep(
        uid=uid,
        start=span.start,
        through=span.through,
        generation=generation,
        code=plan.version,
        jobs=tuple(spec.to_document() for spec in specs),
        basic=plan.basic,
        complete_through=mark.complete_through,
    )


def refresh(run_context: RunContext, definition: Definition, wait_s: float = 0.0) -> Outcome | Decision:
    """Process new events and return the outcome, or a decision to `build`, which the caller carries out.

    Blocks until the jobs are done. Raises `BusyError` if another process still holds the lease after `wait_s`,
    `TaskError`, `RunFailedError` if a job fails (the position has not moved), and whatever the engine or MongoDB raise.
    Called again after any of these, or after a crash, it resumes without counting an event twice or skipping one.
    """
    mark = input_mark(run_context, definition)
    position = run_context.position(definition)
    if idle := _idle(definition, position, mark):
        return idle
    plan = run_context.plan(definition, mark.range(position.position, mark.through), full=False)
    change = change_of(position, plan.version, definition.fingerprint())
    if change != position.due and not position.blocked:
        run_context.position_store.say_due(position.name, change)
    decision = next_run(position, mark, definition, associative=plan.associative, change=change)
    if decision.action == "build":
        return decision
    if decision.action == "increment" and (done := _refresh_fast(run_context, definition, position, mark, plan)):
        return done
    with run_context.holding(position.name, "live", wait_s) as (kept, held):
        return IncrementalRun(run_context, definition, kept, mark).run(held, plan)


def accept_change(run_context: RunContext, definition: Definition) -> None:
    """Let increments go on after a change of task or definition: a person confirms that existing results are right."""
    mark, position = input_mark(run_context, definition), run_context.position(definition)
    plan = run_context.plan(definition, mark.range(position.position, mark.through), full=False)
    run_context.position_store.accept(position.name, plan.version, definition.fingerprint())


def _refresh_fast(
    run_context: RunContext, definition: Definition, position: Position, mark: Mark, plan: Plan
) -> Outcome | None:
    """Run the usual increment with two writes to the position instead of four; return None if that is not possible."""
    began = time.monotonic()
    if position.shown != position.generation:
        return None
    span = mark.range(position.position, mark.through)
    if not _has_input(run_context, plan, span):
        after = run_context.position_store.pass_over(position, Reached(span.through, mark.complete_through))
        tally, uid = RunCounts(), ""
    else:
        step = make_step(run_context, plan, span, position.generation, mark)
        failpoint.reach("planned")
        taken = run_context.position_store.acquire_for(position.name, step)
        if taken is None:
            return None
        tally, after = _perform_taken(run_context, definition, mark, step, taken[0])
        uid = step.uid
    if after is None:
        return None
    facts = {"uid": uid, "start": span.start, "tally": tally, "code": plan.version}
    return outcome_of(definition, after, "complete", **facts, duration_s=time.monotonic() - began)


def _perform_taken(
    run_context: RunContext, definition: Definition, mark: Mark, step: RunStep, lease: Lease
) -> tuple[RunCounts, Position | None]:
    """Perform a step recorded under `lease`, which is released as the position advances, or here if that fails."""
    moved = False
    try:
        failpoint.reach("leased")
        failpoint.reach("recorded")
        with run_context.lease_renewer.keep(lease) as kept:
            found = IncrementalRun(run_context, definition, kept, mark).perform(step, release=True)
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


def _idle(definition: Definition, position: Position, mark: Mark) -> Outcome | None:
    """Return the outcome if there is nothing to do or a full run is due; saves the lease and the plan."""
    if position.shown != position.generation:
        return None
    decision = next_run(position, mark, definition, associative=True)
    if decision.action == "nothing":
        return outcome_of(definition, position, "nothing", decision.reason)
    if decision.action == "blocked":
        return outcome_of(definition, position, "blocked", decision.reason)
    return None


def outcome_of(
    definition: Definition, position: Position, state: Any, reason: str = "", mode: str = "incremental", **run: Any
) -> Outcome:
    """Return an outcome with the state of `position`; `run` are fields that only a run which did something has."""
    return Outcome(
        name=definition.name,
        mode=mode,
        state=state,
        reason=reason,
        through=position.position,
        complete_through=position.complete_through,
        generation=position.generation,
        outputs=position.outputs,
        due=position.due,
        **run,
    )


class IncrementalRun:
    """Performs one refresh under a held lease."""

    def __init__(self, run_context: RunContext, definition: Definition, kept: HeldLease, mark: Mark) -> None:
        self._run_context = run_context
        self._definition = definition
        self._kept = kept
        self._mark = mark

    def run(self, position: Position, plan: Plan) -> Outcome | Decision:
        """Finish an open step, then process new events; return a decision to `build` if only that helps."""
        began = time.monotonic()
        position = self._run_context.generations.show(position)
        tally = RunCounts()
        start = position.position
        uid = ""
        while True:
            change = change_of(position, plan.version, self._definition.fingerprint())
            decision = next_run(position, self._mark, self._definition, associative=plan.associative, change=change)
            if decision.action == "forward":
                assert position.step is not None
                step: RunStep | None = self.current(position, position.step, plan)
            elif decision.action == "increment":
                step = self._begin(position, plan, decision)
            else:
                break
            if step is None:
                position = self._run_context.position_store.get(position.name)
                continue
            uid = step.uid
            done, position = self.perform(step)
            tally += done
            if plan.code and step.through != self._mark.through:
                plan = self._plan(position)
        if uid or position.position != start:
            facts = {"uid": uid, "start": start, "tally": tally, "code": plan.version}
            return outcome_of(self._definition, position, "complete", **facts, duration_s=time.monotonic() - began)
        if decision.action == "build":
            return decision
        state = "blocked" if decision.action == "blocked" else "nothing"
        return outcome_of(self._definition, position, state, decision.reason)

    def _plan(self, position: Position) -> Plan:
        span = self._mark.range(position.position, self._mark.through)
        return self._run_context.plan(self._definition, span, full=False)

    def _begin(self, position: Position, plan: Plan, decision: Decision) -> RunStep:
        span = self._mark.range(decision.start, decision.through)
        step = make_step(self._run_context, plan, span, position.generation, self._mark)
        failpoint.reach("planned")
        self._run_context.position_store.begin(self._kept.lease, step)
        failpoint.reach("recorded")
        return step

    def current(self, position: Position, step: RunStep, plan: Plan) -> RunStep | None:
        """Return the open step in the form in which it can be resumed, replanned if the code changed before it wrote.

        Return None if the step was abandoned, which leaves the aggregate waiting for a full run.
        """
        if step.code == plan.version and step.generation == position.generation:
            return jobs.with_code(step, plan.code)
        states = [self._run_context.engine.status(spec.job_id) for spec in jobs.specs(step)]
        if any(status.state not in ("UNKNOWN", "error", "cancelled") for status in states) and all(
            status.state not in ("error", "cancelled") for status in states
        ):
            return step
        clean = not step.wrote and all(
            jobs.nothing_written(status) or (status.state == "UNKNOWN" and self._run_context.durable_jobs)
            for status in states
        )
        if clean and not self._traces(step):
            span = self._mark.range(step.start, step.through)
            again = make_step(self._run_context, plan, span, position.generation, self._mark)
            again = replace(again, complete_through=step.complete_through)
            self._run_context.position_store.abandon(self._kept.lease, step)
            self._run_context.position_store.begin(self._kept.lease, again)
            return again
        reason = f"the code of the task was changed while a run through {step.through} was half done"
        self._run_context.position_store.abandon(self._kept.lease, step, due=reason, blocked=True)
        return None

    def perform(self, step: RunStep, *, release: bool = False) -> tuple[RunCounts, Position]:
        """Perform a recorded step and advance the position past it; `release` also releases the lease."""
        position_store = self._run_context.position_store
        try:
            tally = jobs.perform(self._run_context.engine, step, self._run_context.watch(self._kept, step.uid))
        except RunCancelledError as error:
            self._cancel(step, error)
            raise
        except RunFailedError as error:
            step = position_store.failed(self._kept.lease, step, wrote=error.wrote)
            if not step.wrote and not self._traces(step):
                position_store.abandon(self._kept.lease, step)
            raise
        failpoint.reach("jobs_done")
        reached = Reached(step.through, step.complete_through, tally.skipped, tally.skipped_count)
        position = position_store.advance(self._kept.lease, step, reached, release=release)
        failpoint.reach("moved")
        if any(name.endswith("*") for name in position.outputs):
            position = self._run_context.generations.show(position)
        return tally, position

    def _traces(self, step: RunStep) -> bool:
        """Return True if the outputs hold documents written by the step."""
        return any(
            self._run_context.database[output.collection].find_one({"through": step.through}, {"_id": 1}) is not None
            for spec in jobs.specs(step)
            for output in spec.outputs.values()
            if "*" not in output.collection
        )

    def _cancel(self, step: RunStep, error: RunCancelledError) -> None:
        """Abandon a cancelled step. A full run is due unless it is certain that nothing was written."""
        engine = self._run_context.engine
        for spec in jobs.specs(step):
            engine.cancel(spec.job_id)
        states = [engine.status(spec.job_id) for spec in jobs.specs(step)]
        clean = not step.wrote and all(status.ended and jobs.nothing_written(status) for status in states)
        clean = clean and not self._traces(step)
        due = "" if clean else f"the run through {step.through} was cancelled and may have written results"
        self._run_context.position_store.abandon(self._kept.lease, step, due=due, blocked=bool(due))


def demand_unblocked(position: Position) -> None:
    """Raise `FullRunDueError` if only a full run helps."""
    if position.blocked:
        raise FullRunDueError(f"zagg.{position.name}: a full run is due: {position.due}")
