"""Filters from clients: only allowed operators are accepted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregates.web.exceptions import BadRequestError
from aggregates.web.series import query_filter
from aggregates.web.series.query_filter import COMBINE, COMPARE, check_field, check_filter, read_filter, read_number


def test_comparisons_and_combinations_are_accepted() -> None:
    asked = {
        "$or": [{"value": {"$gt": 3}}, {"_id": {"$in": ["a", "b"]}}],
        "value.hits": {"$gte": 1, "$lt": 9},
        "at": {"$gt": {"$datetime": 0}},
        "name": "x",
        "gone": {"$exists": False},
    }
    expected = {**asked, "at": {"$gt": datetime(1970, 1, 1, tzinfo=UTC)}}
    assert read_filter(json.dumps(asked), "f") == expected


@pytest.mark.parametrize(
    "asked",
    [
        {"$where": "sleep(1000)"},
        {"$expr": {"$function": {}}},
        {"a": {"$regex": "^(a+)+$"}},
        {"a": {"$elemMatch": {"$where": "1"}}},
        {"a": {"$not": {"$gt": 1}}},
        {"$and": [{"$where": "1"}]},
        {"a": {"$gt": {"$where": "1"}}},
        {"a": [{"$where": "1"}]},
        {"a": {"b": {"$gt": 1}}},
        {"$text": {"$search": "x"}},
        {"$or": []},
        {"$or": {}},
        {"a": {"$in": 3}},
        {"a": 2**70},
        {"": 1},
        {"a.$b": 1},
        [],
        3,
        None,
    ],
)
def test_other_operators_and_values_are_refused(asked: Any) -> None:
    with pytest.raises(BadRequestError, match=r"^f: "):
        read_filter(json.dumps(asked), "f")


def test_depth_and_size_are_bounded() -> None:
    deep: Any = {"a": 1}
    for _ in range(20):
        deep = {"$and": [deep]}
    with pytest.raises(BadRequestError, match="levels"):
        check_filter(deep, "f")
    with pytest.raises(BadRequestError, match="terms"):
        check_filter({"a": {"$in": list(range(1000))}}, "f")


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '{"a": NaN', '{"a": NaN}', '{"a": [-Infinity]}'])
def test_invalid_json_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError, match="f is not JSON"):
        read_filter(text, "f")


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"a": {"$gt": 1, "$gt": 2}}', '{"$or": [{"a": 1, "\\u0061": 2}]}']
)
def test_names_that_stand_twice_are_refused(text: str) -> None:
    with pytest.raises(BadRequestError, match="f: an object has more than one field"):
        read_filter(text, "f")


@pytest.mark.parametrize(
    "text", ["1_0", "\u0663", "\u00b2", " 5", "+5", "5.0", "0", "501", "0" * 12 + "999", "9" * 5000]
)
def test_numbers_in_addresses_are_digits_within_their_limits(text: str) -> None:
    with pytest.raises(BadRequestError, match="is not a whole number from 1 to 500"):
        read_number(text, "limit", 1, 500, 100)
    assert read_number("007", "limit", 1, 500, 100) == 7


@pytest.mark.parametrize(
    "text", ['{"a": "\\ud800"}', '{"\\udfff": 1}', '{"a": {"$in": ["x\\ud83d"]}}', '{"a": "\\ude00\\ud83d"}']
)
def test_half_a_pair_of_surrogates_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError, match=r"f: .*half of a surrogate pair"):
        read_filter(text, "f")
    assert read_filter('{"a": "\\ud83d\\ude00", "b": "\\\\ud800"}', "f") == {"a": "\U0001f600", "b": "\\ud800"}


@pytest.mark.parametrize("name", ["$where", "", "a..b", "a.", "a\0b", "x" * 300, 7, None])
def test_invalid_field_names_are_refused(name: Any) -> None:
    with pytest.raises(BadRequestError, match="is not a field name"):
        check_field(name, "sort")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "b.c", "$gt", "$where", "$and", "$in", "$expr", "$datetime"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(_json)
def test_no_other_operator_is_ever_accepted(document: Any) -> None:
    try:
        passed = check_filter(document, "f")
    except BadRequestError:
        return
    allowed = COMPARE | COMBINE

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                assert not name.startswith("$") or name in allowed
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(passed)


def test_a_long_text_is_read_where_it_holds_up_no_other_request(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def compute(size_bytes: int, function: Any, *args: Any) -> Any:
        sizes.append(size_bytes)
        return function(*args)

    monkeypatch.setattr(query_filter, "compute", compute)
    text = json.dumps({"a": ["x" * 1000] * 1000})
    assert query_filter.read_json(text, "f") == json.loads(text)
    assert sizes == [len(text)]
