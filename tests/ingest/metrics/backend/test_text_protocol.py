"""Numbers and names as statsd and graphite read them."""

from __future__ import annotations

import argparse
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.metrics.backend.text_protocol import path, path_prefix, plain_decimal
from ingest.metrics.identity import Identity

PLAIN = re.compile(r"-?\d+(?:\.\d+)?\Z", re.ASCII)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (-3, "-3"),
        (2.5, "2.5"),
        (100.0, "100"),
        (1e-12, "0.000000000001"),
        (4e-05, "0.00004"),
        (1e15, "1000000000000000"),
        (1e16, "10000000000000000"),
        (123456789.125, "123456789.125"),
        (2**63, "9223372036854775808"),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
)
def test_a_number_is_written_without_an_exponent(value: float, text: str) -> None:
    assert plain_decimal(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**64), 2**64))
def test_what_is_written_reads_as_the_same_number(value: float) -> None:
    text = plain_decimal(value)
    assert PLAIN.match(text)
    assert type(value)(float(text) if isinstance(value, float) else int(text)) == value


@given(st.floats(allow_nan=False), st.integers(1, 17))
def test_fewer_digits_are_still_no_exponent(value: float, digits: int) -> None:
    text = plain_decimal(value, digits)
    assert PLAIN.match(text)
    bounded = min(max(value, -sys.float_info.max), sys.float_info.max)
    assert float(text) == float(f"{bounded:.{digits}g}")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a..b", "a._x00.b"),
        (".a", "_x00.a"),
        ("a.", "a._x00"),
        (".", "_x00._x00"),
        ("a.b", "a.b"),
        ("a_x00b", "a_x5Fx00b"),
    ],
)
def test_a_path_has_no_empty_part_and_names_stay_distinct(name: str, written: str) -> None:
    assert path(Identity("info", "Counter", name, "shop"), "z.") == f"z.shop.{written}"


def test_an_empty_source_or_tag_makes_no_empty_part() -> None:
    assert path(Identity("info", "Counter", "n", "a."), "") == "a._x00.n"
    assert path(Identity("info", "Counter", "n", "a", (("k", "."),)), "") == "a.n.k_._x00"


@pytest.mark.parametrize("text", ["", "z", "z.", "shop.web-1."])
def test_a_prefix_of_whole_parts_is_taken(text: str) -> None:
    assert path_prefix(text) == text


@pytest.mark.parametrize("text", [".", ".z", "z..", "a b.", "a/b.", "z\n"])
def test_a_prefix_with_empty_parts_or_other_characters_is_refused_by_value(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(repr(text))):
        path_prefix(text)
