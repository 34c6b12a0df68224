"""Map output: sorted runs of `{k: [keys], v: [values]}` batches, separated by output label and reduce partition.

A file of runs is a sequence of BSON documents; with compression each is `{z: zlib of the batch}`.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mapreduce.codec import NOT_BSON, decode, decode_each, encode, why_not_bson
from mapreduce.exceptions import KeyRefusedError, MapFailedError, OutputGoneError, WorkerUnableError

BATCH_BYTES = 64 * 2**10  # target size of an encoded batch: a merge holds one batch per run
BUFFER_BYTES = 2**20
INLINE_BYTES = 256 * 2**10  # output of up to this size is sent inside messages


@dataclass(frozen=True)
class RunSlice:
    """One sorted run of one partition: `length` bytes from `offset` of its file or buffer."""

    label: str
    partition: int
    offset: int
    length: int  # bytes
    records: int  # key-value pairs

    def to_list(self) -> list[Any]:
        """Return the compact BSON-able form."""
        return [self.label, self.partition, self.offset, self.length, self.records]


@dataclass(frozen=True)
class MapOutput:
    """Output of one map: its segments, and their bytes in `data` or in the file `path`."""

    segments: tuple[RunSlice, ...]
    data: bytes | None  # None = the bytes are in `path`
    path: Path | None  # None = the bytes are in `data`


def read_file(path: Path, offset: int, length: int) -> bytes:
    """Return `length` bytes from `offset` of `path`. Raise `OutputGoneError` if they are missing."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            found = file.read(length)
    except OSError as error:
        raise OutputGoneError(f"map output {path}: {error.strerror}") from None
    if len(found) != length:
        raise OutputGoneError(f"map output {path} has {offset + len(found)} bytes of {offset + length}")
    return found


@dataclass
class RunWriter:
    """Encode sorted runs into memory, or into the file `path` once they exceed `inline_bytes`.

    Belongs to one thread. Cannot be used after `finish` or `discard`. `write` and `finish` raise `WorkerUnableError` if
    the file cannot be written.
    """

    path: Path
    compress: int = 0  # zlib level, 0 = none
    inline_bytes: int = INLINE_BYTES
    segments: list[RunSlice] = field(default_factory=list)
    written: int = 0  # bytes so far
    _buffer: bytearray = field(default_factory=bytearray)
    _file: Any = None
    _batch_count: int = 256

    def write(self, label: str, partition: int, keys: list[Any], values: list[Any]) -> None:
        """Add one run; `keys` are normalised and sorted, `values` parallel to them.

        Raise `MapFailedError` or `KeyRefusedError` naming the key if a record is not BSON-able.
        """
        start, position = self.written, 0
        while position < len(keys):
            end = position + self._batch_count
            batch = self._encode(keys[position:end], values[position:end])
            records = min(end, len(keys)) - position
            if len(batch) > 4 * BATCH_BYTES and records > 1:
                self._batch_count = max(1, records // 4)
                continue
            position = end
            if records == self._batch_count:
                self._batch_count = max(1, min(records * BATCH_BYTES // len(batch), 4 * records, 4096))
            self._append(batch)
        self.segments.append(RunSlice(label, partition, start, self.written - start, len(keys)))

    def finish(self) -> MapOutput:
        """Close the file, if any, and return what was written."""
        if self._file is None:
            return MapOutput(tuple(self.segments), bytes(self._buffer), None)
        self._flush(last=True)
        return MapOutput(tuple(self.segments), None, self.path)

    def discard(self) -> None:
        """Delete what was written."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # it may still try to write to a full disk
                self._file.close()
            self.path.unlink(missing_ok=True)

    def _encode(self, keys: list[Any], values: list[Any]) -> bytes:
        try:
            return encode({"k": keys, "v": values})
        except NOT_BSON as error:
            raise _culprit(keys, values, error) from error

    def _append(self, batch: bytes) -> None:
        if self.compress:
            batch = encode({"z": zlib.compress(batch, self.compress)})
        self._buffer += batch
        self.written += len(batch)
        if self.written > self.inline_bytes and (self._file is None or len(self._buffer) > BUFFER_BYTES):
            self._flush()

    def _flush(self, *, last: bool = False) -> None:
        """Write the buffer to the file. Raise `WorkerUnableError` if that fails, for example on a full disk."""
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._file = self.path.open("wb")
            self._file.write(self._buffer)
            if last:
                self._file.close()
        except OSError as error:
            raise WorkerUnableError(
                f"map output cannot be written to {self.path}: {error.strerror}: check the disk of job_root"
            ) from error
        self._buffer.clear()


def _culprit(keys: list[Any], values: list[Any], error: Exception) -> MapFailedError | KeyRefusedError:
    """Return an error naming the first record that is not BSON-able."""
    for key, value in zip(keys, values, strict=True):
        try:
            encode({"k": key})
        except NOT_BSON as fault:
            return KeyRefusedError(f"key {key!r}: {fault}")
        try:
            encode({"v": value})
        except NOT_BSON as fault:
            shown = repr(value)[:200]
            return MapFailedError(
                f"value {shown} of key {key!r} cannot be stored as BSON: {why_not_bson(fault)}", {"key": key}
            )
    return MapFailedError(f"a batch of {len(keys)} records cannot be stored as BSON: {error}")


def batches(data: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the `{k, v}` batches of a segment."""
    for document in decode_each(data):
        yield decode(zlib.decompress(document["z"])) if "z" in document else document
