"""Make links that work outside of this request: in other pages, programs and mails."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.urls import get_script_prefix


def public_link(request: HttpRequest, path: str) -> str:
    """Return the absolute address of `path`, as `reverse` returns it: below `public_url`, else where `request` came to.

    A login on loopback beside the proxy thus shows the same links as one through it.
    """
    if not settings.ZARKOV.public_url:
        return request.build_absolute_uri(path)
    below = path.removeprefix(get_script_prefix().rstrip("/"))
    return f"{settings.ZARKOV.public_url}{below}"
