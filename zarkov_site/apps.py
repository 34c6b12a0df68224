"""The site as a Django app: what every process does once Django is ready."""

from __future__ import annotations

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """Makes the Celery app the one that `delay` of any task uses."""

    name = "zarkov_site"

    def ready(self) -> None:
        """Import the Celery app; it reads its configuration, and connects, at its first use."""
        from zarkov_site import celery  # noqa: F401 - imported for its effect
