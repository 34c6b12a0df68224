"""Admin pages of this app."""

from aggregates.admin import access, aggdef, alert, chart, quarantine, run, task

__all__ = ["access", "aggdef", "alert", "chart", "quarantine", "run", "task"]
