"""The spool of a client: events that no ingester has accepted are kept, and arrive once."""

from __future__ import annotations

import dataclasses
import itertools
import signal
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.errors import InvalidBSON
from pymongo.database import Database

from ingest.client import AcknowledgedClient, ZarkovClient
from ingest.client.spool import Spool
from ingest.exceptions import DeliveryError, EventTooLargeError, SpoolFullError
from ingest.settings import IngestSettings
from ingest.wire.event import MAX_MESSAGE_BYTES
from tests.support.child import in_child, python
from tests.support.durations import assert_within, seconds
from tests.support.ingest.running import Start, sums
from tests.support.waiting import eventually


def ids(database: Database[Any]) -> list[str]:
    return sorted(event["id"] for event in database["event"].find())


@pytest.fixture
def away(ingest_settings: IngestSettings, tmp_path: Path) -> IngestSettings:
    """Return settings of an ingester whose address is known before it runs."""
    return dataclasses.replace(ingest_settings, ack_bind_address=f"ipc://{tmp_path}/ack")


def spooling(settings: IngestSettings, tmp_path: Path, **options: Any) -> AcknowledgedClient:
    return AcknowledgedClient(
        settings.ack_bind_address, spool=tmp_path / "spool", connect_timeout_s=0.1, attempts=1, **options
    )


def spool_files(tmp_path: Path, suffix: str = "spool") -> list[Path]:
    return sorted((tmp_path / "spool").glob(f"*.{suffix}"))


def test_events_wait_in_the_spool_and_arrive_once(
    start_ingester: Start, away: IngestSettings, database: Database[Any], tmp_path: Path
) -> None:
    with spooling(away, tmp_path) as client:
        receipt = client.send([{"type": "x", "id": str(n)} for n in range(3)])
        assert (receipt.accepted, receipt.spooled) == (0, 3)
        more = itertools.count(3)

        def spooled() -> None:
            assert client.send([{"type": "y", "id": str(next(more))}]).spooled == 1

        # While the ingester is known to be down, no call waits for it.
        assert_within(0.1, lambda: seconds(spooled), tries=1, rounds=20)
        kept = next(more)
        with pytest.raises(DeliveryError, match="no ingester listens"):
            client.flush(0.2)
        start_ingester(away)
        client.flush(60)
        assert client.send([{"type": "x", "id": "2"}, {"type": "z", "id": str(kept)}]).accepted == 2
        assert spool_files(tmp_path) == []
    eventually(lambda: sums(database)["stored"] == kept + 1)
    assert sums(database)["duplicates"] == 1


def test_later_sends_also_send_the_spool(
    start_ingester: Start, away: IngestSettings, database: Database[Any], tmp_path: Path
) -> None:
    with spooling(away, tmp_path) as client:
        assert client.event("x", {}).spooled == 1
        start_ingester(away)
        eventually(lambda: client.event("y", {}).accepted and not spool_files(tmp_path))
    eventually(lambda: database["event"].count_documents({"type": "x"}) == 1)


SPOOLER = """
import os, sys
from ingest.client import AcknowledgedClient
client = AcknowledgedClient(sys.argv[1], spool=sys.argv[2], connect_timeout_s=0.1, attempts=1)
assert client.send([{"type": "x", "id": str(n)} for n in range(100)]).spooled == 100
os.kill(os.getpid(), 9)
"""


def test_the_spool_of_a_killed_process_is_sent_by_the_next_under_the_same_ids(
    start_ingester: Start, away: IngestSettings, database: Database[Any], tmp_path: Path
) -> None:
    assert python(SPOOLER, away.ack_bind_address, f"{tmp_path}/spool").returncode == -signal.SIGKILL
    start_ingester(away)
    copies = [(path, path.read_bytes()) for path in spool_files(tmp_path)]
    for _ in range(2):  # the second time as if the first process had died before it deleted the file
        with spooling(away, tmp_path) as client:
            client.flush(60)
        assert spool_files(tmp_path) == []
        for path, content in copies:
            path.write_bytes(content)
    eventually(lambda: sums(database) == {"stored": 100, "duplicates": 100, "quarantined": 0})


def test_a_full_spool_raises_with_the_events_that_were_not_kept(away: IngestSettings, tmp_path: Path) -> None:
    with spooling(away, tmp_path, spool_max_bytes=5_000) as client:
        kept = 0
        with pytest.raises(SpoolFullError, match="its limit of 5000") as caught:
            for _ in range(100):
                kept += client.event("x", {}, "x" * 1_000).spooled
        assert kept == 4
        assert [bson.decode(event)["type"] for event in caught.value.data["unsent"]] == ["x"]


def test_a_damaged_record_of_a_spool_is_set_aside_and_the_others_are_sent(
    start_ingester: Start, away: IngestSettings, database: Database[Any], tmp_path: Path
) -> None:
    with spooling(away, tmp_path) as client:
        for n in range(4):
            client.send([{"type": "x", "id": str(n)}])
    path = spool_files(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 4 + 20] ^= 1
    path.write_bytes(content[:-3])
    start_ingester(away)
    with spooling(away, tmp_path) as client:
        client.flush(60)
    eventually(lambda: ids(database) == ["0", "2"])
    assert spool_files(tmp_path) == []
    damaged = spool_files(tmp_path, "damaged")[0].read_bytes()
    assert damaged == content[len(content) // 4 : len(content) // 2]


def test_the_spool_of_a_living_process_and_of_a_parent_is_left_to_them(
    start_ingester: Start, away: IngestSettings, database: Database[Any], tmp_path: Path
) -> None:
    client = spooling(away, tmp_path)
    assert client.event("parent", {}).spooled == 1

    def in_the_child() -> None:
        assert client.event("child", {}).spooled == 1
        assert len(spool_files(tmp_path)) == 2

    in_child(in_the_child)
    other = Spool(tmp_path / "spool")
    left = other.oldest()
    assert left is not None
    assert [bson.decode(event)["type"] for event in left.events] == ["child"]
    other.acknowledge(left)
    assert other.oldest() is None, "what the living process holds is its own"
    other.close()
    start_ingester(away)
    client.flush(60)
    client.close()
    eventually(lambda: [event["type"] for event in database["event"].find()] == ["parent"])


def test_an_event_that_can_never_be_delivered_is_refused_by_send(away: IngestSettings, tmp_path: Path) -> None:
    good = {"type": "x"}
    with spooling(away, tmp_path) as client:
        for bad in (b"\0\0\0\0garbage", b"", bson.encode(good)[:-1], bson.encode(good) * 2):
            with pytest.raises(InvalidBSON):
                client.send([good, bad])
        with pytest.raises(EventTooLargeError, match="cannot be sent"):
            client.send([good, {"type": "x", "extra": b"x" * MAX_MESSAGE_BYTES}])
    assert spool_files(tmp_path) == []
    with ZarkovClient(away.ack_bind_address) as client, pytest.raises(EventTooLargeError, match="fewer"):
        client.event("x", {}, b"x" * MAX_MESSAGE_BYTES)


def test_spooled_records_that_no_ingester_accepts_are_set_aside_and_the_others_are_sent(
    start_ingester: Start, away: IngestSettings, database: Database[Any], tmp_path: Path
) -> None:
    """An earlier release could have left them."""
    huge = bson.encode({"type": "x", "extra": b"x" * MAX_MESSAGE_BYTES})
    spool = Spool(tmp_path / "spool")
    for payload in (b"\0\0\0\0garbage", huge, bson.encode({"type": "x", "id": "1"}), b"\xff\xff\xff\xffgarbage"):
        spool.append([payload])
    spool.close()
    start_ingester(away)
    with spooling(away, tmp_path, timeout_s=20) as client:
        client.flush(60)
    eventually(lambda: ids(database) == ["1"])
    assert spool_files(tmp_path) == []
    content = b"".join(path.read_bytes() for path in spool_files(tmp_path, "damaged"))
    assert huge in content
    assert content.count(b"garbage") == 2
