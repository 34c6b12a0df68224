"""The Django app of aggregates."""

from __future__ import annotations

from pathlib import Path

from django.apps import AppConfig


class AggregatesConfig(AppConfig):
    """Makes task modules beside `manage.py` and in the current folder importable in every process."""

    name = "aggregates"
    verbose_name = "Aggregates"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from aggregates import checks  # noqa: F401 - registers itself
        from aggregates.registry import make_importable

        make_importable([Path(__file__).resolve().parent.parent, Path.cwd()])
