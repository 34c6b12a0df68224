"""Read the facts that alerts depend on, for the aggregates that may need one or have one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from django.db.models import Q

from aggregates.alerts.condition import AggregateFacts
from aggregates.models import AggDef
from aggregates.process_connections import process_connections
from aggregates.run.watermark import readable_events

log = logging.getLogger(__name__)


def suspects(now: datetime, lag_s: float) -> Iterator[tuple[AggDef, AggregateFacts]]:
    """Yield each aggregate that fails, lags, is wrong, or was reported as such; lags only if `lag_s` is not 0."""
    readable = _readable() if lag_s else None
    wanted = Q(state__in=(AggDef.State.FAILING, AggDef.State.FULL_DUE)) | Q(verified_ok=False) | ~Q(raised_alerts=[])
    if readable is not None:
        with suppress(OverflowError):  # a lag that long cannot be
            late = now - timedelta(seconds=lag_s)
            wanted |= Q(enabled=True, realtime=True, last_id__lt=readable, complete_through__lt=late)
    for aggdef in AggDef.objects.filter(wanted).iterator(chunk_size=500):
        yield aggdef, _facts(aggdef, readable)


def _readable() -> int | None:
    """Return the highest readable event id; None if it cannot be determined now."""
    try:
        return int(readable_events(process_connections().run_context.store).through)
    except Exception as error:  # noqa: BLE001 - failures and verifications are reported even without MongoDB
        log.info("lags not checked error=%s", error)
        return None


def _facts(aggdef: AggDef, readable: int | None) -> AggregateFacts:
    of_events = aggdef.last_id is not None and aggdef.inputs == ["event"]
    return AggregateFacts(
        name=aggdef.name,
        enabled=aggdef.enabled,
        realtime=aggdef.realtime,
        failing=aggdef.state == AggDef.State.FAILING,
        failures=aggdef.failures,
        full_due=aggdef.full_due if aggdef.state == AggDef.State.FULL_DUE else "",
        last_error=aggdef.last_error,
        behind=max(readable - aggdef.last_id, 0) if readable is not None and of_events and aggdef.last_id else 0,
        complete_through=aggdef.complete_through,
        verified_ok=aggdef.verified_ok,
        verification=aggdef.verification,
    )
