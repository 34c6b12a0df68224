"""Render the pages: overview, aggregates, charts, dashboards, jobs, and embedded charts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.paginator import Page, Paginator
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from aggregates.definition.fields import MOST_DESCRIPTION_CHARS
from aggregates.models import AggDef
from aggregates.models.chart import Chart, Dashboard
from aggregates.web import embed
from aggregates.web.auth.access import EDIT, OPERATE, rights_of
from aggregates.web.exceptions import NotFoundError, WebError
from aggregates.web.mongo import database
from aggregates.web.output_address import output_address
from aggregates.web.overview import list_outputs
from aggregates.web.pages import chart_figure, embedding
from aggregates.web.pages.forms import ChartForm
from aggregates.web.pages.page_access import error_page, page_view
from aggregates.web.public_link import public_link
from aggregates.web.series import freshness, key_range, latest_documents, query

MAX_SERIES = 8  # in the default chart on the page of an aggregate
PER_PAGE = 500  # lines of a list


@require_safe
def icon(request: HttpRequest) -> HttpResponseBase:
    """Redirect browsers that ask for the icon at its old place."""
    return redirect(static("zarkov/icon.svg"), permanent=True)


@require_safe
@page_view
def overview(request: HttpRequest) -> HttpResponseBase:
    """Show the live state, the first chart that heads a dashboard and has data, and links to the other pages."""
    boards = list(Dashboard.objects.all()[:12])
    featured = _first_with_data(boards)
    return render(
        request,
        "zarkov/overview.html",
        {
            "featured": chart_figure.context(featured[0]) if featured else None,
            "featured_stream": chart_figure.stream_url(reverse("live-charts"), featured) if featured else "",
            "section": "overview",
            "zone": settings.ZARKOV.time_zone,
            "may_see_quarantine": _may_see_quarantine(request),
            "may_make_tokens": getattr(request.user, "is_superuser", False),
            "events_url": public_link(request, reverse("api:events")),
            "charts": Chart.objects.all()[:24],
            "dashboards": boards,
        },
    )


def _may_see_quarantine(request: HttpRequest) -> bool:
    user = getattr(request, "user", None)
    return bool(user and user.is_staff and user.has_perm("ingest.view_quarantineentry"))


def _first_with_data(boards: list[Dashboard]) -> list[Chart]:
    for board in boards:
        for chart in board.ordered_charts()[:1]:
            collection = query.collection_name(chart.aggregate)
            shown = {"_id": key_range.starts_with(chart.prefix)} if chart.prefix else {}
            if collection and database()[collection].find_one(shown, {"_id": 1}):
                return [chart]
    return []


@require_safe
@page_view
def aggregates(request: HttpRequest) -> HttpResponseBase:
    reached = {item["name"]: item for item in list_outputs(database(), 0)}
    items = []
    shown = _page(request, query.list_aggregates(database()))
    definitions = {reached.get(name, {}).get("aggdef") or name for name in shown}
    start = Left("description", MOST_DESCRIPTION_CHARS)  # of one from before that was a bound
    texts = dict(AggDef.objects.filter(name__in=definitions).values_list("name", start))
    for name in shown:
        item = reached.get(name, {})
        through = item.get("through")
        about = texts.get(item.get("aggdef") or name) or (f"through event {through:,}" if through is not None else "")
        items.append({"title": name, "url": output_address("aggregate", name), "about": about})
    context = {
        "section": "aggregates",
        "heading": "Aggregates",
        "about": "Open an aggregate to see its chart and numbers, or to create a chart of your own.",
        "items": items,
        "page": shown,
        "empty": "No aggregate has run yet. Define one in the admin, or with manage.py startagg.",
    }
    return render(request, "zarkov/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@page_view
def aggregate(request: HttpRequest, name: str) -> HttpResponseBase:
    """Show one aggregate: its chart, its latest documents, and a curl line. Editors can create charts of it."""
    collection = query.collection_name(name)
    known = query.list_aggregates(database())
    if collection is None or name not in known:
        return _by_definition(name, known)
    rights = rights_of(request)
    form = ChartForm(request.POST or None, instance=ChartForm.new(name))
    if request.method == "POST":
        rights.require(EDIT)
        if form.is_valid():
            return redirect(f"{form.save().get_absolute_url()}#main")  # not the #make of the form
    lines, order = latest_documents.read(database(), collection)
    reached = freshness.read(database(), name)
    context = {
        "section": "aggregates",
        "name": name,
        "about": AggDef.objects.filter(name=name).values_list("description", flat=True).first() or "",
        "zone": settings.ZARKOV.time_zone,
        "freshness": reached,
        "through": _count(reached.through),
        "documents": [{**line, "through": _count(line["through"])} for line in lines],
        "order": order,
        "stream": f"{output_address('api:live', name)}?limit={MAX_SERIES}&bulk=1",
        "shown": {"name": "", "kind": "line", "zone": settings.ZARKOV.time_zone, "title": name, "size": "large"},
        "curl": _curl(request, f"{output_address('api:series', name)}?limit={MAX_SERIES}"),
        "exports": {form: output_address("api:export", name, form) for form in ("csv", "jsonl")},
        "may_edit": rights.may(EDIT),
        "form": form,
    }
    return render(request, "zarkov/aggregate.html", context)


def _by_definition(name: str, known: list[str]) -> HttpResponseBase:
    """Redirect from the name of a definition to the page of its first output, if they differ."""
    found = AggDef.objects.filter(name=name).first()
    if found is None:
        raise NotFoundError(f"there is no aggregate {name[:100]!r}")
    output = next((output for output in found.outputs if output in known), None)
    if output is None:
        raise NotFoundError(
            f"the aggregate {name!r} has not run yet: use manage.py aggregate {name}, or Run now in the admin"
        )
    return redirect(output_address("aggregate", output))


@require_safe
@page_view
def charts(request: HttpRequest) -> HttpResponseBase:
    return _list_page(request, Chart, lambda chart: f"{chart.get_kind_display()} of {chart.aggregate}")


@require_safe
@page_view
def dashboards(request: HttpRequest) -> HttpResponseBase:
    return _list_page(request, Dashboard, lambda dashboard: dashboard.description)


@require_http_methods(["GET", "HEAD", "POST"])
@page_view
def chart(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Show one chart. Editors see and create its embed links."""
    found = get_object_or_404(Chart, slug=slug)
    figure = {
        "section": "charts",
        "chart": found,
        "shown": chart_figure.context(found, large=True),
        "numbers_url": output_address("aggregate", found.aggregate),
    }
    return _page_with_links(request, "zarkov/chart.html", found, [found], figure)


@require_http_methods(["GET", "HEAD", "POST"])
@page_view
def dashboard(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Show the charts of a dashboard, fed by one stream. Editors see and create its embed links."""
    found = get_object_or_404(Dashboard, slug=slug)
    shown = found.ordered_charts()
    figures = {"section": "dashboards", "dashboard": found, "figures": chart_figure.contexts(shown)}
    return _page_with_links(request, "zarkov/dashboard.html", found, shown, figures)


@require_safe
@page_view
def jobs(request: HttpRequest) -> HttpResponseBase:
    """Show the engine's jobs. Operators can cancel one."""
    context = {"section": "jobs", "may_operate": rights_of(request).may(OPERATE)}
    return render(request, "zarkov/jobs.html", context)


@require_safe
def embedded(request: HttpRequest, token: str) -> HttpResponseBase:
    """Show the charts of an embed link, without navigation and without cookies."""
    try:
        link = embed.open_link(token)
    except WebError as error:
        return error_page(request, error, bare=True)
    shown = link.charts()
    context = {
        "link": link,
        "figures": [chart_figure.context(shown[0], large=True)] if len(shown) == 1 else chart_figure.contexts(shown),
        "stream": reverse("embed-live", args=[token]),
        "own_range": chart_figure.range_button_text(shown),
    }
    response = render(request, "zarkov/embed.html", context)
    response.frame_ancestors = embed.frame_ancestors(link)  # type: ignore[attr-defined]
    response.xframe_options_exempt = True
    return response


def _count(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "–"


def _page_with_links(
    request: HttpRequest, template: str, found: Chart | Dashboard, shown: list[Chart], figures: dict[str, Any]
) -> HttpResponseBase:
    """Show charts that one stream feeds, with their embed links; redirect if the request has made one."""
    made, links = embedding.handle_links(request, found)
    live = {
        "stream": chart_figure.stream_url(reverse("live-charts"), shown),
        "own_range": chart_figure.range_button_text(shown),
    }
    return made or render(request, template, figures | live | links)


def _list_page(request: HttpRequest, model: type[Chart | Dashboard], about: Callable[[Any], str]) -> HttpResponse:
    """Show all objects of `model`, with a link to create one for those who may."""
    name = str(model._meta.model_name)
    shown = _page(request, model.objects.all())
    context = {
        "section": f"{name}s",
        "heading": f"{name}s".capitalize(),
        "items": [{"title": each.title, "url": each.get_absolute_url(), "about": about(each)} for each in shown],
        "page": shown,
        "empty": f"There is no {name} yet.",
        "add_url": reverse(f"admin:aggregates_{name}_add") if rights_of(request).may(EDIT) else "",
        "add_text": f"Create a {name}",
    }
    return render(request, "zarkov/list.html", context)


def _page(request: HttpRequest, lines: Any) -> Page[Any]:
    """Return the page of a list that the request asks for by `page`, the nearest if there is none."""
    return Paginator(lines, PER_PAGE).get_page(request.GET.get("page"))


def _curl(request: HttpRequest, path: str) -> str:
    """Return a curl command that fetches the data of the page."""
    header = "" if settings.ZARKOV.anonymous_read else " -H 'Authorization: Token …'"
    return f"curl{header} '{public_link(request, path)}'"
