"""What the admin shows of this app."""

from aggregates.admin import aggdef, run, task

__all__ = ["aggdef", "run", "task"]
