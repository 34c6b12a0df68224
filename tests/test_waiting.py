"""`eventually` and `assert_within`, on which other tests rely."""

from __future__ import annotations

import pytest

from tests.support.durations import assert_within
from tests.support.waiting import eventually


def test_eventually_returns_the_first_true_value() -> None:
    found = iter([None, [], "it", "late"])
    assert eventually(lambda: next(found)) == "it"


def test_a_condition_that_never_holds_is_reported_with_its_last_value() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s: the answer; the last value was \{\}"):
        eventually(dict, 0, "the answer")


def test_an_assertion_error_in_the_condition_ends_the_wait() -> None:
    def dead() -> bool:
        raise AssertionError("the process has ended")

    with pytest.raises(AssertionError, match="the process has ended"):
        eventually(dead)


@pytest.mark.parametrize(
    ("took", "kept"),
    [
        ([0.1] * 4 + [5.0] + [0.1] * 5, True),  # the machine was busy
        ([0.1, 5.0, 5.0] + [0.1] * 10, True),  # for a while
        ([0.1, 1.9] * 50, False),  # like polling every two seconds
    ],
)
def test_nine_of_ten_attempts_must_be_in_time(took: list[float], kept: bool) -> None:
    found = iter(took)
    if kept:
        assert_within(1.0, lambda: next(found))
    else:
        with pytest.raises(AssertionError, match="in none of 5 rounds"):
            assert_within(1.0, lambda: next(found))
