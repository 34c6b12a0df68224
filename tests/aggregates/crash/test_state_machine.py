"""Any sequence of sends, commits, runs, crashes, cancels, full runs, rotations and rebuilds equals the recount."""

from __future__ import annotations

import tempfile
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pymongo import MongoClient

from aggregates.exceptions import AggregateError, LeaseHeldError, RunCancelledError
from aggregates.run import context as run_contexts
from aggregates.run import failpoint, lease_holder, position_store
from aggregates.run.context import RunContext
from aggregates.run.decision import Decision
from aggregates.run.full import full_run, rebuild
from aggregates.run.incremental import refresh
from aggregates.run.verify import verify
from ingest.store.store import connect
from mapreduce.engine import open_engine
from tests.support.aggregates.definitions import MODULES, define, engine_settings
from tests.support.aggregates.event_source import NOON, Block, Producer, event, rotate
from tests.support.mongo import open_client

DAY = timedelta(days=1)
EVENTS = st.lists(
    st.builds(
        lambda kind, project, day: event(kind, NOON + day * DAY, project),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["p", "q"]),
        st.integers(-3, 3),
    ),
    min_size=1,
    max_size=4,
)
TASKS = ["CountByDay", "TwoOutputs", "PerType"]
CANCEL_CHECK_S = run_contexts.CANCEL_CHECK_S


class Crash(BaseException):
    """End a run at the current point, as SIGKILL would end its process."""


class Machine(RuleBasedStateMachine):
    """One database, three ingesters, one aggregate; each crash starts a new process."""

    uri = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.client: MongoClient[dict[str, Any]] = open_client(self.uri)
        self.name = f"test_{uuid.uuid4().hex[:12]}"
        self.stores = [connect(self.uri, self.name) for _ in range(3)]
        self.producers = [Producer(store) for store in self.stores]
        self.reserved: list[tuple[int, Block]] = []
        self.cancelled = 0
        self.dead: set[str] = set()
        self.engine: Any = None
        self.crashing = self.cancelling = ""
        run_contexts.CANCEL_CHECK_S = 0.0  # a cancel request is checked at every step
        self.start()

    @initialize(task=st.sampled_from(TASKS))
    def choose(self, task: str) -> None:
        self.definition = define(task)

    def start(self) -> None:
        """Start a new process that knows only what is in the database."""
        if self.engine is not None:
            self.engine.close()
        self.engine = open_engine(engine_settings(self.uri, self.name, Path(self.folder.name)))
        self.run_context = RunContext(
            self.client[self.name], self.stores[0], self.engine, MODULES, durable_jobs=False, grace_s=0
        )
        failpoint.hook = self.reach
        self.crashed = False
        release = self.run_context.position_store.release

        def release_if_alive(lease: Any) -> None:
            if self.crashed:
                self.dead.add(lease.holder)
            else:
                release(lease)

        self.run_context.position_store.release = release_if_alive  # type: ignore[method-assign]
        position_store.is_dead = lambda name: name in self.dead or lease_holder.is_dead(name)  # type: ignore[attr-defined]

    def reach(self, point: str) -> None:
        if point == self.cancelling:
            self.cancelling = ""
            position = self.run_context.position_store.find_by_aggdef(self.definition.name)
            if position and position.open_range:
                self.run_context.position_store.request_cancel(position.name, "live", position.open_range.uid)
            if position and position.open_build:
                self.run_context.position_store.request_cancel(position.name, "build", position.open_build.uid)
        if point == self.crashing:
            self.crashing, self.crashed = "", True
            raise Crash

    def attempt(self, work: Any, crash: str) -> None:
        self.crashing = crash
        try:
            work()
        except Crash:
            self.start()
        except LeaseHeldError:
            raise
        except RunCancelledError:
            self.cancelled += 1
        except AggregateError as error:
            if error.code not in {"not_rebuildable", "full_run_due"}:
                raise
        finally:
            self.crashing = self.cancelling = ""

    @rule(who=st.integers(0, 2), events=EVENTS)
    def reserve(self, who: int, events: list[dict[str, Any]]) -> None:
        self.reserved.append((who, self.producers[who].reserve(events)))

    @precondition(lambda self: self.reserved)
    @rule(which=st.integers(0, 100))
    def settle(self, which: int) -> None:
        who, block = self.reserved.pop(which % len(self.reserved))
        self.producers[who].settle(block)

    @rule(who=st.integers(0, 2), events=EVENTS)
    def send(self, who: int, events: list[dict[str, Any]]) -> None:
        self.producers[who].send(*events)

    @precondition(lambda self: not self.reserved)
    @rule()
    def rotate(self) -> None:
        rotate(self.stores[0])

    @rule(crash=st.sampled_from(["", "", *failpoint.POINTS]))
    def run(self, crash: str) -> None:
        def work() -> None:
            if isinstance(refresh(self.run_context, self.definition), Decision):
                full_run(self.run_context, self.definition)

        self.attempt(work, crash)

    @rule(crash=st.sampled_from(["", *failpoint.POINTS]))
    def full(self, crash: str) -> None:
        self.attempt(lambda: full_run(self.run_context, self.definition), crash)

    @rule(full=st.booleans(), point=st.sampled_from(["recorded", "submitted", "jobs_done"]))
    def cancel(self, full: bool, point: str) -> None:
        """Cancel the run when it reaches `point`, as a person would."""

        def work() -> None:
            if full or isinstance(refresh(self.run_context, self.definition), Decision):
                full_run(self.run_context, self.definition)

        self.cancelling = point
        self.attempt(work, "")

    @rule(crash=st.sampled_from(["", *failpoint.POINTS]), day=st.integers(-3, 3), length=st.integers(1, 3))
    def rebuild(self, crash: str, day: int, length: int) -> None:
        since = NOON + day * DAY
        self.attempt(lambda: rebuild(self.run_context, self.definition, since, since + length * DAY), crash)

    @invariant()
    def readers_see_one_generation(self) -> None:
        """Check that the view shows an existing generation that is complete."""
        found = (
            self.run_context.position_store.find_by_aggdef(self.definition.name)
            if hasattr(self, "definition")
            else None
        )
        if found is None or not found.shown:
            return
        for output in self.run_context.generations.expand_patterns(found.outputs, found.shown):
            options = next(iter(self.run_context.database.list_collections(filter={"name": f"zagg.{output}"})), None)
            shown = int(options["options"]["viewOn"].rpartition(".")[2]) if options else 0
            assert options is None or shown in (found.shown, found.generation)

    def teardown(self) -> None:
        try:
            if hasattr(self, "definition"):
                for who, block in self.reserved:
                    self.producers[who].settle(block)
                self.run("")
                if self.run_context.position_store.get(self.run_context.position(self.definition).name).blocked:
                    assert self.cancelled
                    self.full("")  # a cancelled run requires it
                comparison = verify(self.run_context, self.definition)
                assert comparison.ok, [d.sentence() for d in comparison.differences] or comparison.refused
                assert comparison.through == self.stores[0].watermark().through
        finally:
            failpoint.hook = None
            position_store.is_dead = lease_holder.is_dead  # type: ignore[attr-defined]
            run_contexts.CANCEL_CHECK_S = CANCEL_CHECK_S
            self.client.drop_database(self.name)
            self.engine.close()
            for store in self.stores:
                store.connection.close()
            self.client.close()
            self.folder.cleanup()


def check(uri: str, examples: int, steps: int) -> None:
    made = type("Machine", (Machine,), {"uri": uri})
    run_state_machine_as_test(
        made,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_the_output_equals_the_recount_after_any_sequence_of_actions(mongo_uri: str) -> None:
    check(mongo_uri, examples=8, steps=15)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_output_equals_the_recount_after_any_long_sequence_of_actions(mongo_uri: str) -> None:
    check(mongo_uri, examples=200, steps=40)
