"""Change the site's configuration for the length of a test."""

from __future__ import annotations

from typing import Any


def configure(settings: Any, **changes: Any) -> None:
    """Change keys of the configuration for one test."""
    settings.ZARKOV = settings.ZARKOV.model_copy(update=changes)
