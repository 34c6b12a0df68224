"""Check that no pushed event is lost when a load balancer and its ingesters stop, in whatever order."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest
import zmq
from pymongo.database import Database

from ingest.server.load_balancer import LoadBalancer
from ingest.server.relay import SOCKET_PAIRS
from ingest.settings import IngestSettings
from tests.support.ingest.balanced import Balanced, all_pushed, push
from tests.support.ingest.load import journalled
from tests.support.waiting import WITHIN_S, eventually

pytestmark = pytest.mark.early
MANY = 10_000  # pushed events that the kernel can hold for a load balancer that does not read


class SteadySender(threading.Thread):
    """Push numbered events at short intervals until `over`, whether or not anybody listens."""

    def __init__(self, address: str, first: int) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._first = first
        self.count = 0
        self.over = threading.Event()

    def run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.setsockopt(zmq.LINGER, 60_000)
            socket.connect(self._address)
            while not self.over.wait(0.001):
                with contextlib.suppress(zmq.Again):
                    event = {"type": "pushed", "context": {"n": self._first + self.count}}
                    socket.send(bson.encode(event), zmq.NOBLOCK)
                    self.count += 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_at_once_loses_nothing(
    balanced: Balanced, database: Database[Any], number: signal.Signals
) -> None:
    """Ctrl-C in a terminal, systemd: the children receive the signal at the same time as the load balancer."""
    push(balanced.addresses["bson_bind_address"], 3_000, "pushed")
    os.killpg(balanced.process.pid, number)
    balanced.stop()
    assert all_pushed(balanced, database) == list(range(3_000))


@pytest.mark.parametrize("count", [1, 2])
def test_senders_that_keep_sending_lose_nothing_while_ingesters_are_replaced(
    mongo_uri: str, database: Database[Any], tmp_path: Path, count: int
) -> None:
    ingesters = Balanced(mongo_uri, database.name, tmp_path / "home", count)
    senders = [SteadySender(ingesters.addresses["bson_bind_address"], 10**6 * n) for n in range(2)]
    for sender in senders:
        sender.start()
    for _ in range(2):
        before = [sender.count for sender in senders]
        eventually(lambda: all(s.count > b + 300 for s, b in zip(senders, before, strict=True)))  # noqa: B023
        ingesters.stop()
        ingesters.start_again()
    for sender in senders:
        sender.over.set()
        sender.join(120)
    ingesters.stop()
    assert all_pushed(ingesters, database) == [10**6 * n + m for n in range(2) for m in range(senders[n].count)]


def test_the_load_balancer_journals_what_stopped_children_do_not_read_and_they_journal_the_rest(
    balanced: Balanced, database: Database[Any]
) -> None:
    children = balanced.children()
    for child in children:
        child.suspend()
    push(balanced.addresses["bson_bind_address"], MANY, "pushed")
    balanced.process.terminate()
    eventually(lambda: len(journalled(balanced.journals)) > 0, what="a journal of the load balancer")
    for child in children:
        child.resume()
    balanced.stop()
    assert all_pushed(balanced, database) == list(range(MANY))


def test_a_child_killed_just_before_the_load_balancer_stops_loses_only_what_it_had_received(
    balanced: Balanced, database: Database[Any]
) -> None:
    victim, other = balanced.children()
    balancer = psutil.Process(balanced.process.pid)
    before = len(balancer.net_connections("unix"))
    other.suspend()
    victim.kill()

    def noticed() -> bool:
        """Return whether the balancer has closed its connections to the victim, or has replaced it."""
        lost = before - len(balancer.net_connections("unix"))
        return lost >= len(SOCKET_PAIRS) or any(child not in (victim, other) for child in balanced.children())

    eventually(noticed)
    push(balanced.addresses["bson_bind_address"], MANY, "pushed")
    balanced.process.terminate()
    other.resume()
    balanced.stop()
    assert all_pushed(balanced, database) == list(range(MANY))


def test_a_child_that_is_killed_just_before_the_stop_is_reported(
    ingest_settings: IngestSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = [sys.executable, "-c", "import signal; signal.pause()"]
    balancer = LoadBalancer(ingest_settings, 2, tmp_path / "run", lambda *_: waiting, os.environ)
    balancer.check_children()
    killed, ended = balancer._children
    assert killed is not None
    assert ended is not None
    killed.kill()
    killed.wait()
    balancer.close()
    assert ended.returncode == -signal.SIGTERM
    (reported,) = [record for record in caplog.records if "ingester ended" in record.message]
    assert "number=0 code=-9" in reported.message


def test_the_children_of_a_killed_load_balancer_end(balanced: Balanced, database: Database[Any]) -> None:
    children = balanced.children()
    balanced.process.kill()
    balanced.process.wait()
    assert psutil.wait_procs(children, WITHIN_S)[1] == []
