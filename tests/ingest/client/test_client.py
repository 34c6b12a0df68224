"""The client in its users' programs: limits, forks, threads and greenlets."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import bson
import psutil
import pytest
import zmq
from pymongo.database import Database

from ingest.client import AcknowledgedClient, ZarkovClient
from ingest.exceptions import DeliveryError, QueueFullError
from tests.support.child import in_child, python
from tests.support.durations import assert_within, seconds
from tests.support.ingest.running import RunningIngester, sums
from tests.support.ports import reserved_ports
from tests.support.waiting import eventually

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
        (port,) = reserved_ports()
        assert is_bound(socket, port)
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


def test_an_encoded_event_gets_an_id_as_a_document_does(ingester: RunningIngester, database: Database[Any]) -> None:
    with AcknowledgedClient(ingester.address("ack"), connect_timeout_s=20, timeout_s=20) as client:
        own = bson.encode({"id": "own", "type": "x"})
        inner = bson.encode({"type": "x", "context": {"id": "inner"}})
        assert client.send([own, inner, bson.encode({"type": "x"})]).accepted == 3
    found = eventually(lambda: (events := list(database["event"].find())) and len(events) == 3 and events)
    assert "own" in {event["id"] for event in found}
    assert {len(event["id"]) for event in found} == {3, 32}
    assert {event["type"] for event in found} == {"x"}
