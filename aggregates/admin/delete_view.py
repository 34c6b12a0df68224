"""Delete aggregates in the admin: list what is deleted with them first, and show refusals as messages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from aggregates import services
from aggregates.exceptions import AggregateError
from aggregates.models import AggDef, Run


class DeletionAdminMixin(admin.ModelAdmin):
    """The part of `AggDefAdmin` that deletes, through `services.remove`: either all chosen aggregates or none.

    The permission to delete an aggregate includes its history.
    """

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return the outputs and numbers of runs to be deleted, with the aggregates that read them as protected."""
        chosen = list(objs)
        runs = Run.objects.filter(aggdef__in=chosen).values_list("aggdef").annotate(Count("pk")).order_by()
        history = dict(runs)
        lines: list[Any] = []
        for aggdef in chosen:
            outputs = ", ".join(f"zagg.{name}" for name in aggdef.outputs) or "none yet"
            lines += [_link(aggdef), [f"Results: {outputs}", f"Runs of its history: {history.get(aggdef.pk, 0)}"]]
        counts = {"aggregates": len(chosen), "runs": sum(history.values())}
        lacking = set() if self.has_delete_permission(request) else {self.opts.verbose_name}
        return lines, counts, lacking, [_link(reader) for reader in AggDef.objects.readers_of(*chosen)]

    def log_deletions(self, request: HttpRequest, queryset: Any) -> list[LogEntry]:
        """Log nothing yet, since the deletion can still be refused; `delete_queryset` logs it when done."""
        return []

    def delete_model(self, request: HttpRequest, obj: AggDef) -> None:
        """Delete an aggregate with its outputs, position and schedule."""
        self.delete_queryset(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete aggregates with their outputs, positions and schedules, and log it."""
        gone: Any = list(queryset)
        services.remove(*gone)
        super().log_deletions(request, gone)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Confirm and delete one aggregate; show a message if it cannot be deleted now."""
        try:
            return super().delete_view(request, object_id, extra_context)
        except AggregateError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(reverse("admin:aggregates_aggdef_change", args=[object_id]))

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse | None:
        """Perform an action on several aggregates; show a message if it fails."""
        try:
            return super().response_action(request, *args, **kwargs)
        except AggregateError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())


def _link(aggdef: AggDef) -> SafeString:
    return format_html(
        'Aggregate: <a href="{}">{}</a>', reverse("admin:aggregates_aggdef_change", args=[aggdef.pk]), aggdef.name
    )
