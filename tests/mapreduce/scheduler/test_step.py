from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mapreduce.scheduler.attempt import Attempt
from mapreduce.scheduler.step import (
    CALL,
    CONFIRM_S,
    FIRST_BACKUP_S,
    MAP_STEP,
    PLAN,
    PUBLISH,
    REDUCE_STEP,
    SMALL,
    Step,
    Steps,
)
from mapreduce.scheduler.step_timing import StepTiming


def steps(count: int, ceiling_s: float = 100.0) -> Steps:
    found = Steps(ceiling_s)
    for index in range(count):
        found.add(MAP_STEP, index)
    return found


def offer(found: Steps, worker: str, now: float, most: int = 100) -> int | None:
    step = found.offer((MAP_STEP,), worker, now, most)
    return None if step is None else step.index


def begin(found: Steps, worker: str, now: float, name: str) -> None:
    step = found.offer((MAP_STEP,), worker, now, 100)
    assert step is not None
    found.begin(step, name, worker, now)


def test_limits_follow_typical_durations_and_double_to_the_ceiling() -> None:
    timing = StepTiming(ceiling_s=600.0)
    assert timing.limit_s(1) == 60.0
    for _ in range(5):
        timing.add(20.0)
    timing.add(1_000.0)
    assert [timing.limit_s(n) for n in (1, 2, 3, 4, 5, 60)] == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    assert timing.backup_after_s() == 30.0


def test_short_steps_have_a_minimum_limit() -> None:
    timing = StepTiming(ceiling_s=600.0)
    timing.add(0.001)
    assert timing.limit_s(1) == 5.0
    assert timing.backup_after_s() == 0.021


@pytest.mark.parametrize(
    ("typical_s", "backup_s", "say_s"), [(0.01, 0.03, 0.02), (0.1, 0.15, 0.125), (20.0, 30.0, 0.25)]
)
def test_a_running_step_reports_progress_before_it_would_be_repeated(
    typical_s: float, backup_s: float, say_s: float
) -> None:
    timing = StepTiming(ceiling_s=600.0)
    assert timing.progress_every_s() == 0.25
    timing.before_s = typical_s
    assert (timing.backup_after_s(), timing.progress_every_s()) == (pytest.approx(backup_s), pytest.approx(say_s))
    assert timing.limit_s(1) == 60.0  # what is known of other jobs ends no attempt
    timing.add(2 * typical_s)
    assert timing.backup_after_s() == pytest.approx(max(3 * typical_s, 2 * typical_s + 0.02))


@pytest.mark.parametrize("kind", [PLAN, MAP_STEP, REDUCE_STEP, PUBLISH, SMALL])
def test_a_step_of_unknown_duration_is_repeated_after_five_seconds(kind: str) -> None:
    found = Steps(100.0)
    found.add(kind, 0)
    step = found.offer((kind,), "w1", 0.0, 100)
    assert step is not None
    found.begin(step, "a", "w1", 0.0)
    assert found.offer((kind,), "w2", FIRST_BACKUP_S - 0.1, 100) is None
    assert found.offer((kind,), "w2", FIRST_BACKUP_S, 100) is step


def test_a_call_is_never_begun_twice_but_lost_if_its_start_is_not_confirmed() -> None:
    found = Steps(100.0)
    found.add(CALL, 0)
    step = found.offer((CALL,), "w1", 0.0, 100)
    assert step is not None
    found.begin(step, "a", "w1", 0.0)
    assert found.overdue(CONFIRM_S) == []
    assert [attempt.attempt_id for attempt in found.overdue(CONFIRM_S + 0.1)] == ["a"]
    step.attempts["a"].confirmed = True
    assert found.overdue(99.0) == []
    assert found.offer((CALL,), "w2", 99.0, 100) is None


def test_a_silent_step_is_repeated_before_waiting_steps_start() -> None:
    found = steps(3)
    found.timings[MAP_STEP].add(1.0)
    begin(found, "w1", 0.0, "a")
    assert offer(found, "w2", 1.4) == 1
    assert offer(found, "w2", 1.6) == 0


def test_a_slow_step_with_progress_is_repeated_after_waiting_steps_start() -> None:
    found = steps(2)
    found.timings[MAP_STEP].add(1.0)
    begin(found, "w1", 0.0, "a")
    found.find("a")[1].progressed_s = 1.5  # type: ignore[index]
    assert offer(found, "w2", 1.6) == 1
    begin(found, "w2", 1.6, "b")
    assert offer(found, "w3", 1.7) == 0


@pytest.mark.parametrize(("progress", "later_s"), [(False, [5.0, 10.0, 20.0]), (True, [10.0, 60.0, 120.0])])
def test_further_attempts_at_a_step_wait_longer_each_time(progress: bool, later_s: list[float]) -> None:
    """They are for workers that lie or hang alike; none has a second attempt of its own then."""
    found = steps(1)
    found.timings[MAP_STEP].add(1.0)
    begin(found, "w1", 0.0, "a1")
    begin(found, "w2", 2.0, "a2")
    now = 2.0
    for number, wait_s in enumerate(later_s, start=3):
        if progress:
            found.find("a2")[1].progressed_s = now + wait_s - 0.1  # type: ignore[index]
        assert offer(found, f"w{number}", now + wait_s - 0.1) is None
        assert offer(found, "w1", now + wait_s) is None
        now += wait_s
        begin(found, f"w{number}", now, f"a{number}")


def test_a_worker_that_may_take_nothing_is_refused_without_a_look_at_every_step() -> None:
    found = steps(10_000)
    asked = []

    def refuse(step: Step) -> bool:
        asked.append(step.index)
        return False

    step = found.get(MAP_STEP, 0)
    assert step is not None
    step.trouble("w1#1", 0.0)
    assert found.offer((MAP_STEP,), "w1", 0.0, 100, refuse) is None
    assert asked == [0, 1]  # the one that failed before, and one that nobody has tried


def test_the_number_of_steps_at_once_is_limited() -> None:
    found = steps(5)
    begin(found, "w1", 0.0, "a")
    begin(found, "w1", 0.0, "b")
    assert offer(found, "w1", 0.0, most=2) is None
    assert offer(found, "w1", 0.0, most=3) == 2


def test_a_step_that_fails_temporarily_waits_longer_each_time() -> None:
    found = steps(1)
    now, pauses = 0.0, []
    for attempt in range(4):
        begin(found, "w1", now, f"a{attempt}")
        step, _ = found.find(f"a{attempt}") or (None, None)
        assert step is not None
        step.transient += 1
        found.abandon(f"a{attempt}", now, pause=True)
        assert offer(found, "w1", now) is None
        pauses.append(found.next_check_s(now))
        now += pauses[-1] + 0.001
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6])


def failing(**counts: tuple[int, int]) -> Step:
    """Return a step that was lost, and has failed for a while, so often at each place."""
    step = Step(MAP_STEP, 0)
    for place, (lost, failed) in counts.items():
        for _ in range(lost):
            step.lose(Attempt("a", place, 1, 0.0, 0.0, place), 0.0)
        for _ in range(failed):
            step.fail(place, 0.0)
    return step


@pytest.mark.parametrize(
    ("step", "able", "over"),
    [
        (failing(a=(5, 0)), {"a": False}, True),
        (failing(a=(5, 0)), {"a": False, "b": True}, False),  # its share is 3
        (failing(a=(3, 0), b=(2, 0)), {"a": False, "b": False}, True),
        (failing(a=(1, 0), b=(1, 0), c=(1, 0), d=(1, 0), e=(1, 0)), dict.fromkeys("abcdefgh", True), True),
        (failing(a=(0, 13)), {"a": False}, True),
        (failing(a=(0, 13)), {"a": False, "b": False}, False),  # its share is 7
        (failing(a=(0, 7), b=(0, 6)), {"a": False, "b": False}, True),
        (failing(**dict.fromkeys("abcde", (0, 3))), {**dict.fromkeys("abcde", False), "f": True}, False),  # f works
        (failing(**dict.fromkeys("abcde", (0, 3))), dict.fromkeys("abcdef", False), True),
        (failing(a=(25, 0)), {"a": False, "b": True}, True),  # in any case
        (failing(a=(0, 65)), {"a": False, "b": True}, True),
    ],
)
def test_bad_places_do_not_use_up_the_failures_of_a_step(step: Step, able: dict[str, bool], over: bool) -> None:
    assert step.exhausted(5, 13, able) is over


def test_progress_extends_the_limit() -> None:
    found = steps(1)
    begin(found, "w1", 0.0, "a")
    assert [a.attempt_id for a in found.overdue(61.0)] == ["a"]
    found.find("a")[1].progressed_s = 50.0  # type: ignore[index]
    assert found.overdue(61.0) == []
    assert [a.attempt_id for a in found.overdue(111.0)] == ["a"]


class StepsMachine(RuleBasedStateMachine):
    """Check that a step is always waiting, paused, running or done, and never two of these."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = steps(6)
        self.steps.timings[MAP_STEP].add(1.0)
        self.now = 0.0
        self.number = 0

    def attempts(self) -> list[str]:
        return sorted(attempt.attempt_id for attempt in self.steps.attempts())

    @rule(worker=st.sampled_from(["w1", "w2", "w3"]), most=st.integers(1, 4))
    def give(self, worker: str, most: int) -> None:
        step = self.steps.offer((MAP_STEP,), worker, self.now, most)
        if step is not None:
            assert not step.done
            self.number += 1
            self.steps.begin(step, f"a{self.number:04d}", worker, self.now)

    @rule(passed=st.floats(0.0, 5.0))
    def wait(self, passed: float) -> None:
        self.now += passed

    @rule(choice=st.integers(0, 10), how=st.sampled_from(["done", "lost", "pause", "drop"]))
    def end(self, choice: int, how: str) -> None:
        names = self.attempts()
        if not names:
            return
        name = names[choice % len(names)]
        step, _ = self.steps.find(name) or (None, None)
        assert step is not None
        if how == "done":
            self.steps.finish(step)
        elif how == "drop":
            self.steps.take_back(MAP_STEP)
        else:
            step.transient += how == "pause"
            self.steps.abandon(name, self.now, pause=how == "pause")

    @rule(index=st.integers(0, 5))
    def lose(self, index: int) -> None:
        step = self.steps.get(MAP_STEP, index)
        assert step is not None
        self.steps.reopen(step)

    @invariant()
    def each_step_is_in_one_place(self) -> None:
        waiting = list(self.steps._waiting[MAP_STEP])
        paused = self.steps._paused
        under_way = self.steps.under_way
        steps = self.steps._all.values()
        for step in steps:
            places = waiting.count(step) + paused.count(step) + (step in under_way) + step.done
            assert places == 1, (step, places)
        assert self.steps.left(MAP_STEP) == sum(not step.done for step in steps)


TestSteps = StepsMachine.TestCase
