"""Whether this process lives (`/healthz`), can do its work (`/readyz`), and its counters (`/metrics`)."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from pymongo.errors import PyMongoError

from aggregates.web import overview
from aggregates.web.access import rights_of
from aggregates.web.exceptions import WebError
from aggregates.web.live import runtime
from aggregates.web.mongo import database
from aggregates.web.response import error_response, json_response


def healthz(request: HttpRequest) -> HttpResponse:
    """200 as long as the process answers; asks nobody else."""
    return json_response({"status": "ok"})


def readyz(request: HttpRequest) -> HttpResponse:
    """200 when MongoDB and Django's database answer, else 503; `checks` says which does not."""
    checks = {"mongodb": _check(_ping_mongodb), "database": _check(connection.ensure_connection)}
    ready = all(said == "ok" for said in checks.values())
    return json_response({"status": "ok" if ready else "unavailable", "checks": checks}, 200 if ready else 503)


def metrics(request: HttpRequest) -> HttpResponse:
    """Numbers in Prometheus' text format. Needs the right to read."""
    try:
        rights_of(request).require_unlimited()
    except WebError as error:
        return error_response(error)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_State())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _State:
    """Collects what MongoDB and this process know at the moment of the scrape."""

    def collect(self) -> Any:
        """Metric families."""
        hub = runtime.hub()
        channels = hub.channels()
        yield GaugeMetricFamily("zarkov_live_channels", "Questions watched in this web process", len(channels))
        yield GaugeMetricFamily("zarkov_live_viewers", "Open streams' feeds here", sum(c.viewers for c in channels))
        reads = CounterMetricFamily("zarkov_live_reads", "Reads of live questions in this web process")
        reads.add_metric([], hub.reads)
        yield reads
        up = GaugeMetricFamily("zarkov_mongodb_up", "Whether MongoDB answers this web process")
        try:
            state = overview.read(database())
        except (PyMongoError, WebError):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield GaugeMetricFamily("zarkov_newest_event_id", "Highest event id stored", state["newest_id"])
        yield GaugeMetricFamily("zarkov_quarantine_documents", "Input kept in quarantine", state["quarantine"])
        jobs = GaugeMetricFamily("zarkov_jobs", "Map-reduce jobs", labels=["state"])
        for name, count in state["jobs"].items():
            jobs.add_metric([name], count)
        yield jobs
        lag = GaugeMetricFamily("zarkov_aggregate_lag_events", "Events not yet in an aggregate", labels=["name"])
        for item in state["aggregates"]:
            lag.add_metric([item["name"]], item["lag"])
        yield lag


def _ping_mongodb() -> None:
    database().command("ping")


def _check(step: Any) -> str:
    try:
        step()
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what is to be said
        return type(error).__name__
    return "ok"
