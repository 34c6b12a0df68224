"""Report whether this process is alive (`/healthz`) and ready (`/readyz`), and all metrics (`/metrics`)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from aggregates.services.loop_thread import loop_faults
from aggregates.web.auth.access import rights_of
from aggregates.web.metrics import request_metrics
from aggregates.web.metrics.system_metrics import SystemCollector
from aggregates.web.mongo import database
from aggregates.web.response import json_errors, json_response
from ingest.client.health_probe import receiver_fault
from ingest.exceptions import DeliveryError

RECEIVER_WITHIN_S = 2.0


def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 as long as the process runs, without checking anything else."""
    return json_response({"status": "ok"})


def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if MongoDB, Django's database and the ingester behind this API respond, else 503.

    `checks` shows which one does not. The ingester is not checked if none was ever started on this machine; the loops
    of this process, such as the one that receives notices, are checked once they run.
    """
    checks = {"mongodb": _check(_ping_mongodb), "database": _check(connection.ensure_connection)}
    if address := settings.ZARKOV.running_address("ack_bind_address"):
        checks["ingester"] = _check(lambda: _probe_ingester(address))
    checks |= {name: fault or "ok" for name, fault in loop_faults().items()}
    ready = all(result == "ok" for result in checks.values())
    return json_response({"status": "ok" if ready else "unavailable", "checks": checks}, 200 if ready else 503)


@json_errors
def metrics(request: HttpRequest) -> HttpResponse:
    """Return metrics in Prometheus' text format. Needs the right to read."""
    rights_of(request).require_unlimited()
    registry = request_metrics.registry()
    registry.register(SystemCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _ping_mongodb() -> None:
    database().command("ping")


def _probe_ingester(address: str) -> None:
    if fault := receiver_fault(address, settings.ZARKOV.client_keys(), RECEIVER_WITHIN_S):
        raise DeliveryError(fault)


def _check(step: Any) -> str:
    try:
        step()
    except Exception as error:  # noqa: BLE001 - any error is the result of the check
        return type(error).__name__
    return "ok"
