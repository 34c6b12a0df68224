"""The realtime aggregator, with real notices over ZeroMQ."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
import zmq
from django.core.management import call_command

from aggregates import services
from aggregates.models import AggDef, Run
from aggregates.process_connections import ProcessConnections, process_connections
from aggregates.realtime.aggregator import Aggregator, EventsReadable, RefreshEnded
from aggregates.run.outcome import Outcome
from ingest.transport.notice import committed
from tests.support.aggregates.definitions import values
from tests.support.aggregates.event_source import Producer, event
from tests.support.ingest.mongod import Mongod
from tests.support.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)
TASK = "tests.support.aggregates.tasks.CountByDay"


class Ingester:
    """The sockets of an ingester: notices are sent, `agg_complete` is received."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._publisher = self._context.socket(zmq.PUB)
        self._receiver = self._context.socket(zmq.PULL)
        self.publish = f"tcp://127.0.0.1:{self._publisher.bind_to_random_port('tcp://127.0.0.1')}"
        self.receiver = f"tcp://127.0.0.1:{self._receiver.bind_to_random_port('tcp://127.0.0.1')}"

    def notify(self, through: int) -> None:
        self._publisher.send(committed(through, 1))

    def receive(self) -> list[dict[str, Any]]:
        found = []
        while self._receiver.poll(0):
            found.append(bson.decode(self._receiver.recv()))
        return found

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def ingester() -> Iterator[Ingester]:
    opened = Ingester()
    yield opened
    opened.close()


@pytest.fixture
def producer(site: Any, ingester: Ingester) -> Producer:
    addresses = {"bson_bind_address": ingester.receiver, "publish_bind_address": ingester.publish}
    site.ZARKOV = site.ZARKOV.model_copy(update=addresses)
    return Producer(process_connections().run_context.store)


@pytest.fixture
def running(producer: Producer, site: Any) -> Iterator[Aggregator]:
    stop = threading.Event()
    aggregator = Aggregator(process_connections(), site.ZARKOV)
    thread = threading.Thread(target=aggregator.run, args=(stop.is_set,))
    thread.start()
    yield aggregator
    stop.set()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_a_notice_is_followed_by_a_refresh_and_an_announcement(running, producer, ingester, database):
    services.define(name="days", task_name=TASK, realtime=True)
    eventually(lambda: AggDef.objects.get().generation)
    ingester.receive()
    for count in (1, 2, 3):
        through = producer.send(event())
        ingester.notify(through)
        eventually(lambda wanted=count: values(database, "days").get("p/2011-07-01") == wanted)
    notices: list[dict[str, Any]] = []
    eventually(lambda: notices.extend(ingester.receive()) or (notices and notices[-1]["through"] == 3))
    assert {(n["$command"], n["name"]) for n in notices} == {("agg_complete", "days")}
    eventually(lambda: AggDef.objects.get().last_id == 3)
    eventually(lambda: sum(run.refreshes for run in Run.objects.all()) >= 3)
    assert Run.objects.count() == 1


def test_without_notices_the_watermark_is_polled(running, producer, database):
    services.define(name="days", task_name=TASK, realtime=True)
    producer.send(event())
    eventually(lambda: values(database, "days") == {"p/2011-07-01": 1})
    producer.send(event())
    eventually(lambda: values(database, "days") == {"p/2011-07-01": 2})


def test_a_failing_aggregate_is_shown_and_delays_no_other(running, producer, database):
    services.define(name="good", task_name=TASK, realtime=True)
    services.define(name="fragile", task_name="tests.support.aggregates.tasks.Fragile", realtime=True)
    producer.send(event("x", bad=True))
    eventually(lambda: values(database, "good") == {"p/2011-07-01": 1})
    bad = eventually(lambda: AggDef.objects.filter(name="fragile", failures__gt=1).first())
    assert bad.state == "failing"
    assert "bad event 1" in bad.last_error
    assert "raise ValueError" in bad.last_traceback
    producer.send(event())
    eventually(lambda: values(database, "good") == {"p/2011-07-01": 2})
    failed = Run.objects.filter(aggdef=bad)
    assert failed.count() == 1
    services.define(name="fragile", on_error="skip")
    eventually(lambda: values(database, "fragile") == {"nop": 1})
    eventually(lambda: AggDef.objects.get(name="fragile").state == "ok")


def test_paused_and_switched_off_aggregates_are_not_refreshed(running, producer, database):
    services.define(name="paused", task_name=TASK, realtime=True, enabled=False)
    services.set_task_enabled("tests.support.aggregates.tasks.Scaled", False)  # before any aggregator can refresh it
    services.define(name="off", task_name="tests.support.aggregates.tasks.Scaled", realtime=True)
    services.define(name="witness", task_name="tests.support.aggregates.tasks.TwoOutputs", realtime=True)
    producer.send(event("a"))
    eventually(lambda: values(database, "one") == {"a": 1})
    assert values(database, "paused") == values(database, "off") == {}
    services.set_enabled(AggDef.objects.get(name="paused"), True)
    services.set_task_enabled("tests.support.aggregates.tasks.Scaled", True)
    eventually(lambda: values(database, "paused") and values(database, "off"))


def test_an_aggregate_over_an_aggregate_follows_it(running, producer, database):
    services.define(name="days", task_name=TASK, realtime=True)
    services.define(name="total", task_name="tests.support.aggregates.tasks.Sum", inputs=["zagg.days"], realtime=True)
    producer.send(event(), event(project="q"))
    eventually(lambda: values(database, "total") == {"p": 1, "q": 1})
    producer.send(event())
    eventually(lambda: values(database, "total") == {"p": 2, "q": 1})


def test_an_aggregate_over_one_that_runs_elsewhere_follows_it_while_notices_keep_coming(
    running, producer, ingester, database
):
    by_hand = services.define(name="days", task_name=TASK)
    producer.send(event())
    services.run_now(by_hand)
    services.define(name="total", task_name="tests.support.aggregates.tasks.Sum", inputs=["zagg.days"], realtime=True)
    eventually(lambda: values(database, "total") == {"p": 1})
    ingester.notify(producer.send(event()))
    services.run_now(by_hand)

    def followed() -> bool:
        ingester.notify(2)
        return values(database, "total") == {"p": 2}

    eventually(followed)


def test_two_aggregators_and_the_command_at_once_count_each_event_once(running, producer, ingester, database, site):
    services.define(name="days", task_name=TASK, realtime=True)
    second = Aggregator(process_connections(), site.ZARKOV)
    stop = threading.Event()
    thread = threading.Thread(target=second.run, args=(stop.is_set,))
    thread.start()
    try:
        for _ in range(30):
            ingester.notify(producer.send(event(), event()))
        call_command("aggregate", "days", "--full")
        call_command("aggregate", "days")
        assert values(database, "days") == {"p/2011-07-01": 60}
    finally:
        stop.set()
        thread.join(timeout=60)
        assert not thread.is_alive()
    call_command("verify", "days")


def test_stop_does_not_wait_forever_for_a_refresh_that_hangs(site, database, monkeypatch):
    monkeypatch.setattr("aggregates.realtime.aggregator.STOP_WITHIN_S", 0.2)
    stuck, let_go = threading.Event(), threading.Event()

    def hang(self):
        stuck.set()
        let_go.wait()

    monkeypatch.setattr(Aggregator, "_poll", hang)
    aggregator = Aggregator(process_connections(), site.ZARKOV)
    aggregator.start()
    try:
        aggregator.step(time.monotonic())
        assert stuck.wait(60)
        assert not aggregator.stop()  # it comes back while the refresh still hangs
        assert not aggregator.stop()
    finally:
        let_go.set()


def test_stop_needs_no_answer_from_a_mongod_that_hangs(site, tmp_path: Path):
    server = Mongod(tmp_path / "home")
    try:
        config = site.ZARKOV.model_copy(update={"mongo_uri": f"{server.uri}&connectTimeoutMS=3600000"})
        held = ProcessConnections(config)
        assert held.run_context.position_store.find_by_aggdef("days") is None
        aggregator = Aggregator(held, config)
        aggregator.start()
        aggregator._aggdefs["days"] = AggDef(name="days")
        aggregator._unrecorded["days"] = [Outcome("days", "incremental", "complete")]
        server.halt()
        stopping = threading.Thread(target=lambda: (aggregator.stop(), held.close()), daemon=True)
        stopping.start()
        stopping.join(60)
        assert not stopping.is_alive()
    finally:
        server.close()


def test_a_task_that_ends_its_interpreter_is_shown_as_failing_and_stops_no_other(running, producer, database):
    services.define(name="good", task_name=TASK, realtime=True)
    services.define(name="ending", task_name="tests.support.aggregates.tasks.Ending", realtime=True)
    producer.send(event())
    ending = eventually(lambda: AggDef.objects.filter(name="ending", failures__gt=1).first())
    assert "SystemExit" in ending.last_error
    producer.send(event())
    eventually(lambda: values(database, "good") == {"p/2011-07-01": 2})


def test_a_message_or_definition_on_which_our_code_fails_stops_no_aggregate(running, producer, database, monkeypatch):
    services.define(name="odd", task_name=TASK, realtime=True)
    AggDef.objects.filter(name="odd").update(filter=["no mapping"], inputs={"no": "list"})
    services.define(name="good", task_name=TASK, realtime=True)
    running._messages.put(EventsReadable(None))  # type: ignore[arg-type]
    running._messages.put(RefreshEnded("good", Outcome))  # type: ignore[arg-type]
    producer.send(event())
    eventually(lambda: values(database, "good") == {"p/2011-07-01": 1})
    step, failures = running.step, []

    def fail(now: float) -> None:
        if len(failures) < 3:
            failures.append(now)
            raise TypeError("a fault of ours")
        step(now)

    monkeypatch.setattr(running, "step", fail)
    producer.send(event())
    eventually(lambda: values(database, "good") == {"p/2011-07-01": 2})
    assert len(failures) == 3
