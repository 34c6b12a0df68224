"""Switch tasks on and off."""

from __future__ import annotations

from aggregates.exceptions import TaskError
from aggregates.models import TaskSwitch


def set_task_enabled(task_name: str, enabled: bool, reason: str = "") -> TaskSwitch:
    """Switch a task on or off for every aggregate that uses it."""
    switch, _ = TaskSwitch.objects.update_or_create(
        task_name=task_name, defaults={"enabled": enabled, "reason": "" if enabled else reason}
    )
    return switch


def require_enabled(task_name: str) -> None:
    """Raise `TaskError` if the task is switched off."""
    switch = TaskSwitch.objects.filter(task_name=task_name, enabled=False).first()
    if switch is not None:
        because = f" ({switch.reason})" if switch.reason else ""
        raise TaskError(f"task {task_name} is switched off{because}: switch it on in the admin, under registered tasks")
