"""Read pushed messages, which get no answer, and recognise the end mark of a load balancer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ingest.transport.notice import NOTICES
from ingest.wire import bson_reader, json_reader, reader_failure
from ingest.wire.batch import ReceivedBatch

Reader = Callable[[Sequence[bytes], int], ReceivedBatch]


def read_bson(messages: Sequence[bytes], now_ms: int) -> ReceivedBatch:
    batch = ReceivedBatch("bson", NOTICES)
    reader_failure.read_with_fallback(
        messages,
        batch,
        lambda: bson_reader.read_messages(messages, batch, now_ms),
        lambda message: bson_reader.read_message(message, batch, now_ms),
    )
    return batch


def read_json(messages: Sequence[bytes], now_ms: int) -> ReceivedBatch:
    batch = ReceivedBatch("json")
    for message in messages:
        reader_failure.refuse_on_failure(partial(json_reader.read_message, message, batch, now_ms), batch, message)
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
