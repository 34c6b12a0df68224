"""Reads events from files and sends them through the acknowledged socket; a second load stores nothing twice."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from ingest import json_wire
from ingest.client import AcknowledgedClient
from ingest.exceptions import BusyError, IngestError
from ingest.rotation import read_dump

BATCH_EVENTS = 1_000
BUSY_PAUSE_S = 0.2
SHOWN_COUNT = 10
_LOSSLESS = CodecOptions[dict[str, Any]](datetime_conversion=DatetimeConversion.DATETIME_MS)


class LoadError(IngestError):
    """A file cannot be read."""

    code = "cannot_load"


@dataclass(slots=True)
class LoadResult:
    """What became of the lines of all files."""

    accepted: int = 0
    rejected: int = 0
    examples: list[str] = field(default_factory=list)  # the first few refusals, for a person

    def refuse(self, path: Path, number: int, message: str) -> None:
        """Count one refused line."""
        self.rejected += 1
        if len(self.examples) < SHOWN_COUNT:
            self.examples.append(f"{path}, {number}: {message}")


def load_file(
    client: AcknowledgedClient, path: Path, result: LoadResult, *, on_progress: Callable[[int], None] = lambda n: None
) -> None:
    """Send every event of a file of JSON lines or BSON documents (`.gz` or plain), waiting while the ingester is busy.

    An event without `id` gets one made of its content and, for JSON lines, of the file's name and its line number:
    loading the file again, after an interruption or by mistake, stores none twice. Events of a dump get new `_id`s.
    Raises `LoadError` and `DeliveryError`.
    """
    batch: list[tuple[int, bytes]] = []
    is_dump = path.name.removesuffix(".gz").endswith(".bson")
    for number, item in read_documents(path) if is_dump else read_lines(path):
        try:
            batch.append((number, _restored(item) if is_dump else _encode(path, number, item)))
        except (ValueError, BSONError, OverflowError, RecursionError) as error:
            result.refuse(path, number, str(error.args[-1] if error.args else error))
        if len(batch) >= BATCH_EVENTS:
            _send(client, path, batch, result)
            batch.clear()
        on_progress(1)
    _send(client, path, batch, result)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and content of each line that is not empty."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.strip()
    except (OSError, EOFError) as error:
        raise LoadError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_documents(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and content of each document of a BSON dump."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from enumerate(read_dump(cast(BinaryIO, file)), 1)
    except (OSError, EOFError) as error:
        raise LoadError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _restored(raw: bytes) -> bytes:
    """A stored event as one to be sent: without `_id`, and with an `id` that makes restoring it twice harmless."""
    document = bson.decode(raw, _LOSSLESS)
    document.pop("_id", None)
    document.setdefault("id", hashlib.sha256(raw).hexdigest()[:32])
    return bson.encode(document, codec_options=_LOSSLESS)


def _encode(path: Path, number: int, line: bytes) -> bytes:
    value: Any = json_wire.loads(line)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}; allowed is an object")  # noqa: TRY004 - one kind of fault
    if isinstance(value.get("timestamp"), str):
        value["timestamp"] = json_wire.parse_iso(value["timestamp"])
    name = path.name.removesuffix(".gz")
    value.setdefault("id", hashlib.sha256(f"{name}\0{number}\0".encode() + line).hexdigest()[:32])
    return bson.encode(value)


def _send(client: AcknowledgedClient, path: Path, batch: list[tuple[int, bytes]], result: LoadResult) -> None:
    numbers, events = [number for number, _ in batch], [event for _, event in batch]
    while events:
        try:
            receipt = client.send(events)
        except BusyError as error:
            receipt = error.data["receipt"]
            time.sleep(BUSY_PAUSE_S)  # the other side has no signal for "room again"
            left = error.data["unsent"]
        else:
            left = []
        result.accepted += receipt.accepted
        for refusal in receipt.rejected:
            result.refuse(path, numbers[refusal["index"]], f"{refusal['code']}: {refusal['message']}")
        unsent = set(map(id, left))
        numbers, events = [n for n, event in zip(numbers, events, strict=True) if id(event) in unsent], left
