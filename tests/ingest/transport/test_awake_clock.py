"""Limits count the time in which a thread gets to run."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from ingest.transport import awake_clock
from ingest.transport.awake_clock import AwakeClock, has_ended, wait_while_moving


class Machine:
    """Stand in for time: a machine whose clock the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(awake_clock, "time", SimpleNamespace(monotonic=lambda: self.now))

    def pass_s(self, seconds: float) -> bool:
        self.now += seconds
        return False


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_long_step_counts_as_the_longest_that_is_usual(machine: Machine) -> None:
    clock = AwakeClock(longest_step_s=0.5)
    for seconds, counted in ((0.25, 0.25), (0.25, 0.5), (3600.0, 1.0), (0.0, 1.0), (0.5, 1.5)):
        machine.pass_s(seconds)
        assert clock.tick() == counted


def test_what_moves_is_waited_for(machine: Machine) -> None:
    moved = iter(range(100))
    turns = iter([False] * 50 + [True])

    def wait(timeout_s: float) -> bool:
        machine.pass_s(timeout_s)
        return next(turns)

    assert wait_while_moving(wait, lambda: next(moved), 0.1)


def test_what_does_not_move_is_given_up_after_the_limit(machine: Machine) -> None:
    assert not wait_while_moving(machine.pass_s, lambda: 0, 10.0)
    assert 1010.0 < machine.now < 1010.2


def test_nothing_is_given_up_after_a_time_in_which_the_machine_stood_still(machine: Machine) -> None:
    turns = iter([0.05, 3600.0, 3600.0, 0.05])

    def wait(_timeout_s: float) -> bool:
        machine.pass_s(next(turns, 0.05))
        return next(left, None) is None

    left = iter(range(10))
    assert wait_while_moving(wait, lambda: 0, 1.0)


def test_the_end_of_a_thread_is_waited_for() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, daemon=True)
    thread.start()
    assert not has_ended(thread, 0.0)
    over.set()
    assert has_ended(thread, 60.0)
