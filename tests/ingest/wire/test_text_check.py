"""The check of texts accepts exactly those that BSON can hold."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.wire.text_check import fault_of_texts

# Characters of all kinds: ASCII, NUL, halves of surrogate pairs, and beyond the basic plane.
TEXTS = st.text(st.sampled_from("aé\0\ud800\udfff\U0001f600"), max_size=3)
VALUES = st.recursive(
    st.none() | st.integers(0, 9) | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
)


@given(VALUES)
def test_texts_have_a_fault_exactly_if_bson_refuses_them(value: Any) -> None:
    try:
        bson.encode({"value": value})
    except (bson.errors.BSONError, ValueError):
        assert fault_of_texts(value)
    else:
        assert not fault_of_texts(value)


@pytest.mark.parametrize(("value", "said"), [("a\0b", r"'a\x00b' holds NUL"), ("x\ud800", r"holds \ud800, half of a")])
def test_a_fault_shows_the_text_and_what_is_wrong_with_it(value: str, said: str) -> None:
    assert said in fault_of_texts([{"a": value}], nul_in_values=False)


def test_any_depth_is_looked_at() -> None:
    deep: Any = "\ud800"
    for _ in range(100_000):
        deep = [deep]
    assert fault_of_texts(deep)
