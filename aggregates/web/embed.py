"""Sign and open embed links, which show charts on other sites."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from django.core import signing
from django.db import connections
from django.utils import timezone

from aggregates.models import EmbedLink
from aggregates.models.chart import Chart
from aggregates.web.exceptions import ForbiddenError
from aggregates.web.live.feed import SeriesFeed
from aggregates.web.mongo import database
from aggregates.web.series.chart_query import chart_query
from aggregates.web.series.time_span import read_span, read_zone

SALT = "aggregates.web.embed"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def token_of(link: EmbedLink) -> str:
    """Return the signed key of a link for its address, which thus cannot be altered to show something else."""
    return signing.dumps(link.key, salt=SALT, compress=False)


def open_link(token: str) -> EmbedLink:
    """Return the link that a token names. Raise `ForbiddenError` if the token is invalid, expired or revoked."""
    try:
        key = signing.loads(token, salt=SALT)
    except signing.BadSignature:
        raise ForbiddenError("this link is not valid") from None
    link = EmbedLink.objects.select_related("chart", "dashboard").filter(key=key).first()
    if link is None or not link.works():
        raise ForbiddenError("this link has expired or was revoked")
    return link


def still_works(key: str) -> bool:
    """Return True if an open stream of a link may continue. Closes Django's database connections."""
    try:
        link = EmbedLink.objects.filter(key=key).first()
        return link is not None and link.works()
    finally:
        connections.close_all()


def frame_ancestors(link: EmbedLink) -> str:
    """Return the sites that may show the link in a frame, for Content-Security-Policy."""
    return " ".join(["'self'", *link.origin_list()])


def chart_feed(chart: Chart, given: Mapping[str, str], *, prefix: str = "", adjustable: bool = True) -> SeriesFeed:
    """Return the feed of `chart`, limited to keys below `prefix`.

    `from`, `to` and `tz` of a request override the range and zone of the chart if `adjustable`; a `from` alone runs
    until now. Raise `BadRequestError` naming the parameter.
    """
    asked = chart_query(chart)
    if adjustable and not given.keys().isdisjoint(("from", "to", "tz")):
        start, end = given.get("from"), given.get("to")
        if end is None and start:
            end = ""
        asked = chart_query(chart, start, end, read_zone(given.get("tz", ""), chart.effective_zone))
        read_span(asked.start, asked.end or "now", asked.zone, timezone.now())
    return SeriesFeed(asked.limited_to(prefix), database)


def iframe_html(link: EmbedLink, address: str) -> str:
    """Return the HTML to copy into a page."""
    height = 420 if link.chart is not None else 900
    return (
        f'<iframe src="{address}" title="{_attribute(link.title())}" width="100%" height="{height}" '
        'loading="lazy" style="border:0"></iframe>'
    )


def is_mixed_content(link: EmbedLink, address: str) -> bool:
    """Return True if browsers block `address` on one of the link's sites: an insecure frame in a secure page.

    See W3C Mixed Content, section 4, where loopback counts as secure.
    """
    parts = urlsplit(address)
    secure = parts.scheme == "https" or parts.hostname in _LOOPBACK
    return not secure and any(origin.startswith("https:") for origin in link.origin_list())


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
