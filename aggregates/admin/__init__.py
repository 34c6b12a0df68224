"""Admin pages of this app."""

from aggregates.admin import access, aggdef, alert, chart, crontab, login, quarantine, rows, run, task

__all__ = ["access", "aggdef", "alert", "chart", "crontab", "login", "quarantine", "rows", "run", "task"]
