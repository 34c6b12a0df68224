"""What every run needs at hand: database, watermark, engine, position documents, and who may hold tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pymongo.database import Database

from aggregates.definition.definition import Definition
from aggregates.exceptions import BusyError, RunCancelledError, UnknownAggregateError
from aggregates.run import failpoint
from aggregates.run.generation import Generations
from aggregates.run.jobs import EngineLike
from aggregates.run.lease import HeldLease, LeaseRenewer
from aggregates.run.lease_holder import this_thread
from aggregates.run.planner import Plan, make_plan
from aggregates.run.position import Position, SlotName
from aggregates.run.position_store import Lease, PositionStore
from aggregates.run.watermark import EventSource, IdRange

RETRY_S = 0.02
LOOK_S = 5.0  # between two looks at the views of one aggregate by a process that refreshes it all the time
LINE_UP_S = 1.0  # between two times of saying that it is our turn next
CANCEL_S = 1.0  # between two looks whether a person wants a run cancelled


@dataclass
class RunContext:
    """One per process. Thread-safe when its engine and database are."""

    database: Database[dict[str, Any]]
    store: EventSource
    engine: EngineLike
    modules: tuple[str, ...]
    durable_jobs: bool = True  # whether the engine still knows a job after this process has died
    defined: Callable[[str], bool] = lambda name: True  # whether there is an AggDef of this name now
    grace_s: float = 60.0  # how long a generation that is no longer shown is kept for readers in the middle of it
    position_store: PositionStore = field(init=False)
    generations: Generations = field(init=False)
    lease_renewer: LeaseRenewer = field(init=False)

    def __post_init__(self) -> None:
        self.position_store = PositionStore(self.database)
        self.generations = Generations(self.database, self.position_store)
        self.lease_renewer = LeaseRenewer(self.position_store)
        self._looked: dict[str, float] = {}
        self._leads: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def plan(self, definition: Definition, span: IdRange, *, full: bool) -> Plan:
        """What the task wants done with the range. Raises `TaskError`."""
        query = {**span.condition(), **definition.filter}
        return make_plan(definition, self.modules, self.database, query, full)

    def position(self, definition: Definition) -> Position:
        """The position, made if missing. Raises `OutputTakenError`, and `UnknownAggregateError` when it is deleted."""
        key = (definition.name, definition.fingerprint())
        with self._lock:
            known = self._leads.get(key)
        if known is not None and (found := self.position_store.find(known)) is not None:
            return found
        plan = self.plan(definition, IdRange(None, None, ()), full=True)
        self.generations.check_free(plan.outputs)
        new = self.position_store.of_aggdef(definition.name) is None
        position = self.position_store.claim(plan.outputs, definition.name)
        failpoint.reach("claimed")
        if new and not self.defined(definition.name):  # after the claim: who deletes it looks for one afterwards
            self.position_store.forget(position)
            raise UnknownAggregateError(f"the aggregate {definition.name!r} was deleted: nothing of it is made anew")
        with self._lock:
            self._leads[key] = position.name
        return position

    def tend(self, name: str, *, now: bool) -> None:
        """Put right the views of the aggregate `name` that somebody has dropped or changed.

        Without `now`, only when that was not looked after for some seconds. Raises `OutputTakenError`.
        """
        if not now and time.monotonic() - self._looked.get(name, float("-inf")) < LOOK_S:
            return
        self._looked[name] = time.monotonic()
        position = self.position_store.of_aggdef(name)
        if position is not None:
            self.generations.mend(position)

    def forget(self, name: str) -> None:
        """Nothing is known any more of the aggregate `name`, which is deleted."""
        self._looked.pop(name, None)

    @contextmanager
    def holding(self, name: str, slot: SlotName, wait_s: float = 0.0) -> Iterator[tuple[HeldLease, Position]]:
        """Hold and renew the lease of a slot inside the block.

        Raises `BusyError` when another one has it still after `wait_s`. Who waits comes before those who do not, such
        as realtime refreshes one after the other. The position is as of the moment of taking.
        """
        lease, position = self._acquire(name, slot, wait_s)
        try:
            failpoint.reach("leased")
            with self.lease_renewer.keep(lease) as kept:
                yield kept, position
        finally:
            self.position_store.release(lease)

    def _acquire(self, name: str, slot: SlotName, wait_s: float) -> tuple[Lease, Position]:
        if not wait_s:
            return self.position_store.acquire(name, slot)
        waiter = this_thread()
        deadline = time.monotonic() + wait_s
        lined_up = float("-inf")
        while True:
            try:
                return self.position_store.acquire(name, slot, waiter=waiter)
            except BusyError:
                if time.monotonic() >= deadline:
                    raise
            if time.monotonic() - lined_up > LINE_UP_S:
                lined_up = time.monotonic()
                self.position_store.line_up(name, slot, waiter)
            time.sleep(RETRY_S)  # nobody says when a lease is given back

    def watch(self, kept: HeldLease, uid: str) -> Callable[[], None]:
        """A check for long waits: raises when the lease is lost, or a person asked to cancel `uid`.

        May be called often: MongoDB is asked once a second.
        """
        asked = time.monotonic()

        def check() -> None:
            nonlocal asked
            kept.check()
            if time.monotonic() - asked < CANCEL_S:
                return
            asked = time.monotonic()
            slot = getattr(self.position_store.get(kept.lease.name), kept.lease.slot)
            if slot.cancel == uid:
                raise RunCancelledError(f"run {uid} was cancelled", wrote=True)

        return check
