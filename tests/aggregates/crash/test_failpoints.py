"""Kill a process with SIGKILL at each named point of each kind of run: the next run repairs the aggregate."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from aggregates.run import failpoint
from aggregates.run.context import RunContext
from aggregates.run.full import full_run
from tests.support.aggregates.definitions import define, values
from tests.support.aggregates.event_source import NOON, Producer, event
from tests.support.aggregates.run_killed_at_failpoint import run_killed_at_failpoint

pytestmark = pytest.mark.early

DAY = timedelta(days=1)

FIRST = [
    ("claimed", 1),
    ("leased", 1),
    ("generation_made", 1),
    ("planned", 1),
    ("recorded", 1),
    ("submitted", 1),
    ("jobs_done", 1),
    ("moved", 1),
    ("leased", 2),
    ("caught_up", 1),
    ("switched", 1),
    ("shown", 1),
]
INCREMENT = [("leased", 1), ("planned", 1), ("recorded", 1), ("submitted", 1), ("jobs_done", 1), ("moved", 1)]
FULL = [*FIRST[1:], ("dropped", 1)]
REBUILD = [
    ("leased", 1),
    ("generation_made", 1),
    ("copied", 1),
    ("submitted", 1),
    ("leased", 3),
    ("caught_up", 1),
    ("switched", 1),
    ("shown", 1),
    ("dropped", 1),
]
CASES = [
    *(("first", *case) for case in FIRST),
    *(("increment", *case) for case in INCREMENT),
    *(("full", *case) for case in FULL),
    *(("rebuild", *case) for case in REBUILD),
]


def test_every_failpoint_has_a_case():
    assert {point for _, point, _ in CASES} == set(failpoint.POINTS)


@pytest.mark.parametrize(("mode", "point", "times"), CASES)
@pytest.mark.parametrize("task", ["CountByDay", "TwoOutputs"])
def test_the_next_run_repairs_a_run_killed_at_any_point(
    task: str,
    mode: str,
    point: str,
    times: int,
    mongo_uri: str,
    database: Database[dict[str, Any]],
    run_context: RunContext,
    producer: Producer,
    run: Any,
    right: Any,
    tmp_path: Path,
) -> None:
    if mode == "rebuild" and task == "TwoOutputs":
        task = "TotalByType"
    definition = define(task)
    producer.send(event("a"), event("b", project="q"), event(at=NOON + DAY))
    if mode != "first":
        run(definition)
        producer.send(event("a"), event("c", project="r"))
    run_killed_at_failpoint(
        uri=mongo_uri, database=database.name, root=tmp_path, task=task, mode=mode, point=point, times=times,
        since=NOON, until=NOON + DAY,
    )  # fmt: skip
    producer.send(event("a"))
    outcome = run(definition)
    assert outcome.state == "complete"
    right(definition)
    assert run_context.position_store.get(outcome.outputs[0]).position == (4 if mode == "first" else 6)
    run(definition)
    run_context.grace_s = 0
    full_run(run_context, definition)
    right(definition)
    position = run_context.position_store.get(outcome.outputs[0])
    left = {name for name in database.list_collection_names() if name.startswith("zgen.")}
    assert left == {f"zgen.{output}.{position.generation}" for output in position.outputs}
    assert sum(values(database, position.outputs[0]).values()) >= 4
