from __future__ import annotations

import datetime
import random
import uuid
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS

from mapreduce.codec import as_uuid, decode, decode_each, encode


def test_dates_are_aware_at_every_depth_and_exact_to_the_millisecond() -> None:
    when = datetime.datetime(2024, 2, 29, 23, 59, 59, 999_000, tzinfo=datetime.UTC)
    found = decode(bson.encode({"a": when, "b": [{"c": when}]}))
    assert found == {"a": when, "b": [{"c": when}]}
    assert found["b"][0]["c"].tzinfo is datetime.UTC


@pytest.mark.parametrize("milliseconds", [-62135596800001, -62135596800000, -1, 0, 253402300799999, 253402300800000])
def test_dates_at_and_beyond_the_limits_of_python_are_the_same_after_a_round_trip(milliseconds: int) -> None:
    raw = bson.encode({"d": DatetimeMS(milliseconds)})
    assert encode(decode(raw)) == raw


def test_documents_with_the_fields_of_a_reference_stay_documents() -> None:
    reference = {"$ref": "users", "$id": {"$ref": "deeper", "$id": 1}, "more": 2}
    found = decode(bson.encode({"a": reference, "b": [reference]}))
    assert found == {"a": reference, "b": [reference]}
    assert type(found["a"]) is type(found["a"]["$id"]) is dict


def test_uuids_are_uuids_at_every_depth_and_are_written_as_such() -> None:
    raw = bson.encode({"a": Binary(bytes(16), 4), "b": [{"c": Binary(bytes(16), 4)}]})
    found = decode(raw)
    assert found == {"a": uuid.UUID(int=0), "b": [{"c": uuid.UUID(int=0)}]}
    assert encode(found) == raw


@pytest.mark.parametrize("subtype", [2, 3, 4, 5, 6, 9, 128, 255])
@pytest.mark.parametrize("length", [0, 3, 15, 16, 17, 32])
def test_binary_data_of_any_subtype_and_length_is_the_same_after_a_round_trip(subtype: int, length: int) -> None:
    raw = bson.encode({"a": Binary(bytes(length), subtype), "b": [Binary(bytes(length), subtype)]})
    found = decode(raw)
    assert (type(found["a"]) is uuid.UUID) == (subtype == 4 and length == 16)
    assert encode(found) == raw


def test_binary_data_marked_as_a_uuid_is_one_only_with_sixteen_bytes() -> None:
    assert as_uuid(Binary(bytes(16), 4)) == uuid.UUID(int=0)
    for other in (Binary(b"abc", 4), Binary(bytes(16), 3), Binary(bytes(16), 0)):
        assert as_uuid(other) is other


def test_what_the_receivers_can_decode_the_engine_can_decode() -> None:
    chance = random.Random(12)
    sizes = (0, 1, 4, 5, 8, 9, 12, 16, 17, 21)
    accepted = 0
    for kind in [*range(1, 0x14), 0x7F, 0xFF] * 400:
        body = bytearray(chance.choice((0, 1, 2, 3, 4, 7, 128, 255)) for _ in range(chance.choice(sizes)))
        body[:4] = chance.choice((bytes(body[:4]), (len(body) - 4).to_bytes(4, "little", signed=True)))
        element = bytes([kind]) + b"a\0" + bytes(body) + b"\0"
        raw = (len(element) + 4).to_bytes(4, "little") + element
        try:
            bson.decode(raw)
        except bson.errors.InvalidBSON:
            continue
        accepted += 1
        decode(raw)
    assert accepted > 100


REFERENCES: list[dict[str, Any]] = [
    {"$ref": "c", "$id": 1, "$db": None},
    {"$id": 1, "z": 2, "$ref": "c"},
    {"$db": "d", "$ref": "c", "more": {"$ref": "c", "$db": None, "$id": Binary(b"abc", 4)}, "$id": [1]},
]


@pytest.mark.parametrize("reference", REFERENCES)
def test_references_keep_each_of_their_fields_in_order(reference: dict[str, Any]) -> None:
    raw = bson.encode({"a": reference, "b": [[reference]], "c": Code("x", reference)})
    found = decode(raw)
    assert type(found["a"]) is dict
    assert bson.encode(found) == raw
    assert list(decode_each(raw * 3)) == [found] * 3


def test_text_that_looks_like_a_reference_stays_text() -> None:
    document = {"a": "x$ref", "d": datetime.datetime(2011, 7, 1, tzinfo=datetime.UTC), "u": uuid.UUID(int=7)}
    assert decode(encode(document)) == document


@pytest.mark.parametrize("rest", [b"\1", b"\0\0\0\0\0", b"\xff\xff\xff\xff\0", b"\x40\0\0\0\0"])
def test_documents_that_are_not_whole_are_refused(rest: bytes) -> None:
    whole = bson.encode({"a": {"$ref": "c", "$id": 1}})
    with pytest.raises(bson.errors.InvalidBSON):
        list(decode_each(whole + rest))
