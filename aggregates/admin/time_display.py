"""Format moments for people: the exact time, and how long ago it was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.utils import timezone
from django.utils.timesince import timesince

from aggregates.clock import wall_clock

_MINUTE_S = 60


def exact(then: datetime | None) -> str:
    """Format a moment to the second in the configured time zone, and name the zone; a dash for None."""
    if then is None:
        return "–"
    reading = wall_clock(timezone.get_current_timezone()).reading(then)
    return f"{reading.isoformat(' ', 'seconds')} {timezone.get_current_timezone_name()}"


def moment(field: str, label: str, ordering: str | None = None) -> Callable[[Any, Any], str]:
    """Return an admin display function that shows the moment in `field` under `label`."""

    @admin.display(description=label, ordering=ordering)
    def shown(self: Any, row: Any) -> str:
        return exact(getattr(row, field))

    return shown


def length(since: datetime) -> str:
    """Format the time since then, in seconds below a minute."""
    seconds = max((timezone.now() - since).total_seconds(), 0)
    return f"{seconds:.0f} s" if seconds < _MINUTE_S else timesince(since, depth=1)


def ago(then: datetime) -> str:
    return f"{length(then)} ago"
