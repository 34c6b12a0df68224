"""One segment file of a journal: written once from front to end, made durable, and moved elsewhere when that fails.

Which records lie in it is `ingest.journal.record`'s business, which segments there are `ingest.journal`'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from ingest.exceptions import JournalError, JournalFullError
from ingest.journal.record import file_header

SUFFIX = ".seg"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Segment:
    """A segment of this process's own journal. One thread writes; `read_range` may be called from any.

    After an append or a sync failed, the file is not trusted any more: what it holds and what was to be appended is
    written to a new file, which takes its name once it is on disk. Offsets stay as they were.
    """

    def __init__(self, path: Path, number: int, *, end: int, closed: bool) -> None:
        self.path = path
        self.number = number
        self.end = end  # offset behind the last record
        self.closed = closed  # nothing is appended any more
        self.read_through = False  # the reader is past the end
        self.last_sequence = 0  # of the records in it, once it was read through
        self.open_records = 0  # taken into blocks that are not settled yet
        self._descriptor: int | None = None
        self._synced_end = end
        self._unsynced: list[bytes] = []  # what a failed sync may have lost
        self._failed = False

    @classmethod
    def create(cls, folder: Path, number: int, journal: uuid.UUID, reserve_bytes: int) -> Segment:
        """A new file with its header on disk and its name in the folder on disk.

        Raises `JournalFullError` when the disk has no room for `reserve_bytes`, `JournalError` when it fails.
        """
        path = folder / f"{number:08d}{SUFFIX}"
        segment = cls(path, number, end=0, closed=False)
        try:
            segment._open_new(path, reserve_bytes)
            segment.append([file_header(journal, number)])
            segment.sync()
            sync_folder(folder)
        except OSError as error:
            segment._give_up()
            path.unlink(missing_ok=True)
            raise as_journal_error(error, path) from error
        except JournalError:
            segment._give_up()
            path.unlink(missing_ok=True)
            raise
        return segment

    @classmethod
    def existing(cls, path: Path) -> Segment:
        """A segment that an earlier process wrote; it is only read."""
        return cls(path, int(path.name.removesuffix(SUFFIX)), end=path.stat().st_size, closed=True)

    def _open_new(self, path: Path, reserve_bytes: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if reserve_bytes:
            try:
                os.posix_fallocate(self._descriptor, 0, reserve_bytes)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    raise

    def append(self, chunks: Sequence[bytes]) -> None:
        """Write `chunks` behind the end. Raises `JournalError`; then nothing of them counts as written."""
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
        if self._synced_end == self.end:
            self._unsynced.clear()

    def sync(self) -> None:
        """Return once everything appended is on disk. Raises `JournalError`; then it is not, and a repeat may help."""
        if self._synced_end == self.end:
            return
        if not self._failed:
            try:
                os.fdatasync(self._fd)
            except OSError:
                self._failed = True
        if self._failed:
            self._move(self._unsynced)
        self._synced_end = self.end
        self._unsynced.clear()

    @property
    def synced_end(self) -> int:
        """Offset up to which everything is known to be on disk."""
        return self._synced_end

    @property
    def unsynced_bytes(self) -> int:
        """How much was appended and is not known to be on disk."""
        return self.end - self._synced_end

    def _move(self, unsynced: Sequence[bytes]) -> None:
        """Write synced content and `unsynced` to a new file, on disk under this segment's name when it returns."""
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
        self._synced_end = len(data)

    def _synced_content(self) -> bytes:
        kept = os.pread(self._fd, self._synced_end, 0)
        if len(kept) != self._synced_end:
            raise OSError(errno.EIO, "the file is shorter than what was written to it")
        return kept

    @property
    def _fd(self) -> int:
        if self._descriptor is None:
            raise JournalError(f"segment {self.path} is not open for writing")
        return self._descriptor

    def close(self) -> None:
        """Cut off the space set aside and let go of the file; everything must have been synced."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # zeros at the end are no fault
                os.ftruncate(self._descriptor, self.end)
            self._give_up()
        self.closed = True

    def _give_up(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, fewer when the file is shorter. Raises `JournalError`."""
        try:
            with self.path.open("rb") as file:
                return os.pread(file.fileno(), end - start, start)
        except OSError as error:
            raise as_journal_error(error, self.path) from error


def _write_all(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        if written == 0:
            raise OSError(errno.EIO, "nothing was written")
        view, position = view[written:], position + written


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (fsync(2): a file's own sync does not)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def as_journal_error(error: OSError, path: Path) -> JournalError:
    """`error` as one of ours: full disk or anything else."""
    if error.errno in _NO_ROOM:
        return JournalFullError(f"no room for the journal {path}: {error.strerror}; free space on that disk")
    return JournalError(f"journal {path}: {error.strerror or error}; see to that disk")
