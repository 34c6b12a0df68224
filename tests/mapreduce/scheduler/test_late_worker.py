"""Begin elsewhere what silent, slow and lying workers do not end, and give them little."""

from __future__ import annotations

import dataclasses

import pytest

from mapreduce.job.basic_job import checked_call
from mapreduce.job.spec import Output
from mapreduce.scheduler.step import CONFIRM_S, FIRST_BACKUP_S
from mapreduce.scheduler.worker_health import BACKING_OFF, WORKING
from tests.support.mapreduce.simulation import HEALTHY, SILENT, SLOW, SMALL_JOB, Behaviour, Simulation


def test_workers_that_only_send_heartbeats_delay_jobs_by_seconds_and_get_nothing_soon() -> None:
    simulation = Simulation(liar_1=SILENT, liar_2=SILENT, good_1=HEALTHY)
    _, took_s = simulation.run("first", within_s=60.0)
    assert took_s < 3 * FIRST_BACKUP_S
    later = [simulation.run(f"j{number}", within_s=60.0)[1] for number in range(60)]
    assert sum(later) / len(later) < 2.0
    assert simulation.given["good:1"] > 10 * (simulation.given["liar:1"] + simulation.given["liar:2"])
    assert simulation.place("liar:1").state != WORKING


@pytest.mark.parametrize("liar", [SILENT, Behaviour(progress=True)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        SMALL_JOB,
        {"outputs": {"": Output("zagg.x", "replace")}, "stamp": None},  # it is published
    ],
)
def test_each_kind_of_step_that_is_late_is_begun_elsewhere(liar: Behaviour, changes: dict[str, object]) -> None:
    """The liar joins first with most slots, so that it is offered everything first."""
    simulation = Simulation()
    simulation.splits = 1
    simulation.join("liar:1", liar, slots=4)
    simulation.join("good:1", HEALTHY)
    job, took_s = simulation.run("j", within_s=300.0, **changes)
    assert job.state == "complete"
    assert took_s < 4 * (FIRST_BACKUP_S + 1.0), took_s


def test_a_call_whose_start_is_not_confirmed_is_begun_elsewhere_and_a_confirmed_one_is_not() -> None:
    simulation = Simulation()
    simulation.join("liar:1", dataclasses.replace(SILENT, probed=True), slots=4)
    simulation.join("good:1", HEALTHY)
    job, took_s = simulation.finish(simulation.harness.add(checked_call("m:f", [], {}, "c")))
    assert simulation.callers == ["liar:1", "good:1"]
    assert (job.state, took_s < CONFIRM_S + 1.0) == ("complete", True)
    assert simulation.place("liar:1").state == BACKING_OFF
    simulation = Simulation(good_1=Behaviour(60.0), other_1=HEALTHY)
    job, _ = simulation.finish(simulation.harness.add(checked_call("m:f", [], {}, "c")))
    assert (job.state, len(simulation.callers)) == ("complete", 1)


def test_a_worker_a_hundred_times_slower_than_others_gets_less_and_less() -> None:
    simulation = Simulation(slow_1=SLOW, good_1=HEALTHY)
    took = [simulation.run(f"j{number}", within_s=60.0)[1] for number in range(100)]
    assert took[0] < FIRST_BACKUP_S + 4.0
    assert sum(took[1:]) / 99 < 1.5
    assert simulation.place("slow:1").state != WORKING
    assert simulation.given["good:1"] > 10 * simulation.given["slow:1"]


@pytest.mark.parametrize("liars", [1, 3, 5])
@pytest.mark.parametrize("lie", [SILENT, SLOW, Behaviour(progress=True)], ids=["silent", "slow", "progress"])
def test_workers_that_may_only_claim_to_work_delay_no_job_of_a_known_worker(lie: Behaviour, liars: int) -> None:
    simulation = Simulation(good_1=HEALTHY)
    for number in range(3):
        simulation.run(f"before{number}", **SMALL_JOB)
    for number in range(liars):
        simulation.join(f"liar{number}:1", lie, slots=4)
    for number in range(20):
        assert simulation.run(f"j{number}", **SMALL_JOB)[1] < 1.0
        simulation.pass_time(0.5)
    assert simulation.given.total() == simulation.given["good:1"]


def test_a_late_step_is_begun_next_by_a_worker_that_has_done_one_before() -> None:
    simulation = Simulation(good_1=HEALTHY)
    simulation.run("before", **SMALL_JOB)
    for number in range(3):
        simulation.join(f"liar{number}:1", SILENT, slots=4)
    simulation.health.failed("liar0:1", "away", 0.0, 0.0)
    while simulation.place("liar0:1").retry_s > simulation.now:
        simulation.tick()
    _, took_s = simulation.run("probe", **SMALL_JOB)
    assert simulation.given["liar0:1"] == 1
    assert simulation.given["liar1:1"] == simulation.given["liar2:1"] == 0
    assert took_s < 1.0


def test_workers_of_which_nothing_is_known_get_steps_beyond_what_the_others_can_do() -> None:
    simulation = Simulation(good_1=HEALTHY)
    simulation.run("before")
    simulation.join("new:1", HEALTHY, slots=4)
    simulation.run("j")
    assert simulation.given["new:1"] >= 4
    assert simulation.place("new:1").proven
