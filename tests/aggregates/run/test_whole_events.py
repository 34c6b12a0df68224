"""Whatever value an event holds, tasks that read whole events go on, and a recount reads what a run has read."""

from __future__ import annotations

import uuid
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.raw_bson import RawBSONDocument

from aggregates.exceptions import RunFailedError
from aggregates.run.compare import equal
from aggregates.run.context import RunContext
from aggregates.run.external_sort import ExternalSort
from aggregates.run.recount import key_order
from mapreduce.codec import decode
from tests.support.aggregates.definitions import define
from tests.support.aggregates.event_source import Producer, event

UUID = uuid.UUID("0fb1ee3f-9b4a-4f3c-8a3d-3d6c5f6f1a2b")


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (Binary(b"abc", 4), "Binary"),
        (Binary(b"", 4), "Binary"),
        (Binary(bytes(16), 3), "Binary"),
        (Binary(b"abc", 3), "Binary"),
        (Binary.from_uuid(UUID), "UUID"),
        ({"$ref": "c", "$id": 1, "$db": None}, "dict"),
        ({"$id": Binary(b"abc", 4), "$ref": "c"}, "dict"),
    ],
)
def test_a_run_its_increments_and_its_recount_read_alike(
    sent: Any, kind: str, run, run_context: RunContext, producer: Producer, right
) -> None:
    definition = define("ExtraByItself")
    for _ in range(2):  # a full run, then an increment that merges
        producer.send(event(by=sent), event(by=sent))
        run(definition)
        right(definition)
    stored = run_context.database.get_collection("zagg.extrabyitself", codec_options=bson.CodecOptions(RawBSONDocument))
    found = [decode(document.raw) for document in stored.find()]
    assert {"type": kind} in [document["_id"] for document in found]
    assert all(bson.encode({"v": sent}) == encoded_as_sent(document["value"]) for document in found)


def encoded_as_sent(value: Any) -> bytes:
    return bson.encode({"v": Binary.from_uuid(value) if isinstance(value, uuid.UUID) else value})


def test_a_uuid_and_its_binary_form_are_one_key_and_one_value() -> None:
    assert key_order(UUID) == key_order(Binary.from_uuid(UUID))
    assert equal({"a": [UUID]}, {"a": [Binary.from_uuid(UUID)]})
    assert not equal(UUID, Binary(b"abc", 4))


def test_uuids_and_references_are_spilled_and_read_again() -> None:
    record = {"k": UUID, "v": [{"$id": 1, "$ref": "c", "$db": None}, Binary(b"abc", 4)]}
    with ExternalSort() as records:
        records.add(("o", b"1"), record)
        records.flush()
        records.add(("o", b"2"), record)
        assert [(key, list(found["v"][0]), found) for key, found in records] == [
            (("o", order), ["$id", "$ref", "$db"], record) for order in (b"1", b"2")
        ]


@pytest.mark.parametrize("size", [1, 300_000])  # a reply that is decoded at once, and one that is decoded in pieces
def test_an_event_whose_text_is_no_utf_8_is_named(size: int, run, run_context: RunContext, producer: Producer) -> None:
    definition = define("ExtraByItself")
    last = producer.send(event(by=1), event(by=2, text="..." + "x" * size), event(by=3))
    events = run_context.database["event.1"]
    broken = bson.encode(events.find_one({"_id": last - 1})).replace(b"...", b"\xff..")
    events.replace_one({"_id": last - 1}, RawBSONDocument(broken))
    with pytest.raises(RunFailedError, match=f"_id {last - 1} cannot be read .*utf-8.* mend or delete it"):
        run(definition)
    events.delete_one({"_id": last - 1})
    assert run(definition).state == "complete"
