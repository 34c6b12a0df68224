"""The common behaviour of backends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import zmq

from ingest.metrics import Zibrato
from ingest.metrics.backend import interface
from ingest.metrics.backend.graphite import GraphiteBackend
from ingest.metrics.backend.interface import Backend, BackendOptions
from ingest.metrics.backend.librato import LibratoBackend
from ingest.metrics.backend.log import LogBackend
from ingest.metrics.backend.statsd import StatsdBackend
from ingest.metrics.backend.zarkov import ZarkovBackend
from ingest.transport.socket_drain import RECEIVE_COUNT
from tests.support.ingest.backends import Collecting, batch, made
from tests.support.ingest.metrics import Running, RunningBroker
from tests.support.waiting import eventually

Make = Callable[..., Zibrato]
Closing = Callable[[Any], Any]


def test_a_stopping_backend_receives_everything_that_was_forwarded(broker: RunningBroker) -> None:
    backend = Collecting(BackendOptions(broker.backends, (), 1e6))
    backend.start()
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.setsockopt(zmq.SNDHWM, 0)
        publisher.connect(broker.publishers)
        assert publisher.poll(150_000), "the backend has subscribed"
        for _ in range(3 * RECEIVE_COUNT):
            publisher.send(b"info|Counter|a|1|5|x")
        eventually(lambda: broker.service.totals.messages == 3 * RECEIVE_COUNT)
        backend.stop()
        publisher.close(linger=0)
    assert backend.accepted == [("a", 3 * RECEIVE_COUNT)]


def test_levels_are_matched_exactly(broker: RunningBroker, zibrato: Make, closing: Closing) -> None:
    backend = Collecting(BackendOptions(broker.backends, ("info", "war|n"), 0.05))
    backend.start()
    z = zibrato(interval=0.01)
    closing(Running(backend))
    for level in ("info", "information", "inf", "warn", "war|n"):
        z.send(level=level, mtype="Counter", name=level, value=1)
    eventually(lambda: {name for name, _ in backend.accepted} >= {"info", "war|n"})
    assert z.statistics().waiting == 3  # no backend subscribes to them: they were not even sent
    other = made(Collecting, "info")
    for level in ("info", "information"):
        other.handle_message(batch(level, level))
    other.flush()
    assert other.accepted == [("info", 1)]


def test_a_backend_flushes_by_time_even_when_nothing_arrives(
    broker: RunningBroker, zibrato: Make, closing: Closing
) -> None:
    backend = Collecting(BackendOptions(broker.backends, (), 0.3))
    backend.start()
    closing(Running(backend))
    z = zibrato()
    z.send(mtype="Counter", name="one", value=1)
    z.flush(10)
    eventually(lambda: backend.accepted == [("one", 1)])


def test_payloads_are_kept_until_they_are_accepted_and_pauses_double(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(interface.time, "monotonic", lambda: now)
    backend = made()
    backend.away = True
    for name in ("a", "b", "c", "a"):
        backend.handle_message(batch(name))
    assert not backend.flush()
    pauses = []
    for _ in range(9):
        before, attempts = now, backend.attempts
        while backend.attempts == attempts:
            now += 0.25
            backend.flush()
        pauses.append(now - before)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backend.payloads == [("a", 2), ("b", 1), ("c", 1)]
    backend.away = False
    backend.handle_message(batch("d"))
    now += 60
    assert backend.flush()
    assert backend.accepted == [("a", 2), ("b", 1), ("c", 1), ("d", 1)]


def test_a_backend_stops_receiving_while_too_much_waits_and_loses_nothing(
    broker: RunningBroker, zibrato: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "MOST_PAYLOADS", 5)
    monkeypatch.setattr(interface, "MOST_METRICS", 3)
    monkeypatch.setattr(interface, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(interface, "LONGEST_RETRY_S", 0.01)
    backend = Collecting(BackendOptions(broker.backends, (), 0.01))
    backend.start()
    backend.away = True
    z = zibrato()
    try:
        for n in range(50):
            z.send(mtype="Counter", name=f"n{n}", value=1)
            assert z.flush(10)
            backend.step(0.05)
        assert len(backend.payloads) < 20
        backend.away = False
        eventually(lambda: backend.step(0.05) or len(backend.accepted) == 50)
        assert backend.delivery_count.lost_batches == 0
    finally:
        backend.stop()


def test_a_payload_that_cannot_be_delivered_is_refused_and_the_others_are_delivered() -> None:
    backend = made()
    deliver = backend.deliver

    def fails(payloads: Sequence[Any]) -> int:
        if any(name == "bad" for name, _ in payloads):
            raise TypeError("not this one")
        return int(deliver(payloads))

    backend.deliver = fails
    for name in ("a", "b", "bad", "c", "bad2", "d"):
        backend.handle_message(batch(name))
    assert backend.flush()
    assert [name for name, _ in backend.accepted] == ["a", "b", "c", "bad2", "d"]
    assert backend.refused == 1


@pytest.mark.parametrize("kind", [LogBackend, GraphiteBackend, StatsdBackend, Collecting])
def test_no_message_of_another_program_ends_a_backend(kind: type[Backend]) -> None:
    backend = made(kind, prefix="")
    strange: list[dict[str, Any]] = [
        {"type": kind_, "count": count, "sum": total, "min": 1, "max": 1, "last": 1, "sketch": sketch}
        for kind_ in ("Timer", "Counter", "Set", "Gauge")
        for count in (0, 1, 2**62, 2**62 + 1)
        for total in (2**62, 1e308)
        for sketch in (
            None, {}, {"positive": [35_488, count]}, {"positive": [100_000, 1]}, {"positive": [10**30, 1]},
            {"positive": [1, -1]}, {"zero": -1}, {"hashes": [2**70]}, {"hashes": []}, {"negative": [-37_220, count]},
        )
    ]  # fmt: skip
    for value in strange:
        backend.handle_message(f"info|Batch|a|{json.dumps(value)}|5|x")
    backend.handle_message(b"info|Batch|x|" + b"[" * 200_000 + b"|1|s")
    backend.handle_message(b"info|Counter|good|1|5|x")
    assert backend.unreadable > 100
    assert any("good" in str(payload) for payload in backend.pack())


def test_gaps_in_the_sequence_are_counted_exactly() -> None:
    backend = made()
    backend.handle_message(batch(sequence=5, before=50, count=10))
    backend.handle_message(batch(sequence=6, before=60, count=10))
    backend.handle_message(batch(sequence=9, before=100, count=1))
    backend.handle_message(batch(level="warn", sequence=1, before=0, count=1))
    backend.handle_message(b"nonsense")
    assert (backend.delivery_count.lost_batches, backend.delivery_count.lost_measurements) == (2, 30)
    assert (backend.delivery_count.batches, backend.delivery_count.measurements, backend.unreadable) == (4, 22, 1)


def test_many_separate_items_cause_an_early_flush_too(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"username": "me", "apitoken": "x", "url": "http://127.0.0.1:1", "ingester": "tcp://127.0.0.1:1"}
    for kind, type_ in ((LibratoBackend, "Timer"), (ZarkovBackend, "Counter")):
        backend = made(kind, **own)
        for number in range(10):
            backend.handle_message(
                f"info|{type_}|t|{number}|5|x" if kind is LibratoBackend else batch(sequence=number + 1)
            )
        assert backend.unpacked_count() == 10
        backend.payloads = [None] * interface.MOST_PAYLOADS  # nothing is received meanwhile
        monkeypatch.setattr(interface, "MOST_METRICS", 10)
        backend._try_at = time.monotonic() + 1000
        backend.address = backend.options.address  # as if connected
        backend.step(0)
        assert backend.unpacked_count() == 0
        assert len(backend.payloads) == interface.MOST_PAYLOADS + 10


def test_an_address_of_the_broker_that_cannot_be_used_is_tried_again(broker: RunningBroker) -> None:
    addresses = ["nonsense"]
    backend = Collecting(BackendOptions(lambda: addresses[0]))
    backend.start()
    assert backend.address == ""
    addresses[0] = broker.backends
    backend._follow_broker()
    assert backend.address == broker.backends
    backend.stop()


def test_a_fault_of_ours_in_reading_a_message_ends_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = made()
    with monkeypatch.context() as broken:
        broken.setattr(backend, "parse", {}.__getitem__)
        backend.handle_message(b"info|Counter|a|1|5|x")
    backend.handle_message(b"info|Counter|a|1|5|x")
    assert (backend.unreadable, len(backend.pack())) == (1, 1)
