"""Give work to others while a worker has no MongoDB or lacks a right, and again to it once it works."""

from __future__ import annotations

import itertools

import pytest

from mapreduce.exceptions import MapReduceError, StoreRefusedError, StoreUnavailableError
from mapreduce.job.basic_job import checked_call
from mapreduce.scheduler.job_state import MAX_TRANSIENT
from mapreduce.scheduler.step import WRITING
from mapreduce.scheduler.worker_health import LONGEST_PAUSE_S, QUARANTINED, WORKING
from tests.support.mapreduce.simulation import CUT_OFF, HEALTHY, SMALL_JOB, Behaviour, Simulation


def test_a_job_beside_a_worker_without_mongodb_takes_seconds_and_the_worker_ends_in_quarantine() -> None:
    simulation = Simulation(bad_1=CUT_OFF, good_1=HEALTHY)
    job, took_s = simulation.run("first")
    assert (job.state, took_s < 8.0) == ("complete", True), took_s
    for number in range(400):
        job, took_s = simulation.run(f"j{number}")
        assert job.state == "complete"
        assert took_s < 8.0
    place = simulation.place("bad:1")
    assert (place.state, place.worst.reason) == (QUARANTINED, "store_unavailable: no servers found")
    assert simulation.place("good:1").state == WORKING
    last = simulation.times["bad:1"][-3:]
    assert all(later - earlier > LONGEST_PAUSE_S / 2 for earlier, later in itertools.pairwise(last)), last


def test_a_worker_that_works_again_leaves_quarantine_with_its_next_step() -> None:
    simulation = Simulation(bad_1=CUT_OFF, good_1=HEALTHY)
    number = 0
    while simulation.place("bad:1").state != QUARANTINED:
        number += 1
        simulation.run(f"j{number}")
    simulation.behaviours["bad:1"] = HEALTHY
    healed = simulation.now
    while simulation.place("bad:1").state != WORKING:
        number += 1
        simulation.run(f"j{number}")
        assert simulation.now - healed < LONGEST_PAUSE_S + 10.0


def test_a_job_waits_for_the_busy_healthy_worker_instead_of_failing() -> None:
    simulation = Simulation(bad_1=CUT_OFF, good_1=HEALTHY)
    simulation.behaviours["good:1"] = Behaviour(300.0)
    call = simulation.harness.add(checked_call("m:f", [], {}, "long"))
    while not simulation.given["good:1"]:  # whoever gets it first, the healthy one has it in the end
        simulation.tick()
    simulation.behaviours["good:1"] = HEALTHY
    job, took_s = simulation.run("waits", split_limit_s=600.0)
    assert (job.state, call.state) == ("complete", "complete")
    assert took_s < 310.0


def test_a_job_ends_after_as_many_failures_as_ever_if_mongodb_is_away_for_all() -> None:
    for workers in ({"a_1": CUT_OFF}, {"a_1": CUT_OFF, "b_1": CUT_OFF}, {f"h{n}_1": CUT_OFF for n in range(6)}):
        simulation = Simulation(**workers)
        job, took_s = simulation.run("away")
        assert job.state == "error"
        assert isinstance(job.error, StoreUnavailableError)
        assert MAX_TRANSIENT < sum(simulation.given.values()) <= 3 * MAX_TRANSIENT
        assert 100.0 < took_s < 250.0


def test_workers_get_all_the_work_at_once_when_mongodb_is_back_for_all() -> None:
    simulation = Simulation(a_1=CUT_OFF, b_1=CUT_OFF)
    job = simulation.harness.add()
    simulation.pass_time(60.0)
    simulation.behaviours = dict.fromkeys(simulation.behaviours, HEALTHY)
    _, took_s = simulation.finish(job)
    assert (job.state, took_s < 16.0) == ("complete", True), took_s  # a step may be in its pause of 10 s
    assert {simulation.place(name).state for name in ("a:1", "b:1")} == {WORKING}


def test_a_step_goes_to_another_host_then_to_another_worker_before_it_is_tried_at_the_same_place() -> None:
    simulation = Simulation(a_1=CUT_OFF, a_2=CUT_OFF, b_1=CUT_OFF)
    simulation.harness.add()
    order: list[str] = []
    while len(order) < 3:
        before = dict(simulation.given)
        simulation.tick()
        order += [name for name, count in simulation.given.items() if count > before.get(name, 0)]
    assert {name[0] for name in order[:2]} == {"a", "b"}
    assert len(set(order)) == 3


def test_a_step_that_failed_does_not_wait_for_ever_for_a_host_that_stays_busy() -> None:
    simulation = Simulation(a_1=HEALTHY, b_1=Behaviour(10_000.0))
    simulation.behaviours["a:1"] = Behaviour(0.1, lambda: StoreUnavailableError("a new primary is elected"))
    call = simulation.harness.add(checked_call("m:f", [], {}, "long"))
    while not simulation.given["b:1"]:
        simulation.tick()
    assert not call.ended
    job = simulation.harness.add()
    simulation.pass_time(1.0)
    simulation.behaviours["a:1"] = HEALTHY
    _, took_s = simulation.finish(job, within_s=120.0)
    assert (job.state, took_s < 30.0) == ("complete", True), took_s


def no_right() -> MapReduceError:
    return StoreRefusedError("MongoDB refused: not authorized (code 13)", {"server_code": 13})


@pytest.mark.parametrize("changes", [{}, SMALL_JOB], ids=["planned", "small"])
def test_a_worker_whose_login_lacks_a_right_leaves_the_work_to_others_and_it_counts(changes: dict[str, object]) -> None:
    simulation = Simulation()
    simulation.join("bad:1", Behaviour(error=no_right), slots=4)
    simulation.join("good:1", HEALTHY)
    took = []
    for number in range(80):
        job, took_s = simulation.run(f"j{number}", within_s=60.0, **changes)
        assert job.state == "complete"
        took.append(took_s)
        if not number:
            assert (
                simulation.health.report("bad:1").reason == "store_refused: MongoDB refused: not authorized (code 13)"
            )
    assert max(took) < 4.0
    assert simulation.place("bad:1").state != WORKING
    assert simulation.place("good:1").state == WORKING
    assert simulation.given["good:1"] > 10 * simulation.given["bad:1"]


def test_a_login_that_may_only_read_is_not_cleared_by_what_it_reads() -> None:
    simulation = Simulation(good_1=HEALTHY)
    simulation.join("bad:1", Behaviour(error=no_right, fails=lambda give: give.step.kind in WRITING), slots=4)
    for number in range(60):
        assert simulation.run(f"j{number}", within_s=60.0)[0].state == "complete"
    assert simulation.place("bad:1").state == QUARANTINED
    simulation.behaviours["bad:1"] = HEALTHY
    number = 100
    while simulation.place("bad:1").state != WORKING:
        number += 1
        simulation.run(f"j{number}", within_s=60.0)
        assert number < 1_000


def test_a_job_whose_step_no_login_may_do_ends_soon_with_mongodbs_words() -> None:
    bad = Behaviour(error=no_right)
    for names in (["a_1"], ["a_1", "b_1"], [f"h{n}_1" for n in range(5)]):
        simulation = Simulation(**dict.fromkeys(names, bad))
        job, took_s = simulation.run("j")
        assert (job.state, took_s < 10.0) == ("error", True), took_s
        assert isinstance(job.error, StoreRefusedError)
        assert job.error.message == "MongoDB refused: not authorized (code 13)"
        assert sum(simulation.given.values()) == len(names)


def test_a_worker_that_is_repaired_works_again_although_the_others_could_do_everything() -> None:
    simulation = Simulation(bad_1=CUT_OFF, good_1=HEALTHY)
    for number in itertools.count():
        if simulation.place("bad:1").state == QUARANTINED:
            break
        simulation.run(f"j{number}", **SMALL_JOB)
        simulation.pass_time(1.0)
    simulation.behaviours["bad:1"] = HEALTHY
    for number in range(2 * int(LONGEST_PAUSE_S)):
        if simulation.place("bad:1").state == WORKING:
            break
        simulation.run(f"after{number}", **SMALL_JOB)
        simulation.pass_time(1.0)
    assert simulation.place("bad:1").proven
