"""Limit the bytes that all channels of a process keep, and reserve some of them for small charts."""

from __future__ import annotations

import pytest

from aggregates.web.exceptions import UnavailableError
from aggregates.web.live.state_budget import CHANNEL_BYTES, SMALL_BYTES, StateBudget


def test_states_beyond_the_bound_are_refused_until_others_go() -> None:
    budget = StateBudget(3 * CHANNEL_BYTES, 0)
    budget.keep("a", CHANNEL_BYTES)
    with pytest.raises(UnavailableError, match="too many large charts"):
        budget.keep("b", 1)
    budget.check_room(1)
    budget.keep("b", 0)
    with pytest.raises(UnavailableError, match="too many charts"):
        budget.check_room(1)
    budget.release("a")
    budget.keep("b", CHANNEL_BYTES)
    budget.check_room(1)
    with pytest.raises(UnavailableError):
        budget.check_room(2)


def test_a_state_may_shrink_where_others_lack_room() -> None:
    budget = StateBudget(3 * CHANNEL_BYTES, 0)
    budget.keep("a", CHANNEL_BYTES)
    with pytest.raises(UnavailableError):
        budget.keep("b", 1)
    budget.keep("a", 0)
    budget.keep("b", 1)
    budget.release("b")
    budget.release("b")
    budget.check_room(2)


def test_large_states_leave_room_for_small_ones() -> None:
    large = SMALL_BYTES + 1
    budget = StateBudget(3 * (large + CHANNEL_BYTES), large)
    budget.keep("a", large)
    with pytest.raises(UnavailableError):
        for name in ("b", "c"):
            budget.keep(name, large)
    budget.keep("d", SMALL_BYTES)
