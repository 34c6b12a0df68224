"""Aggregate definitions in the admin: list, form, actions, preview and rebuild."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from pymongo.errors import PyMongoError

from aggregates import services
from aggregates.admin.delete_view import DeletionAdminMixin
from aggregates.admin.form_field import ExactFloatField, ExactIntegerField, ExactJSONField
from aggregates.admin.permission import OperatePermissionMixin
from aggregates.admin.rows import ShortListMixin, in_turns
from aggregates.admin.sparkline import sparkline, state_label
from aggregates.admin.time_display import ago, exact, length, moment
from aggregates.admin.time_field import TimeField
from aggregates.exceptions import AggregateError
from aggregates.models import AggDef, Run
from aggregates.models.aggdef import LONG_FIELDS, AggDefQuerySet
from aggregates.process_connections import process_connections
from aggregates.task_code.registry import discover
from aggregates.task_modules import task_modules

SPARK_RUNS = 24
COPY_TRIES = 1000
VERIFICATION_MARKS = {True: ("ok", "equal"), False: ("failing", "differs"), None: ("new", "not possible")}


class AggDefForm(forms.ModelForm):
    """The form of a definition, with the registered tasks as suggestions."""

    class Meta:
        model = AggDef
        fields = "__all__"
        widgets = {
            "task_name": forms.TextInput(attrs={"list": "registered-tasks", "size": 70}),
            "description": forms.Textarea(attrs={"rows": 2}),
            "filter": forms.Textarea(attrs={"rows": 3, "cols": 70, "spellcheck": "false"}),
            "params": forms.Textarea(attrs={"rows": 2, "cols": 70, "spellcheck": "false"}),
            "inputs": forms.TextInput(attrs={"size": 70, "spellcheck": "false"}),
        }
        field_classes = {
            **dict.fromkeys(("filter", "params", "inputs"), ExactJSONField),
            "interval_s": ExactIntegerField,
            "settle_s": ExactFloatField,
        }


class VerificationFilter(admin.BooleanFieldListFilter):
    """Filter by the result of the last verification."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "verified as equal"


class RebuildForm(forms.Form):
    """The range of a rebuild."""

    since = TimeField(help_text="Such as 2011-07-01 or 2011-07-01 13:00, in UTC. Widened to whole periods.")
    until = TimeField(help_text="The range ends where this begins.")


@admin.register(AggDef)
class AggDefAdmin(OperatePermissionMixin, ShortListMixin, DeletionAdminMixin):
    """Aggregate definitions, with a list that shows state, lag and last run."""

    form = AggDefForm
    list_display = ("name", "status", "lag", "verification_mark", "recent", "last_run_ago", "kept")
    list_filter = ("state", "enabled", "realtime", ("verified_ok", VerificationFilter))
    search_fields = ("name", "description", "task_name", "output")
    long_fields = LONG_FIELDS
    list_per_page = 50
    show_full_result_count = False
    actions = ("run_now", "run_full", "verify_now", "pause", "resume", "copy")
    readonly_fields = ("status", "lag", "last_id", "complete", "ran", "due", "failure", "last_verification")
    fieldsets = (
        ("What is counted", {"fields": ("name", "description", "task_name", "filter", "params")}),
        ("When", {"fields": ("enabled", "realtime", "interval_s", "crontab", "crontab_zone")}),
        ("When something is wrong with an event", {"fields": ("on_error",)}),
        ("Where from, and where to", {"classes": ("collapse",), "fields": ("inputs", "id_key", "settle_s", "output")}),
        ("Current state", {"fields": readonly_fields}),
    )

    class Media:
        css = {"all": ("zarkov-admin/admin.css",)}

    def get_fieldsets(self, request: HttpRequest, obj: AggDef | None = None) -> Any:
        """Leave out the state for a new aggregate."""
        return self.fieldsets[:-1] if obj is None else self.fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: AggDef | None = None) -> Any:
        """Add the name for an existing aggregate: outputs and positions depend on it."""
        return self.readonly_fields if obj is None else ("name", *self.readonly_fields)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list, with the newest event id read once for all rows."""
        changelist = super().get_changelist_instance(request)
        changelist.title = "Aggregates"
        newest = _newest()
        for aggdef in changelist.result_list:
            aggdef.newest = newest
        return changelist

    @admin.display(description="state", ordering="state")
    def status(self, aggdef: AggDef) -> SafeString:
        if not aggdef.enabled:
            return state_label("paused", "paused")
        words = aggdef.get_state_display()
        if aggdef.state == AggDef.State.OK and aggdef.full_due:
            return state_label("full_due", "current, full run due")
        if aggdef.failures > 1:
            words += f" ({aggdef.failures} times)"
        return state_label(aggdef.state, words)

    @admin.display(description="behind")
    def lag(self, aggdef: AggDef) -> str:
        """Return the number of readable events that the aggregate lacks, and the time for which it has lagged."""
        newest = aggdef.newest if hasattr(aggdef, "newest") else _newest()
        if newest is None or aggdef.last_id is None:
            return "–"
        behind = max(newest - aggdef.last_id, 0)
        if not behind:
            return "0"
        since = f", {length(aggdef.complete_through)}" if aggdef.complete_through else ""
        return f"{behind} event{'s' if behind > 1 else ''}{since}"

    @admin.display(description="last run", ordering="last_run")
    def last_run_ago(self, aggdef: AggDef) -> str:
        return ago(aggdef.last_run) if aggdef.last_run else "never"

    ran = moment("last_run", "last run")
    complete = moment("complete_through", "complete through")

    @admin.display(description="kept current")
    def kept(self, aggdef: AggDef) -> str:
        if aggdef.realtime:
            return "realtime"
        if aggdef.interval_s:
            return f"every {aggdef.interval_s} s"
        return f"{aggdef.crontab} {aggdef.zone}" if aggdef.crontab else "by hand"

    @admin.display(description="events per run")
    def recent(self, aggdef: AggDef) -> SafeString | str:
        """Return a sparkline of the events read by the last `SPARK_RUNS` runs."""
        runs = aggdef.runs.exclude(mode=Run.Mode.VERIFY).order_by("-pk")
        counts = list(runs.values_list("docs_in", flat=True)[:SPARK_RUNS])
        return sparkline(counts[::-1], f"events read in the last {len(counts)} runs") if counts else "–"

    @admin.display(description="verified", ordering="verified_ok")
    def verification_mark(self, aggdef: AggDef) -> SafeString | str:
        if aggdef.verified is None:
            return "–"
        state, words = VERIFICATION_MARKS[aggdef.verified_ok]
        return state_label(state, f"{words}, {ago(aggdef.verified)}")

    @admin.display(description="full run due")
    def due(self, aggdef: AggDef) -> str:
        return aggdef.full_due or "no"

    @admin.display(description="last error")
    def failure(self, aggdef: AggDef) -> SafeString | str:
        if not aggdef.last_error:
            return "none"
        return format_html("{}<pre>{}</pre>", aggdef.last_error, aggdef.last_traceback)

    @admin.display(description="last verification")
    def last_verification(self, aggdef: AggDef) -> SafeString | str:
        if aggdef.verified is None:
            return "never"
        mark = self.verification_mark(aggdef)
        return format_html("{}, {}<pre>{}</pre>", mark, exact(aggdef.verified), aggdef.verification)

    def _start(self, request: HttpRequest, aggdefs: Any, mode: str) -> None:
        for aggdef in in_turns(aggdefs):
            try:
                run = services.start_run(aggdef, mode, Run.Origin.ADMIN)
            except AggregateError as error:
                self.message_user(request, f"{aggdef.name}: {error}", messages.ERROR)
            else:
                where = reverse("admin:aggregates_run_change", args=[run.pk])
                words = format_html('{}: <a href="{}">{} run</a> has been queued.', aggdef.name, where, mode)
                self.message_user(request, words, messages.SUCCESS)

    @admin.action(description="Run now", permissions=["operate"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[AggDef]) -> None:
        self._start(request, queryset, Run.Mode.INCREMENTAL)

    @admin.action(description="Recompute in full", permissions=["operate"])
    def run_full(self, request: HttpRequest, queryset: QuerySet[AggDef]) -> None:
        self._start(request, queryset, Run.Mode.FULL)

    @admin.action(description="Verify", permissions=["operate"])
    def verify_now(self, request: HttpRequest, queryset: QuerySet[AggDef]) -> None:
        self._start(request, queryset, Run.Mode.VERIFY)

    @admin.action(description="Pause", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: AggDefQuerySet) -> None:
        """Disable the aggregates: only runs by hand are left."""
        for aggdef in in_turns(queryset.without_large_fields()):
            services.set_enabled(aggdef, False)

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: AggDefQuerySet) -> None:
        for aggdef in in_turns(queryset.without_large_fields()):
            services.set_enabled(aggdef, True)

    @admin.action(description="Make a copy", permissions=["add"])
    def copy(self, request: HttpRequest, queryset: QuerySet[AggDef]) -> HttpResponse | None:
        """Create paused copies under free names; open the form if there is only one."""
        made = [services.clone(aggdef, _free_name(aggdef.name)) for aggdef in in_turns(queryset)]
        if len(made) != 1:
            return None
        return HttpResponseRedirect(reverse("admin:aggregates_aggdef_change", args=[made[0].pk]))

    def get_urls(self) -> list[URLPattern]:
        """Add the URLs of the form's buttons: preview, start and rebuild."""
        wrap = self.admin_site.admin_view
        return [
            path("preview/", wrap(self.preview_view), name="aggregates_aggdef_preview"),
            path("<int:pk>/start/<str:mode>/", wrap(self.start_view), name="aggregates_aggdef_start"),
            path("<int:pk>/rebuild/", wrap(self.rebuild_view), name="aggregates_aggdef_rebuild"),
            *super().get_urls(),
        ]

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """Render the form with the list of registered tasks."""
        tasks = [entry for report in discover(task_modules()) for entry in report.tasks]
        context = {
            **(extra_context or {}),
            "registered_tasks": tasks,
            "may_operate": self.has_operate_permission(request),
        }
        return super().changeform_view(request, object_id, form_url, context)

    def start_view(self, request: HttpRequest, pk: int, mode: str) -> HttpResponse:
        aggdef = self.get_object(request, str(pk))
        if aggdef is None or request.method != "POST" or not self.has_operate_permission(request):
            raise PermissionDenied
        self._start(request, [aggdef], mode)
        return HttpResponseRedirect(reverse("admin:aggregates_aggdef_change", args=[pk]))

    def rebuild_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for the range of a rebuild, and start it."""
        aggdef = self.get_object(request, str(pk))
        if aggdef is None or not self.has_operate_permission(request):
            raise PermissionDenied
        form = RebuildForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            since, until = form.cleaned_data["since"], form.cleaned_data["until"]
            try:
                run = services.start_run(aggdef, Run.Mode.REBUILD, Run.Origin.ADMIN, since=since, until=until)
            except AggregateError as error:
                form.add_error(None, str(error))
            else:
                return HttpResponseRedirect(reverse("admin:aggregates_run_change", args=[run.pk]))
        context = {**self.admin_site.each_context(request), "title": f"Rebuild a range of {aggdef}", "form": form}
        context |= {"opts": self.opts, "original": aggdef, "media": self.media}
        return TemplateResponse(request, "admin/aggregates/aggdef/rebuild.html", context)

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Show the results of the form's definition for the newest events, without saving anything."""
        if request.method != "POST" or not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        name = request.POST.get("name") or request.POST.get("_name")
        existing = AggDef.objects.filter(name=name).first()
        form = AggDefForm({**request.POST.dict(), "name": name}, instance=existing)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Preview of {name}",
            "opts": self.opts,
            "form": form,
        }
        if form.is_valid():
            try:
                context["preview"] = services.preview(form.instance.definition())
            except (AggregateError, PyMongoError) as error:
                context["failure"] = str(error)
            except Exception as error:  # noqa: BLE001 - the page shows any error of the task
                context["failure"] = f"{type(error).__name__}: {error}"
        return TemplateResponse(request, "admin/aggregates/aggdef/preview.html", context)


def _newest() -> int | None:
    """Return the highest event id that may be read; None if MongoDB is unavailable."""
    try:
        return process_connections().run_context.store.watermark().through
    except Exception as error:
        if isinstance(error, PyMongoError) or getattr(error, "code", None):
            return None
        raise


def _free_name(name: str) -> str:
    candidates = (f"{name}_copy{number if number > 1 else ''}" for number in range(1, COPY_TRIES))
    taken = set(AggDef.objects.filter(name__startswith=f"{name}_copy").values_list("name", flat=True))
    return next(candidate for candidate in candidates if candidate not in taken)
