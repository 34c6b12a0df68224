"""Check that killed and hung ingesters are replaced by their load balancer."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.client.health_probe import receiver_fault
from ingest.exceptions import IngesterFailedError
from ingest.journal.journal import journal_folders
from ingest.server.child_health import ChildHealth
from ingest.server.load_balancer import LoadBalancer, child_addresses
from ingest.server.relay import Relay
from ingest.settings import IngestSettings
from tests.support.ingest.balanced import Balanced
from tests.support.ingest.load import Load, journalled, prove
from tests.support.waiting import eventually

pytestmark = pytest.mark.early


def test_a_killed_child_is_replaced_and_its_acknowledged_events_are_stored_once(
    balanced: Balanced, database: Database[Any], mongo_uri: str
) -> None:
    load, pushed = Load(balanced.addresses), set[int]()
    try:
        for _ in range(3):
            before = len(load.acknowledged)
            eventually(lambda before=before: len(load.acknowledged) > before + 50)
            victim = balanced.children()[0]
            victim.kill()
            pushed |= journalled(balanced.journals)
            eventually(lambda victim=victim: victim.pid not in {c.pid for c in balanced.children()})
            eventually(lambda: len(balanced.children()) == 2, what="another child")
    finally:
        load.stop()
    eventually(lambda: len(journal_folders(balanced.journals)) == 2, what="the journals of the killed are adopted")
    pushed |= journalled(balanced.journals)
    balanced.stop()
    balanced.settle()
    prove(mongo_uri, database, load, pushed)


# Answers requests that come over one hop, as an ingester's acknowledged receiver does.
_ANSWERING = """
import sys, bson, zmq
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind(sys.argv[1])
while True:
    frames = socket.recv_multipart()
    socket.send_multipart([*frames[:3], bson.encode({"accepted": 0, "rejected": []})])
"""


@pytest.fixture
def balancer_of_fake_children(ingest_settings: IngestSettings, tmp_path: Path) -> Iterator[LoadBalancer]:
    """Yield a load balancer whose two children only answer health checks."""

    def command(folder: Path, number: int) -> list[str]:
        return [sys.executable, "-c", _ANSWERING, child_addresses(folder, number)["ack_bind_address"]]

    made = LoadBalancer(ingest_settings, 2, tmp_path / "run", command, os.environ, hung_after_s=3.0)
    made.start()
    yield made
    made.close()


def test_a_child_that_does_not_answer_is_killed_and_replaced(balancer_of_fake_children: LoadBalancer) -> None:
    balancer, never = balancer_of_fake_children, threading.Event()
    balancer.wait_until_ready(never)
    first = balancer.processes()[0]
    os.kill(first, signal.SIGSTOP)
    eventually(lambda: balancer.check_children() or balancer.processes()[0] not in (first, 0), what="it is replaced")
    balancer.wait_until_ready(never)
    assert not psutil.pid_exists(first)
    assert receiver_fault(balancer.addresses["ack_bind_address"], None, 30) == ""


def test_a_health_check_measures_for_how_long_a_child_has_not_answered() -> None:
    """The test provides the clock."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as child:
        port = child.bind_to_random_port("tcp://127.0.0.1")
        health = ChildHealth(context, f"tcp://127.0.0.1:{port}")
        health.restart(0.0)
        assert (health.check(5.0), health.ready) == (5.0, False)
        for asked, answered in ((5.0, 7.0), (7.0, 9.0)):
            assert health.check(asked) == (5.0 if asked == 5.0 else 0.0)
            assert child.poll(60_000)
            frames = child.recv_multipart()
            child.send_multipart([*frames[:3], bson.encode({"busy": True})])
            eventually(lambda answered=answered: health.check(answered) == 0.0, what="the answer is read")
            assert health.ready
        assert health.check(40.0) == 31.0
        health.restart(50.0)
        assert (health.check(51.0), health.ready) == (1.0, False), "nothing is known of the new child"
        health.close()


@pytest.mark.long
def test_a_stopped_child_is_replaced_and_its_acknowledged_events_are_stored_once(
    balanced: Balanced, database: Database[Any]
) -> None:
    """With the limit used in production: half a minute without an answer."""
    with AcknowledgedClient(balanced.addresses["ack_bind_address"], timeout_s=5, attempts=20) as client:
        for n in range(100):
            assert client.send([{"type": "x", "id": f"{n}"}]).accepted == 1
        stopped = balanced.children()[0]
        stopped.suspend()
        for n in range(100, 200):
            assert client.send([{"type": "x", "id": f"{n}"}]).accepted == 1
    eventually(lambda: not stopped.is_running() or stopped.status() == psutil.STATUS_ZOMBIE, what="it is killed")
    eventually(lambda: database["event"].count_documents({}) == 200)
    eventually(lambda: len(balanced.children()) == 2)


def test_a_load_balancer_whose_relay_has_ended_ends_with_an_error(
    balancer_of_fake_children: LoadBalancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    balancer_of_fake_children.wait_until_ready(never)
    monkeypatch.setattr(Relay, "ended", True)
    with pytest.raises(IngesterFailedError, match="passes nothing on any more: bson_bind_address"):
        balancer_of_fake_children.run(never)
