"""The record format: damage loses only the records that it hits."""

from __future__ import annotations

import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.journal.record import (
    FILE_HEADER_BYTES,
    HEADER_BYTES,
    BadRegion,
    Record,
    RecordKind,
    checksum_seed,
    encode,
    events_payload,
    file_header,
    read_events,
    scan,
)
from tests.support.ingest.journals import event

UUID = uuid.UUID(int=7)


SEED = checksum_seed(UUID)


def segment_bytes(payloads: list[bytes]) -> bytes:
    return file_header(UUID, 1) + b"".join(encode(RecordKind.EVENTS, n, 1, p, SEED) for n, p in enumerate(payloads, 1))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=100), min_size=1, max_size=8), st.data())
def test_a_changed_byte_loses_one_record_and_no_other(payloads: list[bytes], data: st.DataObject) -> None:
    content = bytearray(segment_bytes(payloads))
    at = data.draw(st.integers(FILE_HEADER_BYTES, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    found = list(scan(bytes(content), SEED))
    good = [r for r in found if isinstance(r, Record)]
    bad = [r for r in found if isinstance(r, BadRegion)]
    assert len(good) == len(payloads) - 1
    assert all(payloads[r.sequence - 1] == r.payload for r in good)
    lost = ({*range(1, len(payloads) + 1)} - {r.sequence for r in good}).pop()
    assert len(bad) == 1 or lost == len(payloads)
    assert all(region.torn == (lost == len(payloads)) for region in bad)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5), st.integers(0, 400), st.booleans())
def test_a_truncated_end_loses_only_what_was_truncated(payloads: list[bytes], remove_settled: int, zeros: bool) -> None:
    whole = segment_bytes(payloads)
    end = max(FILE_HEADER_BYTES, len(whole) - remove_settled)
    content = whole[:end] + b"\x00" * (500 if zeros else 0)
    good = [r for r in scan(content, SEED) if isinstance(r, Record)]
    assert [r.payload for r in good] == payloads[: len(good)]
    assert sum(HEADER_BYTES + len(p) for p in payloads[: len(good) + 1]) + FILE_HEADER_BYTES > end or len(good) == len(
        payloads
    )


def test_records_of_another_journal_in_reused_bytes_are_ignored() -> None:
    foreign = encode(RecordKind.EVENTS, 9, 1, b"abc", checksum_seed(uuid.UUID(int=8)))
    found = list(scan(segment_bytes([b"a"]) + foreign + encode(RecordKind.EVENTS, 2, 1, b"b", SEED), SEED))
    assert [r.payload for r in found if isinstance(r, Record)] == [b"a", b"b"]


def test_ids_are_stored_beside_their_events() -> None:
    kind, payload = events_payload([event(1), event(2)], [None, "b"])
    assert read_events(Record(kind, 1, 2, payload)) == ([event(1), event(2)], [None, "b"])
    kind, payload = events_payload([event(1)], [])
    assert read_events(Record(kind, 1, 1, payload)) == ([event(1)], [])
