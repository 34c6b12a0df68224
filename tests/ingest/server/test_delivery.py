"""Requests that are sent again are recognised if a document in them has an id, at little cost."""

from __future__ import annotations

import time
from typing import Any

import bson
import pytest

from ingest.server.delivery import delivered
from ingest.wire import bson_reader
from ingest.wire.ack_request import refused_document
from ingest.wire.batch import ReceivedBatch
from ingest.wire.command_check import REFUSED
from ingest.wire.refusal import Refusal

LONG = {f"k{n}": None for n in range(200_000)}


def deliveries(payload: bytes) -> list[str]:
    batch = ReceivedBatch("ack", frozenset({REFUSED}))
    bson_reader.read_message(payload, batch, 0)
    if batch.commands:
        batch.add_refusal(Refusal("bad_json", "m", b"x"))
    return [refusal.delivery for refusal in delivered(batch, payload)]


@pytest.mark.parametrize(
    "documents",
    [
        [{"id": "a", "typ": 1}],
        [{"typ": 1, "id": "a"}],
        [{"typ": 1}, {"typ": 1, "id": "a"}],
        [{"type": "x", "id": "good"}, {"typ": 1}],
        [{"typ": n} for n in range(30)] + [{"type": "x", "id": "good"}],
        [{**LONG, "id": "a" * 256}],
    ],
)
def test_a_request_with_an_id_is_known_by_its_bytes(documents: list[dict[str, Any]]) -> None:
    payload = b"".join(map(bson.encode, documents))
    found = deliveries(payload)
    assert all(found) and len(set(found)) == len(found)
    assert deliveries(payload) == found
    assert not set(deliveries(payload + bson.encode({"typ": 2, "id": "b"}))) & set(found)


@pytest.mark.parametrize(
    "documents",
    [[{}], [{"typ": 1}] * 50, [{"context": {"id": "a"}}], [{"a": {"id": "a"}}], [LONG], [{"typ": "\x02id\x00"}]],
)
def test_a_request_without_ids_is_not_known(documents: list[dict[str, Any]]) -> None:
    assert set(deliveries(b"".join(map(bson.encode, documents)))) == {""}


def test_a_forwarded_refusal_makes_its_request_known_if_it_has_an_id() -> None:
    refusal = Refusal("bad_json", "m", b"x")
    assert all(deliveries(refused_document(refusal, "a")))
    assert deliveries(refused_document(refusal)) == [""]


def test_a_document_of_millions_of_elements_is_not_walked() -> None:
    elements = b"\x0a\0" * 8_000_000
    raw = (len(elements) + 5).to_bytes(4, "little") + elements + b"\0"
    batch = ReceivedBatch("ack")
    bson_reader.read_message(raw, batch, 0)
    began = time.process_time()
    assert [refusal.delivery for refusal in delivered(batch, raw)] == [""]
    assert time.process_time() - began < 0.2  # it takes 2 s to walk them
