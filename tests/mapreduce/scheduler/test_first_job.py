"""Right after a start nothing is known of the workers: those that cannot work cost the first job seconds, not each."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mapreduce.exceptions import TaskUnableError, WorkerUnableError
from mapreduce.job.basic_job import checked_call
from mapreduce.job.spec import Output
from tests.support.mapreduce.simulation import CUT_OFF, HEALTHY, SILENT, SLOW, Behaviour, Simulation

WITHIN_S = 6.0
BAD = {
    "silent": SILENT,
    "in progress for ever": Behaviour(progress=True),
    "cut off": CUT_OFF,
    "slow": SLOW,
    "without space": Behaviour(0.1, lambda: WorkerUnableError("No space left on device")),
    "without space for map output": Behaviour(
        0.1, lambda: WorkerUnableError("No space left on device"), fails=lambda give: give.step.kind in {"map", "small"}
    ),
    "without a module": Behaviour(0.0, lambda: TaskUnableError("no module geoip")),
}
JOBS: dict[str, dict[str, Any]] = {
    "planned": {},
    "small": {"id_min": 0, "id_max": 10, "map_job_size": 10},
    "replacing": {"outputs": {"": Output("zagg.x", "replace")}, "stamp": None},
}


def beside(bad: Behaviour, count: int, slots: int, *, last: bool) -> Simulation:
    """Return a simulation with a healthy worker that joins before or after `count` bad ones."""
    simulation = Simulation()
    if not last:
        simulation.join("good:0", HEALTHY)
    for number in range(count):
        simulation.join(f"h{number}:1", bad, slots=slots)
    if last:
        simulation.join("good:0", HEALTHY)
    return simulation


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("count", [5, 20])
@pytest.mark.parametrize("changes", JOBS.values(), ids=JOBS)
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_the_first_job_beside_many_bad_workers_takes_seconds(
    bad: Behaviour, changes: dict[str, Any], count: int, slots: int, last: bool
) -> None:
    simulation = beside(bad, count, slots, last=last)
    within_s = 1.5 * WITHIN_S if bad.progress else WITHIN_S  # what these report looks like work
    job, took_s = simulation.run("first", within_s=60.0, **changes)
    assert job.state == "complete", job.error
    assert took_s <= within_s
    assert simulation.place("good:0").state == "working"


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("count", [5, 20, 200])
def test_the_first_call_beside_many_that_only_claim_to_work_is_made_once(count: int, slots: int, last: bool) -> None:
    """A call gets no second attempt beside the first: it begins where a probe was done."""
    simulation = beside(SILENT, count, slots, last=last)
    for number in range(2):
        job = simulation.harness.add(checked_call("m:f", [], {}, f"call{number}"))
        job, took_s = simulation.finish(job, within_s=60.0)
        assert (job.state, job.result) == ("complete", 5)
        assert took_s <= (WITHIN_S if not number else 1.0)
    assert simulation.callers == ["good:0"] * 2


@pytest.mark.parametrize("busy", [False, True])
def test_a_call_goes_to_a_worker_that_joins_later_if_no_other_can_do_it(busy: bool) -> None:
    simulation = Simulation(first_1=HEALTHY)
    simulation.finish(simulation.harness.add(checked_call("m:f", [], {}, "before")))
    if busy:
        simulation.behaviours["first:1"] = dataclasses.replace(HEALTHY, seconds=20.0)
        simulation.harness.add(checked_call("m:f", [], {}, "long"))
        simulation.pass_time(1.0)
    else:
        simulation.leave("first:1")
    call = simulation.harness.add(checked_call("m:f", [], {}, "call"))
    for number in range(5):
        simulation.join(f"h{number}:1", SILENT)
    simulation.join("late:1", HEALTHY)
    call, took_s = simulation.finish(call, within_s=60.0)
    assert call.state == "complete"
    assert took_s <= WITHIN_S
    assert simulation.callers[-1] == "late:1"


def test_a_cluster_of_healthy_workers_does_few_steps_twice() -> None:
    simulation = Simulation()
    for number in range(10):
        simulation.join(f"h{number}:1", HEALTHY)
    job, _ = simulation.run("first")
    assert job.state == "complete"
    assert sum(simulation.given.values()) <= 1 + simulation.splits + 10 + 2


def test_a_long_step_of_a_cluster_of_healthy_workers_has_one_attempt_once_one_is_proven() -> None:
    simulation = Simulation()
    for number in range(10):
        simulation.join(f"h{number}:1", HEALTHY)
    simulation.run("first")
    simulation.given.clear()
    for behaviour in list(simulation.behaviours):
        simulation.behaviours[behaviour] = dataclasses.replace(HEALTHY, seconds=4.0)
    job, _ = simulation.run("second", reduce_name="m:other", **JOBS["small"])
    assert job.state == "complete"
    assert sum(simulation.given.values()) == 1
