"""`runingest --processes N`: one load balancer, several ingesters with their own journals, one address for notices."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient
from ingest.client.health_probe import receiver_fault
from ingest.exceptions import BindError, IngesterFailedError, JournalError
from ingest.journal.journal import journal_folders
from ingest.server.child_health import ChildHealth
from ingest.server.load_balancer import LoadBalancer, child_addresses
from ingest.server.relay import SOCKET_PAIRS, Relay
from ingest.settings import IngestSettings, JournalSettings
from ingest.transport.notice import Subscription
from ingest.wire.ack_request import read_request
from tests.support.ingest.hostile import SMALL_COUNT, HostileSenders, arrived
from tests.support.ingest.load import Load, journalled, prove
from tests.support.ingest.running import ANYWHERE, RunningIngester
from tests.support.ports import reserved_addresses
from tests.support.system import peak_bytes
from tests.support.waiting import WITHIN_S, eventually

pytestmark = pytest.mark.early

MANY = 10_000  # pushed events that the kernel can hold for a load balancer that does not read
LIMIT_BYTES = 400_000_000  # of memory of each process, while 20 senders send 600 MB
RECEIVERS = ("BSON", "JSON", "ACK", "PUBLISH")


class Balanced:
    """`manage.py runingest --processes COUNT` in its own home folder."""

    def __init__(self, uri: str, database: str, home: Path, count: int = 2) -> None:
        self.journals = home / "journal"
        self._settings = IngestSettings(
            **{f"{receiver.lower()}_bind_address": ANYWHERE for receiver in RECEIVERS},
            mongo_address=lambda: uri, mongo_database=database, journal=JournalSettings(self.journals),
        )  # fmt: skip
        addresses = zip(RECEIVERS, reserved_addresses(len(RECEIVERS)), strict=True)  # kept over restarts
        environment = os.environ | {f"ZARKOV_{receiver}_BIND_ADDRESS": address for receiver, address in addresses}
        environment |= {"ZARKOV_HOME": str(home), "ZARKOV_MONGO_URI": uri, "ZARKOV_MONGO_DATABASE": database}
        self.environment = environment
        self.command = [sys.executable, "manage.py", "runingest", "--processes", str(count)]
        self.process = subprocess.Popen(
            self.command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        recorded = home / "run" / "addresses.json"
        eventually(lambda: recorded.exists() or self.process.poll() is not None)
        self.addresses: dict[str, str] = json.loads(recorded.read_text())
        self.run = home / "run"
        eventually(lambda: len(journal_folders(self.journals)) == count, what="a journal each")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(WITHIN_S) == 0

    def start_again(self) -> None:
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        assert receiver_fault(self.addresses["ack_bind_address"], None, WITHIN_S) == ""

    def settle(self) -> None:
        """Commit what waits in journals, as the next start does; a stop has limited time for it."""
        if folders := journal_folders(self.journals):
            next_start = RunningIngester(self._settings)
            try:
                eventually(lambda: not any(folder.exists() for folder in folders), what="what was left is committed")
            finally:
                next_start.stop()


@pytest.fixture
def balanced(mongo_uri: str, database: Database[Any], tmp_path: Path) -> Iterator[Balanced]:
    made = Balanced(mongo_uri, database.name, tmp_path / "home")
    yield made
    if made.process.poll() is None:
        made.stop()


def push(address: str, count: int, kind: str) -> None:
    context: zmq.Context[Any] = zmq.Context()
    with context.socket(zmq.PUSH) as socket:
        socket.connect(address)
        for n in range(count):
            socket.send(bson.encode({"type": kind, "context": {"n": n}}))
        socket.close(linger=60_000)
    context.term()


def all_pushed(balanced: Balanced, database: Database[Any]) -> list[int]:
    """Return the numbers of the pushed events that are stored once nothing waits."""
    balanced.settle()
    return sorted(e["context"]["n"] for e in database["event"].find({"type": "pushed"}))


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
