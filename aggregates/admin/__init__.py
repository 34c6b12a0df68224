"""What the admin shows of this app."""

from aggregates.admin import access, aggdef, chart, run, task

__all__ = ["access", "aggdef", "chart", "run", "task"]
