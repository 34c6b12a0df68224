"""Grant access to the web: tokens with scopes, and signed links that embed charts in other pages."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone
from knox.models import AbstractAuthToken, AuthTokenManager

from aggregates.models.chart import Chart, Dashboard

SCOPES = ("ingest", "read", "operate")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_ORIGIN = re.compile(rf"https?://(\*\.{_LABEL}\.)?{_LABEL}(\.{_LABEL})*(:(?P<port>[0-9]{{1,5}}))?\Z")


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]


class AccessToken(AbstractAuthToken):  # type: ignore[misc]
    """A token for programs. Only its hash is stored; the token itself is shown once, on creation."""

    name = models.CharField(max_length=120, help_text="What it is for, such as: web shop.")
    scopes = models.CharField(
        max_length=40,
        default="read",
        help_text="ingest (send events), read, operate (run and change aggregates), with commas between them.",
    )
    collections = models.CharField(
        max_length=1000,
        blank=True,
        help_text="Which aggregates it may read, such as: commits_by_day, shop.* . Empty = all.",
    )

    objects = AuthTokenManager()

    class Meta:
        ordering = ["-created"]
        verbose_name = "token"

    def __str__(self) -> str:
        return f"{self.name} ({self.scopes})"

    def scope_list(self) -> list[str]:
        return _words(self.scopes)

    def collection_list(self) -> list[str]:
        """Return the patterns of the aggregates that it can read; empty means no limit."""
        return _words(self.collections)

    def clean(self) -> None:
        """Reject unknown scopes, and limits that cannot be enforced."""
        check_scopes(self.scope_list(), self.collection_list())


def check_scopes(scopes: list[str], collections: list[str]) -> None:
    """Raise `ValidationError` for unknown or missing scopes, or one that cannot be limited to `collections`."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise ValidationError(
            {"scopes": f"scopes must be some of {', '.join(SCOPES)}, not {', '.join(unknown) or 'empty'}"}
        )
    if "operate" in scopes and collections:
        raise ValidationError(
            {"scopes": "operate: a token that is limited to some aggregates can only read and ingest"}
        )


def new_link_key() -> str:
    return secrets.token_urlsafe(12)


class EmbedLink(models.Model):
    """A link that embeds one chart or dashboard in other pages, without a login."""

    key = models.CharField(max_length=32, unique=True, default=new_link_key, editable=False)
    name = models.CharField(max_length=120, help_text="Where it is used, such as: wiki page of the shop team.")
    chart = models.ForeignKey(Chart, on_delete=models.CASCADE, null=True, blank=True, related_name="links")
    dashboard = models.ForeignKey(Dashboard, on_delete=models.CASCADE, null=True, blank=True, related_name="links")
    prefix = models.CharField(
        "locked prefix",
        max_length=200,
        blank=True,
        help_text="Only keys below this are shown, whatever is asked, such as customer-7/ .",
    )
    origins = models.CharField(
        max_length=1000,
        blank=True,
        help_text="Sites whose pages may show it, such as https://wiki.example.org . Empty = this site only.",
    )
    range_adjustable = models.BooleanField(default=True, help_text="Whether the viewer may choose another range.")
    expires = models.DateTimeField(null=True, blank=True, help_text="Empty = never.")
    revoked = models.BooleanField(default=False, help_text="A revoked link shows nothing any more, at once.")
    created = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    class Meta:
        ordering = ["-created"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(chart__isnull=False, dashboard__isnull=True)
                | models.Q(chart__isnull=True, dashboard__isnull=False),
                name="embed_link_shows_one_thing",
                violation_error_message="Choose a chart or a dashboard, one of the two.",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        for origin in self.origin_list():
            match = _ORIGIN.match(origin)
            if match is None or not 1 <= int(match["port"] or 80) <= 65535:
                raise ValidationError(
                    {"origins": f"{origin!r} is not an origin: write scheme and host, such as https://wiki.example.org"}
                )

    @property
    def locked_prefix(self) -> str:
        """Return the prefix as whole parts of keys: customer-7 never shows customer-70. Empty means everything."""
        return self.prefix if not self.prefix or self.prefix.endswith("/") else f"{self.prefix}/"

    def origin_list(self) -> list[str]:
        return _words(self.origins)

    def works(self) -> bool:
        """Return True if it is neither revoked nor expired."""
        return not self.revoked and (self.expires is None or self.expires > timezone.now())

    def charts(self) -> list[Chart]:
        """Return the charts that it shows, in order."""
        if self.chart is not None:
            return [self.chart]
        return self.dashboard.ordered_charts() if self.dashboard is not None else []

    def title(self) -> str:
        shown: Any = self.chart or self.dashboard
        return str(shown.title)


class LoginCount(models.Model):
    """Count the wrong passwords of one client in one minute, for all web processes together."""

    key = models.CharField(primary_key=True, max_length=64)
    count = models.PositiveIntegerField(default=0)
    until = models.DateTimeField(db_index=True, help_text="Deleted after this moment.")

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"

    @staticmethod
    def add(keys: Collection[str], by: int, until: datetime) -> dict[str, int]:
        """Add `by` to the counts of these keys and return the new ones; a key that is new starts at 0.

        Counts of simultaneous calls are all different, whatever process makes them.
        """
        with transaction.atomic():
            LoginCount.objects.bulk_create(
                [LoginCount(key=key, until=until) for key in sorted(keys)], ignore_conflicts=True
            )
            found = LoginCount.objects.filter(key__in=keys)
            list(found.select_for_update().order_by("key"))  # in one order, so that no two wait for each other
            found.update(count=Greatest(F("count") + by, 0))
            return dict(found.values_list("key", "count"))

    @staticmethod
    def delete_old(now: datetime) -> None:
        """Delete the counts of past minutes."""
        LoginCount.objects.filter(until__lt=now).delete()
