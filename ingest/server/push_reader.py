"""Read pushed messages, which get no answer, and recognise the end mark of a load balancer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from ingest.transport.notice import NOTICES
from ingest.turn import NO_PAUSE, Turn
from ingest.wire import bson_reader, json_reader, reader_failure
from ingest.wire.batch import ReceivedBatch


class Reader(Protocol):
    """Read messages that arrived at `now_ms`; `turn` is called between pieces of the work."""

    def __call__(self, messages: Sequence[bytes], now_ms: int, turn: Turn = NO_PAUSE) -> ReceivedBatch: ...


def read_bson(messages: Sequence[bytes], now_ms: int, turn: Turn = NO_PAUSE) -> ReceivedBatch:
    batch = ReceivedBatch("bson", NOTICES)
    reader_failure.read_with_fallback(
        messages,
        batch,
        lambda: bson_reader.read_messages(messages, batch, now_ms, turn),
        lambda message: bson_reader.read_message(message, batch, now_ms, turn),
    )
    return batch


def read_json(messages: Sequence[bytes], now_ms: int, turn: Turn = NO_PAUSE) -> ReceivedBatch:
    batch = ReceivedBatch("json")
    for message in messages:
        read = partial(json_reader.read_message, message, batch, now_ms, turn)
        reader_failure.refuse_on_failure(read, batch, message)
        turn()
    return batch


# The reader of each receiver of pushed messages, by key of the settings.
PUSH_READERS: dict[str, Reader] = {"bson_bind_address": read_bson, "json_bind_address": read_json}


def end_mark(folder: Path) -> bytes:
    """Return the last message that a load balancer sends its children through each pushed receiver.

    No sender can forge it: the folder of their sockets has a random name.
    """
    return b"end of " + folder.name.encode()


def without_mark(messages: list[bytes], mark: bytes) -> list[bytes]:
    """Return the messages without the mark; the same list if the mark is not among them."""
    return [message for message in messages if message != mark] if mark and mark in messages else messages
