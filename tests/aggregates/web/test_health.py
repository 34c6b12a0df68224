"""Health, readiness and metrics for Prometheus."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
import zmq
from django.core.wsgi import get_wsgi_application
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from aggregates.models import AggDef, Run
from aggregates.services import define
from aggregates.services.loop_thread import LoopThread
from aggregates.web import mongo
from aggregates.web.metrics import system_metrics
from ingest.store.ingester_report import report
from tests.support.waiting import eventually
from tests.support.web.configuration import configure
from tests.support.web.server import Server
from zarkov_site.config.config import REPOSITORY

pytestmark = pytest.mark.django_db


def test_a_server_is_ready_if_mongodb_and_the_database_answer(open_site: Any, client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "checks": {"mongodb": "ok", "database": "ok"}}


def test_without_mongodb_a_server_is_healthy_but_not_ready_and_answers_503(
    open_site: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(open_site, mongo_uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100")
    mongo.close()
    made = mongo.MongoClient
    monkeypatch.setattr(
        mongo, "MongoClient", lambda uri, **options: made(uri, **{**options, "serverSelectionTimeoutMS": 100})
    )
    assert client.get("/healthz").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "ok")
    for path in ("/collections", "/api/v1/series/a/", '/q?n={"c":"a"}'):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable"), path
        assert int(answer["Retry-After"]) > 0
    assert client.get("/metrics").content.decode().count("zarkov_mongodb_up 0.0") == 1


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/", "/api/v1/collections/", "/nothing", "/live/"])
def test_head_has_the_length_of_an_answer_and_no_body(open_site: Any, client: Client, path: str) -> None:
    """The test client takes bodies away itself, as gunicorn does with a warning for each; so the site is asked."""
    sent: list[Any] = []
    found = []
    for method in ("HEAD", "GET"):
        environ = client._base_environ(PATH_INFO=path, REQUEST_METHOD=method)
        answer = get_wsgi_application()(environ, lambda status, headers: sent.append((status, dict(headers))))
        found.append(b"".join(answer) if method == "HEAD" else b"")
        answer.close()
    (status, headers), (as_got, with_body) = sent
    assert (found[0], status) == (b"", as_got)
    assert headers.get("Content-Type") == with_body.get("Content-Type")
    assert path in ("/", "/metrics") or headers.get("Content-Length") == with_body.get("Content-Length")


def test_readiness_includes_the_ingester_that_receives_posted_events(open_site: Any, client: Client) -> None:
    well = {"mongodb": "ok", "database": "ok", "ingester": "ok"}
    with zmq.Context() as context, context.socket(zmq.ROUTER) as receiver:
        address = f"tcp://127.0.0.1:{receiver.bind_to_random_port('tcp://127.0.0.1')}"
        configure(open_site, ack_bind_address=address)
        open_site.ZARKOV.folder.record_addresses({"ack_bind_address": address})
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]) == (503, well | {"ingester": "DeliveryError"})
        stopped = threading.Event()
        answering = threading.Thread(target=_answer, args=[receiver, stopped])
        answering.start()
        try:
            eventually(lambda: client.get("/readyz").json()["checks"] == well, what="it answers")
        finally:
            stopped.set()
            answering.join()


def _answer(receiver: zmq.Socket[bytes], stopped: threading.Event) -> None:
    while not stopped.is_set():
        if receiver.poll(50):
            frames = receiver.recv_multipart()
            receiver.send_multipart([*frames[:2], bson.encode({"accepted": 0, "rejected": []})])


def numbers(text: str) -> dict[tuple[str, ...], float]:
    """Return the values by name and labels, as Prometheus parses them."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_report_lag_and_quarantine(
    open_site: Any, aggregate: Callable[..., None], database: Any, client: Client
) -> None:
    aggregate("a", {"x": 1}, through=3)
    database["event.1"].insert_one({"_id": 10, "type": "x"})
    database["quarantine"].insert_many([{}, {}])
    found = numbers(client.get("/metrics").content.decode())
    assert found["zarkov_newest_event_id",] == 10
    assert found["zarkov_quarantine_documents",] == 2
    assert found["zarkov_aggregate_lag_events", "a"] == 7
    assert found["zarkov_aggregate_lag_seconds", "a"] > 0
    assert found["zarkov_mongodb_up",] == 1


def test_metrics_report_the_state_of_ingesters(open_site: Any, database: Any, client: Client) -> None:
    state = {"host": "one", "pid": 7, "pending": 3, "bytes": 500, "oldest_pending_s": 1.5, "full": True}
    report(mongo.store(), "journal-1", state)
    database["ingest.verdict"].insert_one(
        {"_id": {"j": "journal-1", "s": 1}, "first": 1, "stored": 5, "duplicates": 2, "quarantined": 1}
    )
    found = numbers(client.get("/metrics").content.decode())
    journal = ("one", "journal-1", "7")  # host, journal, pid
    assert found["zarkov_events_total", "stored"] == 5
    assert found["zarkov_events_total", "duplicates"] == 2
    assert found["zarkov_events_total", "quarantined"] == 1
    assert (found["zarkov_events_pending",], found["zarkov_open_blocks",]) == (3, 0)
    assert found["zarkov_ingester_up", *journal] == 1
    assert found["zarkov_ingester_full", *journal] == 1
    assert found["zarkov_ingester_journal_bytes", *journal] == 500
    assert found["zarkov_ingester_oldest_pending_seconds", *journal] == 1.5


def test_metrics_report_the_state_of_the_engine(open_site: Any, database: Any, client: Client) -> None:
    database["zmr.job"].insert_one(
        {"_id": "j", "kind": "mapreduce", "state": "map", "created": datetime.now(UTC), "spec": {},
         "progress": {"splits": 9, "splits_done": 4}}
    )  # fmt: skip
    worker = {"name": "w", "slots": 2, "busy": 1}
    bad = {"name": "b", "slots": 1, "busy": 0, "state": "quarantined", "failures": 7, "reason": "away"}
    database["zmr.router"].insert_one(
        {"_id": "router", "name": "r", "seen": datetime.now(UTC), "workers": [worker, bad], "totals": {"error": 3}}
    )
    found = numbers(client.get("/metrics").content.decode())
    assert (found["zarkov_jobs", "map"], found["zarkov_jobs", "reduce"]) == (1, 0)
    assert found["zarkov_jobs_ended_total", "error"] == 3
    assert (found["zarkov_job_splits",], found["zarkov_job_splits_done",]) == (9, 4)
    assert (found["zarkov_router_up",], found["zarkov_workers",]) == (1, 2)
    assert (found["zarkov_workers_failing", "quarantined"], found["zarkov_workers_failing", "backing off"]) == (1, 0)
    assert (found["zarkov_worker_slots",], found["zarkov_worker_slots_busy",]) == (3, 1)


def test_metrics_report_the_state_of_definitions_and_runs(open_site: Any, client: Client) -> None:
    made = define(name="mine", task_name="tests.support.aggregates.tasks.CountByDay")
    AggDef.objects.filter(pk=made.pk).update(state="failing", failures=3, skipped_count=2)
    Run.objects.create(aggdef=made, mode="full", origin="api", state="complete", duration_s=9.0)
    Run.objects.create(aggdef=made, mode="incremental", origin="realtime", state="complete", duration_s=4, refreshes=8)
    Run.objects.create(aggdef=made, mode="full", origin="api", state="error", duration_s=1.0)
    found = numbers(client.get("/metrics").content.decode())
    assert (found["zarkov_aggregates", "failing"], found["zarkov_aggregates", "ok"]) == (1, 0)
    assert found["zarkov_aggregate_failures", "mine"] == 3
    assert found["zarkov_aggregate_skipped_events", "mine"] == 2
    assert found["zarkov_aggregate_run_seconds", "mine"] == 0.5


def test_metrics_count_requests_by_route_and_never_by_address(open_site: Any, client: Client) -> None:
    def count(*labels: str) -> float:
        return numbers(client.get("/metrics").content.decode()).get(("zarkov_http_requests_total", *labels), 0)

    series = ("GET", "/api/v1/series/<output:name>/", "404")
    before = count(*series)
    client.get("/api/v1/series/some-name/")
    assert count(*series) == before + 1
    nowhere = count("other", "unknown", "404")
    client.generic("PURGE", "/no/such/thing")
    assert count("other", "unknown", "404") == nowhere + 1
    assert "some-name" not in client.get("/metrics").content.decode()


def test_a_source_that_fails_does_not_affect_the_others(
    open_site: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise OSError("no")

    monkeypatch.setitem(system_metrics.SOURCES, "engine", broken)
    found = numbers(client.get("/metrics").content.decode())
    assert (found["zarkov_source_up", "engine"], found["zarkov_source_up", "ingest"]) == (0, 1)
    assert "zarkov_watermark_event_id" in {name for name, *_ in found}
    assert "zarkov_workers" not in {name for name, *_ in found}


def test_every_metric_is_documented(open_site: Any, client: Client) -> None:
    shown = client.get("/metrics").content.decode()
    families = {f"{f.name}_total" if f.type == "counter" else f.name for f in text_string_to_metric_families(shown)}
    text = (REPOSITORY / "docs" / "http-api.md").read_text()
    assert set(re.findall(r"`(zarkov_\w+)`", text)) == families


def test_the_workers_of_a_server_share_counts_and_the_queue_is_measured(server: Server) -> None:
    """On a real gunicorn, whose workers share a folder, and with the real broker."""
    for _ in range(3):
        assert server.request("api/v1/collections/")[0] == 200
    assert server.request("api/v1/jobs/?state=error")[0] == 200
    found = numbers(server.request("metrics")[2].decode())
    assert found["zarkov_http_requests_total", "GET", "/api/v1/collections/", "200"] >= 3
    assert found["zarkov_http_request_seconds_count", "/api/v1/collections/"] >= 3
    counts = [path.stat() for path in (server.folder.run / "requests").iterdir()]
    assert len(counts) == 2  # one for each kind of metric
    assert all(each.st_blocks * 512 >= each.st_size for each in counts)  # a full disk would end the worker at a hole
    server.django("""
        from celery import current_app
        from zarkov_site.celery import app
        for _ in range(2):
            app.send_task("tests.unknown_task", retry=False)
    """)
    found = numbers(server.request("metrics")[2].decode())
    assert found["zarkov_celery_queue_messages", "celery"] == 2


def test_readiness_includes_the_loops_of_the_process(
    open_site: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise TypeError("unhashable")

    loop = LoopThread("notice-listener", fail)
    loop.start()
    try:
        eventually(lambda: loop.fault)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["notice-listener"]) == (503, "TypeError")
    finally:
        loop.stop(5.0)
    assert client.get("/readyz").status_code == 200
