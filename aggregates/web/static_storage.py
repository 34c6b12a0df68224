"""Name the addresses of static files below the path under which the present request came in."""

from __future__ import annotations

from django.contrib.staticfiles.storage import StaticFilesStorage
from django.urls import get_script_prefix


class PrefixedStaticFiles(StaticFilesStorage):
    """Static files at STATIC_URL, below the prefix of a proxy that a request came through."""

    def url(self, name: str | None) -> str:
        """Return the path of a file, such as `/zarkov/static/zarkov/icon.svg`."""
        return get_script_prefix().rstrip("/") + super().url(name)
