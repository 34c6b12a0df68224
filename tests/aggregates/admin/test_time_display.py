"""Moments in the admin: in the zone of the site, which they name, to the ends of time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.utils import timezone

from aggregates.admin.time_display import exact


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (datetime(2011, 7, 1, 12, tzinfo=UTC), "2011-07-01 08:00:00 America/New_York"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01 00:00:00 America/New_York"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31 18:59:59 America/New_York"),
        (None, "–"),
    ],
)
def test_every_moment_can_be_shown(moment: datetime | None, shown: str) -> None:
    with timezone.override("America/New_York"):
        assert exact(moment) == shown
