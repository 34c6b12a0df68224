"""Count failures against the worker and the host where they happened, and forget them again."""

from __future__ import annotations

import dataclasses

import pytest

from mapreduce.exceptions import CodeChangedError, MapFailedError, MapReduceError
from mapreduce.scheduler.job_state import MAX_LOST
from mapreduce.scheduler.scheduler import STOPPED
from mapreduce.scheduler.step import MAP_STEP
from mapreduce.scheduler.worker_health import (
    BACKING_OFF,
    FORGET_S,
    KEPT,
    LATE_S,
    LONGEST_PAUSE_S,
    OVERTAKEN_AFTER,
    QUARANTINE_AFTER,
    QUARANTINED,
    WORKING,
    HealthTracker,
)
from tests.support.mapreduce.simulation import HEALTHY, Behaviour, Simulation


def tracker(*workers: str) -> HealthTracker:
    found = HealthTracker()
    for worker in workers:
        found.join(worker, worker)
    return found


def pauses(found: HealthTracker, worker: str, count: int) -> list[float]:
    seen, now = [], 0.0
    for _ in range(count):
        found.failed(worker, "away", now, now)
        place = found.find(worker)
        assert place is not None
        seen.append(place.retry_s - now)
        now = place.retry_s
    return seen


def test_pauses_double_to_a_minute_and_five_failures_in_a_row_are_quarantine() -> None:
    found = tracker("a:1", "b:1")
    place = found.find("a:1")
    assert place is not None
    assert place.state == WORKING
    assert pauses(found, "a:1", 4) == [0.5, 1.0, 2.0, 4.0]
    assert place.state == BACKING_OFF
    found.failed("a:1", "away", 100.0, 101.0)
    assert (place.state, place.worst.failures, place.worst.reason) == (QUARANTINED, QUARANTINE_AFTER, "away")
    for number in range(1, 9):
        found.failed("a:1", "away", 100.0 * number + 100.0, 100.0 * number + 100.0)
    assert place.retry_s - 900.0 == LONGEST_PAUSE_S
    found.succeeded("a:1")
    assert (place.state, place.retry_s) == (WORKING, 0.0)


def test_attempts_that_meet_the_same_fault_at_once_count_once() -> None:
    found = tracker("a:1")
    for _ in range(8):
        found.failed("a:1", "away", begun_s=1.0, now=6.0)
    found.failed("a:1", "away", begun_s=5.9, now=6.1)
    place = found.find("a:1")
    assert place is not None
    assert place.failures == 1


def test_two_failing_workers_of_a_host_count_against_all_of_its_workers() -> None:
    found = tracker("a:1", "a:2", "a:3", "b:1")
    found.failed("a:1", "away", 1.0, 1.0)
    assert {place.worker_id for place in found.admitted(["a:1", "a:2", "a:3", "b:1"], 1.0)} == {"a:2", "a:3", "b:1"}
    found.failed("a:2", "away", 1.0, 1.1)
    assert {place.worker_id for place in found.admitted(["a:1", "a:2", "a:3", "b:1"], 1.2)} == {"b:1"}
    third = found.find("a:3")
    assert third is not None
    assert (third.state, third.worst.reason) == (BACKING_OFF, "2 workers of host a fail: away")
    found.succeeded("a:3")  # so the host works, and only the two have failed
    assert {place.worker_id for place in found.admitted(["a:1", "a:2", "a:3", "b:1"], 1.2)} == {"a:3", "b:1"}


def test_nobody_waits_while_all_fail_alike() -> None:
    found = tracker("a:1", "b:1")
    for now in range(1, 20):
        for worker in ("a:1", "b:1"):
            found.failed(worker, "MongoDB is away", float(now), float(now))
        assert len(found.admitted(["a:1", "b:1"], float(now))) == 2


def test_a_restarted_worker_goes_on_with_the_record_of_the_one_before_it() -> None:
    found = tracker("a:1", "a:2", "b:1")
    name = found.place_name("a:1")
    pauses(found, "a:1", 6)
    found.leave("a:2", 100.0)
    found.leave("a:1", 100.0)
    found.join("new", "a:77")
    place = found.find("new")
    assert place is not None
    assert (place.name, place.state, place.worker_name) == (name, QUARANTINED, "a:77")
    found.join("other", "a:78")
    assert found.place_name("other") != name
    found.leave("new", 200.0)
    found.leave("b:1", 200.0 + FORGET_S + 1.0)
    found.join("much later", "a:79")
    late = found.find("much later")
    assert late is not None
    assert late.state == WORKING


def test_workers_that_leave_take_no_memory_whatever_their_names_are() -> None:
    found = HealthTracker()
    for number in range(3 * KEPT):
        worker = f"w{number}"
        found.join(worker, f"host{number}:1")
        if number % 2:
            found.failed(worker, "away", float(number), float(number))
        found.leave(worker, float(number))
    assert len(found._hosts) == KEPT
    found.join("again", f"host{3 * KEPT - 1}:2")
    again = found.find("again")
    assert again is not None
    assert again.state == BACKING_OFF


def test_names_and_reasons_forge_no_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    found = tracker("a\nCRITICAL forged:1")
    found.failed("a\nCRITICAL forged:1", "away\nCRITICAL forged", 1.0, 1.0)
    found.succeeded("a\nCRITICAL forged:1")
    assert caplog.records
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_a_step_that_kills_every_executor_still_ends_its_job_and_costs_the_workers_little() -> None:
    poison = Behaviour(dies=lambda give: give.job.job_id == "poison")
    for names in (["a_1"], ["a_1", "b_1"], [f"h{n}_1" for n in range(7)]):
        simulation = Simulation(**dict.fromkeys(names, poison))
        job, _ = simulation.run("poison")
        assert (job.state, job.attempts_lost) == ("error", MAX_LOST)
        job, took_s = simulation.run("next")
        assert (job.state, took_s < 5.0) == ("complete", True)


def test_mistakes_of_tasks_and_missing_code_count_against_nobody() -> None:
    for error in (MapFailedError("boom"), CodeChangedError("differs"), MapReduceError("boom")):
        simulation = Simulation(a_1=Behaviour(error=lambda error=error: error))  # type: ignore[misc]
        job, _ = simulation.run("j")
        assert job.state == "error"
        assert simulation.place("a:1").state == WORKING


def test_a_worker_that_leaves_on_purpose_has_not_failed_and_one_that_vanishes_with_a_step_has() -> None:
    for why, state in ((STOPPED, WORKING), ("silent for 3.1 s", BACKING_OFF)):
        simulation = Simulation(a_1=Behaviour(100.0))
        simulation.harness.add()
        simulation.tick()
        assert simulation.given["a:1"] == 1
        simulation.leave("a:1", why)
        simulation.join("a:2", HEALTHY)
        assert simulation.place("a:2").state == state


def test_a_worker_that_is_killed_by_each_step_under_ever_new_names_ends_no_job_beside_a_healthy_one() -> None:
    simulation = Simulation(good_1=HEALTHY)
    for number in range(30):
        name = f"bad{number}"
        simulation.join(f"bad:{number}", Behaviour(1_000.0), worker_id=name)
        job = simulation.harness.add(dataclasses.replace(simulation.spec, job_id=f"j{number}"))
        for _ in range(10):
            simulation.tick()
        simulation.leave(name, "killed")
        job, _ = simulation.finish(job, within_s=60.0)
        assert job.state == "complete"
    assert simulation.given["good:1"] > 10 * sum(simulation.given[f"bad{number}"] for number in range(30))


def test_attempts_that_others_overtake_by_moments_count_against_nobody() -> None:
    found = tracker("a:1")
    place = found.find("a:1")
    assert place is not None
    for number in range(100):
        found.overtaken("a:1", 0.0, float(number), number + 0.9 * LATE_S)
    assert place.state == WORKING
    for number in range(OVERTAKEN_AFTER):
        assert place.state == WORKING
        found.overtaken("a:1", 0.0, 200.0 + number, 200.0 + number + LATE_S)
    assert place.state == BACKING_OFF


def test_map_output_that_nobody_can_fetch_counts_against_its_holder_although_its_maps_succeed() -> None:
    simulation = Simulation(a_1=HEALTHY)
    place = simulation.place("a:1")
    job = simulation.harness.add()
    simulation.harness.plan(1)
    assert job.steps.get(MAP_STEP, 0) is not None
    simulation.health.failed("a:1", "its map output cannot be fetched", 1.0, 1.0)
    (give,) = simulation.harness.gives()
    simulation.harness.map(give, inline=False)
    assert place.state == BACKING_OFF
    (give,) = simulation.harness.gives()
    simulation.harness.reduce(give)
    assert place.state == WORKING
