"""Serve the streams of the pages: charts by slug, the state of the system, jobs, and embedded charts."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from aggregates.models.chart import Chart
from aggregates.web import embed
from aggregates.web.auth.access import Rights, rights_of
from aggregates.web.auth.stream_access import may_continue
from aggregates.web.exceptions import BadRequestError, ForbiddenError, NotFoundError
from aggregates.web.live.jobs_feed import JobsFeed
from aggregates.web.live.overview_feed import OverviewFeed
from aggregates.web.live.stream import respond
from aggregates.web.mongo import database
from aggregates.web.response import View, json_errors

MAX_CHARTS = 40


@require_safe
@json_errors
def charts(request: HttpRequest) -> HttpResponseBase:
    """Stream several charts (`?chart=SLUG&chart=SLUG&from=-7d&to=&tz=`); events are named `series:SLUG`."""
    slugs = request.GET.getlist("chart")
    if not slugs or len(slugs) > MAX_CHARTS:
        raise BadRequestError(f"chart must be given 1 to {MAX_CHARTS} times", parameter="chart")
    rights = rights_of(request)
    rights.require("read")
    found = {chart.slug: chart for chart in Chart.objects.filter(slug__in=slugs)}
    if missing := [slug for slug in slugs if slug not in found]:
        raise NotFoundError(f"there is no chart {missing[0][:100]!r}")
    shown = [chart.aggregate for chart in found.values()]

    def needed(rights: Rights) -> None:
        for name in shown:
            rights.require_name(name)

    needed(rights)
    feeds = {slug: embed.chart_feed(found[slug], request.GET) for slug in slugs}
    return respond(request, feeds, may_continue(request, needed))


@require_safe
@json_errors
def overview(request: HttpRequest) -> HttpResponseBase:
    """Stream the state of the system for the overview page."""
    rights_of(request).require_unlimited()
    return respond(request, {"": OverviewFeed(database)}, may_continue(request, Rights.require_unlimited))


@require_safe
@json_errors
def jobs(request: HttpRequest) -> HttpResponseBase:
    """Stream the engine's state and newest jobs."""
    rights_of(request).require_unlimited()
    return respond(request, {"": JobsFeed(database)}, may_continue(request, Rights.require_unlimited))


def readable_without_origin(view: View) -> View:
    """Wrap a view whose signed address is the right to read it: a page in a sandboxed frame may read it, too.

    Such a page has no origin, which it says with `Origin: null` (HTML Standard, section 7.1.1), and sends no cookies.
    """

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        if request.META.get("HTTP_ORIGIN") == "null":
            response["Access-Control-Allow-Origin"] = "null"
        patch_vary_headers(response, ["Origin"])
        return response

    return answer


@readable_without_origin
@require_safe
@json_errors
def embedded(request: HttpRequest, token: str) -> HttpResponseBase:
    """Stream the charts of an embed link; its signature is the right to see them.

    `from`, `to` and `tz` mean the same as for `charts`, unless the link locks the range: then they are not read.
    """
    link = embed.open_link(token)
    feeds = {
        chart.slug: embed.chart_feed(chart, request.GET, prefix=link.locked_prefix, adjustable=link.range_adjustable)
        for chart in link.charts()
    }
    if not feeds:
        raise ForbiddenError("this link shows nothing")
    key = link.key
    return respond(request, feeds, allowed=lambda: embed.still_works(key))
