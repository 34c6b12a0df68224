"""Joined refusals: each piece can be had again as it was refused, and nothing else is ever read from them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import bson
import pytest

from ingest.load.quarantine_input import MendError, documents_of
from ingest.wire import ack_request, bson_reader, json_reader
from ingest.wire.batch import ReceivedBatch
from ingest.wire.command_check import REFUSED, command_fault
from ingest.wire.event import MAX_DOCUMENTS
from ingest.wire.refusal import (
    CUT,
    DOCUMENTS,
    MAX_RAW_BYTES,
    SINGLE_COUNT,
    Refusal,
    document_count,
    gathered,
    packed,
    pieces_of,
    unpacked,
)

GOOD = b'{"type":"g","context":{}}\n'
TEXTS = (
    b'{"type":"x","context":{"a":1},\n', b'"extra":2}\n', b'{"type":"x",\n', b'"context":{}}\n', b"1\n", b"[1,\n2]\n",
    b"}\n", b'{\n "typ": 1\n}\n', b'{\r\n\r\n"typ":1}\r\n', b"\n", b"\r", b"nonsense\r", b'"a\n', b' b"\n',
    b"\xef\xbb\xbf\n", b"\xef\xbb\xbf1\n", b'{"typ":1}\n', b"caf\xe9\n", b'{"type":"\xe9"}\n', b"\x05\0\0\0\0\n",
    b"{\n", b"[\n", b'{"a":[\n', b'{"type":1,\n\n\n"context":{}}\n', GOOD, GOOD, GOOD,
)  # fmt: skip
BSON = (
    bson.encode({}), bson.encode({"typ": "x"}), bson.encode({"type": 5}), bson.encode({"$command": "x"}),
    b"\x06\0\0\0\x7f\0", b"\x0c\0\0\0\x02a\0\x09\0\0\0\0", bson.encode({"type": "g", "context": {}}),
)  # fmt: skip
Read = Callable[[bytes, ReceivedBatch, int], None]


def read(message: bytes, how: Read) -> ReceivedBatch:
    batch = ReceivedBatch("x")
    how(message, batch, 0)
    return batch


def pieces(refusal: Refusal) -> list[bytes]:
    found = pieces_of(refusal.to_document("x", None))
    assert found is not None
    assert len(found) == refusal.count
    return found


def by_place(refusals: list[Refusal]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for refusal in refusals:
        places = refusal.indexes or (refusal.index,)
        found |= dict(zip(places, pieces(refusal), strict=True))
    return found


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("how", "units"), [(json_reader.read_message, TEXTS), (bson_reader.read_message, BSON)])
def test_pieces_are_what_was_refused_in_any_mix_of_good_and_bad(
    how: Read, units: tuple[bytes, ...], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    some = chance.sample(units, chance.randint(2, len(units)))
    message = b"".join(chance.choices(some, k=800))
    joined = read(message, how)
    monkeypatch.setattr(ReceivedBatch, "gather_refusals", lambda *_: None)
    alone = read(message, how)
    assert joined.events == alone.events
    assert by_place(joined.refusals) == {refusal.index: refusal.raw for refusal in alone.refusals}
    assert document_count(joined.refusals) == len(alone.refusals)


@pytest.mark.parametrize("seed", range(20))
def test_pieces_survive_joining_again_and_forwarding(seed: int) -> None:
    chance = random.Random(seed)
    raws = [
        b"".join(chance.choices((b"\n", b"\r", b"a", b"{", b" ", b"\0"), k=chance.randint(0, 300))) for _ in range(300)
    ]
    raws += [bson.encode({"a": number}) for number in range(100)]
    chance.shuffle(raws)
    given = [Refusal("bad_json", "m", raw, index) for index, raw in enumerate(raws)]
    parts = [each for start in range(0, 400, 50) for each in gathered(given[start : start + 50])]
    batch = ReceivedBatch("http", frozenset({REFUSED}))
    bson_reader.read_message(b"".join(map(ack_request.refused_document, parts)), batch, 0)
    assert batch.refusals == []
    found = ack_request.refusals(batch.commands)
    assert len(found) <= SINGLE_COUNT + 3
    assert sorted(piece for refusal in found for piece in pieces(refusal)) == sorted(raws)


def test_halves_of_different_events_never_become_one() -> None:
    message = b"".join(b'{"type":"x","context":{"a":%d},\n' % n + GOOD * 3 + b'"extra":2}\n' for n in range(100))
    batch = read(message, json_reader.read_message)
    assert len(batch.events) == 300
    joined = batch.refusals[-1]
    found = list(documents_of(joined.to_document("json", None)))
    assert len(found) == joined.count == 180
    assert [each for each in found if not isinstance(each, str)] == []


OBJECT = b'{\n "type":\n "x",\n "context":\n {"type":"inner","context":{}}\n}\n'


@pytest.mark.parametrize(
    ("unit", "count"),
    [(OBJECT, MAX_DOCUMENTS + 1), (b'{"type":"x"}\n', MAX_DOCUMENTS + 5), (b'\n\n{"type":"x"}\r\n', MAX_DOCUMENTS + 5)],
    ids=["on several lines", "on one line", "with blank lines"],
)
def test_too_many_values_are_counted_and_cut_only_where_one_ends(unit: bytes, count: int) -> None:
    batch = read(unit * count, json_reader.read_message)
    assert (batch.events, document_count(batch.refusals)) == ([], count)
    assert b"".join(refusal.raw for refusal in batch.refusals) == unit * count
    found = [each for refusal in batch.refusals for each in documents_of(refusal.to_document("json", None))]
    assert len(found) == count
    assert {each["type"] if not isinstance(each, str) else each for each in found} == {"x"}


def test_a_value_longer_than_a_piece_is_kept_whole() -> None:
    long = b'{"type":"long","context":{"a":"' + b"x" * 300_000 + b'"}}\n'
    batch = read(b"1\n" * (MAX_DOCUMENTS + 1) + long + b"2\n", json_reader.read_message)
    assert [(each.count, each.raw[:9]) for each in batch.refusals[-2:]] == [(1, long[:9]), (1, b"2\n")]
    assert batch.refusals[-2].raw == long


def test_what_follows_the_most_lines_is_kept_but_never_read_as_events() -> None:
    inner = b'{"type":"inner","context":{}}\n'
    message = b"1\n" * 900_000 + b'{"extra":[\n' + inner.replace(b"\n", b",\n") * 200_000 + inner + b"]}\n" + inner
    batch = read(message, json_reader.read_message)
    assert b"".join(refusal.raw for refusal in batch.refusals) == message
    cut = [refusal for refusal in batch.refusals if refusal.joined == CUT]
    assert document_count(batch.refusals) - document_count(cut) == 900_000
    assert cut[0].raw.startswith(b'{"extra":[\n')
    for refusal in cut:
        with pytest.raises(MendError, match="download it"):
            list(documents_of(refusal.to_document("json", None)))


def test_pieces_of_too_many_bson_documents_are_joined_without_other_bytes() -> None:
    message = bson.encode({}) * 3_000_000
    batch = read(message, bson_reader.read_message)
    assert b"".join(refusal.raw for refusal in batch.refusals) == message
    assert {refusal.joined for refusal in batch.refusals} == {DOCUMENTS}
    assert sum(len(pieces(refusal)) for refusal in batch.refusals) == 3_000_000


def test_the_sizes_of_pieces_take_little_space() -> None:
    batch = read((b"{\n}\n" + GOOD) * 50_000, json_reader.read_message)
    joined = batch.refusals[-1]
    assert len(joined.joining()["sizes"]) == joined.count
    sizes = (0, 1, 127, 128, 0xD7FF, 0xD800, 0xDFFF, MAX_RAW_BYTES)
    assert unpacked(packed(sizes)) == sizes


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"joined": "cut"},
        {"joined": "lines"},
        {"joined": "documents"},
        {"joined": "sizes"},
        {"joined": "sizes", "sizes": packed([1, 1, 9])},
        {"joined": "sizes", "sizes": packed([1, 1])},
        {"joined": "sizes", "sizes": b"\xff"},
    ],
    ids=str,
)
def test_an_entry_that_does_not_say_how_it_is_joined_is_not_guessed(fields: dict[str, Any]) -> None:
    entry = {"count": 3, "raw": b"1\n2\n3\n4"} | fields
    assert pieces_of(entry) is None
    command = {"$command": REFUSED, "code": "bad_json", "message": "m"} | entry
    assert command_fault(command) == ""
    assert [each.joined for each in ack_request.refusals([command])] == [CUT]


@pytest.mark.parametrize("size", [MAX_RAW_BYTES - 1, MAX_RAW_BYTES, MAX_RAW_BYTES + 1, 2**24 - 1, 2**24])
def test_input_of_any_size_is_quarantined_alike_when_it_is_forwarded(size: int) -> None:
    raw = b"[" * size
    given = ReceivedBatch("json")
    json_reader.read_message(raw, given, 0)
    batch = ReceivedBatch("http", frozenset({REFUSED}))
    message = b"".join(map(ack_request.refused_document, given.refusals))
    bson_reader.read_message(message, batch, 0)
    assert batch.refusals == [] and len(message) < 2**20 + 1000
    found = ack_request.refusals(batch.commands)
    assert [each.to_document("x", None) for each in found] == [each.to_document("x", None) for each in given.refusals]


def test_many_long_inputs_are_forwarded_one_by_one() -> None:
    given = [Refusal("bad_json", "m", b"%d" % number * (MAX_RAW_BYTES + 1), number) for number in range(30)]
    batch = ReceivedBatch("http", frozenset({REFUSED}))
    bson_reader.read_message(b"".join(map(ack_request.refused_document, gathered(given))), batch, 0)
    assert [each.to_document("x", None) for each in ack_request.refusals(batch.commands)] == [
        each.to_document("x", None) for each in given
    ]


@pytest.mark.parametrize(
    "fields",
    [
        *(
            {"bytes": MAX_RAW_BYTES},
            {"bytes": MAX_RAW_BYTES + 1},
            {"sha256": "0" * 64},
            {"bytes": -1, "sha256": "0" * 64},
        ),
        *({"bytes": 2**30, "sha256": "0" * 63}, {"bytes": 2**30, "sha256": "A" * 64}, {"bytes": 2**30, "sha256": 1}),
        *({"bytes": 2**30, "sha256": "0" * 64, "raw": b"x" * 4097}, {"bytes": "x", "sha256": "0" * 64}),
    ],
)
def test_a_forwarded_refusal_of_longer_input_has_all_of_its_fields(fields: dict[str, Any]) -> None:
    command = {"$command": REFUSED, "code": "bad_json", "message": "m", "raw": b"x"}
    assert command_fault(command) == ""
    assert command_fault(command | {"bytes": 2**30, "sha256": "0" * 64}) == ""
    assert command_fault(command | fields)
