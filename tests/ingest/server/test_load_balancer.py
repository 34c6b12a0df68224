"""Check that `runingest --processes N` takes events at one address and says why it cannot start."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import pytest
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.exceptions import BindError, JournalError
from ingest.server.load_balancer import LoadBalancer
from ingest.settings import IngestSettings, JournalSettings
from ingest.transport.notice import Subscription
from ingest.wire.ack_request import read_request
from tests.support.ingest.balanced import Balanced, all_pushed, push
from tests.support.ingest.hostile import SMALL_COUNT, HostileSenders, arrived
from tests.support.system import peak_bytes
from tests.support.waiting import eventually

pytestmark = pytest.mark.early
LIMIT_BYTES = 400_000_000  # of memory of each process, while 20 senders send 600 MB


def writers(database: Database[Any]) -> set[str]:
    """Return the journals with committed blocks."""
    return {verdict["_id"]["j"] for verdict in database["ingest.verdict"].find()}


def test_large_messages_of_many_senders_take_little_memory_and_none_is_lost(
    balanced: Balanced, database: Database[Any]
) -> None:
    processes = [balanced.process.pid, *(child.pid for child in balanced.children())]
    addresses = [(kind, balanced.addresses[f"{kind}_bind_address"]) for kind in ("bson", "json")] * 10
    with HostileSenders(addresses, rounds=2):
        wanted = (2 * len(addresses) * SMALL_COUNT, 2 * len(addresses))
        eventually(lambda: arrived(database) == wanted, what=f"{wanted}, now {arrived(database)}")
    assert max(map(peak_bytes, processes)) < LIMIT_BYTES


def test_all_receivers_and_notices_work_through_one_load_balancer_and_stopping_loses_nothing(
    balanced: Balanced, database: Database[Any]
) -> None:
    notices = Subscription(balanced.addresses["publish_bind_address"])
    through = 0
    with AcknowledgedClient(
        balanced.addresses["ack_bind_address"], request_events=5, connect_timeout_s=20, timeout_s=20
    ) as client:
        receipt = client.send([{"type": "acked"} if n % 10 else {} for n in range(200)])
        assert (receipt.accepted, len(receipt.rejected)) == (180, 20)

        def both_have_stored() -> bool:
            nonlocal through
            client.event("acked", {})
            if found := notices.receive(0.2):
                through = max(through, found["through"])
            return through > 180 and len(writers(database)) == 2  # both ingesters took a share

        eventually(both_have_stored)
    notices.close()
    with zmq.Context() as context, context.socket(zmq.REQ) as plain:
        plain.setsockopt(zmq.LINGER, 0)
        plain.connect(balanced.addresses["ack_bind_address"])
        plain.send_multipart([b"id", bson.encode({"type": "req"})])
        assert plain.poll(150_000)
        assert plain.recv_multipart()[0] == b"id"
    push(balanced.addresses["bson_bind_address"], 3_000, "pushed")
    balanced.stop()
    assert all_pushed(balanced, database) == list(range(3_000))
    assert [p.name for p in balanced.run.iterdir() if p.name.startswith("in-")] == []


def test_a_load_balancer_whose_address_is_in_use_reports_it_and_leaves_nothing_behind(
    ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as other:
        port = other.bind_to_random_port("tcp://127.0.0.1")
        settings = replace(ingest_settings, ack_bind_address=f"tcp://127.0.0.1:{port}")
        balancer = LoadBalancer(settings, 2, tmp_path / "run", lambda *_: ["false"], os.environ)
        with pytest.raises(BindError, match="ack_bind_address"):
            balancer.start()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_load_balancer_without_a_folder_for_journals_ends_and_leaves_nothing_behind(
    ingest_settings: IngestSettings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    settings = replace(ingest_settings, journal=JournalSettings(tmp_path / "file"))
    balancer = LoadBalancer(settings, 2, tmp_path / "run", lambda folder, number: ["false"], {})
    with pytest.raises(JournalError, match=f"journal {tmp_path / 'file'}: File exists"):
        balancer.start()
    assert list((tmp_path / "run").iterdir()) == []


def test_routing_frames_are_not_mistaken_for_documents() -> None:
    event = bson.encode({"type": "x"})
    for hops, prefix in ((0, []), (1, [b"hop"])):
        for delimiter in ([], [b""]):
            frames = [*prefix, b"route", *delimiter, b"id"]
            request = read_request([*frames, event, event], hops)
            assert request
            assert (request.envelope, request.payload, request.source) == (frames, event * 2, "ack")
    assert read_request([b"route"]) is None
    assert read_request([b"hop", b"route"], 1) is None
