"""Whose failures count against whom, for how long, and how a worker gets work again."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from mapreduce.exceptions import (
    CodeChangedError,
    MapFailedError,
    MapReduceError,
    StoreRefusedError,
    StoreUnavailableError,
)
from mapreduce.job.basic_job import checked_call
from mapreduce.job.spec import Output
from mapreduce.scheduler.job_state import MAX_LOST, MAX_TRANSIENT
from mapreduce.scheduler.scheduler import STOPPED
from mapreduce.scheduler.step import CONFIRM_S, FIRST_BACKUP_S, MAP_STEP, WRITING
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
from tests.support.mapreduce.simulation import CUT_OFF, HEALTHY, SILENT, SLOW, Behaviour, Simulation


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


def test_a_step_that_kills_every_executor_still_ends_its_job_and_costs_the_workers_little() -> None:
    poison = Behaviour(dies=lambda give: give.job.job_id == "poison")
    for names in (["a_1"], ["a_1", "b_1"], [f"h{n}_1" for n in range(7)]):
        simulation = Simulation(**dict.fromkeys(names, poison))
        job, _ = simulation.run("poison")
        assert (job.state, job.attempts_lost) == ("error", MAX_LOST)
        job, took_s = simulation.run("next")
        assert (job.state, took_s < 5.0) == ("complete", True)


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
        {"id_min": 0, "id_max": 10, "map_job_size": 10},  # a small job
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
    simulation.join("liar:1", SILENT, slots=4)
    simulation.join("good:1", HEALTHY)
    job, took_s = simulation.finish(simulation.harness.add(checked_call("m:f", [], {}, "c")))
    assert (job.state, took_s < CONFIRM_S + 1.0) == ("complete", True)
    assert simulation.place("liar:1").state == BACKING_OFF
    simulation = Simulation(good_1=Behaviour(60.0), other_1=HEALTHY)
    job, _ = simulation.finish(simulation.harness.add(checked_call("m:f", [], {}, "c")))
    assert (job.state, sum(simulation.given.values())) == ("complete", 1)


def test_a_worker_a_hundred_times_slower_than_others_gets_less_and_less() -> None:
    simulation = Simulation(slow_1=SLOW, good_1=HEALTHY)
    took = [simulation.run(f"j{number}", within_s=60.0)[1] for number in range(100)]
    assert took[0] < FIRST_BACKUP_S + 4.0
    assert sum(took[1:]) / 99 < 1.5
    assert simulation.place("slow:1").state != WORKING
    assert simulation.given["good:1"] > 10 * simulation.given["slow:1"]


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


@pytest.mark.parametrize("changes", [{}, {"id_min": 0, "id_max": 10, "map_job_size": 10}], ids=["planned", "small"])
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


SMALL_JOB = {"id_min": 0, "id_max": 10, "map_job_size": 10}


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
