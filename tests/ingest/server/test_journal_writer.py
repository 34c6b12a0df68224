"""The journal's writer: how it reports what is not on disk."""

from __future__ import annotations

import pytest

from ingest.journal.journal import Journal
from ingest.server.counters import Counters
from ingest.server.journal_writer import JournalWriter, PendingWrite
from ingest.settings import JournalSettings
from ingest.wire.batch import ReceivedBatch
from tests.support.waiting import eventually


def test_a_writer_that_has_failed_does_not_report_that_all_is_on_disk(
    journal_settings: JournalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise MemoryError

    failures: list[BaseException] = []
    journal = Journal.create(journal_settings)
    monkeypatch.setattr(journal, "append", fail)
    writer = JournalWriter(journal, Counters(), on_failure=lambda _part, error: failures.append(error))
    writer.start()
    batch = ReceivedBatch("bson")
    batch.accept(b"\x05\0\0\0\0", None)
    writer.put(PendingWrite(batch))
    eventually(lambda: failures)
    assert isinstance(failures[0], MemoryError)
    assert not writer.stop(0.1)
    journal.release()
