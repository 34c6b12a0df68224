"""The admin page of registered tasks: where each comes from, what it reads, which aggregates use it, and its switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from aggregates import services
from aggregates.models import AggDef, TaskSwitch
from aggregates.task_code.registry import ModuleReport, TaskEntry, discover
from aggregates.task_modules import task_modules

USERS_SHOWN = 20  # aggregates named at a task


@dataclass(frozen=True)
class TaskRow:
    """One line of the page."""

    entry: TaskEntry
    used_by: list[AggDef]  # the first `USERS_SHOWN` aggregates that use the task
    users: int  # number of all aggregates that use it
    switch: TaskSwitch | None  # None = never switched, so enabled

    @property
    def enabled(self) -> bool:
        return self.switch is None or self.switch.enabled

    @property
    def more(self) -> int:
        """Return the number of aggregates that use the task and are not shown."""
        return self.users - len(self.used_by)

    @property
    def fields(self) -> str:
        return ", ".join(self.entry.cls.fields) if self.entry.cls.fields is not None else "whole events"

    @property
    def traits(self) -> str:
        """Return the special properties of the task, in words."""
        cls = self.entry.cls
        found = [] if cls.associative else ["full runs only"]
        found += ["ranges can be rebuilt"] if self.entry.has_period else []
        found += ["skips events it fails on"] if cls.on_error == "skip" else []
        return ", ".join(found)


def rows(reports: list[ModuleReport]) -> list[tuple[ModuleReport, list[TaskRow]]]:
    paths = [entry.path for report in reports for entry in report.tasks]
    using = AggDef.objects.filter(task_name__in=paths).only("name")
    counts = dict(using.order_by().values_list("task_name").annotate(Count("pk")))
    first = {path: list(using.filter(task_name=path)[:USERS_SHOWN]) for path in counts}
    switches = {switch.task_name: switch for switch in TaskSwitch.objects.filter(task_name__in=paths)}
    return [
        (
            report,
            [
                TaskRow(entry, first.get(entry.path, []), counts.get(entry.path, 0), switches.get(entry.path))
                for entry in report.tasks
            ],
        )
        for report in reports
    ]


@admin.register(TaskSwitch)
class TaskSwitchAdmin(admin.ModelAdmin):
    """Registered tasks with their switches."""

    class Media:
        css = {"all": ("zarkov-admin/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: tasks are added as files."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: tasks are deleted as files."""
        return False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.switch_view)
        return [path("switch/", view, name="aggregates_taskswitch_switch"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Registered tasks",
            "opts": self.opts,
            "modules": rows(discover(task_modules())),
            "may_change": self.has_change_permission(request),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/aggregates/taskswitch/change_list.html", context)

    def switch_view(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST" or not self.has_change_permission(request):
            raise PermissionDenied
        name, on = request.POST.get("task", ""), request.POST.get("enabled") == "on"
        services.set_task_enabled(name, on, request.POST.get("reason", ""))
        self.message_user(request, f"{name} is switched {'on' if on else 'off'}", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:aggregates_taskswitch_changelist"))
