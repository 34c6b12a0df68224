"""Numbers as text: no exponents, and nothing that reads as another number."""

from __future__ import annotations

import re
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.metrics.exceptions import MetricError
from ingest.metrics.identity import number
from ingest.number_text import decimal_number, plain_decimal, whole_number

NO_NUMBERS = [
    "", " 1", "1 ", "1\n", "1_000", "0x1F", "1e400", "nan", "NaN", "inf", "-Infinity", "\u0663", "\uff11\uff12",
    "\u00b2", "1.5\u0663", "+-1", "--1", ".", "e5", "1e", "1,5", "1\0", "\u22121",
]  # fmt: skip
PLAIN = re.compile(r"-?\d+(?:\.\d+)?\Z", re.ASCII)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-1.50"), "-1.50"),
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
def test_a_number_is_written_without_an_exponent(value: float | Decimal, text: str) -> None:
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


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_text_that_only_python_reads_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        whole_number(text)
    with pytest.raises(ValueError, match="is not a finite number"):
        decimal_number(text)
    with pytest.raises(MetricError, match=r"is not a number|use a finite number"):
        number("value", text)


@pytest.mark.parametrize("text", ["0", "-0", "+5", "007", "1.", ".5", "-1.25e-3", "1E5", "9" * 30, "1e-400"])
def test_ascii_decimals_are_numbers_for_files_and_measurements_alike(text: str) -> None:
    assert decimal_number(text) == float(text) == number("value", text)
    if text.lstrip("+-").isdecimal():
        assert whole_number(text) == int(text)
