"""What a first start makes: the administrator's login and a token to send events with."""

from __future__ import annotations

import secrets

from django.contrib.auth import get_user_model

from aggregates.models import AccessToken
from aggregates.sample import metric
from aggregates.web.auth.tokens import make_token
from zarkov_site.config.home import HomeFolder

ADMIN = "admin"
TOKEN_NAME = "printed by up"
STARTED = "started"
METRICS = "metrics-defined"


def is_first_start(folder: HomeFolder) -> bool:
    """Whether no start came as far as its greeting in this home folder."""
    return not (folder.root / STARTED).exists()


def note_start(folder: HomeFolder) -> None:
    """Remember that a start came as far as its greeting."""
    (folder.root / STARTED).touch()


def define_metrics(folder: HomeFolder) -> None:
    """Make the aggregates, charts and dashboard of measurements, once; who removes them has them removed."""
    note = folder.root / METRICS
    if not note.exists():
        metric.DASHBOARD.define()
        note.touch()


def admin_password(folder: HomeFolder) -> str:
    """The generated password of user `admin`, made with the user on first use.

    When someone changed it since, the file still has the generated one.
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
    """A fresh token that may send events and nothing else; the one of the start before ends."""
    AccessToken.objects.filter(name=TOKEN_NAME).delete()
    _, text = make_token(TOKEN_NAME, ["ingest"])
    return text
