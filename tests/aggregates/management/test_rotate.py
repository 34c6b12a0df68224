"""`rotate` keeps partitions that aggregates still need; what it dumped can be restored."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pymongo.database import Database

from aggregates import services
from aggregates.process_connections import process_connections
from aggregates.services.retention import lowest_position
from ingest.client import AcknowledgedClient
from ingest.load.loader import LoadResult, load_file
from tests.support.ingest.running import RunningIngester, running_anywhere
from tests.support.waiting import eventually

TASK = "tests.support.aggregates.tasks.CountByDay"


@pytest.fixture
def ingester(site: Any, mongo_uri: str, database: Database[Any], tmp_path: Path) -> Iterator[RunningIngester]:
    running = running_anywhere(mongo_uri, database.name, tmp_path / "journal")
    yield running
    running.stop()


def send(ingester: RunningIngester, database: Database[Any], *ids: str) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        sent = [{"type": "x", "id": id_, "context": {"project": "p"}, "extra": [1, 2.5, None]} for id_ in ids]
        assert client.send(sent).accepted == len(ids)
    last = database["event"]
    eventually(lambda: last.count_documents({"id": {"$in": list(ids)}}) == len(ids))
    newest = max(event["_id"] for event in last.find({}, {"_id": 1}))
    # Events are visible a moment before they count as complete; runs and rotation wait for the latter.
    eventually(lambda: process_connections().run_context.store.watermark().through >= newest)


def run_rotate(*arguments: str) -> str:
    out = io.StringIO()
    call_command("rotate", *arguments, stdout=out, verbosity=0)
    return out.getvalue()


def test_a_partition_is_kept_while_needed_and_dropped_once_it_is_read(
    ingester: RunningIngester, database: Database[Any], tmp_path: Path
) -> None:
    folder = tmp_path / "dumps"
    slow, fast = services.define(name="slow", task_name=TASK), services.define(name="fast", task_name=TASK)
    services.define(name="paused", task_name=TASK, enabled=False)
    send(ingester, database, "a", "b")
    services.run_now(fast)
    assert lowest_position() is not None
    with pytest.raises(CommandError, match=r"event\.1 is kept: an aggregate has read up to id 0.*the slowest: slow"):
        run_rotate(str(folder), "--keep", "1")
    services.run_now(slow)
    send(ingester, database, "c")
    before = {event["id"]: event for event in database["event"].find()}
    services.run_now(slow)
    services.run_now(fast)
    output = run_rotate(str(folder), "--keep", "1")
    assert "event.1: 3 events are in" in output
    assert "new events go to event.2 from id 4 on" in output
    assert list(database["event"].find()) == []
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        result = LoadResult()
        load_file(client, folder / "event.1.bson.gz", result)
    assert (result.accepted, result.rejected) == (3, 0)
    eventually(lambda: database["event"].count_documents({}) == 3)
    for event in database["event"].find():
        assert event.keys() == before[event["id"]].keys()
        assert all(event[name] == before[event["id"]][name] for name in event if name != "_id")


def test_a_dump_of_another_store_is_not_overwritten(
    ingester: RunningIngester, database: Database[Any], tmp_path: Path
) -> None:
    send(ingester, database, "a")
    (tmp_path / "event.1.bson.gz").write_bytes(b"of another store")
    with pytest.raises(CommandError, match="holds other documents"):
        run_rotate(str(tmp_path), "--keep", "1")
    assert (tmp_path / "event.1.bson.gz").read_bytes() == b"of another store"
    assert database["event"].count_documents({}) == 1
    with pytest.raises(CommandError, match=r"--keep must be at least 1 .*, not 0"):
        run_rotate(str(tmp_path), "--keep", "0")
