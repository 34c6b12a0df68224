"""The client in its users' programs: limits, forks, threads, greenlets, and the spool."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest
import zmq
from bson.errors import InvalidBSON
from pymongo.database import Database

from ingest.client import AcknowledgedClient, ZarkovClient
from ingest.client.spool import Spool
from ingest.exceptions import DeliveryError, EventTooLargeError, QueueFullError, SpoolFullError
from ingest.settings import IngestSettings
from ingest.wire.event import MAX_MESSAGE_BYTES
from tests.support.durations import assert_within, seconds
from tests.support.ingest.running import RunningIngester, sums
from tests.support.waiting import eventually
from zarkov_site.config.config import REPOSITORY

Start = Callable[..., RunningIngester]
NO_LISTENER = "tcp://127.0.0.1:1"


@pytest.fixture
def listener() -> Iterator[zmq.Socket[bytes]]:
    """A listener that reads only when the test does."""
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.setsockopt(zmq.RCVHWM, 1)
        socket.setsockopt(zmq.RCVTIMEO, 60_000)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind("tcp://127.0.0.1:*")
        yield socket


def address_of(socket: zmq.Socket[bytes]) -> str:
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\x00").decode()


def ids(database: Database[Any]) -> list[str]:
    return sorted(event["id"] for event in database["event"].find())


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def in_child(action: Callable[[], None]) -> None:
    """Run `action` in a forked process; fail if it fails or hangs."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    ended: list[int] = []  # its status

    def has_ended() -> bool:
        ended.extend(status for found, status in [os.waitpid(pid, os.WNOHANG)] if found)
        return bool(ended)

    try:
        eventually(has_ended, what="the end of the child")
    finally:
        if not ended:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(ended[0]) == 0


BIG = bson.encode({"type": "x", "extra": "x" * 100_000})


def fill(client: ZarkovClient) -> int:
    """Send until the queue is full; return how many events were queued."""
    queued = 0
    with pytest.raises(QueueFullError, match=r"the queue of \d+ messages is full"):
        while queued < 10_000:
            client.send(BIG)
            queued += 1
    return queued


def test_a_full_queue_raises_and_queued_events_arrive(listener: zmq.Socket[bytes]) -> None:
    client = ZarkovClient(address_of(listener), high_water_count=10, timeout_s=1.0)
    queued = fill(client)
    for _ in range(queued):
        assert listener.recv() == BIG
    client.close()
    assert not listener.poll(50)


def test_flush_and_close_end_in_time_and_report_what_is_left(listener: zmq.Socket[bytes]) -> None:
    client = ZarkovClient(address_of(listener), high_water_count=10, timeout_s=1.0)
    queued = fill(client)

    def not_flushed() -> None:
        with pytest.raises(DeliveryError, match="still waiting"):
            client.flush(0.2)

    assert_within(2, lambda: seconds(not_flushed), tries=1)
    for _ in range(queued):
        assert listener.recv() == BIG
    client.flush(60)
    fill(client)
    with pytest.raises(DeliveryError, match="are lost"):
        client.close(0.2)  # returns, although nothing reads
    client.close()


def test_everything_has_left_after_flush_even_if_the_process_dies(listener: zmq.Socket[bytes]) -> None:
    code = (
        "import os, sys; from ingest.client import ZarkovClient\n"
        "client = ZarkovClient(sys.argv[1])\n"
        "for n in range(200): client.event(str(n), {})\n"
        "client.flush(60); os.kill(os.getpid(), 9)"
    )
    assert python(code, address_of(listener)).returncode == -signal.SIGKILL
    assert [bson.decode(listener.recv())["type"] for _ in range(200)] == [str(n) for n in range(200)]


def test_queued_events_are_sent_to_a_restarted_listener() -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        client = ZarkovClient(f"tcp://127.0.0.1:{port}")
        client.event("first", {})
        assert bson.decode(socket.recv())["type"] == "first"
        socket.close(linger=0)
        eventually(lambda: port not in connected_ports(), what="the client notices that the listener is gone")
        client.event("away", {})
        with context.socket(zmq.PULL) as again:
            again.setsockopt(zmq.RCVTIMEO, 60_000)
            eventually(lambda: is_bound(again, port))
            assert bson.decode(again.recv())["type"] == "away"
        client.close()


def connected_ports() -> set[int]:
    """Return the ports that this process is connected to."""
    return {c.raddr.port for c in psutil.Process().net_connections() if c.raddr}


def is_bound(socket: zmq.Socket[bytes], port: int) -> bool:
    try:
        socket.bind(f"tcp://127.0.0.1:{port}")
    except zmq.ZMQError:
        return False
    return True


def test_an_invalid_address_is_named() -> None:
    for client in (ZarkovClient("nonsense"), AcknowledgedClient("nonsense")):
        with pytest.raises(DeliveryError, match="'nonsense' is not a ZeroMQ address"):
            client.event("x", {})
        client.close()


class Busy:
    """Let threads send through the clients without a pause, so that a fork can hit any point."""

    def __init__(self, *actions: Callable[[], object]) -> None:
        self._stop = threading.Event()
        self.sent = [0] * len(actions)
        self._threads = [threading.Thread(target=self._run, args=item) for item in enumerate(actions)]

    def _run(self, place: int, action: Callable[[], object]) -> None:
        while not self._stop.is_set():
            action()
            self.sent[place] += 1

    def __enter__(self) -> Busy:
        for thread in self._threads:
            thread.start()
        eventually(lambda: all(self.sent))
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_client_works_in_processes_forked_while_other_threads_send_through_it(
    ingester: RunningIngester, database: Database[Any]
) -> None:
    pushed, acknowledged = (
        ZarkovClient(ingester.address("bson"), timeout_s=20),
        AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20),
    )

    def in_the_child() -> None:
        pushed.event("pushed by a child", {})
        pushed.close(60)
        assert acknowledged.event("sent by a child", {}).accepted == 1
        acknowledged.close()

    actions = [lambda: pushed.event("parent", {}), lambda: acknowledged.event("parent", {})]
    with Busy(*actions, *actions) as busy:
        for _ in range(10):
            in_child(in_the_child)
    pushed.close()
    acknowledged.close()
    eventually(lambda: database["event"].count_documents({"type": "parent"}) == sum(busy.sent))
    for kind in ("pushed", "sent"):
        eventually(lambda kind=kind: database["event"].count_documents({"type": f"{kind} by a child"}) == 10)
    assert sums(database)["quarantined"] == 0


def test_a_lock_that_another_thread_held_at_the_fork_does_not_block_the_child(ingester: RunningIngester) -> None:
    pushed, acknowledged = (
        ZarkovClient(ingester.address("bson"), timeout_s=20),
        AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20),
    )

    def in_the_child() -> None:
        pushed.event("x", {})
        pushed.close(60)
        assert acknowledged.event("x", {}).accepted == 1

    with pushed._lock, acknowledged._lock:  # as a thread holds it that is in the middle of a send
        in_child(in_the_child)


GREENLETS = """
import sys
if sys.argv[3] == "patched":
    from gevent import monkey; monkey.patch_all()
import gevent
from ingest.client import AcknowledgedClient, ZarkovClient
from ingest.exceptions import DeliveryError
gevent.sleep(0)
ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.005); ticks += 1
ticking = gevent.spawn(tick)
def does_not_block(action):
    before = ticks
    try:
        action()
    except DeliveryError:
        assert ticks - before > 5, f"other greenlets were blocked: {ticks - before}"
    else:
        raise SystemExit("something answered")
does_not_block(lambda: ZarkovClient("tcp://127.0.0.1:1", timeout_s=1.5).event("x", {}))
does_not_block(lambda: AcknowledgedClient("tcp://127.0.0.1:1", connect_timeout_s=1.5).event("x", {}))
pushed = ZarkovClient(sys.argv[1], timeout_s=20)
acknowledged = AcknowledgedClient(sys.argv[2], connect_timeout_s=20, timeout_s=20)
def work(n):
    for m in range(20):
        pushed.event("pushed", {"n": n, "m": m})
        assert acknowledged.event("sent", {"n": n, "m": m}).accepted == 1
gevent.joinall([gevent.spawn(work, n) for n in range(10)], raise_error=True)
pushed.close(60)
acknowledged.close()
"""


@pytest.mark.parametrize("patched", ["patched", "plain"])
def test_many_greenlets_share_a_client_and_none_blocks_the_others(
    ingester: RunningIngester, database: Database[Any], patched: str
) -> None:
    done = python(GREENLETS, ingester.address("bson"), ingester.address("ack"), patched)
    assert (done.returncode, done.stderr) == (0, "")
    for kind in ("pushed", "sent"):
        eventually(lambda kind=kind: database["event"].count_documents({"type": kind}) == 200)


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


def test_the_error_says_that_unanswered_events_may_have_arrived() -> None:
    with zmq.Context() as context:
        router = context.socket(zmq.ROUTER)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        address = f"tcp://127.0.0.1:{port}"
        with AcknowledgedClient(address, attempts=2, timeout_s=1, connect_timeout_s=20) as client:
            errors: list[str] = []

            def send() -> None:
                with pytest.raises(DeliveryError) as caught:
                    client.event("x", {})
                errors.append(str(caught.value))

            sending = threading.Thread(target=send)
            sending.start()
            assert router.poll(20_000)
            router.close(linger=0)
            sending.join(60)
    assert len(errors) == 1
    assert f"at {address} did not answer within 1 s (attempts: 1)" in errors[0]
    assert f"no ingester listens at {address}" in errors[0]
    assert "may or may not have arrived" in errors[0]


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


def test_an_encoded_event_gets_an_id_as_a_document_does(ingester: RunningIngester, database: Database[Any]) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        own = bson.encode({"id": "own", "type": "x"})
        inner = bson.encode({"type": "x", "context": {"id": "inner"}})
        assert client.send([own, inner, bson.encode({"type": "x"})]).accepted == 3
    found = eventually(lambda: (events := list(database["event"].find())) and len(events) == 3 and events)
    assert "own" in {event["id"] for event in found}
    assert {len(event["id"]) for event in found} == {3, 32}
    assert {event["type"] for event in found} == {"x"}
