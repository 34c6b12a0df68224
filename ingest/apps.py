"""Django's registration of the app."""

from __future__ import annotations

from django.apps import AppConfig


class IngestConfig(AppConfig):
    """Events, from the socket to MongoDB."""

    name = "ingest"
    verbose_name = "Ingest"
