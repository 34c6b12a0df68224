"""The Django app of the site."""

from __future__ import annotations

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """Make our Celery app the default, which `delay` of any task uses."""

    name = "zarkov_site"

    def ready(self) -> None:
        """Import the Celery app, which reads its configuration and connects on first use."""
        from zarkov_site import celery  # noqa: F401 - imported for its effect
