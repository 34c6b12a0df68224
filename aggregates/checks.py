"""System checks: what `manage.py check` says about task modules."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Warning, register


@register("aggregates")
def check_task_modules(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """One warning per module that may hold tasks and does not import."""
    from aggregates.registry import discover, task_modules

    return [
        Warning(f"task module {report.name} fails to import: {report.error}", id="aggregates.W001")
        for report in discover(task_modules())
        if report.error
    ]
