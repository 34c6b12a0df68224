from __future__ import annotations

import collections
import datetime
import enum
import math
import re
import uuid
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st
from pymongo.database import Database

from aggregates.run.recount import key_order
from mapreduce.codec import ENCODING, decode, encode
from mapreduce.exceptions import KeyRefusedError
from mapreduce.key import as_written, canonical, identity, normalise

UTC = datetime.UTC

scalars = (
    st.text(max_size=20)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.none()
    | st.binary(max_size=10)
    | st.uuids()
    | st.datetimes(timezones=st.just(UTC))
    | st.decimals(allow_nan=False, places=3, min_value=-(10**9), max_value=10**9).map(lambda d: Decimal128(str(d)))
    | st.integers(0, 2**96 - 1).map(lambda n: ObjectId(n.to_bytes(12)))
)
keys = scalars | st.dictionaries(st.text("abc", min_size=1, max_size=3), scalars, max_size=3)


@given(keys)
def test_normalizing_again_changes_nothing(key: Any) -> None:
    once = normalise(key)
    assert normalise(once) == once
    assert canonical(normalise(once)) == canonical(once)


@given(keys)
def test_a_key_is_the_same_after_a_round_trip_through_bson(key: Any) -> None:
    normal = normalise(key)
    back = decode(encode({"k": normal}))["k"]
    assert identity(back)[0] == identity(key)[0]


@given(keys)
def test_a_key_that_bson_gives_back_is_the_key_that_was_written(key: Any) -> None:
    normal = normalise(key)
    back = decode(encode({"k": normal}))["k"]
    assert canonical(back) == canonical(normal)
    assert as_written(back) == normal
    assert type(as_written(back)) is type(normal)


@pytest.mark.parametrize("key", [2**40, {"a": 2**40}, {"a": {"b": 2**40}}, {"a": [1, 2**40]}])
def test_numbers_in_keys_that_bson_gives_back_are_ordinary_numbers(key: Any) -> None:
    assert "Int64" not in shown_types(as_written(decode(encode({"k": key}))["k"]))


def shown_types(value: Any) -> str:
    """Return the names of the types of a value and of what it holds."""
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return " ".join([type(value).__name__, *map(shown_types, held)])


class Colour(str, enum.Enum):  # noqa: UP042 - `str()` of a member is its name
    RED = "red"


class Number(enum.IntEnum):
    FIVE = 5


class OwnUuid(uuid.UUID):
    pass


class OwnId(ObjectId):
    pass


class Share(float):
    pass


@pytest.mark.parametrize(
    ("key", "same"),
    [
        (Int64(2**40), 2**40),
        (Number.FIVE, 5),
        (Colour.RED, "red"),
        (Share(0.5), 0.5),
        (OwnUuid(int=5), uuid.UUID(int=5)),
        (OwnId("0123456789abcdef01234567"), ObjectId("0123456789abcdef01234567")),
        (bson.SON([("a", Int64(2**40))]), {"a": 2**40}),
        (collections.OrderedDict(a=[Int64(1)]), {"a": [1]}),
        (RawBSONDocument(bson.encode({"a": {"b": 2**40}})), {"a": {"b": 2**40}}),
    ],
)
def test_a_key_of_a_subclass_is_what_bson_stores(key: Any, same: Any) -> None:
    assert identity(key)[0] == identity(same)[0]
    assert canonical(key) == canonical(same)
    assert encode({"k": normalise(key)}) == encode({"k": same})
    assert key_order(key) == key_order(same)


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_strings_are_ordered_by_code_points(pair: list[str]) -> None:
    assert (canonical(pair[0]) < canonical(pair[1])) == (pair[0] < pair[1])


@pytest.mark.parametrize(
    "same",
    [
        [1, 1.0, Int64(1), Decimal128("1"), Decimal128("1.00")],
        [0, 0.0, -0.0, Decimal128("-0")],
        [0.5, Decimal128("0.5")],
        [2**53 + 1, Decimal128(str(2**53 + 1))],
        [1e300, Decimal128("1E+300")] if float("1E+300") == 10**300 else [1e300],
        [math.inf, Decimal128("Infinity")],
        [b"x", Binary(b"x", 0)],
        [uuid.UUID(int=5), Binary(uuid.UUID(int=5).bytes, 4)],
        [
            datetime.datetime(2024, 1, 1, 0, 0, 0, 1999, tzinfo=UTC),
            datetime.datetime(2024, 1, 1, 0, 0, 0, 1000),  # noqa: DTZ001 - what BSON takes for UTC
            datetime.datetime(2024, 1, 1, 1, 0, 0, 1500, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        ],
        [{"a": 1, "b": 2.0}, {"a": 1.0, "b": 2}],
    ],
)
def test_values_that_mongodb_considers_equal_are_one_key(same: list[Any], database: Database[dict[str, Any]]) -> None:
    assert len({identity(key)[0] for key in same}) == 1
    collection = database.get_collection("keys", codec_options=ENCODING)
    collection.insert_one({"_id": same[0]})
    for key in same:
        assert collection.count_documents({"_id": key}) == 1
        assert collection.count_documents({"_id": normalise(key)}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0, False),
        ("1", 1),
        (2**53, 2**53 + 1),
        (float(2**53), 2**53 + 1),
        ("", None),
        (b"a", "a"),
        (Binary(b"a", 5), b"a"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": True}),
        (0.1, Decimal128("0.1")),
    ],
)
def test_values_that_mongodb_distinguishes_are_two_keys(
    one: Any, other: Any, database: Database[dict[str, Any]]
) -> None:
    assert identity(one)[0] != identity(other)[0]
    collection = database.get_collection("keys", codec_options=ENCODING)
    collection.insert_many([{"_id": normalise(one)}, {"_id": normalise(other)}])


@pytest.mark.parametrize(
    "key",
    [
        [1],
        (1, 2),
        math.nan,
        Decimal128("NaN"),
        re.compile("x"),
        bson.Regex("x"),
        {"a": math.nan},
        {"$a": 1},
        {1: 2},
        2**63,
        "\ud800",
        {1, 2},
        object(),
        bson.Code("x"),
    ],
)
def test_a_key_that_cannot_be_an_id_is_refused_with_its_value(key: Any) -> None:
    with pytest.raises(KeyRefusedError, match="must be") as caught:
        normalise(key)
    assert "key" in str(caught.value)
