"""Moments as people read them: the exact one, and how long ago."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.utils import timezone
from django.utils.timesince import timesince

_MINUTE_S = 60


def exact(then: datetime | None) -> str:
    """To the second, in the time zone of the configuration; a dash when there is none."""
    return f"{timezone.localtime(then):%Y-%m-%d %H:%M:%S}" if then else "–"


def moment(field: str, label: str, ordering: str | None = None) -> Callable[[Any, Any], str]:
    """What an admin shows of a field that holds a moment, under `label`."""

    @admin.display(description=label, ordering=ordering)
    def shown(self: Any, row: Any) -> str:
        return exact(getattr(row, field))

    return shown


def length(since: datetime) -> str:
    """How long it is since then, in seconds below a minute."""
    seconds = max((timezone.now() - since).total_seconds(), 0)
    return f"{seconds:.0f} s" if seconds < _MINUTE_S else timesince(since, depth=1)


def ago(then: datetime) -> str:
    """The same as an answer to "when?"."""
    return f"{length(then)} ago"
