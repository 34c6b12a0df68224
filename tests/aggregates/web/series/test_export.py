"""CSV: no cell that a spreadsheet may run, and every digit of a number."""

from __future__ import annotations

import csv
import io
import math
import time
from typing import Any

import pytest
from bson import Decimal128, Int64
from hypothesis import given
from hypothesis import strategies as st

from aggregates.web.exceptions import BadRequestError
from aggregates.web.series.document_reader import Piece
from aggregates.web.series.export import csv_lines, form_of
from tests.support.durations import assert_within

SIGNS = ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\ufe66", "\ufe62", "\ufe63", "\ufe6b"]
BLANKS = [
    "", " ", "   ", "\xa0", "\u2003", "\u3000", "\u200b", "\u200d", "\u2060", "\ufeff", "\u202e", "\xad", "\x00",
    "\x01", "\x7f", "\x85", "\u2028", "\t", "\r", "\n", "\r\n", "\v", "\u180e", "\u034f", "\u3164", "\u2800", " \xa0\t",
]  # fmt: skip

RISKY = [
    "\tx", "\rx", "\nx", "\r\nx", "\x00x", "\x1bx", "\x7f", "=", "-", "--1", "-5+2", "+-3", "-1e", "- 5",
    "-x", "@", "-\u0665", "-1_000", "+inf", "-nan", " -5", "-5 ",
]  # fmt: skip
HARMLESS = [
    "-5", "+3.2", "-1e-7", "-.5", "+5.", "-0", "+1E+300", "x=1", "a-b", "celery/2011-07-01", "1=1", " x",
    "'=1", "ä", "\u20ac 5", "(=1)", "", "  ", "\ufeff", "\u2212x",
]  # fmt: skip


def pieces(documents: list[dict[str, Any]], size_bytes: int = 100) -> list[Piece]:
    return [Piece(documents, len(documents), size_bytes, size_bytes)]


def written(documents: list[dict[str, Any]]) -> str:
    return b"".join(csv_lines(pieces(documents))).decode()


def rows(*documents: dict[str, Any]) -> list[list[str]]:
    return list(csv.reader(io.StringIO(written(list(documents)), newline="")))


def cell(text: Any) -> str:
    """Return how `text` is written as a value."""
    return rows({"_id": "x", "value": text})[1][1]


@pytest.mark.parametrize("sign", SIGNS)
def test_a_text_that_may_be_a_formula_gets_an_apostrophe_wherever_it_stands(sign: str) -> None:
    for blank in BLANKS:
        text = f"{blank}{sign}1+cmd|' /C calc'!A0"
        found = rows({"_id": text, "value": {text: text, "n": [1]}})
        assert found == [["key", f"'{text}", "n", "more"], [f"'{text}", f"'{text}", "[1]", ""]], repr(blank)


@pytest.mark.parametrize("text", RISKY)
def test_texts_that_begin_with_a_control_character_or_a_sign_get_an_apostrophe(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_and_plain_numbers_stay_as_they_are(text: str) -> None:
    assert cell(text) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-5, "-5"),
        (-1e-7, "-0.0000001"),
        (4e-05, "0.00004"),
        (Int64(2**63 - 1), "9223372036854775807"),
        (Int64(-(2**63)), "-9223372036854775808"),
        (Decimal128("0.10"), "0.10"),
        (Decimal128("-12345678901234567890.123456789"), "-12345678901234567890.123456789"),
        (Decimal128("1E+6000"), "1" + "0" * 6000),
        (1.7976931348623157e308, "17976931348623157" + "0" * 292),
        (0.1, "0.1"),
        (math.nan, ""),
        (-math.inf, ""),
        (Decimal128("NaN"), ""),
        (Decimal128("sNaN"), ""),
        (Decimal128("-Infinity"), ""),
        (None, ""),
        (True, "True"),
        (b"\xfb", "'+w=="),
        (["=1"], '["=1"]'),
    ],
)
def test_values_have_all_their_digits_or_an_empty_cell(value: Any, text: str) -> None:
    assert cell(value) == text
    assert rows({"_id": value, "value": 1})[1][0] == text


def test_texts_with_any_separator_are_quoted() -> None:
    assert written([{"_id": "a;=1", "value": 'say "x"'}, {"_id": "b\t=1", "value": "c,d"}]) == (
        'key,value,more\r\n"a;=1","say ""x""",\r\n"b\t=1","c,d",\r\n'
    )


@given(st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=4), st.text(max_size=6))
def test_a_reader_gets_every_text_back_but_for_the_apostrophe(value: dict[str, str], key: str) -> None:
    header, row = rows({"_id": key, "value": value})
    for before, after in zip(["key", *value, "more"], header, strict=True):
        assert after in (before, f"'{before}")
    for before, after in zip([key, *value.values(), ""], row, strict=True):
        assert after in (before, f"'{before}")


def test_a_byte_order_mark_is_written_if_asked_for() -> None:
    write, media_type = form_of("csv", "1")
    assert b"".join(write(pieces([{"_id": "größe", "value": 1}]))) == "\ufeffkey,value,more\r\ngröße,1,\r\n".encode()
    assert media_type == "text/csv; charset=utf-8"
    assert b"".join(form_of("csv", "")[0]([])) == b"key,more\r\n"


@pytest.mark.parametrize("bom", ["0", "2", "yes", "true", "١", "1 "])
def test_another_value_of_bom_is_refused(bom: str) -> None:
    with pytest.raises(BadRequestError, match="use bom=1, or leave it out") as caught:
        form_of("csv", bom)
    assert caught.value.details == {"parameter": "bom"}


def test_json_lines_have_no_byte_order_mark() -> None:
    with pytest.raises(BadRequestError, match="bom = 1 is for CSV"):
        form_of("jsonl", "1")


def test_many_fields_are_written_in_time_that_grows_with_their_number() -> None:
    wide = [{"_id": number, "value": dict.fromkeys(map(str, range(30_000)), 1)} for number in range(3)]

    def write() -> float:
        own = time.process_time()  # not the clock: the machine may be busy with other tests
        list(csv_lines(pieces(wide)))
        return time.process_time() - own

    assert_within(2.0, write, tries=1)
