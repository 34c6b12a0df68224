"""The backend `zarkov`: batches become events, stored once even if sent again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from ingest.metrics import Zibrato
from ingest.metrics.backend import interface, zarkov
from ingest.metrics.backend.interface import BackendOptions
from ingest.metrics.backend.zarkov import ZarkovBackend
from ingest.metrics.exceptions import BackendError
from ingest.metrics.identity import Identity
from ingest.metrics.wire import Batch
from ingest.settings import IngestSettings
from tests.support.ingest.metrics import Running, RunningBroker
from tests.support.ingest.running import RunningIngester
from tests.support.waiting import eventually

Make = Callable[..., Zibrato]


def made(broker: RunningBroker, ingester: str, flush_s: float = 0.1) -> ZarkovBackend:
    backend = ZarkovBackend(BackendOptions(broker.backends, (), flush_s, {"ingester": ingester}))
    backend.start()
    return backend


def test_each_batch_is_one_event_and_single_measurements_are_merged(
    broker: RunningBroker,
    zibrato: Make,
    ingester: RunningIngester,
    database: Database[Any],
    closing: Callable[[Any], Any],
) -> None:
    backend = made(broker, ingester.address("ack"))
    closing(Running(backend))
    z, single = zibrato(source="shop"), zibrato(interval=0)
    work = z.time_me(name="work", tags={"a": "b"})(lambda: None)
    for _ in range(100):
        work()
        single.gauge(name="g|h", value=2)
    assert z.flush(10)
    eventually(lambda: database["event"].find_one({"context.name": "work"}))
    found = database["event"].find_one({"context.name": "work"})
    assert found["type"] == "metric"
    assert found["context"] == {
        "kind": "Timer", "name": "work", "source": "shop", "level": "info", "tags": {"a": "b"},
    }  # fmt: skip
    extra = found["extra"]
    assert (extra["count"], extra["sequence"], extra["before"]) == (100, 1, 0)
    assert found["id"] == f"metric:{extra['publisher']}:info:1"
    assert extra["min"] <= extra["sum"] / 100 <= extra["max"]

    def singles() -> int:
        return sum(event["extra"]["count"] for event in database["event"].find({"context.name": "g|h"}))

    eventually(lambda: singles() == 100)


def test_batches_sent_again_are_stored_once(
    broker: RunningBroker, zibrato: Make, ingester: RunningIngester, database: Database[Any]
) -> None:
    backend = made(broker, ingester.address("ack"), flush_s=3600)
    try:
        z = zibrato()
        for _ in range(5):
            z.gauge(name="g", value=1)
            assert z.flush(10)
        eventually(lambda: backend.step(0.05) or backend.delivery_count.batches == 5)
        payloads = backend.pack()
        assert backend.deliver(payloads) == backend.deliver(payloads) == 5
        again = made(broker, ingester.address("ack"), flush_s=3600)  # as after the backend was killed
        assert again.deliver(payloads) == 5
        again.stop()
        eventually(lambda: database["event"].count_documents({"context.name": "g"}) == 5)
        eventually(lambda: sum(v["duplicates"] for v in database["ingest.verdict"].find()) == 10)
        assert database["event"].count_documents({"context.name": "g"}) == 5
    finally:
        backend.stop()


def test_events_wait_while_the_ingester_is_down(
    broker: RunningBroker,
    zibrato: Make,
    start_ingester: Callable[..., RunningIngester],
    ingest_settings: IngestSettings,
    database: Database[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interface, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(zarkov, "TIMEOUT_S", 0.2)
    settings = dataclasses.replace(ingest_settings, ack_bind_address=f"ipc://{tmp_path}/ack")
    start_ingester(settings).stop()
    backend = made(broker, settings.ack_bind_address)
    try:
        z = zibrato()
        z.gauge(name="g", value=1)
        assert z.flush(10)
        eventually(lambda: backend.step(0.05) or backend.payloads)
        assert backend.delivered == 0
        start_ingester(settings)
        eventually(lambda: backend.step(0.05) or backend.delivered == 1)
        eventually(lambda: database["event"].count_documents({"context.name": "g"}) == 1)
    finally:
        backend.stop()


def test_an_event_that_cannot_be_encoded_is_refused_alone(
    ingester: RunningIngester, database: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    backend = ZarkovBackend(BackendOptions("tcp://127.0.0.1:1", (), 1.0, {"ingester": ingester.address("ack")}))
    backend.connect()
    try:
        for number, tags in enumerate([(), (("a\0b", "x"),), (("a", "b"),)], 1):
            backend.gather(Batch(Identity("info", "Counter", "c", "s", tags), 5, 1, 1, "p", number))
        backend.gather(Batch(Identity("info", "Set", "s", "s"), 5, 1, 1, "p", 4, sketch={"hashes": [2**70]}))
        assert backend.flush()
        assert (backend.refused, backend.delivered) == (2, 2)
        eventually(lambda: database["event"].count_documents({"context.name": "c"}) == 2)
        assert "cannot be stored" in caplog.text
    finally:
        backend.end()


def test_the_backend_follows_the_broker_and_the_ingester_to_other_ports(
    closing: Callable[[Any], Any], start_ingester: Callable[..., RunningIngester], ingest_settings: IngestSettings,
    database: Database[Any], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(interface, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(interface, "ADDRESS_CHECK_S", 0.05)
    monkeypatch.setattr(zarkov, "TIMEOUT_S", 0.5)
    first, ingester = RunningBroker(), start_ingester(ingest_settings)
    where = {"broker": first.backends, "ingester": ingester.address("ack")}
    backend = ZarkovBackend(BackendOptions(lambda: where["broker"], (), 0.1, {"ingester": lambda: where["ingester"]}))
    backend.start()
    closing(Running(backend))
    publishers = first.publishers
    z = closing(Zibrato(address=lambda: publishers, interval=0.05))
    z.gauge(name="g", value=1)
    eventually(lambda: database["event"].count_documents({"context.name": "g"}) == 1)
    first.stop()
    ingester.stop()
    second, other = closing(RunningBroker()), start_ingester(ingest_settings)
    assert second.backends != where["broker"]
    publishers, where["broker"], where["ingester"] = second.publishers, second.backends, other.address("ack")
    z.gauge(name="g", value=2)
    eventually(lambda: database["event"].count_documents({"context.name": "g", "extra.sum": 2}) == 1)


def test_the_backend_does_not_start_without_an_address(broker: RunningBroker) -> None:
    with pytest.raises(BackendError, match="ingester"):
        ZarkovBackend(BackendOptions(broker.backends)).connect()
