"""Read events from BSON messages of one or several documents.

Good input is decoded once, a whole batch of messages in one call, and its bytes are passed on unchanged. Documents are
checked one by one only if that call fails or one of them is unusual, which is left to `ingest.wire.bson_document`. A
long message is read in pieces, so that others can be served in between.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import bson

from ..turn import NO_PAUSE, Turn
from .batch import ReceivedBatch
from .bson_document import add_alike, add_alone, add_each
from .bson_element import SMALLEST_BYTES, document_ends, is_flat, split
from .event import LIMITS, MAX_DOCUMENTS, MAX_MESSAGE_BYTES, STORED_LIMITS
from .refusal import DOCUMENTS, MAX_RAW_BYTES, Refusal, TooManyDocumentsError
from .text_encoding import packing_of

_LENGTH = struct.Struct("<i").unpack_from
_PIECE_BYTES, _PIECE_COUNT = 2**18, 2_500  # read in one go
_LARGEST_EVENT_BYTES = STORED_LIMITS.size_bytes + 64  # with the command that may stand in it


def read_messages(messages: Sequence[bytes], batch: ReceivedBatch, now_ms: int, turn: Turn = NO_PAUSE) -> None:
    """Read the documents of `messages` into `batch`. Never raise on bad input; call `turn` between pieces of work.

    Small messages that follow one another are read as one.
    """
    some: list[bytes] = []
    raws: list[bytes] = []
    for message in messages:
        size = len(message)
        if SMALLEST_BYTES <= size <= _PIECE_BYTES and _LENGTH(message)[0] == size:
            some.append(message)
            raws.append(message)
            continue
        found = _documents_of_small(message)
        if found:
            some.append(message)
            raws += found
        if not found or len(raws) >= _PIECE_COUNT:
            _read_small(some, raws, batch, now_ms)
            some, raws = [], []
            turn()
        if not found:
            read_message(message, batch, now_ms, turn)
    _read_small(some, raws, batch, now_ms)


def _documents_of_small(message: bytes) -> list[bytes]:
    """Return the documents of a message that is read with others; none if it is read by itself."""
    if len(message) > _PIECE_BYTES:
        return []
    found, end = split(message, most_count=_PIECE_COUNT)
    return found if end == len(message) else []


def _read_small(messages: Sequence[bytes], raws: Sequence[bytes], batch: ReceivedBatch, now_ms: int) -> None:
    """Read messages that hold nothing but whole documents, which are `raws`."""
    if not raws:
        return
    joined = b"".join(messages)
    try:
        documents = bson.decode_all(joined)
    except Exception:  # noqa: BLE001 - untrusted bytes: the messages are then read one by one
        for message in messages:
            read_message(message, batch, now_ms)
        return
    if add_alike(documents, raws, joined, batch):
        return
    if len(raws) == len(messages):
        add_each(documents, raws, batch, now_ms)
        return
    end = 0
    for message in messages:
        start, first = end, len(batch.refusals)
        end += len(document_ends(message, 0, len(raws), len(message)))
        add_each(documents[start:end], raws[start:end], batch, now_ms)
        batch.gather_refusals(first)


def read_message(message: bytes, batch: ReceivedBatch, now_ms: int, turn: Turn = NO_PAUSE) -> None:
    """Read the documents of one message into `batch`, or refuse it whole if it has more than `MAX_DOCUMENTS`."""
    if len(message) > MAX_MESSAGE_BYTES:
        batch.refuse(
            "oversized_message", f"the message has {len(message)} bytes, more than {MAX_MESSAGE_BYTES}", message
        )
        return
    first = len(batch.refusals)
    if len(message) > MAX_DOCUMENTS * SMALLEST_BYTES and _has_too_many(message):
        index, end = _refuse_all(message, batch, turn)
    else:
        index, end = _read_pieces(message, batch, now_ms, turn)
    rest = message[end:]
    if rest or not index:
        code = "bad_bson" if not rest or _length(rest) < 5 else "truncated_message"
        hint = "" if index else _other_format(rest)
        batch.refuse(code, f"{len(rest)} bytes at the end of the message are not a whole document{hint}", rest, index)
    batch.gather_refusals(first, turn)


def _read_pieces(message: bytes, batch: ReceivedBatch, now_ms: int, turn: Turn) -> tuple[int, int]:
    """Read the whole documents of a message, some at a time. Return their number and where they end."""
    index = end = 0
    while True:
        start = end
        raws, end = split(message, start, most_count=_PIECE_COUNT, most_bytes=_PIECE_BYTES)
        if not raws:
            return index, end
        _read_piece(raws, message[start:end], batch, now_ms, index)
        index += len(raws)
        turn()


def _read_piece(raws: Sequence[bytes], joined: bytes, batch: ReceivedBatch, now_ms: int, index: int) -> None:
    """Read `raws`, which stand in the message from `index` on; `joined` is all of them in one piece."""
    if len(raws) == 1 and len(joined) > _LARGEST_EVENT_BYTES and not is_flat(joined):
        # Decoded, it would take many times its size.
        fault = f"the event has {len(joined)} bytes, more than {LIMITS.size_bytes}"
        batch.refuse("event_too_big", fault, joined, index)
        return
    try:
        documents = bson.decode_all(joined)
    except Exception:  # noqa: BLE001 - untrusted bytes: the documents are then read one by one
        for place, raw in enumerate(raws, index):
            add_alone(raw, batch, now_ms, place)
    else:
        if not add_alike(documents, raws, joined, batch):
            add_each(documents, raws, batch, now_ms, index)


def _has_too_many(message: bytes) -> bool:
    return len(document_ends(message, 0, MAX_DOCUMENTS + 1, len(message))) > MAX_DOCUMENTS


def _refuse_all(message: bytes, batch: ReceivedBatch, turn: Turn) -> tuple[int, int]:
    """Refuse all whole documents of a message, in pieces that quarantine keeps; return as `_read_pieces` does."""
    index = end = 0
    code, why = TooManyDocumentsError(MAX_DOCUMENTS).args
    while ends := document_ends(message, end, MAX_DOCUMENTS, MAX_RAW_BYTES):
        start, end = end, ends[-1]
        joined = DOCUMENTS if len(ends) > 1 else ""
        batch.add_refusal(Refusal(code, why, message[start:end], index, len(ends), joined=joined))
        index += len(ends)
        turn()
    return index, end


def _other_format(message: bytes) -> str:
    """Say what a message seems to be that is not BSON at all; empty if there is no telling."""
    if packing := packing_of(message):
        return f": it is packed with {packing[0]}; unpack it before it is sent"
    return ": it looks like JSON, which has a receiver of its own" if message.lstrip()[:1] in (b"{", b"[") else ""


def _length(rest: bytes) -> int:
    return int(_LENGTH(rest)[0]) if len(rest) >= 4 else len(rest) + 5
