"""Event rules and wire formats."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import json
import lzma
import struct
import time
from typing import Any

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.transport.notice import NOTICES
from ingest.wire import bson_reader, json_reader
from ingest.wire.batch import ReceivedBatch
from ingest.wire.event import MAX_EVENT_BYTES
from ingest.wire.quarantine_codes import CODES
from ingest.wire.refusal import MAX_RAW_BYTES, Refusal
from tests.support.ingest.tar_archive import KINDS, tar_of

NOW_MS = 1_700_000_000_000
PACKED = gzip.compress(b"".join(b"%d\n" % n for n in range(5000)), mtime=0)
NOW = dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC).replace(tzinfo=None)


def from_bson(*messages: bytes) -> ReceivedBatch:
    batch = ReceivedBatch("bson", NOTICES)
    bson_reader.read_messages(messages, batch, NOW_MS)
    return batch


def from_json(message: bytes | str) -> ReceivedBatch:
    batch = ReceivedBatch("json")
    json_reader.read_message(message.encode() if isinstance(message, str) else message, batch, NOW_MS)
    return batch


def stored(batch: ReceivedBatch) -> list[dict[str, Any]]:
    return [bson.decode(raw) for raw in batch.events]


def codes(batch: ReceivedBatch) -> list[str]:
    return [refusal.code for refusal in batch.refusals]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def test_missing_fields_are_filled_in_and_the_rest_is_unchanged() -> None:
    batch = from_bson(bson.encode({"type": "nop"}))
    assert stored(batch) == [{"timestamp": NOW, "type": "nop", "context": {}}]
    raw = bson.encode({"type": "x", "context": {"a": 1}, "timestamp": NOW, "extra": bson.Int64(3)})
    assert from_bson(raw).events == [raw]


def test_an_absent_extra_stays_absent_and_a_null_is_kept() -> None:
    assert "extra" not in stored(from_bson(bson.encode({"type": "x"})))[0]
    assert stored(from_bson(bson.encode({"type": "x", "extra": None})))[0]["extra"] is None


def test_a_message_can_hold_several_documents() -> None:
    one, two = bson.encode({"type": "a"}), bson.encode({"type": "b", "id": "2"})
    batch = from_bson(one + two, two, one)
    assert [e["type"] for e in stored(batch)] == ["a", "b", "b", "a"]
    assert batch.ids == [None, "2", "2", None]


GOOD = {"timestamp": NOW, "type": "x", "context": {}}


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({}, "missing_type"),
        ({"type": ""}, "bad_type"),
        ({"type": "x" * 257}, "bad_type"),
        ({"type": 1}, "bad_type"),
        ({"type": None}, "bad_type"),
        ({"type": bson.Code("x")}, "bad_type"),
        ({"type": "x", "id": bson.Code("x")}, "bad_id"),
        ({"type": "x", "context": [1]}, "bad_context"),
        ({"type": "x", "context": None}, "bad_context"),
        ({"type": "x", "timestamp": 1}, "bad_timestamp"),
        ({"type": "x", "id": 1}, "bad_id"),
        ({"type": "x", "id": ""}, "bad_id"),
        ({"type": "x", "more": 1}, "unknown_field"),
        ({"type": "x", "_id": 1}, "unknown_field"),
        ({"type": "x", "$command": "delete_all"}, "unknown_command"),
        ({"type": "x", "$command": {"a": 1}}, "unknown_command"),
        ({"type": "x", "context": nested(101)}, "nested_too_deep"),
        ({"type": "x", "context": nested(900)}, "nested_too_deep"),
        ({"type": "x", "extra": "x" * MAX_EVENT_BYTES}, "event_too_big"),
        ({"type": "x", "extra": [{"a": bson.DatetimeMS(253402300800000)}]}, "date_out_of_range"),
        ({"$command": "event_noval", "_id": 7}, "unknown_field"),
        ({"$command": "event_noval", "id": 7}, "bad_id"),
        ({"$command": "event_noval", "extra": nested(101)}, "nested_too_deep"),
    ],
)
def test_each_refusal_has_its_code_and_leaves_its_neighbours_alone(document: dict[str, Any], code: str) -> None:
    good = bson.encode(GOOD)
    batch = from_bson(good, bson.encode(document), good + bson.encode(document))
    assert codes(batch) == [code, code]
    assert batch.events == [good, good]
    assert code in CODES


def test_a_refusal_has_its_index_in_the_message() -> None:
    batch = ReceivedBatch("ack")
    good, bad = bson.encode(GOOD), bson.encode({})
    bson_reader.read_message(good + bad + good + bson.encode(GOOD | {"extra": bson.DatetimeMS(2**62)}), batch, NOW_MS)
    assert [(r.code, r.index) for r in batch.refusals] == [("missing_type", 1), ("date_out_of_range", 3)]


def test_nesting_of_100_is_allowed() -> None:
    assert codes(from_bson(bson.encode({"type": "x", "context": nested(97)}))) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", "bad_bson"),
        (b"x", "truncated_message"),
        (b'{"type": "x"}', "truncated_message"),
        (bson.encode(GOOD)[:-3], "truncated_message"),
        (bson.encode(GOOD)[:-1] + b"\x01", "bad_bson"),
        (bson.encode(GOOD).replace(b"\x02type", b"\x99type"), "bad_bson"),
        (bson.encode(GOOD | {"extra": "ab"}).replace(b"ab", b"\xff\xfe"), "bad_bson"),
        (b"\x00" * (bson_reader.MAX_MESSAGE_BYTES + 1), "oversized_message"),
    ],
)
def test_bytes_that_are_not_bson_are_refused(message: bytes, code: str) -> None:
    good = bson.encode(GOOD)
    batch = from_bson(good, message, good)
    assert codes(batch) == [code]
    assert batch.events == [good, good]
    assert from_bson(good + good[:-1]).events == [good]


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (PACKED, "packed with gzip"), (tar_of("gnu", bson.encode(GOOD)), "packed with tar"),
        (b'{"type": "x"}\n{"type": "y"}', "looks like JSON"),
        (b'[{"type": "x"}]', "looks like JSON"), (b"nonsense", "not a whole document"),
    ],
)  # fmt: skip
def test_other_formats_at_the_bson_socket_are_named_and_kept_whole(message: bytes, meaning: str) -> None:
    (refusal,) = from_bson(message).refusals
    assert refusal.raw == message
    assert meaning in refusal.message


def test_two_ids_in_one_event_are_refused() -> None:
    element = b"\x02id\x00\x02\x00\x00\x00%b\x00"
    body = b"\x02type\x00\x02\x00\x00\x00x\x00" + element % b"1" + element % b"2" + b"\x00"
    assert codes(from_bson(struct.pack("<i", len(body) + 4) + body)) == ["bad_id"]
    assert codes(from_bson(bson.encode({"type": "x", "id": "1", "context": {"id": "2"}}))) == []


def test_event_noval_skips_the_rules_for_fields() -> None:
    batch = from_bson(bson.encode({"$command": "event_noval", "whatever": [1], "re": bson.Regex("a", "i")}))
    assert stored(batch) == [{"timestamp": NOW, "whatever": [1], "re": bson.Regex("a", "i"), "context": {}}]


def test_an_aggregates_notice_is_a_command_and_not_an_event() -> None:
    batch = from_bson(bson.encode({"$command": "agg_complete", "name": "a", "through": 1, "docs": 2}))
    assert batch.empty
    assert batch.commands == [{"$command": "agg_complete", "name": "a", "through": 1, "docs": 2}]


def test_json_accepts_an_object_or_lines_and_dates() -> None:
    assert stored(from_json('{"type":"nop"}')) == [{"timestamp": NOW, "type": "nop", "context": {}}]
    batch = from_json('{"type":"a","timestamp":{"$datetime":1240572600.5}}\n\n{"type":"b","timestamp":"2011-07-01"}\n')
    assert [e["timestamp"] for e in stored(batch)] == [
        dt.datetime(2009, 4, 24, 11, 30, 0, 500000), dt.datetime(2011, 7, 1),  # noqa: DTZ001
    ]  # fmt: skip
    assert stored(from_json('{"type":"a","timestamp":"2011-07-01T02:00:00+02:00"}'))[0]["timestamp"].hour == 0
    assert stored(from_json('{\n "type":\n "a",\n "id": "7"}'))[0]["id"] == "7"
    assert stored(from_json('{"type":"a","extra":[{"at":{"$datetime":0}}]}'))[0]["extra"][0]["at"].year == 1970


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "bad_json"),
        ("nonsense", "bad_json"),
        (b"\xff", "bad_json"),
        ('{"type":"x","extra":NaN}', "bad_json"),
        ('{"type":"x","extra":1e999}', "bad_json"),
        ('{"type":"x","extra":18446744073709551616}', "bad_json"),
        ('{"type":"x","extra":"\\ud800"}', "bad_json"),
        ('{"type":"x","context":{"a\\u0000b":1}}', "bad_json"),
        ("[1]", "not_a_document"),
        ("7", "not_a_document"),
        ('{"type":"x","timestamp":"yesterday"}', "bad_timestamp"),
        ('{"type":"x","timestamp":{"$datetime":"1"}}', "bad_timestamp"),
        ('{\n"type":"x","timestamp":{"$datetime":"1"}}', "bad_timestamp"),
        ('{"type":"x","timestamp":{"$datetime":1e12}}', "date_out_of_range"),
        ('{"type":"x","timestamp":"0001-01-01T00:00:00+10:00"}', "date_out_of_range"),
        ('{"type":"x","timestamp":7}', "bad_timestamp"),
        ('{"type":"x","a":1}', "unknown_field"),
        ('{"$command":"agg_complete"}', "unknown_command"),
        ('{"type":"x","type":"y"}', "repeated_field"),
        ('{"type":"x","extra":[{"a":1,"a":1}]}', "repeated_field"),
        ('{"type":"x","extra":{"$numberLong":"x"}}', "bad_extended_json"),
        ('{"type":"x","extra":{"$date":"x"}}', "bad_timestamp"),
        ('[{"type":"x"},\n{"type":"y"', "bad_json"),
        ('{"type":"x"}'.encode("utf-16-le"), "bad_json"),
        (b"\xff\xfe{", "bad_json"),
        ('{"type":"x","context":' + '{"a":' * 5000 + "1" + "}" * 5001, "nested_too_deep"),
        ('{"type":"x","context":' + '{"a":' * 150 + "1" + "}" * 151, "nested_too_deep"),
    ],
)
def test_json_that_is_not_an_event_is_refused(message: bytes | str, code: str | None) -> None:
    assert codes(from_json(message)) == ([code] if code else [])


@pytest.mark.parametrize("message", ["", "\n", " \r\n", "\ufeff", "\ufeff\n\n"])
def test_an_empty_message_is_refused_once(message: str) -> None:
    assert codes(from_json(message)) == ["bad_json"]


def test_a_bad_line_leaves_the_others_alone() -> None:
    batch = from_json('{"type":"a"}\n{"type":\n{"type":"b"}')
    assert [e["type"] for e in stored(batch)] == ["a", "b"]
    assert [(r.code, r.index, r.raw) for r in batch.refusals] == [("bad_json", 1, b'{"type":')]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_no_line_is_lost_to_a_byte_order_mark(encoding: str) -> None:
    one, two = '{"type":"a","extra":"é"}', '{"type":"b"}'
    for message in (one, f"{one}\n{two}\n", f"{one}\r\n\r\n\ufeff\ufeff{two}", f"{{\n{one[1:]}"):
        batch = from_json(message.encode(encoding))
        assert codes(batch) == []
        assert [event["type"] for event in stored(batch)] == (["a", "b"] if two in message else ["a"])
    assert [event["extra"] for event in stored(from_json(one.encode(encoding)))] == ["é"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_half_of_a_surrogate_pair_takes_no_other_line_along(encoding: str) -> None:
    good, bad = '{"type":"a"}\n', '{"type":"\ud83d"}'
    batch = from_json(f"\ufeff{good}{bad}\n{good}".encode(encoding, "surrogatepass"))
    assert [event["type"] for event in stored(batch)] == ["a", "a"]
    (refusal,) = batch.refusals
    assert (refusal.index, refusal.raw) == (1, bad.encode("utf-8", "surrogatepass"))
    assert refusal.message == "not JSON in UTF-8: half of a surrogate pair at byte 9"
    alone = f"\ufeff{bad}\n".encode(encoding, "surrogatepass")
    assert [refusal.raw for refusal in from_json(alone).refusals] == [alone]
    if encoding != "utf-8":
        odd = from_json(f"\ufeff{good}{bad}".encode(encoding, "surrogatepass")[:-1])
        assert ([event["type"] for event in stored(odd)], len(odd.refusals)) == (["a"], 1)


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (PACKED, "packed with gzip"),
        (bz2.compress(PACKED), "packed with bzip2"),
        (lzma.compress(PACKED), "packed with xz"),
        (b"\x28\xb5\x2f\xfd" + PACKED, "packed with zstd"),
        (b"PK\x03\x04" + PACKED, "packed with zip"),
        *((tar_of(kind, b'{"type":"x"}\n' * 9, b'{"type":"y"}\n' * 9), "packed with tar") for kind in KINDS),
        (bytes(range(256)) * 9, "binary data, with byte 00 at position 0"),
        (b"\n" + bytes(range(256)) * 9 + b"\r\n\r\n", "binary data"),
        (bson.encode({"type": "x", "extra": "a\nb\nc"}), "binary data"),
        ('{"type":"x"}\n{"type":"y"}\n'.encode("utf-16-le"), "UTF-16 or UTF-32 without a byte order mark"),
        ('{"type":"x"}\n{"type":"y"}\n'.encode("utf-16-be"), "UTF-16 or UTF-32 without a byte order mark"),
    ],
)
def test_a_binary_message_is_kept_whole(message: bytes, meaning: str) -> None:
    batch = from_json(message)
    assert [(refusal.code, refusal.raw, refusal.index) for refusal in batch.refusals] == [("bad_json", message, 0)]
    assert meaning in batch.refusals[0].message


# Lines that are JSON by chance, as about one in 170,000 bytes of packed data is: 13 of 30 bodies of 339 kB had one.
CHANCE = b'\n7\n\r[]\r\nnull\n-1.5e3\n{}\n""\n99999999999999999999\r[{}]\n'


@pytest.mark.parametrize(
    "message",
    [
        *(start + PACKED + CHANCE + PACKED for start in (b"", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"x\x9c\xff")),
        PACKED[:40] + b'\n{"type":"a"}\n{"type":"b"}\n' + PACKED[40:],  # a piece that its packer stored as it was
        b"x\x9c\xab\xae\n7\n\xff\n{\xe9}\n",  # without any control character
        b"\x00" + CHANCE + b"\x00",
        CHANCE + b"\x00" + CHANCE,
        b"\xa7" + CHANCE + b"\xa8" + CHANCE + b"\x01" + CHANCE + b"\xa9\n",
    ],
)
def test_binary_data_is_kept_whole_if_lines_of_it_are_json_by_chance(message: bytes) -> None:
    batch = from_json(message)
    assert batch.events == []
    assert [(refusal.code, refusal.raw, refusal.index) for refusal in batch.refusals] == [("bad_json", message, 0)]


def test_binary_data_with_json_by_chance_leaves_the_objects_beside_it_alone() -> None:
    good, refused = b'{"type":"a"}\n', b'{"type":"b","type":"c"}\n'
    batch = from_json(good + b"\x00" + CHANCE + good + CHANCE + b"\x00\n" + refused + b"7\n" + good)
    assert [event["type"] for event in stored(batch)] == ["a", "a", "a"]
    assert [refusal.raw for refusal in batch.refusals] == [
        b"\x00" + CHANCE, CHANCE.lstrip(b"\n") + b"\x00\n", refused.rstrip(), b"7"
    ]  # fmt: skip
    assert codes(batch) == ["bad_json", "bad_json", "repeated_field", "not_a_document"]


def test_binary_data_between_good_lines_is_kept_in_one_piece() -> None:
    good, bad = b'{"type":"a"}\n', b"nonsense\n"
    batch = from_json(bad + good + PACKED + b"\n" + good + bad + bad + b"\x00\n")
    assert [event["type"] for event in stored(batch)] == ["a", "a"]
    assert [refusal.raw for refusal in batch.refusals] == [b"nonsense", PACKED + b"\n", bad + bad + b"\x00\n"]
    assert len(from_json(b"BZhello\n" + good).events) == 1, "text is not packed"
    log = from_json(b"[INFO] started\n" + good)
    assert ([refusal.raw for refusal in log.refusals], len(log.events)) == ([b"[INFO] started"], 1)
    lines = from_json(bad + b"{\xe9}\n" + bad)
    assert [refusal.raw for refusal in lines.refusals] == [b"nonsense", b"{\xe9}", b"nonsense"], "text stays in lines"


def test_large_refused_input_is_kept_as_a_hash() -> None:
    document = Refusal("bad_bson", "m", b"x" * (MAX_RAW_BYTES + 1)).to_document("bson", NOW)
    assert "raw" not in document
    assert len(document["sha256"]) == 64
    assert Refusal("bad_bson", "m", b"x").to_document("bson", NOW)["raw"] == b"x"


def test_dates_are_checked_in_reasonable_time_when_all_are_bad() -> None:
    bad = bson.encode({"type": "x", "extra": bson.DatetimeMS(2**62)})
    started = time.thread_time()  # not the clock: the machine may be busy with other tests
    assert len(from_bson(*[bad] * 2_000).refusals) == 2_000
    assert time.thread_time() - started < 5


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_bson_socket(data: bytes) -> None:
    good = bson.encode(GOOD)
    batch = from_bson(good, data, good)
    assert batch.events.count(good) >= 2
    assert len(batch.events) + len(batch.refusals) + len(batch.commands) >= 3


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda t: t.encode(errors="surrogatepass"))))
def test_no_bytes_break_the_json_socket(data: bytes) -> None:
    from_json(data)
    batch = from_json(json.dumps({"type": "x", "extra": data.hex()}))
    assert len(batch.events) == 1


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_event_is_refused_or_still_an_event(data: st.DataObject) -> None:
    raw = bytearray(bson.encode(GOOD | {"id": "7", "context": {"a": [1, {"b": "c"}]}, "extra": 2.5}))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    batch = from_bson(bytes(raw))
    for event in batch.events:
        bson.decode(event)
    assert batch.events or batch.refusals
