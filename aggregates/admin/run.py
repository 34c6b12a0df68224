"""The history of runs in the admin, read-only except for cancelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pymongo
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from aggregates import services
from aggregates.admin.permission import OperatePermissionMixin
from aggregates.admin.rows import ShortListMixin, in_turns
from aggregates.admin.sparkline import state_label
from aggregates.admin.time_display import exact, length, moment
from aggregates.exceptions import AggregateError
from aggregates.models import AggDef, Run
from aggregates.models.run import LONG_FIELDS
from aggregates.process_connections import process_connections
from aggregates.services import celery_queue

OPEN = (Run.State.PLANNED, Run.State.RUNNING)
SHOWN = 100
RESULTS_SHOWN = 25
BROKER_S = 3.0  # timeout for the broker


@admin.register(Run)
class RunAdmin(OperatePermissionMixin, ShortListMixin):
    """Runs: what each one read, wrote and cost, and why it failed."""

    list_display = ("requested", "aggregate", "mode", "status", "took", "read", "written", "summary")
    list_display_links = ("requested",)
    list_filter = ("state", "mode", "origin")
    search_fields = ("=aggdef__name", "=uid")
    search_help_text = "Name of an aggregate, or uid of a run"
    list_select_related = ("aggdef",)
    long_fields = LONG_FIELDS
    list_per_page = 50
    show_full_result_count = False
    ordering = ("-pk",)
    actions = ("cancel",)
    fieldsets = (
        ("Request", {"fields": ("owner", "mode", "origin", "span", "requested", "uid")}),
        ("Result", {"fields": ("status", "progress", "summary", "error", "trace")}),
        (
            "Range and cost",
            {
                "fields": (
                    "start_id", "through", "generation", "docs_in", "keys", "skipped_count", "refreshes", "took",
                    "cost", "started_at", "ended", "performed_by", "code", "jobs",
                )
            },
        ),
    )  # fmt: skip

    class Media:
        css = {"all": ("zarkov-admin/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: runs are started on the page of their aggregate."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: old runs are deleted automatically, others with their aggregate."""
        return False

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Return the runs of the aggregate with this name, else the run with this uid; each uses an index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        aggdef = AggDef.objects.filter(name=term).only("pk").first()
        return (queryset.filter(aggdef=aggdef) if aggdef else queryset.filter(uid=term)), False

    def get_urls(self) -> list[URLPattern]:
        return [
            path("queue/", self.admin_site.admin_view(self.queue_view), name="aggregates_run_queue"),
            *super().get_urls(),
        ]

    def queue_view(self, request: HttpRequest) -> HttpResponse:
        """Show the open runs of Celery's workers, the waiting messages, and the last scheduled runs."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        runs = Run.objects.select_related("aggdef").defer(*LONG_FIELDS)
        context = {
            **self.admin_site.each_context(request),
            "title": "Queue of runs",
            "opts": self.opts,
            "media": self.media,
            "running": runs.filter(state=Run.State.RUNNING).order_by("started")[:SHOWN],
            "ended": runs.filter(origin=Run.Origin.SCHEDULE).exclude(state__in=OPEN).order_by("-pk")[:RESULTS_SHOWN],
        }
        try:
            with pymongo.timeout(BROKER_S):
                context["waiting"] = celery_queue.lines(process_connections().database.client)
        except Exception as error:  # noqa: BLE001 - each kind of broker raises its own errors
            context["failure"] = f"{type(error).__name__}: {error}"
        return TemplateResponse(request, "admin/aggregates/run/queue.html", context)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        changelist.title = "History of runs"
        return changelist

    requested = moment("created", "requested", "pk")
    started_at = moment("started", "started")
    ended = moment("finished", "ended")

    @admin.display(description="aggregate")
    def aggregate(self, run: Run) -> str:
        return run.aggdef.name

    @admin.display(description="aggregate")
    def owner(self, run: Run) -> SafeString:
        where = reverse("admin:aggregates_aggdef_change", args=[run.aggdef_id])
        return format_html('<a href="{}">{}</a>', where, run.aggdef.name)

    @admin.display(description="range")
    def span(self, run: Run) -> str:
        return f"{exact(run.since)} to {exact(run.until)}" if run.since else "everything, or everything new"

    @admin.display(description="performed by")
    def performed_by(self, run: Run) -> str:
        return run.holder_label or "–"

    @admin.display(description="state", ordering="state")
    def status(self, run: Run) -> SafeString:
        return state_label(run.state, run.get_state_display())

    @admin.display(description="events")
    def read(self, run: Run) -> int:
        return run.docs_in

    @admin.display(description="keys")
    def written(self, run: Run) -> int:
        return run.keys

    @admin.display(description="duration")
    def took(self, run: Run) -> str:
        """Return the duration; for an hour of realtime refreshes, their sum."""
        if run.state == Run.State.RUNNING and run.started:
            return f"{length(run.started)} so far"
        return f"{run.duration_s:.2f} s"

    @admin.display(description="summary")
    def summary(self, run: Run) -> str:
        return run.summary

    @admin.display(description="traceback")
    def trace(self, run: Run) -> SafeString | str:
        return format_html("<pre>{}</pre>", run.traceback) if run.traceback else "none"

    @admin.display(description="CPU time")
    def cost(self, run: Run) -> str:
        return f"{run.cpu_s:.2f} s in the process that performed it, beside what the workers spent on its jobs"

    @admin.display(description="progress")
    def progress(self, run: Run) -> SafeString | str:
        """Return the state and progress of the jobs of an open run."""
        if not run.is_open:
            return "ended"
        found = [(_job_link(job.job_id), job.state, _done(job.progress)) for job in services.jobs_under_way(run)]
        return format_html_join(mark_safe("<br>"), "{}: {}{}", found) or "no job at the moment"

    @admin.display(description="jobs")
    def jobs(self, run: Run) -> SafeString | str:
        return format_html_join(", ", "{}", [(_job_link(job_id),) for job_id in run.job_ids]) or "none"

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Cancel the runs; those that cannot be cancelled become messages."""
        for run in in_turns(queryset.select_related("aggdef")):
            try:
                services.cancel_run(run)
            except AggregateError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, f"run {run.uid} of {run.aggdef} is being cancelled", messages.SUCCESS)


def _job_link(job_id: str) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse("api:job", args=[job_id]), job_id)


def _done(progress: Mapping[str, Any]) -> str:
    parts = [
        f", {progress.get(f'{what}_done', 0)} of {progress[what]} {what}"
        for what in ("splits", "reduces")
        if progress.get(what)
    ]
    return "".join(parts) + f", {progress.get('docs_in', 0)} events read"
