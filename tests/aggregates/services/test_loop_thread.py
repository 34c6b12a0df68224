"""Threads with a loop survive any step, and say how they fare."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from aggregates.services import loop_thread
from aggregates.services.loop_thread import LoopThread, loop_faults
from ingest.log_limit import LogLimit
from tests.support.waiting import eventually


class Steps:
    """Steps of a loop that raise what `errors` has, one after the other."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.done = 0
        self.loop = LoopThread("of the test", self.step)

    def step(self) -> None:
        if self.errors:
            raise self.errors[0]
        self.done += 1
        self.loop.stopping.wait(0.01)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(loop_thread, "RETRY_S", 0.01)
    monkeypatch.setattr(loop_thread, "_log_limit", LogLimit(60))
    all_steps = []

    def start(*errors: BaseException) -> Steps:
        steps = Steps(*errors)
        all_steps.append(steps)
        steps.loop.start()
        return steps

    yield start
    for steps in all_steps:
        steps.loop.stop(5.0)


@pytest.mark.parametrize("error", [TypeError("unhashable"), SystemExit(1), KeyboardInterrupt(), MemoryError()])
def test_no_error_ends_a_loop_and_it_says_how_it_fares(started: Any, error: BaseException) -> None:
    steps = started(error)
    eventually(lambda: loop_faults().get("of the test") == type(error).__name__)
    steps.errors.clear()
    eventually(lambda: steps.done)
    eventually(lambda: loop_faults().get("of the test") == "")
    steps.loop.stop(5.0)
    assert "of the test" not in loop_faults()


def test_an_error_that_repeats_is_logged_once(started: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        steps = started(TypeError("again and again"))
        eventually(lambda: steps.loop.fault)
        steps.errors.append(TypeError())
        eventually(lambda: steps.loop.fault)
        steps.errors.clear()
        eventually(lambda: steps.done)
    assert [record.message for record in caplog.records] == [
        "loop failed, it goes on thread=of the test error=TypeError"
    ]


def test_a_thread_that_ended_without_being_stopped_is_a_fault(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoopThread, "_run", lambda self: None)
    steps = started()
    eventually(lambda: loop_faults().get("of the test") == "ended")
    assert steps.loop.fault == "ended"
