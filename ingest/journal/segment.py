"""One segment file of a journal: append to it, make it durable, and rewrite it elsewhere if the disk fails.

The records in it are left to `ingest.journal.record`, the set of segments to `ingest.journal.journal`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest.exceptions import JournalError, JournalFullError
from ingest.file_replacement import sync_folder
from ingest.journal.record import file_header

SUFFIX = ".seg"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Segment:
    """A segment file of a journal. One thread writes; `read_range` may be called from any.

    After a failed append or sync the file is no longer trusted: its content and the bytes still to be appended are
    written to a new file, which takes over the name once it is on disk. Offsets do not change.
    """

    def __init__(self, path: Path, number: int, *, end: int, closed: bool) -> None:
        self.path = path
        self.number = number
        self.end = end  # offset after the last record
        self.closed = closed  # nothing more will be appended
        self.read_through = False  # the reader has reached the end
        self.last_sequence = 0  # of its records; set once it is read through
        self.open_records = 0  # in blocks that are not settled yet
        self._descriptor: int | None = None
        self.synced_end = end  # everything before this offset is known to be on disk
        self._unsynced: list[bytes] = []  # what a failed sync may have lost
        self._failed = False

    @classmethod
    def create(cls, folder: Path, number: int, journal: uuid.UUID, reserve_bytes: int) -> Segment:
        """Create a segment file whose header and name are on disk when this returns.

        Raise `JournalFullError` if the disk has less than `reserve_bytes` free, `JournalError` if it fails.
        """
        path = folder / f"{number:08d}{SUFFIX}"
        segment = cls(path, number, end=0, closed=False)
        try:
            segment._open_new(path, reserve_bytes)
            segment.append([file_header(journal, number)])
            segment.sync()
            sync_folder(folder)
        except (OSError, JournalError) as error:
            segment._close_descriptor()
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise as_journal_error(error, path) from error
            raise
        return segment

    @classmethod
    def existing(cls, path: Path) -> Segment:
        """Return a segment that an earlier process wrote, for reading only."""
        return cls(path, int(path.name.removesuffix(SUFFIX)), end=path.stat().st_size, closed=True)

    def _open_new(self, path: Path, reserve_bytes: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if reserve_bytes:
            try:
                os.posix_fallocate(self._descriptor, 0, reserve_bytes)
            except OSError as error:
                if error.errno in _NO_SPACE:
                    raise

    def append(self, chunks: Sequence[bytes]) -> None:
        """Write `chunks` at the end. Raise `JournalError` if that fails; none of them then count as written."""
        data = b"".join(chunks)
        if not self._failed:
            try:
                _write_all(self._fd, data, self.end)
            except OSError:
                self._failed = True
        if self._failed:
            self._move([*self._unsynced, data])
        self._unsynced.append(data)
        self.end += len(data)
        if self.synced_end == self.end:
            self._unsynced.clear()

    def sync(self) -> None:
        """Return once everything appended is on disk. Raise `JournalError` if it is not; calling again can help."""
        if self.synced_end == self.end:
            return
        if not self._failed:
            try:
                os.fdatasync(self._fd)
            except OSError:
                self._failed = True
        if self._failed:
            self._move(self._unsynced)
        self.synced_end = self.end
        self._unsynced.clear()

    @property
    def unsynced_bytes(self) -> int:
        """Return how many appended bytes are not known to be on disk."""
        return self.end - self.synced_end

    def _move(self, unsynced: Sequence[bytes]) -> None:
        """Replace the file by a new one with the synced content and `unsynced`, which is on disk when this returns."""
        temporary = self.path.with_suffix(".moving")
        old = self._descriptor
        try:
            temporary.unlink(missing_ok=True)
            kept = self._synced_content()
            self._open_new(temporary, 0)
            data = kept + b"".join(unsynced)
            _write_all(self._fd, data, 0)
            os.fdatasync(self._fd)
            temporary.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            if self._descriptor is not None and self._descriptor != old:
                os.close(self._descriptor)
            self._descriptor = old
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise as_journal_error(error, self.path) from error
        if old is not None:
            os.close(old)
        self._failed = False
        self.synced_end = len(data)

    def _synced_content(self) -> bytes:
        kept = os.pread(self._fd, self.synced_end, 0)
        if len(kept) != self.synced_end:
            raise OSError(errno.EIO, "the file is shorter than what was written to it")
        return kept

    @property
    def _fd(self) -> int:
        if self._descriptor is None:
            raise JournalError(f"segment {self.path} is not open for writing")
        return self._descriptor

    def close(self) -> None:
        """Cut off unused preallocated space and close the file; everything must be synced."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # trailing zeros are harmless
                os.ftruncate(self._descriptor, self.end)
            self._close_descriptor()
        self.closed = True

    def _close_descriptor(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def read_range(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`, fewer if the file is shorter. Raise `JournalError` if that fails."""
        with journal_errors(self.path), self.path.open("rb") as file:
            return os.pread(file.fileno(), end - start, start)


def _write_all(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        if written == 0:
            raise OSError(errno.EIO, "nothing was written")
        view, position = view[written:], position + written


@contextlib.contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Convert errors of the file system about `path`, see `as_journal_error`."""
    try:
        yield
    except OSError as error:
        raise as_journal_error(error, path) from error


def as_journal_error(error: OSError, path: Path) -> JournalError:
    """Convert `error`: `JournalFullError` if the disk is full, else `JournalError`."""
    if error.errno in _NO_SPACE:
        return JournalFullError(f"no space for the journal {path}: {error.strerror}; free some on that disk")
    return JournalError(f"journal {path}: {error.strerror or error}; check that disk")
