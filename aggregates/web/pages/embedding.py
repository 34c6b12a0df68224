"""Show and create embed links on the page of a chart or dashboard."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from aggregates.models import EmbedLink
from aggregates.models.chart import Chart, Dashboard
from aggregates.web import embed
from aggregates.web.auth.access import EDIT, rights_of
from aggregates.web.pages.forms import EmbedLinkForm
from aggregates.web.public_link import public_link


def handle_links(request: HttpRequest, shown: Chart | Dashboard) -> tuple[HttpResponseBase | None, dict[str, Any]]:
    """Create a link if a valid form was posted. Return the redirect to answer with, or None and the template context.

    The context is that of `zarkov/embedding.html`. Without the right to edit it has no links, and a POST raises
    `ForbiddenError`.
    """
    rights = rights_of(request)
    form = EmbedLinkForm(request.POST or None, instance=EmbedLinkForm.new(shown, request.user))
    if request.method == "POST":
        rights.require(EDIT)
        if form.is_valid():
            form.save()
            return redirect(f"{shown.get_absolute_url()}#embed"), {}
    may_edit = rights.may(EDIT)
    links = [_with_address(request, link) for link in shown.links.all() if link.works()] if may_edit else []
    return None, {"may_edit": may_edit, "links": links, "form": form, "links_show": shown._meta.verbose_name}


def _with_address(request: HttpRequest, link: EmbedLink) -> EmbedLink:
    address = public_link(request, reverse("embed", args=[embed.token_of(link)]))
    link.address = address  # type: ignore[attr-defined]
    link.code = embed.iframe_html(link, address)  # type: ignore[attr-defined]
    link.blocked = embed.is_mixed_content(link, address)  # type: ignore[attr-defined]
    return link
