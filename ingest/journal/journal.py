"""A journal: a locked folder of segments, written by one process and read by it or by the process that adopts it.

Every ingester creates its own journal when it starts. A journal that no process holds can be adopted: it is only read,
and removed once everything in it is settled. Settling blocks is left to `ingest.server.committer`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import threading
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.exceptions import JournalError, JournalFullError, JournalLockedError
from ingest.file_replacement import replace_file, sync_folder
from ingest.journal.record import FILE_HEADER_BYTES, HEADER_BYTES, RecordKind, checksum_seed, encode
from ingest.journal.segment import SUFFIX, Segment, journal_errors
from ingest.settings import JournalSettings

LOCK_NAME = "lock"
SMALLEST_SEGMENT_BYTES = 4096
META_NAME = "journal.json"
DAMAGED_FOLDER = "damaged"


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """Identity of the event store that a journal or a position belongs to."""

    store: str  # uuid, new if the database was emptied
    epoch: int  # rises each time the database is restored


class Journal:
    """The segments of one journal. Only one thread may call `append` and `sync`; the rest is thread-safe."""

    def __init__(self, folder: Path, journal: uuid.UUID, lock: int, settings: JournalSettings) -> None:
        self.folder = folder
        self.uuid = journal
        self.seed = checksum_seed(journal)
        self.segments: list[Segment] = []
        self.next_sequence = 1
        self.removed_through = 0  # records up to this sequence are no longer in any file
        self.writable = False
        self.space_freed = threading.Event()  # set whenever a segment is removed
        self._last_number = 0  # of the newest segment
        self._lock = lock
        self._settings = settings
        self._most_bytes: float = settings.max_bytes
        self._guard = threading.Lock()  # protects `segments` and their counters

    @classmethod
    def create(cls, settings: JournalSettings) -> Journal:
        """Create an empty, locked journal in the journals' folder. Raise `JournalError` if that fails."""
        journal = uuid.uuid4()
        folder = settings.folder / str(journal)
        with journal_errors(folder):
            settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Created under another name, so that no other process adopts it before it is locked.
            making = settings.folder / f".{journal}"
            making.mkdir(mode=0o700)
            lock = _take_lock(making)
            (making / META_NAME).write_text(json.dumps({"journal": str(journal)}), encoding="utf-8")
            making.replace(folder)
            sync_folder(settings.folder)
        created = cls(folder, journal, lock, settings)
        created.writable = True
        return created

    @classmethod
    def adopt(cls, folder: Path, settings: JournalSettings) -> Journal:
        """Lock the journal in `folder` for reading. Raise `JournalLockedError` if another process holds it."""
        with journal_errors(folder):
            lock = _take_lock(folder)
            journal = cls(folder, uuid.UUID(folder.name), lock, settings)
            journal.segments = [Segment.existing(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
        return journal

    @property
    def store_identity(self) -> StoreIdentity | None:
        """Return the store that the journal's blocks belong to; None until one is set."""
        try:
            content = json.loads((self.folder / META_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return StoreIdentity(content["store"], content["epoch"]) if "store" in content else None

    def set_store_identity(self, store_identity: StoreIdentity) -> None:
        """Record on disk which store the journal belongs to. Call it before its first reservation there."""
        content = {"journal": str(self.uuid), "store": store_identity.store, "epoch": store_identity.epoch}
        with journal_errors(self.folder):
            replace_file(self.folder / META_NAME, json.dumps(content))

    @property
    def size_bytes(self) -> int:
        """Return the bytes of records in all segments, settled ones included until their segment is removed."""
        with self._guard:
            return sum(segment.end for segment in self.segments)

    def fits(self, records: Sequence[tuple[RecordKind, int, bytes]]) -> bool:
        """Return whether `records` fit now; a single record of any size fits while the journal is at most half full."""
        size, most = self.size_bytes, self._most_bytes
        needed = sum(HEADER_BYTES + len(payload) for _, _, payload in records)
        return size + needed <= most or (len(records) == 1 and size <= most // 2)

    def lift_size_limit(self) -> None:
        """Accept records even if the journal is full. For the end, when what was received must be written."""
        self._most_bytes = math.inf
        self.space_freed.set()

    def append(self, records: Sequence[tuple[RecordKind, int, bytes]]) -> None:
        """Write `(kind, count, payload)` records in order, all or none.

        They are durable after the next `sync`. Raise `JournalFullError` if they do not fit or the disk is full,
        `JournalError` if writing fails.
        """
        if not self.fits(records) and not self._fits_after_closing(records):
            raise JournalFullError(
                f"the journal {self.folder} has reached journal_max_bytes = {self._settings.max_bytes}: writing "
                "resumes once MongoDB has accepted some of it"
            )
        chunks, sequence = [], self.next_sequence
        for kind, count, payload in records:
            chunks.append(encode(kind, sequence, count, payload, self.seed))
            sequence += 1
        self._writing_segment(sum(map(len, chunks))).append(chunks)
        self.next_sequence = sequence

    def _fits_after_closing(self, records: Sequence[tuple[RecordKind, int, bytes]]) -> bool:
        """Close the current segment, so that it can be removed once settled, and try again: it may be the only one."""
        last = self._newest()
        if last and not last.closed and last.end > FILE_HEADER_BYTES:
            last.sync()
            last.close()
        self.remove_settled()
        return self.fits(records)

    def _newest(self) -> Segment | None:
        with self._guard:
            return self.segments[-1] if self.segments else None

    def _writing_segment(self, needed: int) -> Segment:
        last = self._newest()
        if last and last.closed:
            last = None
        size = min(self._settings.segment_bytes, max(SMALLEST_SEGMENT_BYTES, self._settings.max_bytes // 4))
        if last and last.end + needed <= max(size, FILE_HEADER_BYTES + needed):
            return last
        if last:
            last.sync()
        new = Segment.create(self.folder, self._last_number + 1, self.uuid, max(size, needed))
        self._last_number = new.number
        with self._guard:
            self.segments.append(new)
        if last:
            last.close()
        return new

    def sync(self) -> None:
        """Return once everything appended is on disk. Raise `JournalError` if that fails; it can be called again."""
        if last := self._newest():
            last.sync()

    @property
    def unsynced_bytes(self) -> int:
        """Return how many appended bytes are not known to be on disk."""
        last = self._newest()
        return last.unsynced_bytes if last else 0

    def next_segment(self, after: int) -> Segment | None:
        """Return the first segment with a number above `after`, or None."""
        with self._guard:
            at = bisect_right(self.segments, after, key=_number)
            return self.segments[at] if at < len(self.segments) else None

    def is_newest(self, segment: Segment) -> bool:
        return self._newest() is segment

    def count_open(self, records_by_segment: Mapping[int, int]) -> None:
        """Count records as part of an open block: their segments stay until `settle`."""
        self._count(records_by_segment, 1)

    def settle(self, records_by_segment: Mapping[int, int]) -> None:
        """Count records as settled, then remove the segments that are."""
        self._count(records_by_segment, -1)
        self.remove_settled()

    def _count(self, records_by_segment: Mapping[int, int], sign: int) -> None:
        with self._guard:
            for number, count in records_by_segment.items():
                at = bisect_left(self.segments, number, key=_number)  # bisect: there are many while MongoDB is away
                if at < len(self.segments) and self.segments[at].number == number:
                    self.segments[at].open_records += sign * count

    def remove_settled(self) -> None:
        """Remove the oldest segments for as long as they are closed, fully read and settled."""
        with self._guard:
            while self.segments and _is_done(self.segments[0]):
                segment = self.segments.pop(0)
                segment.path.unlink(missing_ok=True)
                self.removed_through = segment.last_sequence
                self.space_freed.set()

    @property
    def drained(self) -> bool:
        """Return whether every segment is gone and none will follow."""
        with self._guard:
            return not self.segments and not self.writable

    def sync_removals(self) -> None:
        """Make the removal of segments durable. Raise `JournalError` if that fails."""
        with journal_errors(self.folder):
            sync_folder(self.folder)

    def finish(self) -> None:
        """End appending, so that the last segment can be removed too. Raise `JournalError` if the sync fails."""
        self.sync()
        self.writable = False
        with self._guard:
            for segment in self.segments:
                segment.close()

    def keep_damaged(self, segment: Segment) -> Path:
        """Hard-link a segment with bad bytes, so that it can be examined after it is removed; return the new path."""
        kept = self._settings.folder / DAMAGED_FOLDER / f"{self.uuid}-{segment.path.name}"
        with journal_errors(kept):
            kept.parent.mkdir(mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                kept.hardlink_to(segment.path)
        return kept

    def remove(self) -> None:
        """Remove the folder of a drained journal and release its lock. Raise `JournalError` if it is not drained."""
        if not self.drained:
            raise JournalError(f"journal {self.folder} holds records that are not settled: nothing is removed")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Release the lock, so that another process can adopt the journal. Can be called twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        for segment in self.segments:
            segment.close()


def _number(segment: Segment) -> int:
    return segment.number


def _is_done(segment: Segment) -> bool:
    return segment.closed and segment.read_through and segment.open_records == 0


def journal_folders(root: Path) -> list[Path]:
    """Return the folders in `root` that are journals, oldest first."""
    found = []
    for folder in root.iterdir() if root.is_dir() else ():
        with contextlib.suppress(ValueError, OSError):
            if str(uuid.UUID(folder.name)) == folder.name and folder.is_dir():
                found.append((folder.stat().st_mtime_ns, folder))
    return [folder for _, folder in sorted(found)]


def _take_lock(folder: Path) -> int:
    """Lock the folder until the process ends, and return the lock file's descriptor."""
    path = folder / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalLockedError(f"journal {folder} is held by another process") from None
        if not path.exists() or path.stat().st_ino != os.fstat(descriptor).st_ino:
            raise JournalLockedError(f"journal {folder} was removed in the meantime")
        on_failure.pop_all()
    return descriptor
