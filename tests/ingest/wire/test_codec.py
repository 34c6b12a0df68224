"""A document with fields called `$ref` and `$id` is a document for every reader, as it is in the store."""

from __future__ import annotations

import json
from typing import Any

import bson
import pytest
from bson.dbref import DBRef

from ingest.wire import bson_reader, json_reader
from ingest.wire.batch import ReceivedBatch
from ingest.wire.codec import decode

REFERENCES: list[dict[str, Any]] = [
    {"$ref": "users", "$id": 7},
    {"$ref": "users", "$id": 7, "$db": "other", "more": [1]},
    {"$ref": "users", "$id": {"$ref": "deeper", "$id": "x"}},
    {"in": [{"a": {"$ref": "users", "$id": None}}]},
    {"$ref": 1, "$id": 2},
    {"$ref": "users", "$id": 7, "$db": None},
    {"$id": 7, "more": [{"$db": None, "$ref": "users", "$id": 8}], "$ref": "users"},
]


def event(**fields: Any) -> dict[str, Any]:
    return {"type": "x", "timestamp": bson.datetime_ms.DatetimeMS(0), "context": {}, **fields}


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("field", ["context", "extra"])
@pytest.mark.parametrize("count", [1, 20])
def test_references_are_accepted_and_stored_as_they_were_sent(reference: Any, field: str, count: int) -> None:
    raw = bson.encode(event(**{field: reference}))
    from_bson, from_json = ReceivedBatch("bson"), ReceivedBatch("json")
    bson_reader.read_messages([raw] * count, from_bson, 0)
    assert from_bson.events == [raw] * count
    line = json.dumps(event(**{field: reference}) | {"timestamp": "1970-01-01T00:00:00Z"}).encode()
    json_reader.read_message(b"\n".join([line] * count), from_json, 0)
    assert from_json.events == [raw] * count


@pytest.mark.parametrize("reference", REFERENCES)
def test_references_are_read_as_plain_documents(reference: dict[str, Any]) -> None:
    raw = bson.encode({"a": reference, "b": [reference], "at": bson.datetime_ms.DatetimeMS(2**60)})
    found = decode(raw)
    assert bson.encode(found) == raw
    del found["at"]
    assert found == {"a": reference, "b": [reference]}
    assert type(found["a"]) is dict


def test_a_pointer_of_the_deprecated_bson_type_is_no_context() -> None:
    pointer = b"\x0ccontext\x00\x02\x00\x00\x00c\x00" + b"\x01" * 12
    body = b"\x02type\x00\x02\x00\x00\x00x\x00" + pointer + b"\x00"
    batch = ReceivedBatch("bson")
    bson_reader.read_messages([(len(body) + 4).to_bytes(4, "little") + body], batch, 0)
    assert [refusal.code for refusal in batch.refusals] == ["bad_context"]
    assert isinstance(bson.decode(bson.encode({"a": DBRef("c", 1)}))["a"], DBRef), "what the driver itself makes of it"
