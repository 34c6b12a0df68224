"""Failing writes and syncs of segment files lose nothing, and names of files are synced to their folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ingest.exceptions import JournalError, JournalFullError
from ingest.journal.block import BlockReader
from ingest.journal.journal import Journal, StoreIdentity
from ingest.journal.segment import Segment
from ingest.settings import JournalSettings
from tests.support.ingest.journals import everything, numbers, record, reopened


class FailingCalls:
    """Make an `os` call of the segment module fail a number of times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, code: int, times: int) -> None:
        self.left, self.code, self.real = times, code, getattr(os, name)
        monkeypatch.setattr(f"ingest.journal.segment.os.{name}", self)

    def __call__(self, *args: Any) -> Any:
        if self.left:
            self.left -= 1
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*args)


@pytest.mark.parametrize("call", ["fdatasync", "pwrite"])
def test_after_a_failed_write_or_sync_everything_is_written_to_another_file(
    journal_settings: JournalSettings, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    journal = Journal.create(journal_settings)
    journal.append([record(1)])
    journal.sync()
    inode = journal.segments[0].path.stat().st_ino
    with monkeypatch.context() as patch:
        FailingCalls(patch, call, errno.EIO, 1)
        journal.append([record(2)])
        journal.sync()
    assert journal.segments[0].path.stat().st_ino != inode
    journal.append([record(3)])
    journal.sync()
    assert everything(reopened(journal, journal_settings)) == [1, 2, 3]


def test_a_sync_that_keeps_failing_raises_and_can_be_repeated(
    journal_settings: JournalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(journal_settings)
    journal.append([record(1)])
    journal.sync()
    journal.append([record(2)])
    with monkeypatch.context() as patch:
        FailingCalls(patch, "fdatasync", errno.EIO, 3)
        with pytest.raises(JournalError):
            journal.sync()
        assert journal.unsynced_bytes
        assert numbers(BlockReader(journal).next_block(9, 999)) == [1]
    journal.sync()
    assert everything(reopened(journal, journal_settings)) == [1, 2]


def test_a_write_that_fails_leaves_nothing_behind(
    journal_settings: JournalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(journal_settings)
    journal.append([record(1)])
    with monkeypatch.context() as patch:
        FailingCalls(patch, "pwrite", errno.ENOSPC, 2)
        with pytest.raises(JournalFullError):
            journal.append([record(2)])
    journal.append([record(3)])
    journal.sync()
    assert everything(reopened(journal, journal_settings)) == [1, 3]


def test_short_writes_are_continued(journal_settings: JournalSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr("ingest.journal.segment.os.pwrite", lambda fd, data, at: real(fd, bytes(data)[:7], at))
    journal = Journal.create(journal_settings)
    journal.append([record(1), record(2)])
    journal.sync()
    assert everything(reopened(journal, journal_settings)) == [1, 2]


def test_a_segment_that_cannot_be_created_leaves_no_file(
    journal_settings: JournalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(journal_settings)
    FailingCalls(monkeypatch, "posix_fallocate", errno.ENOSPC, 1)
    with pytest.raises(JournalFullError, match="no space"):
        journal.append([record(1)])
    assert not list(journal.folder.glob("*.seg"))
    journal.append([record(1)])


def test_a_new_segment_syncs_its_folder(journal_settings: JournalSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.create(journal_settings)
    synced: list[Path] = []
    monkeypatch.setattr("ingest.journal.segment.sync_folder", synced.append)
    journal.append([record(1)])
    assert synced == [journal.folder]


def test_every_created_or_changed_name_is_synced_to_its_folder(
    journal_settings: JournalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, Path]] = []
    sync, replace = os.fsync, Path.replace

    def syncing(descriptor: int) -> None:
        steps.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    def naming(path: Path, target: Path) -> Path:
        steps.append(("name", target))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", naming)
    journal = Journal.create(journal_settings)
    assert steps == [("name", journal.folder), ("sync", journal_settings.folder)]
    steps.clear()
    journal.set_store_identity(StoreIdentity("store", 1))
    meta = journal.folder / "journal.json"
    assert steps == [("sync", meta.with_name(f".journal.json.{os.getpid()}")), ("name", meta), ("sync", journal.folder)]
    journal.append([record(1)])
    steps.clear()
    FailingCalls(monkeypatch, "fdatasync", errno.EIO, 1)
    journal.sync()
    assert steps == [("name", journal.segments[0].path), ("sync", journal.folder)]
    steps.clear()
    journal.sync_removals()
    assert steps == [("sync", journal.folder)]


def test_an_existing_segment_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "00000003.seg"
    path.write_bytes(b"")
    segment = Segment.existing(path)
    assert (segment.number, segment.closed) == (3, True)
    with pytest.raises(JournalError):
        segment.append([b"x"])
