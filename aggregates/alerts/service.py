"""Record changes of state as alerts and send them. Safe to call often and from several processes at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from aggregates.alerts.channel import AlertMessage, Send, configured_channels
from aggregates.alerts.condition import KINDS, changes, conditions
from aggregates.alerts.facts import suspects
from aggregates.exceptions import AlertError
from aggregates.models import AggDef, Alert

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 600.0
GIVE_UP_S = 24 * 3600.0
CLAIM_S = 60.0  # longer than one attempt can take
KEPT_S = 30 * 24 * 3600.0
AT_ONCE = 20  # most messages per call


def record_changes(now: datetime | None = None) -> int:
    """Compare every aggregate with what was reported of it, and record the changes; return how many.

    Each change is recorded once even if several processes watch: by the one whose conditional update of
    `AggDef.raised_alerts` succeeds.
    """
    senders = configured_channels()
    if not senders:
        return 0
    now = now or timezone.now()
    lag_s = settings.ZARKOV.notify.lag_s
    noted = 0
    for aggdef, facts in suspects(now, lag_s):
        try:
            noted += _record_changes(aggdef, conditions(facts, now, lag_s), senders, now)
        except Exception:
            log.exception("changes of an aggregate not recorded aggregate=%s", aggdef.name)
    return noted


def _record_changes(aggdef: AggDef, found: dict[str, str], channels: Iterable[str], now: datetime) -> int:
    new = changes(aggdef.raised_alerts, found, aggdef.name)
    if not new:
        return 0
    with transaction.atomic():
        unchanged = AggDef.objects.filter(pk=aggdef.pk, raised_alerts=aggdef.raised_alerts)
        if not unchanged.update(raised_alerts=[kind for kind in KINDS if kind in found]):
            return 0
        Alert.objects.bulk_create(
            Alert(
                aggdef=aggdef,
                kind=change.kind,
                event=Alert.Event.RAISED if change.raised else Alert.Event.RECOVERED,
                text=change.text,
                channel=channel,
                not_before=now,
            )
            for change in new
            for channel in channels
        )
    return len(new)


def deliver(now: datetime | None = None) -> int:
    """Send pending messages and return how many were sent. Failed ones are retried after growing pauses, for a day.

    A channel that fails is skipped until the next call, so that a call takes at most one time-out per channel.
    """
    senders = configured_channels()
    now = now or timezone.now()
    waiting = Alert.objects.filter(sent__isnull=True, given_up=False, not_before__lte=now).order_by("not_before", "pk")
    sent = 0
    failed: set[str] = set()
    for alert in waiting.select_related("aggdef")[:AT_ONCE]:
        if alert.channel in failed or not _claim(alert, now):
            continue
        if _send(alert, senders):
            sent += 1
        else:
            failed.add(alert.channel)
    Alert.objects.filter(created__lt=now - timedelta(seconds=KEPT_S)).delete()
    return sent


def _claim(alert: Alert, now: datetime) -> bool:
    """Return True if this process may send the alert now."""
    mine = Alert.objects.filter(pk=alert.pk, sent__isnull=True, not_before=alert.not_before)
    return bool(mine.update(not_before=now + timedelta(seconds=CLAIM_S), attempts=F("attempts") + 1))


def _send(alert: Alert, senders: Mapping[str, Send]) -> bool:
    this = Alert.objects.filter(pk=alert.pk)
    send = senders.get(alert.channel)
    if send is None:
        this.update(given_up=True, last_error=f"{alert.channel} is no longer configured")
        return False
    try:
        send(_message(alert))
    except Exception as error:
        known = isinstance(error, AlertError)
        log.warning(
            "alert not sent alert=%s aggregate=%s error=%s",
            alert.uid,
            alert.aggdef.name,
            error,
            exc_info=None if known else error,
        )
        this.update(**_later(alert, str(error)))
        return False
    this.update(sent=timezone.now(), last_error="")
    return True


def _later(alert: Alert, error: str) -> dict[str, Any]:
    now = timezone.now()
    pause_s = min(FIRST_PAUSE_S * 2.0 ** min(alert.attempts, 20), LONGEST_PAUSE_S)
    over = (now - alert.created).total_seconds() > GIVE_UP_S
    return {"not_before": now + timedelta(seconds=pause_s), "given_up": over, "last_error": error[:2000]}


def _message(alert: Alert) -> AlertMessage:
    public_url = settings.ZARKOV.public_url
    url = f"{public_url}/admin/aggregates/aggdef/{alert.aggdef.pk}/change/" if public_url else ""
    at = alert.created.isoformat()
    return AlertMessage(alert.uid, alert.aggdef.name, alert.kind, alert.event, alert.text, at, url)
