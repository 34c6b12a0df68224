"""SIGKILL of a program with a spool, in every phase: accepted events arrive, once."""

from __future__ import annotations

import dataclasses
import fcntl
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.client.spool import Spool
from ingest.settings import IngestSettings
from tests.support.ingest.halted import Halting
from tests.support.ingest.running import RunningIngester, Start
from tests.support.ingest.spooling import SPOOL_PHASES
from tests.support.waiting import eventually

WITHOUT_INGESTER = ("creating a file", "spooling")  # phases that need its absence; the others need one


def kill_round(
    start: Start, settings: IngestSettings, database: Database[Any], folder: Path, kills: int
) -> Counter[str]:
    """Kill `kills` times, at random moments and in each phase in turn, while the ingester is stopped and started."""
    settings = dataclasses.replace(settings, ack_bind_address=f"ipc://{folder}/ack")
    accepted, spool, hits = folder / "accepted", folder / "spool", Counter[str]()
    arguments = [settings.ack_bind_address, str(spool), str(accepted)]
    running: RunningIngester | None = None
    for number in range(kills):
        phase = SPOOL_PHASES[number // 2 % len(SPOOL_PHASES)] if number % 2 else None
        if running is not None and (phase or random.random() < 0.5):
            running.stop()
            running = None
        if phase and phase not in WITHOUT_INGESTER:
            with Halting("tests.support.ingest.spooling", arguments, SPOOL_PHASES, folder):
                eventually(
                    lambda: any(path.stat().st_size for path in spool.glob("*.spool")), what="something to drain"
                )
        if running is None and (phase not in WITHOUT_INGESTER if phase else random.random() < 0.5):
            running = start(settings)
        with Halting("tests.support.ingest.spooling", arguments, SPOOL_PHASES, folder) as program:
            if phase:
                program.halt_in(phase)
            else:
                eventually(spool.exists)
                time.sleep(random.uniform(0.0, 0.2))  # the moment of the kill is the input here
            hits.update(program.kill())
    if running is None:
        start(settings)
    with AcknowledgedClient(settings.ack_bind_address, spool=spool, connect_timeout_s=20, timeout_s=20) as client:
        client.flush(60)
    assert list(spool.glob("*.spool")) == []
    wanted = set(accepted.read_text().split())
    eventually(lambda: database["event"].count_documents({"id": {"$in": list(wanted)}}) == len(wanted))
    stored = Counter(event["id"] for event in database["event"].find({}, {"id": 1}))
    assert wanted <= set(stored), "accepted events are lost"
    assert max(stored.values()) == 1
    print("kills of a program with a spool per phase:", dict(hits))
    return hits


def test_a_file_that_is_being_created_is_not_mistaken_for_a_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Spool(tmp_path), Spool(tmp_path)
    lock = fcntl.flock

    def look_first(*arguments: Any) -> None:
        monkeypatch.setattr("ingest.client.spool.fcntl.flock", lock)
        assert other.oldest() is None
        lock(*arguments)

    monkeypatch.setattr("ingest.client.spool.fcntl.flock", look_first)
    one.append([bson.encode({"type": "x", "id": "1"})])
    one.close()
    found = other.oldest()
    assert found is not None
    assert [bson.decode(event)["id"] for event in found.events] == ["1"]
    other.close()


def test_a_program_killed_in_every_phase_of_its_spool_loses_and_doubles_nothing(
    start_ingester: Start, ingest_settings: IngestSettings, database: Database[Any], tmp_path: Path
) -> None:
    hits = kill_round(start_ingester, ingest_settings, database, tmp_path, 12)
    assert set(hits) >= set(SPOOL_PHASES)


@pytest.mark.long
def test_a_program_with_a_spool_killed_a_hundred_times_loses_and_doubles_nothing(
    start_ingester: Start, ingest_settings: IngestSettings, database: Database[Any], tmp_path: Path
) -> None:
    hits = kill_round(start_ingester, ingest_settings, database, tmp_path, 120)
    assert min(hits[phase] for phase in SPOOL_PHASES) >= 10
