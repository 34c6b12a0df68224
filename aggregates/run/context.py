"""Give runs what they share in a process: database, watermark, engine, positions and the allowed task modules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database

from aggregates.definition.definition import Definition
from aggregates.exceptions import LeaseHeldError, RunCancelledError, UnknownAggregateError
from aggregates.keys.key_time import ENOUGH, tell
from aggregates.run import failpoint
from aggregates.run.generation import Generations, collection_name
from aggregates.run.jobs import EngineLike
from aggregates.run.lease import HeldLease, Lease, LeaseRenewer
from aggregates.run.lease_holder import this_thread
from aggregates.run.planner import Plan, make_plan
from aggregates.run.position import LeaseKind, Position
from aggregates.run.position_store import PositionStore
from aggregates.run.watermark import EventSource, IdRange
from aggregates.task import Task, has_period

RETRY_S = 0.02
VIEW_CHECK_S = 5.0  # between two checks of one aggregate's views by a process that refreshes it continuously
TURN_RENEWAL_S = 1.0  # between two renewals of our turn to take the lease next
CANCEL_CHECK_S = 1.0  # between two checks for a request to cancel the run
ASKED_KEYS = 100  # of each output, to learn how its keys are read
ASKED_PARTS = 50  # first parts of keys, such as `hour/` and `day/`, of which a key is asked in any case
MOST_NAMES = 100  # outputs of a pattern with a record of their own
MOST_UNSURE = 5  # outputs whose keys one run asks once more, because too few of them have answered yet
_AFTER = "\U0010ffff"  # sorts after every key that starts with the text before it


@dataclass
class RunContext:
    """The context of all runs in one process. Thread-safe if its engine and database are."""

    database: Database[dict[str, Any]]
    store: EventSource
    engine: EngineLike
    modules: tuple[str, ...]
    durable_jobs: bool = True  # the engine still knows a job after this process has died
    is_defined: Callable[[str], bool] = lambda name: True  # an AggDef of this name exists now
    grace_s: float = 60.0  # how long a retired generation is kept for queries still reading it
    position_store: PositionStore = field(init=False)
    generations: Generations = field(init=False)
    lease_renewer: LeaseRenewer = field(init=False)

    def __post_init__(self) -> None:
        self.position_store = PositionStore(self.database)
        self.generations = Generations(self.database, self.position_store)
        self.lease_renewer = LeaseRenewer(self.position_store.renew)
        self._checked_at: dict[str, float] = {}
        self._lead_names: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def plan(self, definition: Definition, span: IdRange, *, full: bool) -> Plan:
        """Ask the task for its jobs over `span`. Raise `TaskError` if it cannot be used."""
        query = {**span.condition(), **definition.filter}
        return make_plan(definition, self.modules, self.database, query, full)

    def position(self, definition: Definition) -> Position:
        """Return the position, created if missing.

        Raise `OutputTakenError`, and `UnknownAggregateError` if the AggDef has been deleted.
        """
        key = (definition.name, definition.fingerprint())
        with self._lock:
            known = self._lead_names.get(key)
        if known is not None and (found := self.position_store.find(known)) is not None:
            return found
        plan = self.plan(definition, IdRange(None, None, ()), full=True)
        self.generations.check_view_names(plan.outputs)
        new = self.position_store.find_by_aggdef(definition.name) is None
        position = self.position_store.claim(plan.outputs, definition.name)
        failpoint.hit("claimed")
        if new and not self.is_defined(definition.name):  # after the claim, since a deletion clears claims last
            self.position_store.delete(position)
            raise UnknownAggregateError(f"the aggregate {definition.name!r} was deleted; it is not created again")
        with self._lock:
            self._lead_names[key] = position.name
        return position

    def record_key_times(self, definition: Definition, position: Position, plan: Plan, *, again: bool = False) -> None:
        """Record the key time of each output that has none yet, or one from too few keys; `again` asks all outputs.

        Each output of a pattern has its own record, since its keys may be others than those of most. A record is
        replaced if the code or the definition has changed since, because either may name another zone.
        """
        told_by = {"code": plan.version, "definition": definition.fingerprint()}
        valid = [] if again else [entry for entry in position.key_times if told_by.items() <= entry.items()]
        known = {entry["output"]: entry for entry in valid}
        entries = []
        for output in position.outputs:
            task = _saying(plan, output)
            names = self.generations.expand_patterns([output], position.generation)[:MOST_NAMES]
            unsure = [name for name in (output, *names) if name in known and known[name]["asked"] < ENOUGH]
            asked = {*unsure[:MOST_UNSURE]} if has_period(type(task)) else set()
            for name in dict.fromkeys((output, *names)):
                entry = known.get(name)
                if entry is None or name in asked:
                    keys = chain.from_iterable(
                        self._sample_keys(each, position.generation) for each in (names if name == output else [name])
                    )
                    told = tell(task, keys)
                    if told.asked or entry is None:  # the collection may just have been replaced
                        entry = {"output": name, **told_by, **told.to_document()}
                entries.append(entry)
        if entries != list(position.key_times):
            self.position_store.record_key_times(position.name, entries)

    def _sample_keys(self, output: str, generation: int) -> Iterator[Any]:
        collection = self.database[collection_name(output, generation)]
        pipeline = [{"$sample": {"size": ASKED_KEYS}}, {"$project": {"_id": 1}}]
        keys = [found["_id"] for found in collection.aggregate(pipeline)]
        yield from keys
        if len(keys) == ASKED_KEYS:  # there may be kinds of keys that are too few to be among them
            yield from _keys_of_parts(collection)

    def check_views(self, name: str, *, now: bool) -> None:
        """Repair views of the aggregate `name` that were dropped or changed.

        Do nothing if they were checked in the last `VIEW_CHECK_S` seconds, unless `now`. Raise `OutputTakenError`.
        """
        if not now and time.monotonic() - self._checked_at.get(name, float("-inf")) < VIEW_CHECK_S:
            return
        self._checked_at[name] = time.monotonic()
        position = self.position_store.find_by_aggdef(name)
        if position is not None:
            self.generations.repair_views(position)

    def clear_cache(self, name: str) -> None:
        """Drop what is cached about the aggregate `name`, which was deleted."""
        self._checked_at.pop(name, None)

    @contextmanager
    def hold_lease(self, name: str, kind: LeaseKind, wait_s: float = 0.0) -> Iterator[tuple[HeldLease, Position]]:
        """Hold and renew the lease of this kind inside the block.

        Block for up to `wait_s`, and raise `LeaseHeldError` if the lease is still taken then. A waiting caller precedes
        those that do not wait, such as back-to-back realtime refreshes. The position is the one read with the lease.
        """
        lease, position = self._acquire(name, kind, wait_s)
        try:
            failpoint.hit("leased")
            with self.lease_renewer.renewing(lease) as held_lease:
                yield held_lease, position
        finally:
            self.position_store.release(lease)

    def _acquire(self, name: str, kind: LeaseKind, wait_s: float) -> tuple[Lease, Position]:
        waiter = this_thread()  # even without waiting: the turn may be ours, from a wait that was given up
        deadline = time.monotonic() + wait_s
        renewed_at = float("-inf")
        while True:
            try:
                return self.position_store.acquire(name, kind, waiter=waiter)
            except LeaseHeldError:
                if time.monotonic() >= deadline:
                    raise
            if time.monotonic() - renewed_at > TURN_RENEWAL_S:
                renewed_at = time.monotonic()
                self.position_store.request_turn(name, kind, waiter)
            time.sleep(RETRY_S)  # a release is not announced

    def stop_check(self, held_lease: HeldLease, uid: str) -> Callable[[], None]:
        """Return a check for long waits: it raises if the lease is lost or a person has cancelled the run `uid`.

        The check raises `LeaseLostError` or `RunCancelledError`. It queries MongoDB once per `CANCEL_CHECK_S`.
        """
        asked = time.monotonic()

        def check() -> None:
            nonlocal asked
            held_lease.check()
            if time.monotonic() - asked < CANCEL_CHECK_S:
                return
            asked = time.monotonic()
            lease = held_lease.lease
            if getattr(self.position_store.get(lease.name), lease.kind).cancel == uid:
                raise RunCancelledError(f"run {uid} was cancelled", wrote=True)

        return check


def _keys_of_parts(collection: Collection[dict[str, Any]]) -> Iterator[Any]:
    """Yield the first keys of each first part of keys, up to a slash, by steps through the index."""
    after = ""
    for _ in range(ASKED_PARTS):
        found = collection.find({"_id": {"$gt": after}}, {"_id": 1}).sort("_id", 1).limit(3)  # the first may be odd
        keys = [document["_id"] for document in found]
        if not keys:
            return
        yield from keys
        part, slash, _rest = keys[0].partition("/")
        after = (part + slash if slash else part[:1]) + _AFTER


def _saying(plan: Plan, output: str) -> Task:
    """Return the task that says how the keys of `output` are read: the one that fills it, unless it says nothing."""
    task = plan.tasks.get(output, plan.task)
    return task if has_period(type(task)) or task.zone is not None else plan.task
