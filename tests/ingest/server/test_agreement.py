"""All receivers give the same answer to the same event, and store the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import bson
import pytest
import zmq
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from tests.support.ingest.running import RunningIngester, sums
from tests.support.waiting import eventually

DEEP: dict[str, Any] = {}
for _ in range(96):
    DEEP = {"a": DEEP}

STORED: list[dict[str, Any]] = [
    {"context": {"$ref": "users", "$id": 7}},
    {"context": {"$id": 7, "$ref": "users", "$db": "other", "more": [{"$ref": "a", "$id": None}]}},
    {"extra": {"$ref": "users", "$id": {"$ref": "a", "$id": "b"}}},
    {"extra": {"$set": {"a.b": 1}, "$gt": 5, "a.b.c": {"": {"$": 1}}, "_id": 7}},
    {"extra": [{"$where": "1"}, {"..": 1}, {"$": {}}]},
    {"context": DEEP},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"$ref": "users", "$id": 7}, "unknown_field"),
    ({"a.b": 1}, "unknown_field"),
    ({"$set": {}}, "unknown_field"),
    ({"_id": 7}, "unknown_field"),
    ({"context": [{"$ref": "users", "$id": 7}]}, "bad_context"),
    ({"context": {"a": DEEP | {"b": DEEP, "c": {"d": {"a": DEEP}}}}}, "nested_too_deep"),
]


def by_json(ingester: RunningIngester, event: dict[str, Any]) -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(ingester.address("json"))
        socket.send(json.dumps(event).encode())


def by_bson(ingester: RunningIngester, event: dict[str, Any]) -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(ingester.address("bson"))
        socket.send(bson.encode(event))


def acknowledged(ingester: RunningIngester, event: dict[str, Any]) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        client.send([event])


@pytest.mark.parametrize("send", [by_json, by_bson, acknowledged])
def test_names_and_references_are_stored_or_refused_alike(
    send: Callable[..., None], ingester: RunningIngester, database: Database[Any]
) -> None:
    for number, event in enumerate(STORED):
        send(ingester, {"type": "x", "id": f"{send.__name__} {number}", **event})
    for event, _ in REFUSED:
        send(ingester, {"type": "x", "id": "refused", **event})
    expected = {"stored": len(STORED), "duplicates": 0, "quarantined": len(REFUSED)}
    eventually(lambda: sums(database) == expected, what=f"{expected}")
    raw = CodecOptions(document_class=RawBSONDocument)
    found = {event["id"]: bytes(event.raw) for event in database.get_collection("event.1", codec_options=raw).find()}
    for number, event in enumerate(STORED):
        assert bson.encode(event)[4:-1] in found[f"{send.__name__} {number}"]
    assert sorted(entry["code"] for entry in database["quarantine"].find()) == sorted(code for _, code in REFUSED)
