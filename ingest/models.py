"""Django model of quarantine, for the admin only; the entries themselves are in MongoDB."""

from __future__ import annotations

from django.db import models


class NoRows(models.Manager["QuarantineEntry"]):
    """Find nothing, where Django itself looks for a row: there is no table."""

    def get_queryset(self) -> models.QuerySet[QuarantineEntry]:
        """Return no rows."""
        return super().get_queryset().none()


class QuarantineEntry(models.Model):
    """Refused input. Has no table: it only carries the permissions and the place in the admin."""

    key = models.CharField(primary_key=True, max_length=120)
    objects = NoRows()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view", "change")
        verbose_name = "refused input"
        verbose_name_plural = "quarantine"

    def __str__(self) -> str:
        return self.key
