"""Create what a new home folder needs: the administrator's login, a token for events, and aggregates of metrics."""

from __future__ import annotations

import secrets

from django.contrib.auth import get_user_model

from aggregates.models import AccessToken
from aggregates.sample import metric_charts
from aggregates.web.auth.token_creation import make_token
from zarkov_site.config.home import HomeFolder

ADMIN = "admin"
TOKEN_NAME = "printed by up"
STARTED = "started"
METRICS = "metrics-defined"


def is_first_start(folder: HomeFolder) -> bool:
    """Return True if no start in this home folder was ever completed."""
    return not (folder.root / STARTED).exists()


def record_start(folder: HomeFolder) -> None:
    """Record that a start has completed."""
    (folder.root / STARTED).touch()


def define_metrics(folder: HomeFolder) -> None:
    """Create the aggregates, charts and dashboard for metrics once, and not again if they were deleted."""
    marker = folder.root / METRICS
    if not marker.exists():
        metric_charts.DASHBOARD.define()
        marker.touch()


def admin_password(folder: HomeFolder) -> str:
    """Return the generated password of user `admin`; create both on first use.

    If the user has changed the password, the file still has the generated one.
    """
    users = get_user_model().objects
    if folder.admin_password.exists() and users.filter(username=ADMIN).exists():
        return folder.admin_password.read_text(encoding="utf-8").strip()
    password = secrets.token_urlsafe(12)
    user, _ = users.get_or_create(username=ADMIN, defaults={"is_staff": True, "is_superuser": True})
    user.set_password(password)
    user.save()
    folder.write(folder.admin_password, password + "\n")
    return password


def ingest_token() -> str:
    """Create a token that can only send events, and revoke the one of the previous start."""
    AccessToken.objects.filter(name=TOKEN_NAME).delete()
    _, text = make_token(TOKEN_NAME, ["ingest"])
    return text
