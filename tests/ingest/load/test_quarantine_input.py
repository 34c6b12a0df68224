"""The text of an edit form: every refused input can be shown, and what is not changed keeps its types."""

from __future__ import annotations

import json
from typing import Any

import bson
import pytest
from bson import Int64, ObjectId, Regex

from ingest.load.quarantine_input import (
    as_text,
    from_text,
    is_offered_as_windows_1252,
    text_to_mend,
)
from ingest.wire.json_reader import encode_event


def entry(raw: bytes) -> dict[str, Any]:
    return {"_id": {"j": "j", "s": 1, "i": 0}, "code": "bad_json", "raw": raw}


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"type": "x", "extra": "\ud800"}',
        rb'{"type": "x", "extra": {"a": ["\udfff", "\u00e9", "\ud83d\ude00"]}}',
        rb'{"type": "x", "\ud800": 1}',
        rb'{"type": "x", "extra": "\\ud800 \ud800\\"}',
    ],
)
def test_half_of_a_surrogate_pair_is_shown_as_json_writes_it(raw: bytes) -> None:
    text = text_to_mend(entry(raw))
    text.encode()
    assert from_text(text) == json.loads(raw)


BROKEN = '{"type": "é", "extra": {"a": 1,}}'


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_text_in_any_encoding_of_unicode_is_offered_to_be_mended(encoding: str, mark: str) -> None:
    raw = entry((mark + BROKEN).encode(encoding))
    assert text_to_mend(raw).lstrip("\ufeff") == BROKEN
    assert from_text(text_to_mend(raw).replace(",}", "}")) == {"type": "é", "extra": {"a": 1}}


@pytest.mark.parametrize("raw", [b"\x1f\x8b\x08\0abc", b"\xff\xfe\0\xd8", b"\0\1\2\3" * 20, b"\xff\xfea", b"{\0\0\0\0"])
def test_no_text_is_offered_for_binary_data(raw: bytes) -> None:
    assert text_to_mend(entry(raw)) == ""


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_what_is_no_text_in_its_encoding_is_offered_as_escapes_that_are_refused_again(encoding: str) -> None:
    raw = '\ufeff{"type": "é\ud83d"}'.encode(encoding, "surrogatepass")
    assert text_to_mend(entry(raw)) == r'{"type": "é\ud83d"}'
    with pytest.raises(ValueError, match="surrogate"):
        encode_event(from_text(text_to_mend(entry(raw))))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"type": "caf\xe9"}', '{"type": "café"}'),
        (b'{"type": "\x8012 \x96 \xdcber"}', '{"type": "€12 – Über"}'),
        (b'{"type": "caf\xc3\xa9 caf\xe9"}', '{"type": "café café"}'),
        (b'{"type": "\x81\x9d"}', r'{"type": "\u0081\u009d"}'),
        (b'{"type": "\xef\xbf\xbd\xff"}', '{"type": "\ufffdÿ"}'),
    ],
)
def test_bytes_that_are_no_utf_8_are_offered_as_windows_1252_and_said_to_be(raw: bytes, text: str) -> None:
    assert text_to_mend(entry(raw)) == text
    assert is_offered_as_windows_1252(entry(raw))
    assert from_text(text_to_mend(entry(raw))) == json.loads(text)
    assert not is_offered_as_windows_1252(entry(raw) | {"mended": bson.encode({"type": "x"})})


@pytest.mark.parametrize(
    "raw",
    [
        b"{broken",
        "{é".encode(),
        "{é".encode("utf-16"),
        '{"é'.encode("utf-16-le"),
        b"\x1f\x8b\x08\0\xe9",
        b"\xe9" * 2**17,
    ],
)
def test_no_other_input_is_said_to_be_windows_1252(raw: bytes) -> None:
    assert not is_offered_as_windows_1252(entry(raw))
    assert not is_offered_as_windows_1252({"_id": {}, "code": "bad_json", "raw_start": raw})


LITERAL: dict[str, Any] = {
    "long": {"$numberLong": "7"}, "re": {"$regex": "z"}, "date": {"$date": "x"}, "oid": {"$oid": "0" * 24},
    "datetime": {"$datetime": 5}, "both": {"$ne": 1, "$regex": "z"}, "list": [{"$numberLong": "7"}, Int64(7), 7, 7.0],
    "number": Int64(7), "pattern": Regex("z"), "reference": {"$ref": "c", "$id": Int64(1), "$db": None},
}  # fmt: skip


ITEMS: list[Any] = [{"$numberLong": "7"}, Int64(7), "a", {"n": {"$numberLong": "7"}, "b": 1}, {"$oid": "0" * 24}, 7]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda items: ["x", *items], ["x", *ITEMS]),
        (lambda items: [*items, "x"], [*ITEMS, "x"]),
        (lambda items: [*items[:2], "x", *items[2:]], [*ITEMS[:2], "x", *ITEMS[2:]]),
        (lambda items: items[2:], ITEMS[2:]),
        (lambda items: [*items[:2], *items[3:]], [*ITEMS[:2], *ITEMS[3:]]),
        (lambda items: [*items[:2], *items[3:], "x", items[4]], [*ITEMS[:2], *ITEMS[3:], "x", ObjectId("0" * 24)]),
        (lambda items: [*items[:3], {**items[3], "b": 2}, *items[4:]], [*ITEMS[:3], {**ITEMS[3], "b": 2}, *ITEMS[4:]]),
        (lambda items: [*items[:3], {**items[3], "b": 2}], [*ITEMS[:3], {**ITEMS[3], "b": 2}]),
        (lambda items: [items[4], items[3]], [ITEMS[4], ITEMS[3]]),
        (lambda items: [], []),
    ],
)
def test_items_of_a_list_keep_their_types_when_others_come_and_go(change: Any, expected: list[Any]) -> None:
    original = {"type": "x", "extra": ITEMS}
    document = json.loads(as_text(original))
    mended = from_text(json.dumps({**document, "extra": change(document["extra"])}), original)
    assert bson.encode(mended) == bson.encode({"type": "x", "extra": expected})


def test_what_is_not_changed_in_the_form_keeps_its_type() -> None:
    original = {"typ": "x", "type": "x", "extra": LITERAL}
    text = as_text(original)
    assert bson.encode(from_text(text, original)) == bson.encode(original)
    mended = from_text(text.replace('"typ": "x",', ""), original)
    assert bson.encode(mended) == bson.encode({"type": "x", "extra": LITERAL})


@pytest.mark.parametrize(
    ("held", "old", "new", "right"),
    [
        ({"a": {"$numberLong": "7"}}, '"7"', '"8"', {"a": {"$numberLong": "8"}}),
        ({"a": Int64(7)}, '"7"', '"8"', {"a": Int64(8)}),
        ({"a": 7}, "7", "7.0", {"a": 7.0}),
        ({"a": 1}, "1", "true", {"a": True}),
        ({"a": 7}, "7", '{"$numberLong": "7"}', {"a": Int64(7)}),
        ({"a": {"b": 7}}, '"b": 7', '"$numberLong": "7"', {"a": Int64(7)}),
        ({"a": {"$date": "x"}}, '"$date"', '"day"', {"a": {"day": "x"}}),
        ({"a": [{"$date": "x"}, 1]}, "1", "2, 3", {"a": [{"$date": "x"}, 2, 3]}),
        ({"a": [Int64(1), {"$date": "x"}, 5]}, "5", "6", {"a": [Int64(1), {"$date": "x"}, 6]}),
        ({"a": {"$date": "x"}, "b": 1}, '"b": 1', '"c": {"$oid": "' + "0" * 24 + '"}',
         {"a": {"$date": "x"}, "c": bson.ObjectId("0" * 24)}),
    ],
)  # fmt: skip
def test_what_is_changed_in_the_form_is_read_as_receivers_do(held: Any, old: str, new: str, right: Any) -> None:
    original = {"type": "x", "extra": held}
    text = as_text(original)
    assert text.count(old) == 1
    assert bson.encode(from_text(text.replace(old, new), original)) == bson.encode({"type": "x", "extra": right})
