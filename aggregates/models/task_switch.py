"""Switches with which a person stops a task everywhere, without changing the aggregates that use it."""

from __future__ import annotations

from django.db import models


class TaskSwitch(models.Model):
    """Allow or forbid a task to run. A task without a switch may run."""

    task_name = models.CharField(max_length=255, unique=True)
    enabled = models.BooleanField(default=True)
    reason = models.CharField(max_length=300, blank=True, help_text="Why it is off, for the others.")
    changed = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["task_name"]
        verbose_name = "task"
        verbose_name_plural = "registered tasks"

    def __str__(self) -> str:
        return f"{self.task_name} ({'on' if self.enabled else 'off'})"
