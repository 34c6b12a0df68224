"""Fixtures for pages of the admin: an aggregate, and runs that are performed at once."""

from __future__ import annotations

from typing import Any

import pytest

from aggregates import services
from aggregates.models import AggDef
from aggregates.process_connections import process_connections
from tests.support.aggregates.event_source import Producer, event

TASK = "tests.support.aggregates.tasks.CountByDay"


@pytest.fixture
def producer(site: Any, monkeypatch) -> Producer:
    monkeypatch.setattr("aggregates.services.request.enqueue", lambda run: services.perform_run(run))
    site.STORAGES = {
        **site.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    return Producer(process_connections().run_context.store)


@pytest.fixture
def days(producer: Producer) -> AggDef:
    producer.send(event(), event(project="q"))
    return services.define(name="days", task_name=TASK)
