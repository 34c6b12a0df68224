"""A position moves by compare-and-set only: a range planned from another state of it changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pymongo.database import Database

from aggregates.exceptions import LeaseLostError
from aggregates.run.position import Build, PlannedRange, Position
from aggregates.run.position_store import COLLECTION, PositionStore, PositionUpdate

AT = {"position": 10, "generation": 1, "shown": 1, "step": None}
TO = PositionUpdate(20, None)


@pytest.fixture
def position_store(database: Database[dict[str, Any]]) -> PositionStore:
    """Return a store with one aggregate, at event 10 of its first generation."""
    made = PositionStore(database)
    made.claim(["days"], "days")
    put(database, **AT)
    return made


def put(database: Database[dict[str, Any]], **fields: Any) -> None:
    """Change fields of the position, as another process would."""
    database[COLLECTION].update_one({"_id": "days"}, {"$set": fields})


def planned(start: int = 10, uid: str = "one", generation: int = 1) -> PlannedRange:
    return PlannedRange(uid=uid, start=start, through=20, generation=generation, code="c", jobs=())


MOVED = [{"position": 11}, {"generation": 2, "shown": 2}]


@pytest.mark.parametrize("moved", MOVED, ids=["moved on", "switched"])
def test_a_range_planned_before_the_position_changed_is_not_started(moved, position_store, database):
    lease, _ = position_store.acquire("days", "live")
    put(database, **moved)
    with pytest.raises(LeaseLostError):
        position_store.record_range(lease, planned())
    position_store.release(lease)
    assert position_store.acquire_for("days", planned()) is None
    assert position_store.get("days").open_range is None
    put(database, **AT)
    taken = position_store.acquire_for("days", planned())
    assert taken is not None
    assert taken[1].open_range == planned()


def test_a_range_is_not_started_beside_an_open_one_or_before_its_generation_is_shown(position_store, database):
    put(database, step=planned(uid="open").to_document())
    assert position_store.acquire_for("days", planned()) is None
    put(database, step=None, shown=0)
    assert position_store.acquire_for("days", planned()) is None
    put(database, **AT)
    assert position_store.acquire_for("days", planned()) is not None


def test_the_position_moves_over_the_open_range_once_and_only_from_its_start(position_store, database):
    lease, _ = position_store.acquire("days", "live")
    position_store.record_range(lease, planned())
    with pytest.raises(LeaseLostError):
        position_store.advance(lease, planned(uid="another"), TO)
    put(database, position=11)
    with pytest.raises(LeaseLostError):
        position_store.advance(lease, planned(), TO)
    put(database, position=10)
    assert position_store.advance(lease, planned(), TO).position == 20
    with pytest.raises(LeaseLostError):
        position_store.advance(lease, planned(), TO)


@pytest.mark.parametrize(
    "moved", [*MOVED, {"step": planned().to_document()}], ids=["moved on", "switched", "open range"]
)
def test_a_range_without_events_is_skipped_only_from_the_position_where_it_was_checked(moved, position_store, database):
    before = position_store.get("days")
    put(database, **moved)
    assert position_store.skip_empty_range(before, TO) is None
    assert position_store.get("days").position == moved.get("position", 10)
    put(database, **AT)
    after = position_store.skip_empty_range(before, TO)
    assert isinstance(after, Position)
    assert after.position == 20


def test_a_generation_is_published_only_by_its_builder_while_both_leases_hold(position_store, database):
    build, _ = position_store.acquire("days", "build")
    live, _ = position_store.acquire("days", "live")
    open_build = Build(uid="b", mode="full", generation=2, code="c", definition="d", base=0, reached=20)
    position_store.record_build(build, open_build)
    for lease in (build, live):
        put(database, **{f"{lease.kind}.token": lease.token + 1})
        with pytest.raises(LeaseLostError):
            position_store.switch(build, live, open_build, TO)
        put(database, **{f"{lease.kind}.token": lease.token})
    with pytest.raises(LeaseLostError):
        position_store.switch(build, live, replace(open_build, uid="another"), TO)
    assert position_store.get("days").generation == 1
    assert position_store.switch(build, live, open_build, TO).generation == 2
