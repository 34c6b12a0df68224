"""The bytes of bodies that are worked on at a time."""

from __future__ import annotations

import threading

import pytest

from aggregates.web import compute_thread
from aggregates.web.compute_thread import large_answer
from aggregates.web.exceptions import UnavailableError
from tests.support.waiting import eventually
from zarkov_site.body_budget import LARGE_BYTES, SMALL_BYTES, BodyBudget, ByteBudget


def test_no_more_bytes_are_given_out_than_there_are() -> None:
    budget = ByteBudget(10)
    with budget.held(6), pytest.raises(UnavailableError, match="send it again later"), budget.held(5, within_s=0.01):
        pass
    with budget.held(10):
        pass


def test_what_is_larger_than_all_there_is_gets_all() -> None:
    budget = ByteBudget(10)
    with budget.held(50), pytest.raises(UnavailableError), budget.held(1, within_s=0.01):
        pass


def test_bodies_have_their_turn_in_order_of_arrival() -> None:
    budget = ByteBudget(10)
    order: list[int] = []

    def take(size: int) -> None:
        with budget.held(size):
            order.append(size)

    threads = [threading.Thread(target=take, args=(size,)) for size in (9, 2)]
    with budget.held(5):
        for count, thread in enumerate(threads, 1):
            thread.start()  # 2 would have room now, and would keep 9 waiting for ever if more came
            eventually(lambda count=count: len(budget._waiting) == count, what="one more that waits")  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert order == [9, 2]


def test_one_that_gives_up_lets_the_next_have_its_turn() -> None:
    budget = ByteBudget(10)
    with budget.held(5):
        with pytest.raises(UnavailableError), budget.held(9, within_s=0.01):
            pass
        with budget.held(5, within_s=0.01):
            pass


def test_a_small_body_passes_beside_large_ones() -> None:
    budget = BodyBudget(large_bytes=SMALL_BYTES)
    with budget.held(SMALL_BYTES + 1), budget.held(SMALL_BYTES):
        pass


def test_a_request_keeps_nothing_for_its_body_while_it_waits_for_the_turn_of_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compute_thread, "LARGE_WITHIN_S", 0.01)
    budget = BodyBudget(large_bytes=LARGE_BYTES + 1)
    with budget.held(LARGE_BYTES + 1), large_answer():
        assert budget._large._used_bytes == 0
    with budget.held(LARGE_BYTES + 1):  # those of the first were given back once
        assert budget._large._used_bytes == LARGE_BYTES + 1
    assert budget._large._used_bytes == 0
