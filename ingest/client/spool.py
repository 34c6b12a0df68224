"""Keep events on disk until an ingester acknowledges them, for `AcknowledgedClient`.

A spool is a folder of append-only files. Each belongs to the process that holds its lock (flock(2)), which ends with
the process: the next process that opens the folder takes over the files of dead ones. A file is a sequence of records

    "ZKSP" | length of the payload, u32 | CRC-32 of the payload, u32 | payload: BSON documents one after the other

in little-endian order, and is deleted once all of it is acknowledged. Sending a record again is harmless, because every
event in it has an id.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from ..exceptions import SpoolError, SpoolFullError
from ..file_replacement import sync_folder
from ..wire.bson_element import split_documents
from ..wire.event import MAX_MESSAGE_BYTES

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

SUFFIX = ".spool"
MAKING = ".making"
DAMAGED = ".damaged"
MAGIC = b"ZKSP"
MAX_BYTES = 256 * 2**20
FILE_BYTES = 8 * 2**20
_HEAD = struct.Struct("<4sII")


@dataclass(frozen=True, slots=True)
class SpooledBatch:
    """An unacknowledged record and its place."""

    events: list[bytes]
    path: Path
    end: int  # offset after it


@dataclass(slots=True)
class _SpoolFile:
    """A file whose lock this process holds."""

    file: FileIO
    path: Path
    read: int = 0  # everything before this offset is acknowledged
    size: int = 0  # in bytes


class Spool:
    """Store requests and return them, oldest first. Thread-safe; calls are short and never wait for the network.

    `max_bytes` limits the whole folder, over all processes that use it. Raise `SpoolError` if it is not writable.
    """

    def __init__(self, folder: Path | str, max_bytes: int = MAX_BYTES) -> None:
        if fcntl is None:
            raise SpoolError("a spool needs POSIX file locks, which this system does not have")
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self._reset()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._failed(error) from None

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._held: list[_SpoolFile] = []

    def after_fork(self) -> None:
        """Close the child's descriptors; files and locks stay with the parent."""
        for held in self._held:
            held.file.close()
        self._reset()

    def append(self, events: Sequence[bytes]) -> None:
        """Keep a request; it is on disk when this returns.

        Raise `SpoolFullError` if the folder would exceed `max_bytes`, `SpoolError` if writing fails; the request is not
        kept then.
        """
        payload = b"".join(events)
        record = _HEAD.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload
        with self._lock:
            size = self.size_bytes()
            if size + len(record) > self.max_bytes:
                raise SpoolFullError(
                    f"the spool {self.folder} holds {size} bytes, and {len(record)} more would exceed its limit of "
                    f"{self.max_bytes}: bring the ingester back, or raise the limit",
                    folder=str(self.folder),
                )
            try:
                self._write(record)
            except OSError as error:
                raise self._failed(error) from None

    def _write(self, record: bytes) -> None:
        held = next((held for held in reversed(self._held) if held.size < FILE_BYTES), None) or self._create()
        try:
            held.file.seek(held.size)
            left = memoryview(record)
            while left:
                left = left[held.file.write(left) :]
            os.fsync(held.file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                held.file.truncate(held.size)
            raise
        held.size += len(record)

    def _create(self) -> _SpoolFile:
        path = self.folder / f"{uuid.uuid4().hex}{SUFFIX}"
        # Under another name until it is locked: other processes would think that its owner is dead, and delete it.
        making = path.with_suffix(MAKING)
        file = making.open("x+b", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        making.replace(path)
        sync_folder(self.folder)
        self._held.append(_SpoolFile(file, path))
        return self._held[-1]

    def oldest(self) -> SpooledBatch | None:
        """Return the first unacknowledged record, files of dead processes included; None if there is none.

        Damaged records are skipped; their bytes are kept in a file `*.damaged` in the same folder.
        """
        with self._lock:
            try:
                return self._oldest()
            except OSError as error:
                raise self._failed(error) from None

    def _oldest(self) -> SpooledBatch | None:
        if not self._held:
            self._adopt()
        for held in list(self._held):
            for start, end, payload in _records(held):
                if start != held.read:
                    self._keep_damaged(held, start)
                if events := _deliverable(payload):
                    return SpooledBatch(events, held.path, end)
                self._keep_damaged(held, end)
            if held.read < held.size:
                self._keep_damaged(held, held.size)
            self._delete(held)
        return None

    def acknowledge(self, batch: SpooledBatch) -> None:
        """Drop a record that `oldest` returned."""
        with self._lock:
            for held in list(self._held):
                if held.path == batch.path:
                    held.read = max(held.read, batch.end)
                    if held.read >= held.size:
                        self._delete(held)

    @property
    def empty(self) -> bool:
        """Return whether this process holds no files; those of dead processes are only found by `oldest`."""
        return not self._held

    def size_bytes(self) -> int:
        """Return the size of all files in the folder."""
        size = 0
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):
                size += path.stat().st_size
        return size

    def _paths(self) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix in (SUFFIX, DAMAGED))
        except OSError as error:
            raise self._failed(error) from None

    def _adopt(self) -> None:
        for path in self._paths():
            if path.suffix != SUFFIX:
                continue
            try:
                file = path.open("r+b", buffering=0)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._failed(error) from None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # its process is alive
                file.close()
                continue
            if not path.exists():  # acknowledged and deleted between opening and locking
                file.close()
                continue
            self._held.append(_SpoolFile(file, path, size=os.fstat(file.fileno()).st_size))

    def _delete(self, held: _SpoolFile) -> None:
        self._held.remove(held)
        held.path.unlink(missing_ok=True)
        held.file.close()

    def _keep_damaged(self, held: _SpoolFile, until: int) -> None:
        """Set aside bytes that are not a record. An unfinished record at the end, from a killed process, is dropped."""
        held.file.seek(held.read)
        damaged = held.file.read(until - held.read)
        held.read = until
        if until == held.size and _is_unfinished(damaged):
            return
        path = held.path.with_suffix(DAMAGED)
        with path.open("ab") as file:
            file.write(damaged)
        log.error("damaged spool records skipped file=%s bytes=%d kept_in=%s", held.path, len(damaged), path)

    def close(self) -> None:
        """Close and unlock the files; the next process that opens the folder takes them over."""
        with self._lock:
            for held in self._held:
                held.file.close()
            self._held.clear()

    def _failed(self, error: OSError) -> SpoolError:
        return SpoolError(f"the spool {self.folder} cannot be used: {error.strerror or error}", folder=str(self.folder))


def _deliverable(payload: bytes) -> list[bytes]:
    """Return the events of a record; none if no ingester would ever accept them, so that they cannot block the rest."""
    try:
        events = split_documents(payload)
    except ValueError:
        return []
    return [] if any(len(event) > MAX_MESSAGE_BYTES for event in events) else events


def _records(held: _SpoolFile) -> Iterator[tuple[int, int, bytes]]:
    """Yield start, end and payload of each whole record from the read position on."""
    position = held.read
    while position + _HEAD.size <= held.size:
        held.file.seek(position)
        magic, length, checksum = _HEAD.unpack(held.file.read(_HEAD.size))
        end = position + _HEAD.size + length
        if magic == MAGIC and end <= held.size:
            payload = held.file.read(length)
            if zlib.crc32(payload) == checksum:
                yield position, end, payload
                position = end
                continue
        held.file.seek(position + 1)
        found = held.file.read(held.size - position - 1).find(MAGIC)
        if found < 0:
            return
        position += 1 + found


def _is_unfinished(tail: bytes) -> bool:
    """Return whether the last bytes of a file are the start of a record."""
    if len(tail) < _HEAD.size:
        return tail[:4] == MAGIC[: len(tail)]
    magic, length, _ = _HEAD.unpack_from(tail)
    return bool(magic == MAGIC and len(tail) < _HEAD.size + length)
