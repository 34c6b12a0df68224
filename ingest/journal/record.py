"""Encode and decode the records of a journal segment, and find the next good record after a bad one.

Pure: bytes in, records out. Files are left to `ingest.journal.segment`. docs/journal.md describes the layout.
"""

from __future__ import annotations

import enum
import struct
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import bson

from ingest.wire.bson_element import split_documents

MARKER = b"\xf5ZKR"
MAX_PAYLOAD_BYTES = 4 * 2**20  # of one record, unless a single document needs more
_HEADER = struct.Struct("<4sBBHQIIII")  # marker, kind, 0, 0, sequence, count, length, payload crc, header crc
HEADER_BYTES = _HEADER.size
_CHECKED_BYTES = HEADER_BYTES - 4
_FILE = struct.Struct("<8s16sQI")  # magic, journal uuid, segment number, crc
FILE_HEADER_BYTES = _FILE.size
MAGIC = b"ZKJRNL\x00\x01"


class RecordKind(enum.IntEnum):
    EVENTS = 1  # events, none of which has an id
    EVENTS_WITH_IDS = 2  # a document {ids: [...]}, then events
    REFUSALS = 3  # quarantine documents


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `start` and `end` are its place in the segment file, header included."""

    kind: RecordKind
    sequence: int
    count: int  # events in it, or documents that were refused: one refusal can stand for several
    payload: bytes
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class BadRegion:
    """Bytes of a segment that are not a valid record."""

    start: int
    end: int
    torn: bool  # no valid record follows


def file_header(journal: uuid.UUID, number: int) -> bytes:
    """Return the first bytes of a segment file."""
    body = _FILE.pack(MAGIC, journal.bytes, number, 0)[:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def is_file_header(data: bytes, journal: uuid.UUID) -> bool:
    """Return whether `data` starts like a segment of this journal."""
    if len(data) < FILE_HEADER_BYTES:
        return False
    number = _FILE.unpack_from(data)[2]
    return data[:FILE_HEADER_BYTES] == file_header(journal, number)


def encode(kind: RecordKind, sequence: int, count: int, payload: bytes, seed: int) -> bytes:
    """Return a record as it is written to the file. `seed` is `checksum_seed` of its journal."""
    start = _HEADER.pack(MARKER, kind, 0, 0, sequence, count, len(payload), zlib.crc32(payload), 0)[:_CHECKED_BYTES]
    return start + struct.pack("<I", zlib.crc32(start, seed)) + payload


def checksum_seed(journal: uuid.UUID) -> int:
    """Return the seed of header checksums, which makes another journal's records in a reused disk block invalid."""
    return zlib.crc32(journal.bytes)


def decode_at(data: bytes, position: int, seed: int) -> Record | None:
    """Return the valid record that starts at `position`, or None."""
    if len(data) - position < HEADER_BYTES:
        return None
    marker, kind, _, _, sequence, count, length, payload_crc, header_crc = _HEADER.unpack_from(data, position)
    if marker != MARKER or zlib.crc32(data[position : position + _CHECKED_BYTES], seed) != header_crc:
        return None
    start, end = position + HEADER_BYTES, position + HEADER_BYTES + length
    payload = data[start:end]
    if len(payload) != length or zlib.crc32(payload) != payload_crc:
        return None
    return Record(RecordKind(kind), sequence, count, payload, position, end)


def scan(data: bytes, seed: int, start: int = FILE_HEADER_BYTES) -> Iterator[Record | BadRegion]:
    """Yield every valid record of a segment's bytes in order, and each bad region between and after them.

    Trailing zeros are unused preallocated space, not a bad region.
    """
    position = start
    while position < len(data):
        record = decode_at(data, position, seed)
        if record:
            yield record
            position = record.end
            continue
        following = _next_good(data, position + 1, seed)
        end = following if following is not None else len(data.rstrip(b"\x00"))
        if end > position:
            yield BadRegion(position, end, torn=following is None)
        if following is None:
            return
        position = following


def _next_good(data: bytes, position: int, seed: int) -> int | None:
    while (found := data.find(MARKER, position)) >= 0:
        if decode_at(data, found, seed):
            return found
        position = found + 1
    return None


def events_payload(events: Sequence[bytes], ids: Sequence[str | None]) -> tuple[RecordKind, bytes]:
    """Return kind and payload of a record of events; `ids` is empty if none has one."""
    if not ids:
        return RecordKind.EVENTS, b"".join(events)
    return RecordKind.EVENTS_WITH_IDS, bson.encode({"ids": list(ids)}) + b"".join(events)


def read_events(record: Record) -> tuple[list[bytes], list[str | None]]:
    """Return the events of a record and their ids; the ids are empty if none has one."""
    documents = split_documents(record.payload)
    if record.kind is RecordKind.EVENTS:
        return documents, []
    return documents[1:], bson.decode(documents[0])["ids"]
