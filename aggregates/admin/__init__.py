"""What the admin shows of this app."""

from aggregates.admin import access, aggdef, alert, chart, run, task

__all__ = ["access", "aggdef", "alert", "chart", "run", "task"]
