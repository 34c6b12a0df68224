"""Turns of large bodies and large answers."""

from __future__ import annotations

import threading

import pytest

from aggregates.web.exceptions import UnavailableError
from aggregates.web.large_work import ANSWERS, BODIES, TakingTurns
from tests.support.waiting import eventually


def test_several_of_one_side_are_inside_and_none_of_the_other() -> None:
    turns = TakingTurns()
    bodies = turns.inside(BODIES, 5), turns.inside(BODIES, 5)
    refused = pytest.raises(UnavailableError, match="send it again later")
    with bodies[0], bodies[1], refused, turns.inside(ANSWERS, 0.01):
        pass
    with turns.inside(ANSWERS, 5):
        pass


def test_a_side_that_waits_comes_before_more_of_the_other() -> None:
    turns = TakingTurns()
    order: list[str] = []

    def enter(side: int, name: str) -> None:
        with turns.inside(side, 30):
            order.append(name)

    threads = [threading.Thread(target=enter, args=each) for each in ((ANSWERS, "answer"), (BODIES, "body"))]
    with turns.inside(BODIES, 5):
        for count, thread in enumerate(threads, 1):
            thread.start()
            eventually(lambda count=count: sum(turns._waiting) == count, what="one more that waits")  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert order == ["answer", "body"]
