"""The Celery app that runs scheduled aggregates.

Its broker is the MongoDB already in use (polled), unless `CELERY_BROKER_URL` names Redis or RabbitMQ. The AggDefs
record which runs are due, not the broker: a lost message costs time, never a run.
"""

from __future__ import annotations

import functools
import os
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from celery import Celery, signals
from django.conf import settings

from ingest.management.command import set_up_logging
from ingest.metrics import Zibrato, measure_tasks, own_metrics
from zarkov_site.exceptions import HomeError
from zarkov_site.processes import celery_transport, stop_limit
from zarkov_site.processes.process import end_with_parent

end_with_parent()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "zarkov_site.settings")

BROKER_DATABASE_SUFFIX = "_celery"
POLLING_INTERVAL_S = 0.2
BROKER_TIMEOUT_MS = 2_000  # a worker cannot stop while it waits for MongoDB; it tries again afterwards


def broker_url(mongo_address: str, database: str) -> str:
    """Return `mongo_address` with a separate database for Celery, in the form that kombu reads."""
    parts = urlsplit(mongo_address)
    options = parts.query
    if parts.username and "authSource" not in options:
        options = "&".join(filter(None, [options, f"authSource={parts.path.strip('/') or 'admin'}"]))
    for name in ("socketTimeoutMS", "connectTimeoutMS", "serverSelectionTimeoutMS"):
        if name.lower() not in options.lower():
            options = "&".join(filter(None, [options, f"{name}={BROKER_TIMEOUT_MS}"]))
    return urlunsplit(parts._replace(path=f"/{database}{BROKER_DATABASE_SUFFIX}", query=options))


def _own_broker_url() -> str:
    return broker_url(settings.ZARKOV.mongo_address(), settings.ZARKOV.mongo_database)


def _current_broker_url() -> str:
    """Return the address of the MongoDB in use; the configured one while no local mongod runs."""
    try:
        return _own_broker_url()
    except HomeError:
        return str(app.conf.broker_url)


def _configuration() -> dict[str, Any]:
    config = settings.ZARKOV
    outside = os.environ.get("CELERY_BROKER_URL")
    return {
        "broker_url": outside or _own_broker_url(),
        "broker_transport_options": {} if outside else {"polling_interval": POLLING_INTERVAL_S},
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_acks_late": True,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": bool(outside),
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
        "beat_scheduler": "django_celery_beat.schedulers:DatabaseScheduler",
        "beat_max_loop_interval": 5,
        "timezone": config.time_zone,
        "enable_utc": True,
    }


celery_transport.install(None if os.environ.get("CELERY_BROKER_URL") else _current_broker_url)
app = Celery("zarkov", fixups=["celery.fixups.django:fixup"])
app.set_default()  # for every thread and greenlet: without it, sending a task would look for RabbitMQ
app.add_defaults(_configuration)
app.autodiscover_tasks(related_name="celery_tasks")


def _configure_logging(**_: Any) -> None:
    set_up_logging(verbose=settings.ZARKOV.verbose)


def _measure_tasks(**_: Any) -> None:
    config = settings.ZARKOV
    if config.metrics.own_interval_s:
        address = functools.partial(config.connect_address, "metrics.publishers")
        measure_tasks(Zibrato(**own_metrics.options("celery", address, config.metrics.own_interval_s)))


def _start_alerts(**_: Any) -> None:
    """Run the alert loop in the worker's main process, so that long tasks do not delay it."""
    from aggregates.alerts.loop import AlertLoop

    loop = AlertLoop()
    signals.worker_shutting_down.connect(lambda **_: loop.stop(0.0), weak=False)
    loop.start()


_stop_limit = stop_limit.StopLimit(
    lambda: stop_limit.mongodb_answers(settings.ZARKOV.mongo_address), stop_limit.end_process
)
signals.worker_shutting_down.connect(_stop_limit.begin, weak=False)
signals.worker_init.connect(_measure_tasks)
signals.worker_ready.connect(_start_alerts)
signals.setup_logging.connect(_configure_logging)
