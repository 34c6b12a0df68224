"""Health, readiness and numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from aggregates.web import mongo
from tests.aggregates.web.conftest import configure

pytestmark = pytest.mark.django_db


def test_a_process_that_answers_is_healthy_and_one_whose_parts_answer_is_ready(open_site: Any, client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "checks": {"mongodb": "ok", "database": "ok"}}


def test_without_mongodb_it_is_healthy_and_not_ready_and_says_503(
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


def test_metrics_are_prometheus_and_say_lag_and_quarantine(
    open_site: Any, aggregate: Callable[..., None], database: Any, client: Client
) -> None:
    aggregate("a", {"x": 1}, through=3)
    database["event.1"].insert_one({"_id": 10, "type": "x"})
    database["quarantine"].insert_many([{}, {}])
    text = client.get("/metrics").content.decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["zarkov_newest_event_id",] == 10
    assert found["zarkov_quarantine_documents",] == 2
    assert found["zarkov_aggregate_lag_events", "a"] == 7
    assert found["zarkov_mongodb_up",] == 1
