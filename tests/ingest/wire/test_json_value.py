"""Decoding JSON: repeated names, byte order marks, and the items of a list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.wire.json_value import RepeatedFieldError, array_items, loads

MANY = ",".join(f'"n{n}": {{"a": {n}}}' for n in range(50))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"a": 1, "b": {"c": [{"d": 1, "e": 2, "d": 3}]}}',
        '{"a": 1, "\\u0061": 2}',
        '{"": 1, "": 2}',
        '{"$datetime": 1, "$datetime": 1}',
        '{"$a": 1, "$a": 2}',
        f'{{{MANY}, "n7": {{"a": 0}}}}',
        f'{{{MANY}, "x": {{"a": 0, "a": 1}}}}',
        f'{{{MANY}, "x": {{"a" : 0, "a": 1}}}}',
        f'{{{MANY}, "x": {{"a": ":", "a": 1}}}}',
        f'{{{MANY}, "x": {{"a": "\\u0022:", "a": 1}}}}',
    ],
)
def test_a_name_that_stands_twice_in_an_object_is_refused(text: str) -> None:
    with pytest.raises(RepeatedFieldError) as refused:
        loads(text)
    assert refused.value.args[0] == "repeated_field"


@pytest.mark.parametrize(
    "text", ['{"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]}', f'{{{MANY}, "x": ["{{", ":", ":a"], ":": ":"}}', "[]", "7"]
)
def test_equal_names_in_different_objects_are_fine(text: str) -> None:
    assert loads(text) == json.loads(text)


NAMES = st.sampled_from(["a", "b", ":", "a:", '"', "\\", " :", "$a"])
VALUES = st.recursive(
    st.sampled_from([1, None, "a", ":", '":', " : ", "{"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=60,
)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.sampled_from([(", ", ": "), (",", ":"), (" ,", " :"), ("\n,", "\t:\r")]), st.booleans())
def test_any_value_is_decoded_as_the_standard_library_does(value: Any, separators: Any, escaped: bool) -> None:
    text = json.dumps([value] * 20, separators=separators, ensure_ascii=escaped)
    assert loads(text) == [value] * 20


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_in_the_encoding_that_its_byte_order_mark_names(encoding: str) -> None:
    assert loads('{"a": "é\U0001f600"}'.encode(encoding)) == {"a": "é\U0001f600"}


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-32-be"])
def test_big_endian_text_is_read_too(encoding: str) -> None:
    assert loads("\ufeff[1]".encode(encoding)) == [1]
    with pytest.raises(ValueError):
        loads("[1]".encode(encoding))


def items_of(text: str) -> list[str] | None:
    places = array_items(text.encode())
    return None if places is None else [text.encode()[place].decode() for place in places]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("[]", []), (" [ ] ", []), ("[1]", ["1"]), ('[ {"a": [1, "],"]} ,\n2 ]\n', ['{"a": [1, "],"]}', "2"]),
        ("[NaN, 1e999]", ["NaN", "1e999"]), ('[{"a": 1, "a": 2}]', ['{"a": 1, "a": 2}']),
        ("[1,]", None), ("[1", None), ("[1] 2", None), ("{}", None), ("", None), ("[1 2]", None), ("[", None),
    ],
)  # fmt: skip
def test_the_items_of_a_whole_list_are_found(text: str, items: list[str] | None) -> None:
    assert items_of(text) == items


def test_an_item_that_is_nested_too_deep_leaves_the_others_alone() -> None:
    deep = "[" * 5000 + '"]"' + "]" * 5000
    assert items_of(f'[{{"a": 1}}, {deep}, 2]') == ['{"a": 1}', deep, "2"]
