"""Charts and dashboards in the admin."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponseRedirect
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from aggregates.admin.form_field import ExactIntegerField
from aggregates.models.chart import Chart, Dashboard, DashboardItem
from aggregates.web.exceptions import WebError
from aggregates.web.mongo import database, translate_errors
from aggregates.web.series import query
from aggregates.web.series.chart_query import CheckedChartForm

EXACT_NUMBERS: dict[type[models.Field[Any, Any]], dict[str, Any]] = {
    models.PositiveSmallIntegerField: {"form_class": ExactIntegerField}
}


class ChartAdminForm(CheckedChartForm):
    """The form of a chart. It suggests existing aggregates but accepts the name of a future one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = _aggregate_names()
        if "aggregate" in self.fields and names:
            self.fields["aggregate"].widget = NameInput(names)


class NameInput(forms.TextInput):
    """A text input with suggestions."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(attrs={"class": "vTextField", "autocomplete": "off"})
        self._names = names

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        """Return the input, followed by a `datalist` of the suggestions."""
        known = f"known-{name}"
        field = super().render(name, value, {**(attrs or {}), "list": known}, renderer)
        options = format_html_join("", '<option value="{}">', ((item,) for item in self._names))
        return format_html('{}<datalist id="{}">{}</datalist>', field, known, options)


def _aggregate_names() -> list[str]:
    try:
        with translate_errors():
            return query.list_aggregates(database())
    except WebError:
        return []  # the form works without suggestions


class ShownAdmin(admin.ModelAdmin):
    """The common part of charts and dashboards: each has a page, which is shown after a change."""

    prepopulated_fields = {"slug": ("title",)}
    formfield_overrides = EXACT_NUMBERS

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        return HttpResponseRedirect(obj.get_absolute_url())

    response_post_save_change = response_post_save_add

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return what is deleted; what hangs on each only by its number, since one can have thousands of links."""
        chosen = list(objs)
        lines: list[Any] = [f"{capfirst(self.opts.verbose_name)}: {each}" for each in chosen]
        counts = {self.opts.verbose_name_plural: len(chosen)}
        lacking = set() if self.has_delete_permission(request) else {self.opts.verbose_name}
        for relation in self.opts.related_objects:
            hanging = relation.related_model
            with_them = hanging._default_manager.filter(**{f"{relation.field.name}__in": chosen})
            if relation.on_delete is models.CASCADE and (count := with_them.count()):
                counts[hanging._meta.verbose_name_plural] = count
                lines.append(f"{capfirst(hanging._meta.verbose_name_plural)}: {count}")
                if not _may_delete(self.admin_site, hanging, request):
                    lacking.add(hanging._meta.verbose_name)
        return lines, counts, lacking, []

    @admin.display(description="Page")
    def page(self, shown: Chart | Dashboard) -> str:
        return format_html('<a href="{}">show</a>', shown.get_absolute_url())


def _may_delete(site: admin.AdminSite, model: type[models.Model], request: HttpRequest) -> bool:
    """Return whether the user may delete rows that go with another one; rows without a page of their own go always."""
    return not site.is_registered(model) or site.get_model_admin(model).has_delete_permission(request)


@admin.register(Chart)
class ChartAdmin(ShownAdmin):
    form = ChartAdminForm
    list_display = ("title", "kind", "aggregate", "page")
    list_filter = ("kind",)
    search_fields = ("title", "slug", "aggregate")
    fieldsets = (
        (None, {"fields": ("title", "slug", "description")}),
        ("What it shows", {"fields": ("aggregate", "kind", "fields", "prefix", "series_limit", "unit")}),
        ("Which time", {"fields": ("start", "end", "zone", "fill")}),
    )


class DashboardItemInline(admin.TabularInline):
    """Charts of a dashboard, in order."""

    model = DashboardItem
    extra = 1
    autocomplete_fields = ("chart",)
    formfield_overrides = EXACT_NUMBERS


@admin.register(Dashboard)
class DashboardAdmin(ShownAdmin):
    list_display = ("title", "position", "page")
    search_fields = ("title", "slug")
    inlines = (DashboardItemInline,)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return all dashboards, with their charts prefetched."""
        return super().get_queryset(request).prefetch_related("charts")
