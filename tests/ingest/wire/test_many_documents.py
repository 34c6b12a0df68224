"""Messages of very many, very small or very large documents: bounded in time, memory and in what is kept of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import bson
import pytest

from ingest.turn import Turn
from ingest.wire import ack_request, bson_reader, json_reader, json_value
from ingest.wire.batch import ReceivedBatch
from ingest.wire.event import MAX_DOCUMENTS, MAX_EVENT_BYTES, MAX_MESSAGE_BYTES
from ingest.wire.refusal import MAX_RAW_BYTES, SINGLE_COUNT, Refusal, document_count, gathered

pytestmark = pytest.mark.early

# The messages are made by the tests that read them: 200 MiB of them would be made in each process that lists the tests.
MOST_S = 0.5  # of work between two pauses, on a slow machine
EMPTY = bson.encode({})
GOOD = bson.encode({"type": "x"})
MIB = 2**20


class CountedTurn(Turn):
    """Measure the longest work between two pauses, in seconds of this process."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.longest_s, self._last_s = 0.0, time.process_time()

    def __call__(self) -> None:
        now_s = time.process_time()
        self.longest_s, self._last_s = max(self.longest_s, now_s - self._last_s), now_s


Read = Callable[[bytes, ReceivedBatch, int, Turn], None]


def read(message: bytes, how: Read) -> ReceivedBatch:
    batch, turn = ReceivedBatch("x"), CountedTurn()
    how(message, batch, 0, turn)
    turn()
    assert turn.longest_s < MOST_S
    return batch


def from_bson(message: bytes) -> ReceivedBatch:
    return read(message, bson_reader.read_message)


def from_json(message: bytes) -> ReceivedBatch:
    return read(message, json_reader.read_message)


def kept_bytes(batch: ReceivedBatch) -> int:
    """Return about how much of a journal the refusals take."""
    return sum(len(bson.encode(refusal.to_document(batch.source, None))) for refusal in batch.refusals)


def fill(unit: bytes, size: int = MAX_MESSAGE_BYTES) -> bytes:
    return unit * (size // len(unit))


@pytest.mark.parametrize(
    ("make", "how", "codes"),
    [
        (lambda: fill(b"1\n", MIB), from_json, {"too_many_documents"}),
        (lambda: b"1\n" * 90_000, from_json, {"not_a_document"}),
        (lambda: b"x\n" * 90_000, from_json, {"bad_json"}),
        (lambda: b"1\n{}\n" * 45_000, from_json, {"not_a_document", "missing_type"}),
        (lambda: b'{"a":1}\n{"type":"x","timestamp":"soon"}\n' * 20_000, from_json, {"unknown_field", "bad_timestamp"}),
        (lambda: b'1\n{"type":"x"}\n' * 20_000, from_json, {"not_a_document"}),
        (lambda: EMPTY * 90_000, from_bson, {"missing_type"}),
        (lambda: (EMPTY + GOOD) * 20_000, from_bson, {"missing_type"}),
        (lambda: (EMPTY + bson.encode({"type": 5}) + bson.encode({"$command": "x"})) * 9_000, from_bson,
         {"missing_type", "bad_type", "unknown_command"}),
        (lambda: bson.encode({"typ": "x", "extra": bson.DatetimeMS(2**62)}) * 20_000, from_bson, {"date_out_of_range"}),
        (lambda: EMPTY * 200_000, from_bson, {"too_many_documents"}),
    ],
)  # fmt: skip
def test_refusals_take_little_more_than_the_message_and_keep_all_of_its_bytes(
    make: Callable[[], bytes], how: Callable[[bytes], ReceivedBatch], codes: set[str]
) -> None:
    message = make()
    batch = how(message)
    assert {refusal.code for refusal in batch.refusals} == codes
    assert len(batch.refusals) <= len(codes) * (SINGLE_COUNT + 1) + len(message) // 100_000
    assert kept_bytes(batch) <= len(message) + 300 * len(batch.refusals)
    between = 0 if how is from_bson else 1
    refused_bytes = sum(len(refusal.raw) + between for refusal in batch.refusals)
    assert refused_bytes + len(batch.events) * (len(GOOD) if how is from_bson else 13) >= len(message)
    assert max(len(refusal.raw) for refusal in batch.refusals) <= MAX_RAW_BYTES


def test_the_first_refusals_of_a_code_stand_alone_and_the_others_are_counted() -> None:
    texts = [b'{"typ": %d}' % number for number in range(50)]
    batch = from_json(b"\n".join([b"nonsense", *texts]))
    assert [(refusal.index, refusal.count) for refusal in batch.refusals] == [
        (0, 1), *((index, 1) for index in range(1, 1 + SINGLE_COUNT)), (1 + SINGLE_COUNT, 30),
    ]  # fmt: skip
    joined = batch.refusals[-1]
    assert joined.raw.split(b"\n") == texts[SINGLE_COUNT:]
    assert joined.to_wire() == {
        "index": 21, "code": "unknown_field", "message": joined.message, "count": 30, "indexes": list(range(21, 51)),
    }  # fmt: skip
    assert joined.to_document("json", None)["count"] == 30
    assert "count" not in batch.refusals[0].to_wire()
    assert document_count(batch.refusals) == 51


def test_joined_refusals_are_split_before_one_would_be_cut() -> None:
    raw = b"x" * 300_000
    given = [Refusal("bad_json", "m", raw, index) for index in range(SINGLE_COUNT + 7)]
    found = gathered([*given, Refusal("bad_json", "m", b"y" * (MAX_RAW_BYTES + 1), 99)])
    assert [(each.index, each.count) for each in found[SINGLE_COUNT:]] == [(20, 3), (23, 3), (26, 1), (99, 1)]
    assert document_count(found) == SINGLE_COUNT + 8


def test_each_message_of_a_batch_has_refusals_of_its_own() -> None:
    batch = ReceivedBatch("bson")
    bson_reader.read_messages([EMPTY] * 50 + [EMPTY * 50] + [EMPTY] * 50, batch, 0)
    assert [refusal.count for refusal in batch.refusals] == [1] * 70 + [30] + [1] * 50


@pytest.mark.parametrize("count", [MAX_DOCUMENTS, MAX_DOCUMENTS + 1])
@pytest.mark.parametrize(("how", "unit"), [(from_bson, GOOD), (from_json, b'{"type":"x"}\n')])
def test_a_message_with_more_documents_is_refused_whole_and_never_partly_read(
    how: Callable[[bytes], ReceivedBatch], unit: bytes, count: int
) -> None:
    batch = how(unit * count)
    if count <= MAX_DOCUMENTS:
        assert (len(batch.events), batch.refusals) == (count, [])
        return
    assert batch.events == []
    assert {refusal.code for refusal in batch.refusals} == {"too_many_documents"}
    assert document_count(batch.refusals) == count
    assert b"".join(refusal.raw for refusal in batch.refusals) == unit * count
    assert all(refusal.count <= MAX_DOCUMENTS for refusal in batch.refusals), "so that each can be replayed"


@pytest.mark.parametrize("unit", [b"1\n", b"{}\n", b"x\n", b'"\n', b'{"type":"x","context":{"a":["}"]}}\n'])
def test_a_message_with_more_documents_is_refused_before_they_are_decoded(
    unit: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_reader, "loads", None)
    assert document_count(from_json(unit * 3 * MAX_DOCUMENTS).refusals) == 3 * MAX_DOCUMENTS


def test_commands_count_as_documents() -> None:
    command = bson.encode({"$command": "x"})
    assert {r.code for r in from_bson(command * (MAX_DOCUMENTS + 1)).refusals} == {"too_many_documents"}


def nested(levels: int) -> Any:
    return {"a": nested(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: fill(b"\n"), "bad_json"),
        (lambda: fill(b" \r\n"), "bad_json"),
        (lambda: fill(b"\xef\xbb\xbf\n"), "bad_json"),
        (lambda: fill(b",\n"), "too_many_documents"),
        (lambda: fill(b"{\n"), "too_many_documents"),
        (lambda: fill(b"[\n", 4 * MIB), "too_many_documents"),
        (lambda: fill(b'{"a":{\n'), "too_many_documents"),
        (lambda: b"[" + fill(b"1,", 15 * MIB) + b"1]", "not_a_document"),
        (lambda: b'{"type":"x","extra":[' + fill(b"[],", 7 * MIB) + b"1]}", "event_too_big"),
        (lambda: b'{"type":"x","extra":[' + fill(b'"",', 7 * MIB) + b"1]}", "event_too_big"),
        (lambda: b'{"type":"x","extra":[' + fill(b"1.5,", 15 * MIB) + b"1]}", "event_too_big"),
        (lambda: b'{"type":"x","extra":"' + fill(b"\\u0000", 15 * MIB) + b'"}', "event_too_big"),
        (lambda: json.dumps({"type": "x", "extra": dict.fromkeys(map(str, range(10**6)))}).encode(), "event_too_big"),
        (lambda: fill(b"["), "not_a_document"),
        (lambda: fill(b'{"a":'), "event_too_big"),
        (lambda: fill(b"[" * 3_000 + b"]" * 3_000 + b"\n"), "nested_too_deep"),
        (lambda: b'{"a":"b",' + fill(b'"",', 15 * MIB) + b"\n", "event_too_big"),
        (lambda: fill(b"\x00\xff\n", 250_000), "bad_json"),
    ],
    ids=range(18),
)  # fmt: skip
def test_json_of_any_kind_is_read_in_short_pieces_and_bounded_memory(make: Callable[[], bytes], code: str) -> None:
    batch = from_json(make())
    assert batch.events == []
    assert {refusal.code for refusal in batch.refusals} == {code}


@pytest.mark.parametrize(
    "make",
    [
        lambda: bson.encode({"type": "x", "extra": [None] * 1_000_000}),
        lambda: bson.encode(dict.fromkeys(map(str, range(500_000)))),
        lambda: bson.encode({"$command": "nonsense", "extra": [None] * 1_000_000}),
        lambda: bson.encode({"type": "x", "extra": nested(90), "context": {"a": [nested(50)] * 20_000}}),
    ],
)
def test_a_bson_document_that_is_too_large_is_not_decoded(
    make: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = make()
    monkeypatch.setattr(bson_reader.bson, "decode_all", None)
    monkeypatch.setattr(bson_reader.bson, "decode", None)
    assert [(refusal.code, refusal.raw) for refusal in from_bson(message).refusals] == [("event_too_big", message)]


def test_a_large_text_is_still_a_document_with_its_own_fault() -> None:
    assert [r.code for r in from_bson(bson.encode({"$command": "x", "raw": b"x" * (2 * MIB)})).refusals] == [
        "unknown_command"
    ]


def test_an_event_of_the_largest_size_is_read_whatever_it_holds() -> None:
    for extra in ("\0" * (MAX_EVENT_BYTES - 50), [None] * 125_000, [{"$numberInt": "1"}] * 80_000, "," * 900_000):
        text = json.dumps({"type": "x", "extra": extra})
        for message in (text, json.dumps(json.loads(text), indent=4)):
            assert len(from_json(message.encode()).events) == 1


def test_values_in_texts_do_not_count() -> None:
    text = json.dumps({"extra": "{[,]}" * 400_000})
    assert json_value.loads(text)["extra"].startswith("{[,")


def test_refusals_that_a_receiver_forwards_keep_their_count() -> None:
    given = Refusal("bad_json", "m", b"1\n2", 3, 2)
    batch = ReceivedBatch("http", frozenset({ack_request.REFUSED}))
    bson_reader.read_message(ack_request.refused_document(given) * 30, batch, 0)
    assert document_count(ack_request.refusals(batch.commands)) == 60
    assert len(ack_request.refusals(batch.commands)) == SINGLE_COUNT + 1


@pytest.mark.parametrize("count", [0, -1, MAX_DOCUMENTS + 1, 2.0, "2", True, 2])
def test_a_forwarded_refusal_with_a_false_count_is_itself_refused(count: Any) -> None:
    command = {"$command": "refused", "code": "bad_json", "message": "m", "raw": b"1", "count": count}
    batch = ReceivedBatch("http", frozenset({ack_request.REFUSED}))
    bson_reader.read_message(bson.encode(command), batch, 0)
    assert (batch.commands, [refusal.code for refusal in batch.refusals]) == ([], ["bad_command"])


def test_a_large_frame_names_no_source() -> None:
    frame = bson.encode({"$source": "x", "extra": [None] * 100_000})
    request = ack_request.read_request([b"route", b"id", frame, GOOD])
    assert request is not None
    assert (request.source, request.payload) == (ack_request.OWN_SOURCE, frame + GOOD)
