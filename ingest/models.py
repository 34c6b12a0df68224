"""Django model of quarantine, for the admin only; the entries themselves are in MongoDB."""

from __future__ import annotations

from django.db import models


class QuarantineEntry(models.Model):
    """Refused input. Has no table: it only carries the permissions and the place in the admin."""

    key = models.CharField(primary_key=True, max_length=120)

    class Meta:
        managed = False
        default_permissions = ("view", "change")
        verbose_name = "refused input"
        verbose_name_plural = "quarantine"

    def __str__(self) -> str:
        return self.key
