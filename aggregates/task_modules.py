"""List the modules that may hold tasks: `agg_tasks` of the installed apps, and those of the configuration."""

from __future__ import annotations

import importlib.util

from django.apps import apps
from django.conf import settings


def task_modules() -> tuple[str, ...]:
    """Return every module that may hold tasks, apps first, each once. Imports only their parent packages."""
    of_apps = (f"{config.name}.agg_tasks" for config in apps.get_app_configs())
    found = [name for name in of_apps if importlib.util.find_spec(name) is not None]
    return tuple(dict.fromkeys([*found, *settings.ZARKOV.task_modules]))
