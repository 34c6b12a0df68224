"""Journals and their blocks: what is on disk is read again, whatever happened to the rest."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.exceptions import JournalError, JournalFullError, JournalLockedError
from ingest.journal.block import BlockBounds, BlockReader
from ingest.journal.journal import DAMAGED_FOLDER, Journal, StoreIdentity, journal_folders
from ingest.journal.record import FILE_HEADER_BYTES, HEADER_BYTES, RecordKind, checksum_seed, encode, file_header
from ingest.journal.segment import Segment
from ingest.settings import JournalSettings
from tests.support.ingest.journals import event, everything, numbers, record, reopened

UUID = uuid.UUID(int=7)
SEED = checksum_seed(UUID)


def test_synced_records_are_read_in_order_after_adoption(journal_settings: JournalSettings) -> None:
    journal = Journal.create(journal_settings)
    for n in range(5):
        journal.append([record(2 * n), record(2 * n + 1)])
        journal.sync()
    assert everything(reopened(journal, journal_settings)) == list(range(10))


def test_the_reader_follows_the_writer_and_sees_only_what_is_synced(journal_settings: JournalSettings) -> None:
    journal = Journal.create(journal_settings)
    reader = BlockReader(journal)
    assert reader.next_block(10, 1000) is None
    journal.append([record(1)])
    assert reader.next_block(10, 1000) is None
    assert numbers(reader.next_block(10, 1000, durable_only=False)) == [1]
    journal.append([record(2)])
    journal.sync()
    assert numbers(reader.next_block(10, 1000)) == [2]
    assert reader.next_block(10, 1000) is None


def test_a_journal_is_held_by_one_process_and_adopted_after_its_death(
    journal_settings: JournalSettings, tmp_path: Path
) -> None:
    script = (
        "import sys, pathlib\n"
        "from ingest.journal.journal import *; from ingest.settings import *; from ingest.journal.record import *\n"
        "j = Journal.create(JournalSettings(pathlib.Path(sys.argv[1])))\n"
        "j.append([(RecordKind.EVENTS, 1, bytes.fromhex(sys.argv[2]))]); j.sync(); print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, journal_settings.folder, event(3).hex()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        folder = journal_folders(journal_settings.folder)[0]
        with pytest.raises(JournalLockedError):
            Journal.adopt(folder, journal_settings)
        process.kill()
        process.wait()
    assert everything(Journal.adopt(folder, journal_settings)) == [3]


def test_segments_are_closed_at_their_size_and_removed_when_settled(tmp_path: Path) -> None:
    settings = JournalSettings(tmp_path / "j", segment_bytes=4096)
    journal = Journal.create(settings)
    for n in range(100):
        journal.append([(RecordKind.EVENTS, 1, event(n, context={"a": "x" * 200}))])
        journal.sync()
    assert len(journal.segments) > 5
    assert all(segment.path.stat().st_size <= 4096 + 400 for segment in journal.segments[:-1])
    reader = BlockReader(journal)
    blocks = []
    while block := reader.next_block(7, 2**20):
        blocks.append(block)
    assert [n for block in blocks for n in numbers(block)] == list(range(100))
    files = len(list(journal.folder.glob("*.seg")))
    journal.settle(blocks[1].by_segment)
    assert len(list(journal.folder.glob("*.seg"))) == files, "the first segment is not settled yet"
    for block in blocks[:1] + blocks[2:]:
        journal.settle(block.by_segment)
    assert [s.number for s in journal.segments] == [journal.segments[-1].number]
    journal.finish()
    reader.next_block(1, 1)
    assert journal.drained
    journal.remove()
    assert not journal.folder.exists()


def test_an_unsettled_journal_is_not_removed(journal_settings: JournalSettings) -> None:
    journal = Journal.create(journal_settings)
    journal.append([record(1)])
    with pytest.raises(JournalError, match="not settled"):
        journal.remove()


def test_a_full_journal_accepts_nothing_until_there_is_space(tmp_path: Path) -> None:
    settings = JournalSettings(tmp_path / "j", segment_bytes=4096, max_bytes=20_000)
    journal = Journal.create(settings)
    with pytest.raises(JournalFullError, match="journal_max_bytes = 20000"):
        for n in range(1_000):
            journal.append([record(n)])
            journal.sync()
    before = journal.size_bytes
    assert before <= 20_000
    assert everything(journal)
    assert journal.size_bytes < 8192
    journal.append([record(1)])


def test_a_record_that_fills_the_journal_alone_holds_nothing_up_once_it_is_settled(tmp_path: Path) -> None:
    journal = Journal.create(JournalSettings(tmp_path / "j", segment_bytes=4096, max_bytes=20_000))
    reader = BlockReader(journal)
    large = (RecordKind.EVENTS, 1, event(1, context={"a": "x" * 25_000}))
    for n in range(3):
        journal.append([large])
        journal.sync()
        with pytest.raises(JournalFullError):
            journal.append([record(n)])
        block = reader.next_block(100, 10**6)
        assert block
        with pytest.raises(JournalFullError):
            journal.append([record(n)])
        journal.space_freed.clear()
        journal.settle(block.by_segment)
        assert reader.next_block(100, 10**6) is None  # reads past its end
        assert journal.space_freed.is_set()
    journal.append([record(9)])
    journal.sync()
    assert not journal.drained
    last = reader.next_block(100, 10**6)
    assert last
    assert [r.sequence for r in last.records] == [4]


def test_a_torn_end_is_dropped_and_damage_in_the_middle_is_skipped_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = JournalSettings(tmp_path / "j", segment_bytes=4096)
    journal = Journal.create(settings)
    for n in range(60):
        journal.append([(RecordKind.EVENTS, 1, event(n, context={"a": "x" * 200}))])
        journal.sync()
    journal.finish()
    first, newest = journal.segments[0].path, journal.segments[-1].path
    content = bytearray(first.read_bytes())
    content[FILE_HEADER_BYTES + HEADER_BYTES + 5] ^= 1  # in the payload of record 0
    first.write_bytes(content)
    newest.write_bytes(newest.read_bytes()[:-3])
    found = everything(adopted := reopened(journal, settings))
    assert found == list(range(1, 59))
    assert [p.name for p in (settings.folder / DAMAGED_FOLDER).iterdir()] == [f"{journal.uuid}-00000001.seg"]
    assert "damaged journal records skipped" in caplog.text
    adopted.release()


@pytest.mark.parametrize("at", [0, 9, 25, 33])
def test_a_bad_file_header_loses_no_record(journal_settings: JournalSettings, at: int) -> None:
    journal = Journal.create(journal_settings)
    journal.append([record(1), record(2)])
    journal.finish()
    path = journal.segments[0].path
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    assert everything(reopened(journal, journal_settings)) == [1, 2]


def test_the_store_a_journal_belongs_to_is_on_disk(journal_settings: JournalSettings) -> None:
    journal = Journal.create(journal_settings)
    assert journal.store_identity is None
    journal.set_store_identity(StoreIdentity("s", 3))
    assert reopened(journal, journal_settings).store_identity == StoreIdentity("s", 3)


# Blocks


def test_reserved_blocks_keep_their_bounds_and_settled_ones_are_skipped(journal_settings: JournalSettings) -> None:
    journal = Journal.create(journal_settings)
    for n in range(1, 11):
        journal.append([record(n)])
    journal.sync()
    reader = BlockReader(
        journal,
        settled=[BlockBounds(1, 2, 1), BlockBounds(5, 5, 3)],
        reserved=[BlockBounds(3, 4, 2), BlockBounds(8, 9, 4)],
    )
    blocks = []
    while block := reader.next_block(2, 2**20):
        blocks.append((block.number, numbers(block)))
    assert blocks == [(2, [3, 4]), (None, [6, 7]), (4, [8, 9]), (None, [10])]
    assert reader.unread_reservations() == []


def test_a_reserved_block_without_records_is_reported(journal_settings: JournalSettings) -> None:
    journal = Journal.create(journal_settings)
    journal.append([record(1)])
    journal.sync()
    reader = BlockReader(journal, reserved=[BlockBounds(2, 7, 5)])
    assert numbers(reader.next_block(9, 999)) == [1]
    assert reader.next_block(9, 999) is None
    assert reader.unread_reservations() == [BlockBounds(2, 7, 5)]


def test_a_block_that_was_put_back_is_read_again_as_it_was_reserved(journal_settings: JournalSettings) -> None:
    journal = Journal.create(journal_settings)
    for n in range(1, 7):
        journal.append([record(n)])
    journal.sync()
    reader = BlockReader(journal)
    block = reader.next_block(3, 2**20)
    assert block is not None
    assert numbers(block) == [1, 2, 3]
    reader.put_back(block, BlockBounds(1, 2, 9))
    assert journal.segments[0].open_records == 3
    again = reader.next_block(3, 2**20)
    assert again is not None
    assert (again.number, numbers(again)) == (9, [1, 2])
    assert numbers(reader.next_block(3, 2**20)) == [3, 4, 5]
    assert numbers(reader.next_block(3, 2**20)) == [6]
    assert journal.segments[0].open_records == 6


def test_a_record_that_was_put_back_and_is_settled_meanwhile_is_no_longer_open(
    journal_settings: JournalSettings,
) -> None:
    journal = Journal.create(journal_settings)
    journal.append([record(1)])
    journal.append([record(2)])
    journal.sync()
    reader = BlockReader(journal, settled=[BlockBounds(2, 2, 8)])
    block = reader.next_block(3, 2**20)
    assert numbers(block) == [1]
    assert block is not None
    reader.put_back(block, BlockBounds(1, 1, 9))
    reader._settled.insert(0, BlockBounds(1, 1, 9))
    assert reader.next_block(3, 2**20) is None
    assert journal.segments[0].open_records == 0


def test_a_block_ends_at_its_byte_limit(journal_settings: JournalSettings) -> None:
    journal = Journal.create(journal_settings)
    journal.append([record(n) for n in range(10)])
    journal.sync()
    reader = BlockReader(journal)
    assert numbers(reader.next_block(100, 3 * len(event(1)))) == [0, 1, 2]
    assert numbers(reader.next_block(100, 1)) == [3], "at least one record"


class CountingList(list[Segment]):
    """Count how often one of its segments is accessed."""

    accesses = 0

    def __iter__(self) -> Iterator[Segment]:
        for segment in super().__iter__():
            self.accesses += 1
            yield segment

    def __getitem__(self, at: Any) -> Any:
        self.accesses += 1
        return super().__getitem__(at)


def test_reading_a_long_journal_does_not_search_all_segments_for_each_record(tmp_path: Path) -> None:
    """While MongoDB is down both accumulate, and afterwards a slow search would delay the commits."""
    folder, count = tmp_path / str(UUID), 500
    folder.mkdir()
    for n in range(1, count + 1):
        (folder / f"{n:08d}.seg").write_bytes(file_header(UUID, n) + encode(RecordKind.EVENTS, n, 1, event(n), SEED))
    journal = Journal.adopt(folder, JournalSettings(tmp_path))
    journal.segments = CountingList(journal.segments)
    assert everything(journal) == list(range(1, count + 1))
    assert journal.drained
    assert journal.segments.accesses < 50 * count
    journal.release()
