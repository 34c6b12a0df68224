"""Alerts in the admin, read-only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from aggregates.admin.rows import ShortListMixin
from aggregates.admin.sparkline import state_label
from aggregates.models import Alert
from aggregates.models.aggdef import LONG_FIELDS


@admin.register(Alert)
class AlertAdmin(ShortListMixin):
    """Alerts that were sent, are waiting, or were abandoned after too many attempts."""

    list_display = ("created", "aggdef", "kind", "event", "channel", "status", "attempts", "text")
    list_display_links = ("created",)
    list_filter = ("kind", "event", "channel")
    search_fields = ("=aggdef__name",)
    search_help_text = "Name of an aggregate"
    list_select_related = ("aggdef",)
    long_fields = tuple(f"aggdef__{name}" for name in LONG_FIELDS)
    list_per_page = 50
    show_full_result_count = False

    class Media:
        css = {"all": ("zarkov-admin/admin.css",)}

    @admin.display(description="state")
    def status(self, alert: Alert) -> SafeString:
        if alert.sent:
            return state_label("ok", "sent")
        return state_label("error", "given up") if alert.given_up else state_label("planned", "waits")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: alerts are created by changes of state."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
