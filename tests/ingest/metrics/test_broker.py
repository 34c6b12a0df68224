"""The broker is ZeroMQ's forwarder: any PUB and SUB sockets can use it, and a stopped backend slows no other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from ingest.exceptions import BindError, BrokerFailedError
from ingest.management.stop_signal import StopSignal
from ingest.metrics.broker import Broker
from ingest.metrics.wire import Batch, unpack
from tests.support.ingest.metrics import ANYWHERE, Listener, RunningBroker
from tests.support.waiting import WITHIN_S, eventually

Closing = Callable[[Any], Any]


class BarePublisher:
    """A PUB socket as any program can connect it."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.XPUB)  # to know when the subscription is there, as the test must
        self.socket.connect(address)

    def wait(self) -> None:
        assert self.socket.poll(WITHIN_S * 1000)
        self.socket.recv()

    def close(self) -> None:
        self.socket.close(linger=0)
        self._context.term()


def test_plain_sockets_and_prefixes_work(broker: RunningBroker, closing: Closing) -> None:
    everything, some = closing(Listener(broker.backends)), closing(Listener(broker.backends, b"info|Gauge|a"))
    publisher = closing(BarePublisher(broker.publishers))
    publisher.wait()
    publisher.wait()
    for message in (b"info|Gauge|ab|1|5|x", b"warn|Gauge|a|1|5|x", b"whatever \x00 it is", b"info|Gauge|b|1|5|x"):
        publisher.socket.send(message)
    publisher.socket.send_multipart([b"info|Gauge|a parts", b"of", b"one"])
    assert [everything.socket.recv_multipart() for _ in range(5)][2:] == [
        [b"whatever \x00 it is"], [b"info|Gauge|b|1|5|x"], [b"info|Gauge|a parts", b"of", b"one"],
    ]  # fmt: skip
    assert some.message() == b"info|Gauge|ab|1|5|x"
    assert some.socket.recv_multipart() == [b"info|Gauge|a parts", b"of", b"one"]
    assert some.rest() == []


def test_a_backend_that_does_not_read_slows_no_other_and_memory_is_bounded(closing: Closing) -> None:
    broker = closing(RunningBroker(high_water_count=1_000))
    asleep, awake = Listener(broker.backends), closing(Listener(broker.backends))
    asleep.socket.setsockopt(zmq.RCVHWM, 1)
    closing(asleep)
    publisher = closing(BarePublisher(broker.publishers))
    publisher.wait()
    # The subscription that came can be that of the other.
    eventually(lambda: publisher.socket.send(b"join") or awake.socket.poll(20))
    awake.rest()
    started = time.monotonic()
    for n in range(20_000):
        publisher.socket.send(b"info|Gauge|%d|1|5|%s" % (n, b"x" * 250))
        if n % 500 == 499:  # no faster than the living one reads
            for _ in range(500):
                last = awake.message()
    assert unpack(last).name == "19999"  # type: ignore[union-attr]
    assert time.monotonic() - started < 60


def test_the_broker_publishes_its_own_count_as_a_metric(closing: Closing) -> None:
    broker = closing(RunningBroker(measure_s=0.05))
    listener = closing(Listener(broker.backends))
    publisher = closing(BarePublisher(broker.publishers))
    publisher.wait()
    for _ in range(10):
        publisher.socket.send(b"info|Gauge|a|1|5|x")
    found = listener.until(
        lambda items: sum(b.sum for b in items if isinstance(b, Batch) and b.identity.type == "Counter") == 10
    )
    reports = [b for b in found if isinstance(b, Batch)]
    assert {b.identity.name for b in reports} >= {"zarkov.broker.messages"}
    assert [b.sequence for b in reports] == list(range(1, len(reports) + 1))
    eventually(lambda: broker.service.totals.messages >= 11)  # its own among them
    assert broker.service.totals.size_bytes > 10 * len(b"info|Gauge|a|1|5|x")


def without_a_turn(publishers: Any, backends: Any, _: None, commands: Any) -> None:
    """Replace libzmq's proxy: forward a subscription, and no message before the end."""
    publishers.send(backends.recv())
    ended = False
    while not ended:
        publishers.getsockopt(zmq.EVENTS)  # lets a publisher in that connects later: libzmq does it while it is called
        if commands.poll(10):
            ended = commands.recv() == b"TERMINATE"
            if not ended:
                commands.send_multipart([bytes(8)] * 8)


def test_a_stopping_broker_forwards_what_publishers_have_sent(
    closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmq, "proxy_steerable", without_a_turn)
    broker = closing(RunningBroker())
    listener, publisher = closing(Listener(broker.backends)), closing(BarePublisher(broker.publishers))
    publisher.socket.setsockopt(zmq.SNDHWM, 0)
    publisher.wait()
    for n in range(10_000):
        publisher.socket.send(b"info|Gauge|%d|1|5|x" % n)
    publisher.socket.close(linger=60_000)
    publisher.close()  # the kernel has all of it
    broker.stop()
    names = [unpack(listener.message()).name for _ in range(10_000)]  # type: ignore[union-attr]
    assert names == [f"{n}" for n in range(10_000)]


def test_a_port_in_use_is_named(broker: RunningBroker) -> None:
    other = Broker(broker.publishers, ANYWHERE)
    with pytest.raises(BindError, match=broker.publishers):
        other.start()


def test_a_broker_whose_proxy_has_ended_says_so_instead_of_waiting_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broker, "_forward", lambda self: None)
    broker, stop = Broker(ANYWHERE, ANYWHERE), StopSignal()
    broker.start()
    with pytest.raises(BrokerFailedError, match="forwards no more"):
        broker.run(stop)
    broker.close()
    stop.close()
