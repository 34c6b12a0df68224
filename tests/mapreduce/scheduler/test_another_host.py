"""A step whose task fails on one host, maybe because of the host, goes to one other host before that is final."""

from __future__ import annotations

import pytest

from mapreduce.exceptions import StoreUnavailableError, TaskUnableError
from mapreduce.scheduler.order import AssignStep
from mapreduce.scheduler.placement import PATIENCE_S
from mapreduce.scheduler.step import FIRST_BACKUP_S
from mapreduce.scheduler.worker_health import QUARANTINED
from tests.support.mapreduce.scheduler_harness import SchedulerHarness
from tests.support.mapreduce.simulation import HEALTHY, SILENT, Behaviour, Simulation

UNABLE = TaskUnableError("map failed on document 1: ModuleNotFoundError: No module named 'geoip'")
ALWAYS_UNABLE = Behaviour(0.0, lambda: UNABLE)


def given(harness: SchedulerHarness, within_s: float = 1.0) -> AssignStep:
    """Return the next step that is assigned, after at most `within_s` of heartbeats."""
    for _ in range(1 + int(within_s / 0.1)):
        for give in harness.gives():
            return give
        harness.live(*harness.scheduler.workers, seconds=0.1)
    raise AssertionError("nothing is assigned")


def first_give(*workers: str) -> tuple[SchedulerHarness, AssignStep]:
    harness = SchedulerHarness(*workers)
    harness.add()
    return harness, given(harness)


@pytest.mark.parametrize(("workers", "elsewhere"), [(("a:1",), False), (("a:1", "a:2"), False), (("a:1", "b:1"), True)])
def test_only_another_host_makes_a_failure_open(workers: tuple[str, ...], elsewhere: bool) -> None:
    assert first_give(*workers)[1].elsewhere is elsewhere


@pytest.mark.parametrize("workers", [("a:1", "b:1"), ("a:1", "a:2", "b:1"), ("a:1", "b:1", "c:1")])
def test_the_attempt_on_a_second_host_is_final_and_nobody_is_to_blame(workers: tuple[str, ...]) -> None:
    harness, give = first_give(*workers)
    assert (give.worker_id, give.elsewhere) == ("a:1", True)
    harness.fail(give, UNABLE)
    again = given(harness)
    assert again.worker_id[0] != "a"
    assert again.elsewhere is False
    assert harness.scheduler.health.all_work


def test_a_host_that_failed_does_not_get_the_step_while_the_other_is_busy_for_a_while() -> None:
    harness, give = first_give("a:1", "b:1")
    harness.scheduler.workers["b:1"].idle = 0
    harness.fail(give, UNABLE)
    harness.live("a:1", "b:1", seconds=PATIENCE_S - 0.5)
    assert harness.gives() == []
    again = given(harness, 1.0)
    assert (again.worker_id, again.elsewhere) == ("a:1", True)  # still not final
    harness.scheduler.workers["b:1"].idle = 1
    harness.fail(again, UNABLE)
    assert given(harness).worker_id == "b:1"


def test_a_host_that_failed_leaves_the_other_time_and_decides_once_the_other_has_lost_the_step() -> None:
    harness, give = first_give("a:1", "b:1")
    harness.fail(give, UNABLE)
    assert given(harness).worker_id == "b:1"
    harness.live("a:1", "b:1", seconds=FIRST_BACKUP_S + 1.0)
    (second,) = harness.gives()
    assert (second.worker_id, second.elsewhere) == ("a:1", True)
    harness.fail(second, UNABLE)
    harness.live("a:1", "b:1", seconds=1.0)
    assert harness.gives() == []
    harness.live("a:1", seconds=4.0)  # b is silent: it counts as lost
    last = given(harness, 10.0)
    assert (last.worker_id, last.elsewhere) == ("a:1", False)


def test_a_worker_in_quarantine_is_not_waited_for() -> None:
    simulation = Simulation(a_1=HEALTHY, b_1=Behaviour(0.1, lambda: StoreUnavailableError("away")))
    for number in range(100):
        if simulation.place("b:1").state == QUARANTINED:
            break
        simulation.run(f"j{number}")
        simulation.pass_time(1.0)
    simulation.harness.log.clear()
    simulation.run("last")
    mine = [order for order in simulation.harness.log if isinstance(order, AssignStep) and order.worker_id == "a:1"]
    assert mine
    assert not any(give.elsewhere for give in mine)


def test_jobs_beside_a_host_that_is_always_unable_and_silent_ones_take_seconds() -> None:
    simulation = Simulation(a_1=ALWAYS_UNABLE, b_1=SILENT, c_1=HEALTHY)
    for number in range(5):
        job, took_s = simulation.run(f"j{number}", within_s=120.0)
        assert job.state == "complete", job.error
        assert took_s < 60.0
    assert not simulation.place("a:1").failures
