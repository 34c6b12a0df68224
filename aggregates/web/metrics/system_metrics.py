"""Collect the state of ingesters, engine, aggregates and job queue at each scrape, as metric families.

Each source is read separately: if one fails, its families are missing and its `zarkov_source_up` is 0.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from celery import current_app
from django.db.models import Count, OuterRef, Subquery
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from pymongo.errors import PyMongoError

from aggregates.models import AggDef, Run
from aggregates.services import celery_queue
from aggregates.web import mongo, overview
from aggregates.web.exceptions import WebError
from aggregates.web.live import process_hub
from ingest.exceptions import StoreUnpreparedError
from ingest.store.ingester_report import IngesterReport, summarize
from mapreduce.engine.engine_status import engine_summary
from mapreduce.scheduler.worker_health import BACKING_OFF, QUARANTINED

log = logging.getLogger(__name__)

MAX_AGGREGATES = 1_000
Source = Callable[[], Iterable[Metric]]


class SystemCollector:
    """Collect the metrics of all sources on request of the registry."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("zarkov_source_up", "Whether this source could be read", labels=["source"])
        for name, source in SOURCES.items():
            try:
                families = list(source())
            except Exception as error:  # noqa: BLE001 - the other sources are still useful
                log.warning("metrics unavailable source=%s error=%s", name, error)
                up.add_metric([name], 0)
                continue
            up.add_metric([name], 1)
            yield from families
        yield up


def _mongodb() -> Iterator[Metric]:
    up = 1.0
    try:
        mongo.database().command("ping")
    except (PyMongoError, WebError):
        up = 0.0
    yield _gauge("zarkov_mongodb_up", "Whether MongoDB answers this web process", up)


def _streams() -> Iterator[Metric]:
    hub = process_hub.hub()
    channels = hub.channels()
    yield _gauge("zarkov_live_channels", "Queries watched by this web process", len(channels))
    yield _gauge("zarkov_live_viewers", "Viewers of these queries", sum(c.viewers for c in channels))
    yield _counter("zarkov_live_reads", "Reads of watched queries by this web process", hub.reads)


def _store() -> Iterator[Metric]:
    """Yield event counts by verdict, the watermark, and the reports of all ingesters."""
    try:
        found = summarize(mongo.store())
    except StoreUnpreparedError:
        return
    verdicts = {verdict: getattr(found, verdict) for verdict in ("stored", "duplicates", "quarantined")}
    yield _family_by_label(CounterMetricFamily, "zarkov_events", "Events received, by verdict", "verdict", verdicts)
    yield _gauge("zarkov_events_pending", "Events in journals, not in MongoDB yet", found.pending)
    yield _gauge("zarkov_watermark_event_id", "Highest event id that aggregates may read", found.watermark)
    yield _gauge("zarkov_open_blocks", "Blocks reserved and not settled", len(found.blockers))
    yield _gauge(
        "zarkov_oldest_open_block_seconds",
        "Age of the block that holds the watermark",
        max((blocker.age_s for blocker in found.blockers), default=0.0),
    )
    yield from _ingesters(found.ingesters)


def _ingesters(reports: Iterable[IngesterReport]) -> Iterator[Metric]:
    labels = ("journal", "host", "pid")
    shown: dict[str, tuple[str, Callable[[IngesterReport], float]]] = {
        "zarkov_ingester_up": ("Whether the ingester reports", lambda report: report.alive),
        "zarkov_ingester_report_age_seconds": ("Since its last report", lambda report: report.age_s),
        "zarkov_ingester_pending": ("Events in its journal, not in MongoDB yet", lambda report: report.pending),
        "zarkov_ingester_journal_bytes": ("Size of its journal", lambda report: report.journal_bytes),
        "zarkov_ingester_oldest_pending_seconds": (
            "Age of its oldest event that is not in MongoDB yet",
            lambda report: report.oldest_pending_s,
        ),
        "zarkov_ingester_full": ("Whether its journal is full, so that it accepts nothing", lambda report: report.full),
        "zarkov_ingester_received_per_second": ("Events per second lately", lambda report: report.received_per_s),
        "zarkov_ingester_stored_per_second": ("Events per second lately", lambda report: report.stored_per_s),
    }
    reports = list(reports)
    for name, (description, value) in shown.items():
        family = GaugeMetricFamily(name, description, labels=labels)
        for report in reports:
            family.add_metric([report.journal, report.host, str(report.pid)], float(value(report)))
        yield family


def _quarantine() -> Iterator[Metric]:
    count = mongo.database()["quarantine"].estimated_document_count(maxTimeMS=1000)
    yield _gauge("zarkov_quarantine_documents", "Refused input that is kept", count)


def _engine() -> Iterator[Metric]:
    found = engine_summary(mongo.database())
    yield _gauge("zarkov_router_up", "Whether a router reports", found.router is not None)
    yield _gauge("zarkov_workers", "Workers of the router", len(found.workers))
    failing = {state: len(found.in_state(state)) for state in (BACKING_OFF, QUARANTINED)}
    yield _family_by_label(
        GaugeMetricFamily, "zarkov_workers_failing", "Workers that get little work or none", "state", failing
    )
    yield _gauge("zarkov_worker_slots", "Steps that all workers can do at once", found.slots)
    yield _gauge("zarkov_worker_slots_busy", "Steps in progress", found.busy)
    yield _family_by_label(GaugeMetricFamily, "zarkov_jobs", "Map-reduce jobs that have not ended", "state", found.jobs)
    yield _family_by_label(
        CounterMetricFamily, "zarkov_jobs_ended", "Jobs ended since the router started", "state", found.ended
    )
    yield _gauge("zarkov_job_splits", "Splits of jobs that have not ended", found.splits)
    yield _gauge("zarkov_job_splits_done", "Those of them that are done", found.splits_done)
    yield _gauge("zarkov_jobs_documents_per_second", "Documents read by running jobs", found.docs_per_s)
    yield _gauge("zarkov_oldest_job_seconds", "Age of the oldest job that has not ended", found.oldest_s or 0.0)
    yield _counter("zarkov_jobs_documents", "Documents read by ended jobs since the router started", found.docs_in)
    yield _counter("zarkov_jobs_keys", "Keys written by ended jobs since the router started", found.keys_out)
    yield _counter("zarkov_jobs_attempts_lost", "Attempts of steps lost since the router started", found.attempts_lost)


def _aggregates() -> Iterator[Metric]:
    """Yield the lag of aggregates (positions in MongoDB) and their states and runs (Django's database)."""
    read = overview.read(mongo.database())
    yield _gauge("zarkov_newest_event_id", "Highest event id stored", read["newest_id"])
    lag = GaugeMetricFamily("zarkov_aggregate_lag_events", "Events not yet in an aggregate", labels=["name"])
    age = GaugeMetricFamily(
        "zarkov_aggregate_lag_seconds", "Since the time up to which an aggregate is complete", labels=["name"]
    )
    now = datetime.now(UTC)
    for item in read["aggregates"]:
        lag.add_metric([item["name"]], item["lag"])
        if complete := item["complete_through"]:
            age.add_metric([item["name"]], max(0.0, (now - datetime.fromisoformat(complete)).total_seconds()))
    yield from (lag, age)
    yield from _definitions()


def _definitions() -> Iterator[Metric]:
    counted = dict(AggDef.objects.order_by().values_list("state").annotate(Count("pk")))
    counts = {state: counted.get(state, 0) for state in AggDef.State.values}
    yield _family_by_label(GaugeMetricFamily, "zarkov_aggregates", "Aggregate definitions", "state", counts)
    last = Run.objects.filter(aggdef=OuterRef("pk"), state=Run.State.COMPLETE).order_by("-pk")
    rows = AggDef.objects.annotate(
        took_s=Subquery(last.values("duration_s")[:1]), times=Subquery(last.values("refreshes")[:1])
    ).values_list("name", "failures", "skipped_count", "took_s", "times")
    failures = GaugeMetricFamily("zarkov_aggregate_failures", "Failed runs in a row", labels=["name"])
    skipped = GaugeMetricFamily("zarkov_aggregate_skipped_events", "Events on which its task failed", labels=["name"])
    took = GaugeMetricFamily("zarkov_aggregate_run_seconds", "Duration of its last complete run", labels=["name"])
    for name, failed, left_out, took_s, times in rows[:MAX_AGGREGATES]:
        failures.add_metric([name], failed)
        skipped.add_metric([name], left_out)
        if took_s is not None:
            took.add_metric([name], took_s / max(times or 1, 1))  # an hour of realtime refreshes is one row
    yield from (failures, skipped, took)


def _queue() -> Iterator[Metric]:
    """Yield the number of messages that wait for a Celery worker, for any broker."""
    counts = {current_app.conf.task_default_queue: celery_queue.count(mongo.client())}
    name, description = "zarkov_celery_queue_messages", "Messages that wait for a worker"
    yield _family_by_label(GaugeMetricFamily, name, description, "queue", counts)


SOURCES: dict[str, Source] = {
    "mongodb": _mongodb,
    "streams": _streams,
    "ingest": _store,
    "quarantine": _quarantine,
    "engine": _engine,
    "aggregates": _aggregates,
    "queue": _queue,
}


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(name, description, value=float(value))


def _counter(name: str, description: str, value: float) -> Metric:
    return CounterMetricFamily(name, description, value=float(value))


def _family_by_label(kind: Any, name: str, description: str, label: str, values: Mapping[str, float]) -> Metric:
    family: Metric = kind(name, description, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)  # type: ignore[attr-defined]
    return family
